"""A call that travels: a function in its pickled form, with its arguments.

The worker keeps the functions that it has unpacked, by their pickled form: what has changed since, the function or a
global that it uses, makes another form, and so is never stale.

Must not import: eventlet, asyncio, IPython; worker processes load this.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from greenlab.pools.processes import serialization

_unpack = lru_cache(maxsize=64)(serialization.load_function)


def call(packed: tuple[bytes, tuple[Any, ...]]) -> Any:
    """Make the call, in the worker."""
    function, args = packed
    return _unpack(function)(*args)
