"""The locks of multiprocessing, which processes share: C's SemLock, used between green threads.

Its `acquire` blocks the OS thread in C, where it waits for another green thread of the same one for ever; and C counts
an RLock for the OS thread, so that two green threads would both have it. The Python classes in front of it get methods
that try without waiting, and wait on the hub. Condition, Event, Barrier, Queue and Value are Python code over these.
billiard and loky have the same classes over the same C.

Guarantees: each object keeps what C gave it, under the same name, and works natively again when the greening ends;
whether it was made before or after. In other OS threads and other processes nothing changes.

Bound: a release by a green thread or an OS thread of this process wakes what waits at once. A release in another
process is not noticed, so what waits looks again by itself: after 1 ms at first, then after pauses that double, and
never later than after 50 ms. A look costs a few microseconds, so a long wait takes less than 0.1 % of a core.

Must not import: pools, runs, live, magics.
"""

from __future__ import annotations

import functools
from collections import deque
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import greenlet

from greenlab.greening.adopted import wait_until
from greenlab.greening.locks import Waiter, wake_next
from greenlab.greening.patches import Patches
from greenlab.greening.scope import get_ident, green_hub, same_owner, scope

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

_RECURSIVE = 0
_getcurrent = greenlet.getcurrent


class _State:
    """What the hub's thread knows of one SemLock: what waits for it, and which green thread has an RLock."""

    def __init__(self) -> None:
        self.waiters: deque[Waiter] = deque()
        self.owner: Any = None


_states: WeakKeyDictionary[Any, _State] = WeakKeyDictionary()


class OverridingMethod:
    """A method that goes before what objects of a class keep under its name: C's own, taken when they were made."""

    def __init__(self, name: str, method: Callable[..., Any]) -> None:
        self._name = name
        self._method = method

    def __get__(self, owner: Any, kind: type | None = None) -> Any:
        return self if owner is None else functools.partial(self._method, owner)

    def __set__(self, owner: Any, value: Any) -> None:
        vars(owner)[self._name] = value


def acquire(lock: Any, block: bool = True, timeout: float | None = None) -> bool:
    """As SemLock.acquire."""
    native = lock._semlock
    if get_ident() != scope.thread_id:
        there: bool = native.acquire(block, timeout)
        return there
    state = _states.get(lock)
    if state is None:
        state = _states.setdefault(lock, _State())
    current = _getcurrent()
    recursive = native.kind == _RECURSIVE

    def take() -> bool:
        if recursive and _has_another_owner(native, state, current):
            return False
        if not native.acquire(False):
            return False
        if recursive:
            state.owner = current
        return True

    if take():
        return True
    if not block or (timeout is not None and timeout <= 0):
        return False
    hub = green_hub()
    if hub is not None:
        return wait_until(hub, take, state.waiters, -1 if timeout is None else timeout)
    # A native block, or the hub itself: it may wait for a thread or a process, but not for a green thread.
    if recursive and _has_another_owner(native, state, current):
        raise RuntimeError("a green thread holds this RLock, and cannot release it while the hub waits")
    taken: bool = native.acquire(block, timeout)
    if taken:
        state.owner = current
    return taken


def release(lock: Any) -> None:
    """As SemLock.release."""
    native = lock._semlock
    state = _states.get(lock)
    if state is None:
        native.release()
        return
    if native.kind == _RECURSIVE and get_ident() == scope.thread_id:
        if _has_another_owner(native, state, _getcurrent()):
            raise AssertionError("attempt to release recursive lock not owned by thread")
        if native._is_mine() and native._count() == 1:
            state.owner = None
    native.release()
    if state.waiters:
        wake_next(state.waiters)


def _has_another_owner(native: Any, state: _State, current: Any) -> bool:
    """Return whether an RLock, which C takes for this OS thread's, is another green thread's."""
    return state.owner is not None and native._is_mine() and not same_owner(state.owner, current)


def _enter(lock: Any) -> bool:
    return acquire(lock)


def _exit(lock: Any, *_exc: object) -> None:
    release(lock)


def _acquire_inner(holder: Any, *args: Any, **kwargs: Any) -> Any:
    return holder._lock.acquire(*args, **kwargs)


def _release_inner(holder: Any) -> None:
    holder._lock.release()


def switch_locks(module: ModuleType) -> Callable[[], None]:
    """Have a `synchronize` module's locks cooperate; what is returned puts its classes back."""
    patches, classes = Patches(), vars(module)
    lock = classes.get("SemLock")
    if lock is not None:
        for name, method in (("acquire", acquire), ("release", release)):
            patches.replace(lock, name, OverridingMethod(name, method))
        patches.replace(lock, "__enter__", _enter)
        patches.replace(lock, "__exit__", _exit)
    _override_in_holder(patches, classes.get("Condition"))
    return patches.restore


def switch_values(module: ModuleType) -> Callable[[], None]:
    """Have a `sharedctypes` module's values cooperate; what is returned puts its class back."""
    patches = Patches()
    _override_in_holder(patches, vars(module).get("SynchronizedBase"))
    return patches.restore


def _override_in_holder(patches: Patches, holder: Any) -> None:
    """Have what took a lock's methods when it was made ask the lock itself."""
    if holder is not None:
        patches.replace(holder, "acquire", OverridingMethod("acquire", _acquire_inner))
        patches.replace(holder, "release", OverridingMethod("release", _release_inner))
