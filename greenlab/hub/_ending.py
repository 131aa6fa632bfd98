"""Hubs of threads that end: a hub is closed with its thread, and nothing of it keeps the thread from ending.

Guarantees: where the thread is one of `threading`'s, its hub is closed at the end of it, by the thread itself, and so
before a `join` of it returns; another thread may use greenlab from then on. A hub of the main thread ends with the
process.

Must not import: anything of greenlab.
"""

from __future__ import annotations

import _thread
import sys
import threading
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

# Taken now: the greening puts classes of its own into their places.
_Local: Any = _thread._local
_here = _Local()


class _Hub(Protocol):
    """What is closed."""

    def close(self) -> None:
        """End it; twice is the same as once."""

    def make_current(self) -> None:
        """Become the thread's hub again, which its thread-locals may have forgotten."""

    def close_with(self, closer: Callable[[], object]) -> None:
        """Have `closer()` called when it ends."""


class _EndSign:
    """Closes a hub when its thread drops its thread-locals, which is the last that it does."""

    def __init__(self, hub: _Hub) -> None:
        self.hub: _Hub | None = hub

    def __del__(self) -> None:
        hub, self.hub = self.hub, None
        if hub is not None:
            hub.make_current()
            hub.close()


def close_at_end(hub: _Hub) -> None:
    """Close the hub when the calling thread ends, unless that is the main one."""
    thread = threading.current_thread()
    if thread is threading.main_thread():
        return
    # For threads that `threading` did not start, which show no other sign of their end. Held by nothing else: its own
    # end is the sign.
    _here.end_sign = _EndSign(hub)
    hub.close_with(_forget)
    delete = getattr(thread, "_delete", None)
    if delete is None or isinstance(thread, threading._DummyThread):
        return

    def close_and_delete() -> None:
        # CPython 3.11 to 3.15 call this when all is done that the thread was for, and it can still do all it could.
        try:
            hub.close()
        finally:
            delete()

    thread._delete = close_and_delete  # type: ignore[attr-defined]
    hub.close_with(lambda: vars(thread).pop("_delete", None))


def _forget() -> None:
    """Take back the sign of the thread's end: its hub is being closed."""
    sign = vars(_here).pop("end_sign", None)
    if sign is not None:
        sign.hub = None


def import_aside(name: str) -> None:
    """Import a module, in a thread of its own if the calling one might not end otherwise.

    eventlet 0.41 loads copies of `threading`, each of which takes the importing thread for the main one. On CPython
    before 3.13 that takes away the lock by which `join` is told that the thread has ended: join waits for ever.
    """
    if sys.version_info >= (3, 13) or name in sys.modules or threading.current_thread() is threading.main_thread():
        import_module(name)
        return
    done = _thread.allocate_lock()
    errors: list[BaseException] = []

    def work() -> None:
        try:
            import_module(name)
        except BaseException as error:
            errors.append(error)
        finally:
            done.release()

    done.acquire()
    _thread.start_new_thread(work, ())
    done.acquire()
    if errors:
        raise errors[0]
