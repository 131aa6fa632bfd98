"""Primitives that were made natively before greening: locks, RLocks, SimpleQueues and plain `threading.local`s.

Each is replaced, where it is held, by a green one that *wraps* it, so that whoever holds the native object still and
whoever holds the wrapper exclude each other. At the way out the native objects are put back. Condition, Event,
Semaphore, Barrier, queue.Queue and logging's handlers hold such locks in attributes, and are adopted by them.

Guarantees: a green thread that waits for an adopted lock never blocks the hub. A release through the wrapper wakes
it at once; a release through the native object tells nobody, so it also looks again by itself, after 1 ms at first
and never later than after 50 ms.

Found are: attributes of objects (also in slots), of classes and of modules, and values in dicts and lists that a
module holds by name. Not found, and so native for everybody: what only C, a closure, a tuple, a set or a deeper
container holds; bound methods kept elsewhere than beside their lock; RLocks that the hub's thread holds at that
moment; and what the kernel's own machinery holds, which is left alone. For a native Lock in such a place the old
rule stands: a green thread must not hold it across a switch.
"""

from __future__ import annotations

import _queue
import _thread
import gc
import sys
import time
import types
import weakref
from collections import deque
from queue import Empty
from typing import TYPE_CHECKING, Any

import greenlet

from greenlab.greening.local import AdoptedLocal, NativeLocal
from greenlab.greening.locks import Lock, Waiter, check_timeout, wake_next
from greenlab.greening.scope import green_hub, left_alone, scope

if TYPE_CHECKING:
    from collections.abc import Callable

    from greenlab.hub import GuestHub

_SOONEST_S, _LATEST_S = 0.001, 0.05
_NATIVE_LOCK: Any = type(_thread.allocate_lock())
_NATIVE_RLOCK: Any = _thread.RLock
_NATIVE_QUEUE: Any = _queue.SimpleQueue
_get_ident = _thread.get_ident
_getcurrent = greenlet.getcurrent
_monotonic = time.monotonic


def _wait_until(hub: GuestHub, taken: Callable[[], bool], waiters: deque[Waiter], timeout: float) -> bool:
    """Wait on the hub until `taken()`, asking after each wake, and after growing pauses without one."""
    end = None if timeout < 0 else _monotonic() + timeout
    pause_s = _SOONEST_S
    while True:
        waiter = Waiter(hub)
        waiters.append(waiter)
        try:
            if taken():
                return True
            now = _monotonic()
            if end is not None and now >= end:
                return False
            waiter.wait(now + pause_s if end is None else min(end, now + pause_s))
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
                    pass  # a release took it out of the queue just now
        pause_s = min(pause_s * 2, _LATEST_S)


class AdoptedLock(Lock):
    """A green lock over a native one that others may hold by itself."""

    __slots__ = ()

    def __init__(self, native: Any) -> None:
        super().__init__()
        self._native = native

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
            taken: bool = native.acquire(True, timeout)
            return taken
        return _wait_until(hub, lambda: native.acquire(False), self._waiters, timeout)

    acquire_lock = acquire

    def _at_fork_reinit(self) -> None:
        # The native object itself: somebody else may hold it.
        self._native._at_fork_reinit()
        self._waiters = deque()


