"""`queue.SimpleQueue` for green threads and OS threads: C's own, with a queue of green waiters beside it.

Guarantees: `put` is what C's is. It takes no lock that another thread could hold across a fork, and it may be called
while a `put` or `get` of the same thread is under way: from `__del__`, a weak reference's callback or a signal handler.

A green thread first tries without waiting, and every `put` wakes the first that waits; no wake-up is lost, as with
locks (see `locks`), for a waiter is queued before the try that fails.
"""

from __future__ import annotations

import _queue
import queue
import time
import types
from collections import deque
from typing import TYPE_CHECKING, Any, Self

from greenlab.greening.locks import Waiter, wake_next
from greenlab.greening.scope import green_hub

if TYPE_CHECKING:
    from greenlab.greening.patches import Patches
    from greenlab.hub import GuestHub

_Native: Any = _queue.SimpleQueue
_monotonic = time.monotonic
_YEARS_S = 1e9  # longer waits are C's to refuse


class SimpleQueue:
    """Simple, unbounded, reentrant FIFO queue."""

    __slots__ = ("__weakref__", "_native", "_waiters", "empty", "qsize")

    _native: Any
    _waiters: deque[Waiter]
    empty: Any
    qsize: Any

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        # C's takes no arguments; a subclass may take any.
        return cls._over(_Native(*args, **kwargs) if cls is SimpleQueue else _Native())

    @classmethod
    def _over(cls, native: Any) -> Self:
        made = object.__new__(cls)
        made._native, made._waiters = native, deque()
        made.empty, made.qsize = native.empty, native.qsize
        return made

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """As queue.SimpleQueue.put."""
        self._native.put(item, block, timeout)
        if self._waiters:
            wake_next(self._waiters)

    def put_nowait(self, item: Any) -> None:
        """As queue.SimpleQueue.put_nowait."""
        self._native.put(item)
        if self._waiters:
            wake_next(self._waiters)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """As queue.SimpleQueue.get."""
        native = self._native
        hub = green_hub()
        if hub is None or not block:
            return native.get(block, timeout)
        if timeout is not None and not (isinstance(timeout, (int, float)) and 0 < timeout < _YEARS_S):
            return native.get(block, timeout)  # does not wait, or raises what it raises
        try:
            return native.get(False)
        except queue.Empty:
            return self._wait(hub, None if timeout is None else _monotonic() + timeout)

    def get_nowait(self) -> Any:
        """As queue.SimpleQueue.get_nowait."""
        return self._native.get_nowait()

    def _wait(self, hub: GuestHub, end: float | None) -> Any:
        while True:
            waiter = Waiter(hub)
            self._waiters.append(waiter)
            try:
                try:
                    return self._native.get(False)
                except queue.Empty:
                    pass
                if not waiter.wait(end):
                    return self._native.get(False)
            except BaseException:
                if waiter.woken:
                    wake_next(self._waiters)
                raise
            finally:
                waiter.greenlet = None
                if not waiter.woken:
                    try:
                        self._waiters.remove(waiter)
                    except ValueError:
                        pass  # a put took it out of the queue just now, and it has what it came for

    def __reduce__(self) -> Any:
        raise TypeError("cannot pickle '_queue.SimpleQueue' object")

    __class_getitem__: Any = classmethod(types.GenericAlias)


SimpleQueue.__module__, SimpleQueue.__qualname__ = "_queue", "SimpleQueue"


def patch(patches: Patches) -> None:
    """Make `queue.SimpleQueue` cooperate; pickle looks for it in `_queue`."""
    for module in (queue, _queue):
        patches.replace(module, "SimpleQueue", SimpleQueue)
