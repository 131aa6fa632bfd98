"""Locks that work across green threads and OS threads.

A green lock holds a native one, and that is the lock: what has the native lock has the green one. OS threads
acquire it natively. A green thread first tries without waiting; if that fails it queues itself and waits on the
hub, and every release wakes the first in the queue, through the hub's wake-up queue if need be.

Guarantees:

* no lost wake-up: a waiter is queued *before* the try that fails, so that a release in between sees it; a waiter
  that leaves after it was woken (a kill, a timeout) passes the wake on;
* a woken waiter tries again and may be overtaken, by native threads too: as with native locks, no fairness;
* an RLock belongs to a green thread, with the greenlets that others make in it: two of one OS thread exclude each
  other.

Condition, Event, Semaphore, Barrier and queue.Queue are Python code over these two, and so need nothing more.
"""

from __future__ import annotations

import _thread
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import greenlet

from greenlab.greening.scope import green_hub, same_owner, scope
from greenlab.greening.waiting import NoThread, in_thread, is_kernel_waiting, sleep

if TYPE_CHECKING:
    from collections.abc import Callable

    from greenlab.greening.patches import Patches
    from greenlab.hub import GuestHub

_allocate = _thread.allocate_lock
_get_ident = _thread.get_ident
_getcurrent = greenlet.getcurrent
_monotonic = time.monotonic
_join = threading.Thread.join


class Waiter:
    """A green thread in the queue of a lock."""

    __slots__ = ("greenlet", "hub", "woken")

    def __init__(self, hub: GuestHub) -> None:
        self.hub = hub
        self.greenlet: Any = _getcurrent()
        self.woken = False

    def wake(self) -> None:
        """Let the waiter try again. From any thread."""
        self.woken = True
        # In the hub itself a finalizer or a signal handler runs, maybe within its poll, which then goes on.
        if _get_ident() == self.hub.thread_id and _getcurrent() is not self.hub.greenlet:
            self.hub.schedule_call_global(0, self._resume)
        else:
            self.hub.call_soon_threadsafe(self._resume)

    def _resume(self) -> None:
        if self.greenlet is not None:
            self.greenlet.switch()

    def wait(self, end: float | None) -> bool:
        """Wait for `wake`, until the time `end`; return whether it came."""
        timer = None
        if end is not None:
            timer = self.hub.schedule_call_global(max(0.0, end - _monotonic()), self._resume)
        try:
            while not self.woken:
                self.hub.switch()
                if end is not None and not self.woken and _monotonic() >= end:
                    return False
        finally:
            if timer is not None:
                timer.cancel()
        return True


def acquire_green(hub: GuestHub, native: Any, waiters: deque[Waiter], timeout: float) -> bool:
    """Acquire a native lock from a green thread, waiting on the hub."""
    end = None if timeout < 0 else _monotonic() + timeout
    while True:
        waiter = Waiter(hub)
        waiters.append(waiter)
        try:
            if native.acquire(False):
                return True
            if not waiter.wait(end):
                return bool(native.acquire(False))
        except BaseException:
            if waiter.woken:
                wake_next(waiters)
            raise
        finally:
            waiter.greenlet = None
            if not waiter.woken:
                try:
                    waiters.remove(waiter)
                except ValueError:
                    pass  # a release took it out of the queue just now, and it has what it came for


def wake_next(waiters: deque[Waiter]) -> None:
    try:
        waiter = waiters.popleft()
    except IndexError:
        return
    waiter.wake()


def check_timeout(blocking: bool, timeout: float) -> None:
    """Refuse the timeouts that the native lock refuses."""
    if not blocking:
        raise ValueError("can't specify a timeout for a non-blocking call")
    if timeout < 0:
        raise ValueError("timeout value must be a non-negative number")
    if timeout > threading.TIMEOUT_MAX:
        raise OverflowError("timeout value is too large")


def reacquire(acquire: Callable[[], bool]) -> None:
    """Acquire for `Condition.wait`, whose caller will release in any case.

    A kill, a timeout or an interrupt in this moment would turn into "release unlocked lock"; so it is raised when the
    lock is held. A second one is raised at once.
    """
    try:
        acquire()
    except BaseException:
        if scope.hub is None:
            raise  # an abandoned green thread is being collected, and nothing will release
        acquire()
        raise


class Lock:
    """threading.Lock for green threads and OS threads alike."""

    __slots__ = ("__weakref__", "_native", "_waiters")

    def __init_subclass__(cls) -> None:
        if not cls.__module__.startswith("greenlab."):
            raise TypeError("type 'lock' is not an acceptable base type")

    def __init__(self) -> None:
        self._native = _allocate()
        self._waiters: deque[Waiter] = deque()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """As threading.Lock.acquire."""
        native = self._native
        if timeout != -1:
            check_timeout(blocking, timeout)
        if native.acquire(False):
            return True
        if not blocking:
            return False
        hub = green_hub()
        if hub is None:
            return native.acquire(True, timeout)
        return self._wait(hub, timeout)

    def _wait(self, hub: GuestHub, timeout: float) -> bool:
        """Acquire on the hub, once a try has failed."""
        if is_kernel_waiting(hub):
            return bool(self._native.acquire(True, timeout))
        return acquire_green(hub, self._native, self._waiters, timeout)

    def release(self) -> None:
        """As threading.Lock.release."""
        self._native.release()
        if self._waiters:
            wake_next(self._waiters)

    def locked(self) -> bool:
        """As threading.Lock.locked."""
        return self._native.locked()

    def __enter__(self) -> bool:
        return self._native.acquire(False) or self.acquire()

    def __exit__(self, *_exc: object) -> None:
        self._native.release()
        if self._waiters:
            wake_next(self._waiters)

    # Condition takes these two where a lock has them.

    def _release_save(self) -> None:
        self.release()

    def _acquire_restore(self, _state: Any) -> None:
        reacquire(self.acquire)

    def _at_fork_reinit(self) -> None:
        self._native = _allocate()
        self._waiters = deque()

    def __reduce__(self) -> Any:
        raise TypeError("cannot pickle '_thread.lock' object")  # copying one would share the native lock

    acquire_lock = acquire
    release_lock = release
    locked_lock = locked

    def __repr__(self) -> str:
        state = "locked" if self.locked() else "unlocked"
        return f"<{state} {type(self).__module__}.{type(self).__name__} object at {id(self):#x}>"