class AdoptedRLock:
    """A green RLock over a native one. On the hub's thread its owner is a greenlet, and C counts for the thread."""

    __slots__ = ("__weakref__", "_native", "_owner", "_waiters")

    def __init__(self, native: Any) -> None:
        self._native = native
        self._owner: Any = None
        self._waiters: deque[Waiter] = deque()

    def _take(self) -> bool:
        current = _getcurrent()
        if self._owner not in (None, current) or not self._native.acquire(False):
            return False
        self._owner = current
        return True

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """As threading.RLock.acquire."""
        if _get_ident() != scope.thread_id:
            taken: bool = self._native.acquire(blocking, timeout)
            return taken
        if timeout != -1:
            check_timeout(blocking, timeout)
        if self._take():
            return True
        if not blocking:
            return False
        hub = green_hub()
        if hub is not None:
            return _wait_until(hub, self._take, self._waiters, timeout)
        # A native block, or the hub itself: it may wait for a thread, but for a green thread it would wait for ever.
        if self._owner is not None:
            raise RuntimeError("a green thread holds this RLock, and cannot release it while the hub waits")
        taken = self._native.acquire(blocking, timeout)
        if taken:
            self._owner = _getcurrent()
        return taken

    def release(self) -> None:
        """As threading.RLock.release."""
        if _get_ident() == scope.thread_id and self._owner is not None:
            if self._owner is not _getcurrent():
                raise RuntimeError("cannot release un-acquired lock")
            self._native.release()
            if not self._native._is_owned():
                self._owner = None
        else:
            self._native.release()
        if self._waiters and self._owner is None:
            wake_next(self._waiters)

    __enter__ = acquire

    def __exit__(self, *_exc: object) -> None:
        self.release()

    def _is_owned(self) -> bool:
        owned: bool = self._native._is_owned()
        return owned and (_get_ident() != scope.thread_id or self._owner in (None, _getcurrent()))

    def _recursion_count(self) -> int:
        return self._native._recursion_count() if self._is_owned() else 0

    def _release_save(self) -> Any:
        state = self._native._release_save()
        self._owner = None
        if self._waiters:
            wake_next(self._waiters)
        return state

    def _acquire_restore(self, state: Any) -> None:
        self.acquire()
        # C's own state is a count and an owner: taken once by now, so the count is made up.
        for _ in range(state[0] - 1):
            self._native.acquire(False)

    def _at_fork_reinit(self) -> None:
        self._native._at_fork_reinit()
        self._owner = None
        self._waiters = deque()

    def __reduce__(self) -> Any:
        raise TypeError("cannot pickle '_thread.RLock' object")

    def __repr__(self) -> str:
        return repr(self._native)


class AdoptedQueue:
    """A green SimpleQueue over C's."""

    __slots__ = ("__weakref__", "_native", "_waiters", "empty", "get_nowait", "qsize")

    def __init__(self, native: Any) -> None:
        self._native = native
        self._waiters: deque[Waiter] = deque()
        self.empty, self.qsize, self.get_nowait = native.empty, native.qsize, native.get_nowait

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """As queue.SimpleQueue.put."""
        self._native.put(item, block, timeout)
        if self._waiters:
            wake_next(self._waiters)

    def put_nowait(self, item: Any) -> None:
        """As queue.SimpleQueue.put_nowait."""
        self.put(item, False)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """As queue.SimpleQueue.get."""
        hub = green_hub()
        if hub is None or not block or (timeout is not None and timeout <= 0):
            return self._native.get(block, timeout)
        got: list[Any] = []

        def taken() -> bool:
            try:
                got.append(self.get_nowait())
            except Empty:
                return False
            return True

        if not _wait_until(hub, taken, self._waiters, -1 if timeout is None else timeout):
            raise Empty
        return got[0]


_MAKERS: dict[Any, Callable[[Any], Any]] = {
    _NATIVE_LOCK: AdoptedLock,
    _NATIVE_RLOCK: AdoptedRLock,
    _NATIVE_QUEUE: AdoptedQueue,
    NativeLocal: AdoptedLocal,
}


class Adoption:
    """What was adopted; `undo` puts the native objects back."""

    def __init__(self) -> None:
        self._pairs: list[tuple[weakref.ref[Any], Any]] = []

    def adopt(self) -> int:
        """Replace what is found by wrappers, and tell how many objects those are."""
        natives = [each for each in gc.get_objects() if type(each) in _MAKERS]
        pairs = []
        for native in natives:
            kind = type(native)
            if kind is not _NATIVE_RLOCK or not native._is_owned():
                pairs.append((native, _MAKERS[kind](native)))
        del natives
        done = _exchange(pairs)
        # Weakly: what a program drops must go, wrapped or not.
        self._pairs = [(weakref.ref(new), old) for old, new in pairs if id(old) in done]
        return len(done)

    def undo(self) -> None:
        """Put the native objects back wherever their wrappers are held now."""
        pairs, self._pairs = self._pairs, []
        _exchange([(new, old) for ref, old in pairs if (new := ref()) is not None])


