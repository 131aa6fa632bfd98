"""Processes that eventlet or gevent has patched.

Eventlet's patch is there for every thread, and its hub runs already: greenlab serves that hub, and replaces nothing
(see `greenlab.hub.adopted`). What it needs natively itself, it asks for by `original`. gevent's hub knows nothing of
eventlet's: a process that gevent has patched is refused.

Must not import: anything of greenlab but its errors.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from greenlab.errors import UsageError


def by_eventlet() -> bool:
    """Return whether `eventlet.monkey_patch()` was called in this process."""
    patcher: Any = sys.modules.get("eventlet.patcher")
    return patcher is not None and bool(getattr(patcher, "already_patched", None))


def original(name: str) -> Any:
    """Return a module of the standard library as it is without eventlet's patch."""
    if by_eventlet():
        return sys.modules["eventlet.patcher"].original(name)
    return import_module(name)


def refuse() -> None:
    """Refuse a process that gevent has patched; before greenlab's own modules are imported.

    Raises:
        UsageError: who patched it, and what to do.
    """
    monkey: Any = sys.modules.get("gevent.monkey")
    if monkey is not None and getattr(monkey, "saved", None):
        raise UsageError(
            "gevent.monkey has patched this process, and gevent's hub does not turn greenlab's: "
            "use greenlab in a process without it"
        )


def refuse_natively(what: str) -> None:
    """Refuse what needs native primitives, in a process that eventlet has patched.

    Raises:
        UsageError: what it is, and what to do.
    """
    if by_eventlet():
        raise UsageError(
            f"{what} needs a process that eventlet has not patched, and eventlet.monkey_patch() was called in this "
            "one: use the green pool here (and eventlet.tpool for what blocks), or leave monkey_patch out"
        )
