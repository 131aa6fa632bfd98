"""Where a job's function runs as it would in the kernel: the same directory, import path and environment.

Guarantee: a class that came with a job is set up once, so that what a task changes in it stays.
Must not import: eventlet, asyncio, IPython; worker processes load this.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, TypeAlias

from greenlab.pools.processes import serialization

if TYPE_CHECKING:
    from collections.abc import Callable


Packed: TypeAlias = tuple[str, list[str], dict[str, str], bytes]
"""A directory, an import path, an environment, and a pickled function."""


def pack(func: Any) -> Packed:
    """Take the present surroundings, and a function, along.

    Raises:
        NotSendableError: something that the function uses cannot be pickled; the message names it.
    """
    path = [entry for entry in sys.path if isinstance(entry, str)]
    try:
        cwd = os.getcwd()  # noqa: PTH109 - not pathlib: it would be loaded in every worker process
    except OSError:  # it has been deleted
        cwd = ""
    return cwd, path, dict(os.environ), serialization.dump_function(func)


class Arrivals:
    """What came with the present job, in a worker process."""

    def __init__(self) -> None:
        self._classes: set[str] = set()

    def unpack(self, cwd: str, path: list[str], environ: dict[str, str], func: bytes) -> Callable[[Any], Any]:
        """Take on the surroundings, and unpickle the function.

        Raises:
            BaseException: whatever its modules raise.
        """
        self._classes.clear()
        try:
            os.chdir(cwd)
        except OSError:  # it is gone for the kernel too
            pass
        sys.path[:] = path
        if os.environ != environ:
            os.environ.clear()
            os.environ.update(environ)
        loaded: Callable[[Any], Any] = serialization.load_function(func)
        return loaded

    def knows(self, tracker_id: str) -> bool:
        """Whether a class came with this job before; if not, its state is set anew: it may have changed."""
        if tracker_id in self._classes:
            return True
        self._classes.add(tracker_id)
        return False


def raiser(error: BaseException) -> Callable[[Any], Any]:
    """Return what stands for a function that could not be loaded: every task fails with that error."""
    trace = error.__traceback__

    def fail(_: Any) -> Any:
        raise error.with_traceback(trace)  # each raise adds to it, and a thousand tasks may raise this one

    return fail