def _exchange(pairs: list[tuple[Any, Any]]) -> set[int]:
    """Replace, wherever it is found, each first of a pair by its second; give the ids of those found."""
    by_id = {id(old): (old, new) for old, new in pairs}
    olds = [old for old, _ in pairs]
    mine = {id(pairs), id(olds), *map(id, pairs), *map(id, by_id.values()), id(by_id)}
    holders = [each for each in gc.get_referrers(*olds) if id(each) not in mine] if olds else []
    dicts = [each for each in holders if type(each) is dict or type(each) is list]
    owners = _owners(dicts)
    modules = {id(vars(module)) for name, module in list(sys.modules.items()) if _is_open(name, module)}
    done: set[int] = set()
    for holder in holders:
        if id(holder) in modules:
            done |= _in_dict(holder, by_id)
        elif type(holder) is dict or type(holder) is list:
            for owner in owners.get(id(holder), ()):
                done |= _in_container(holder, owner, modules, by_id)
        elif not isinstance(holder, (types.FrameType, types.CellType, types.BuiltinMethodType, types.MethodType)):
            done |= _in_object(holder, by_id)
    return done


def _is_open(name: str, module: Any) -> bool:
    """Tell whether a module's own names may be changed: threading's locks are not held across a switch."""
    return isinstance(module, types.ModuleType) and not left_alone(name) and name not in {"threading", "_thread"}


def _owners(containers: list[Any]) -> dict[int, list[Any]]:
    """Give by a container's id who refers to it."""
    wanted = {id(each) for each in containers}
    found: dict[int, list[Any]] = {}
    for owner in gc.get_referrers(*containers) if containers else ():
        if owner is containers or isinstance(owner, types.FrameType):
            continue
        for part in gc.get_referents(owner):
            if id(part) in wanted:
                found.setdefault(id(part), []).append(owner)
    return found


def _in_container(holder: Any, owner: Any, modules: set[int], by_id: dict[int, tuple[Any, Any]]) -> set[int]:
    """Replace in a dict or list, by what its owner makes of it: attributes, or values in a module's container."""
    if isinstance(owner, type):
        return _in_class(owner, by_id)
    if id(owner) in modules:
        if type(holder) is dict:
            return _in_dict(holder, by_id)
        done = set()
        for index, value in enumerate(holder):
            if id(value) in by_id:
                done.add(id(value))
                holder[index] = by_id[id(value)][1]
        return done
    if getattr(owner, "__dict__", None) is holder:
        return _in_object(owner, by_id)
    return set()


def _in_dict(namespace: dict[Any, Any], by_id: dict[int, tuple[Any, Any]]) -> set[int]:
    """Replace values, and the methods bound to them that are kept beside them, as Condition does."""
    done: set[int] = set()
    for key, value in list(namespace.items()):
        if key in {"_tstate_lock", "_handle"}:
            continue  # a thread's own, which C releases when the thread ends
        if id(value) in by_id:
            namespace[key] = by_id[id(value)][1]
            done.add(id(value))
    if done:
        for key, value in list(namespace.items()):
            bound_to = id(getattr(value, "__self__", None))
            if bound_to in done and isinstance(value, (types.BuiltinMethodType, types.MethodType)):
                namespace[key] = getattr(by_id[bound_to][1], value.__name__)
    return done


def _in_object(owner: Any, by_id: dict[int, tuple[Any, Any]]) -> set[int]:
    """Replace in the attributes of an object, in slots too."""
    kind = type(owner)
    if isinstance(owner, type) or left_alone(getattr(kind, "__module__", None)) or kind.__module__ == "builtins":
        return set()
    done = _in_dict(owner.__dict__, by_id) if isinstance(getattr(owner, "__dict__", None), dict) else set()
    for base in kind.__mro__:
        for name, member in list(vars(base).items()):
            if isinstance(member, types.MemberDescriptorType):
                value = getattr(owner, name, None)
                if id(value) in by_id:
                    try:
                        member.__set__(owner, by_id[id(value)][1])
                    except (AttributeError, TypeError):
                        continue  # read only
                    done.add(id(value))
    return done


def _in_class(owner: type, by_id: dict[int, tuple[Any, Any]]) -> set[int]:
    done: set[int] = set()
    if left_alone(owner.__module__) or owner.__module__ == "builtins":
        return done
    for name, value in list(vars(owner).items()):
        if id(value) in by_id:
            try:
                setattr(owner, name, by_id[id(value)][1])
            except (AttributeError, TypeError):
                continue  # a class of C's
            done.add(id(value))
    return done