class RLock:
    """threading.RLock for green threads and OS threads alike; its owner is a green thread.

    No thread may ever have a greenlet of another one in a local variable: with greenlet 3.5.6 a thread that ends takes
    such a reference to its main greenlet for a leak, drops it, and memory is freed twice. So the owner is looked at
    only in its own thread, whose ident is kept beside it.
    """

    __slots__ = ("__weakref__", "_block", "_count", "_owner", "_thread")

    def __init__(self) -> None:
        self._block = Lock()
        self._owner: Any = None
        self._thread: int | None = None
        self._count = 0

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """As threading.RLock.acquire."""
        try:
            current = _getcurrent()
        except RuntimeError:  # the interpreter ends, and a finalizer asks: there is nothing left to share with
            return True
        ident = _get_ident()
        if self._thread == ident:
            owner = self._owner
            if owner is current or same_owner(owner, current):
                self._count += 1
                return True
        if self._block.acquire(blocking, timeout):
            self._owner = current
            self._thread = ident
            self._count = 1
            return True
        return False

    def release(self) -> None:
        """As threading.RLock.release."""
        try:
            current = _getcurrent()
        except RuntimeError:  # as above
            return
        if self._thread != _get_ident() or not (self._owner is current or same_owner(self._owner, current)):
            raise RuntimeError("cannot release un-acquired lock")
        self._count -= 1
        if not self._count:
            self._owner = self._thread = None
            self._block.release()

    __enter__ = acquire

    def __exit__(self, *_exc: object) -> None:
        self.release()

    def locked(self) -> bool:
        """Return whether it is held."""
        return self._block.locked()

    def _is_owned(self) -> bool:
        try:
            current = _getcurrent()
        except RuntimeError:  # as above
            return True
        return self._thread == _get_ident() and same_owner(self._owner, current)

    def _recursion_count(self) -> int:
        return self._count if self._is_owned() else 0

    def _release_save(self) -> tuple[int, Any, int | None]:
        if not self._count:
            raise RuntimeError("cannot release un-acquired lock")
        state = self._count, self._owner, self._thread
        self._count, self._owner, self._thread = 0, None, None
        self._block.release()
        return state

    def _acquire_restore(self, state: tuple[int, Any, int | None]) -> None:
        try:
            reacquire(self._block.acquire)
        finally:
            self._count, self._owner, self._thread = state

    def _at_fork_reinit(self) -> None:
        self._block._at_fork_reinit()
        self._count, self._owner, self._thread = 0, None, None

    def __reduce__(self) -> Any:
        raise TypeError("cannot pickle '_thread.RLock' object")

    def __repr__(self) -> str:
        state = "locked" if self._block.locked() else "unlocked"
        return (
            f"<{state} {type(self).__module__}.{type(self).__qualname__} object "
            f"owner={self._thread or 0} count={self._count} at {id(self):#x}>"
        )


# The names of C's own types: libraries and tracebacks look for these.
Lock.__module__, Lock.__name__ = "_thread", "lock"
# Pickled by this one: before CPython 3.13 `threading.Lock` is a function, and `_thread` has no `lock`.
Lock.__qualname__ = "lock" if hasattr(_thread, "lock") else "allocate_lock"
RLock.__module__, RLock.__qualname__, RLock.__name__ = "_thread", "RLock", "RLock"


def join(self: threading.Thread, timeout: float | None = None) -> None:
    """As threading.Thread.join. The end of an OS thread is known to C alone, so another thread waits for it."""
    hub = green_hub()
    if hub is None or not self.is_alive() or self is threading.current_thread() or (timeout or 1) <= 0:
        _join(self, timeout)
    else:
        try:
            in_thread(hub, _join, self, timeout)
        except NoThread:
            _join_by_asking(self, timeout)


def _join_by_asking(thread: threading.Thread, timeout: float | None) -> None:
    """Join without another thread's help: ask with growing pauses, so that what the thread waits for can happen."""
    end = None if timeout is None else _monotonic() + timeout
    pause_s = 0.001
    while thread.is_alive():
        left_s = pause_s if end is None else end - _monotonic()
        if left_s <= 0:
            return
        sleep(min(pause_s, left_s))
        pause_s = min(pause_s * 2, 0.05)
    _join(thread, 0)


def patch(patches: Patches) -> None:
    """Make the primitives of threading, and what is made of them, work across green and OS threads."""
    for module, names in (
        (threading, ("Lock", "_allocate_lock")),
        (_thread, ("allocate_lock", "allocate")),
    ):
        for name in names:
            patches.replace(module, name, Lock)
    for module, name in ((threading, "RLock"), (_thread, "RLock"), (threading, "_CRLock")):
        patches.replace(module, name, RLock)
    patches.replace(threading.Thread, "join", join)
