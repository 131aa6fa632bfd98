"""Primitives that were made natively before greening: locks, RLocks, SimpleQueues and plain `threading.local`s.

Each is replaced, where it is held, by a green one that *wraps* it, so that code that still has the native object
and code that has the wrapper exclude each other. When the greening ends, the native objects are put back. Condition,
Event, Semaphore, Barrier, queue.Queue and logging's handlers hold such locks in attributes, and are adopted by them.

Guarantees: a green thread that waits for an adopted lock never blocks the hub. A release through the wrapper wakes
it at once; a release through the native object is not noticed, so it also looks again by itself, after 1 ms at first
and never later than after 50 ms.

Found are: attributes of objects (also in slots), of classes and of modules, and values in dicts and lists (of up to
500) a module holds by name. Not found, and so native everywhere: what only C, a closure, a tuple, a set or a deeper
container holds; bound methods kept elsewhere than beside their lock; RLocks that the hub's thread holds at that
moment; and what the kernel's own machinery holds, which is left alone. For a native Lock in such a place the old
rule stands: a green thread must not hold it across a switch.
"""

from __future__ import annotations

import _queue
import _thread
import gc
import itertools
import sys
import time
import types
from collections import deque
from queue import Empty
from typing import TYPE_CHECKING, Any, Self

import greenlet

from greenlab.greening.local import AdoptedLocal, NativeLocal, original
from greenlab.greening.locks import Lock, Waiter, check_timeout, reacquire, wake_next
from greenlab.greening.queues import SimpleQueue
from greenlab.greening.scope import green_hub, left_alone, same_owner, scope

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


def wait_until(hub: GuestHub, taken: Callable[[], bool], waiters: deque[Waiter], timeout: float) -> bool:
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

    def _wait(self, hub: GuestHub, timeout: float) -> bool:
        return wait_until(hub, lambda: self._native.acquire(False), self._waiters, timeout)

    def _at_fork_reinit(self) -> None:
        # The native object itself: others may hold it.
        native: Any = self._native
        native._at_fork_reinit()
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
        if not (self._owner is None or same_owner(self._owner, current)) or not self._native.acquire(False):
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
            return wait_until(hub, self._take, self._waiters, timeout)
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
            if not same_owner(self._owner, _getcurrent()):
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

    if sys.version_info >= (3, 14):

        def locked(self) -> bool:
            """As threading.RLock.locked."""
            locked: bool = self._native.locked()
            return locked

    def _is_owned(self) -> bool:
        owned: bool = self._native._is_owned()
        return owned and (
            _get_ident() != scope.thread_id or self._owner is None or same_owner(self._owner, _getcurrent())
        )

    def _recursion_count(self) -> int:
        return self._native._recursion_count() if self._is_owned() else 0

    def _release_save(self) -> Any:
        state = self._native._release_save()
        self._owner = None
        if self._waiters:
            wake_next(self._waiters)
        return state

    def _acquire_restore(self, state: Any) -> None:
        reacquire(self.acquire)
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


class AdoptedQueue(SimpleQueue):
    """A green SimpleQueue over C's that others may hold by itself."""

    __slots__ = ()

    def __new__(cls, native: Any) -> Self:
        return cls._over(native)

    def _wait(self, hub: GuestHub, end: float | None) -> Any:
        got: list[Any] = []

        def taken() -> bool:
            try:
                got.append(self._native.get(False))
            except Empty:
                return False
            return True

        if not wait_until(hub, taken, self._waiters, -1 if end is None else max(0.0, end - _monotonic())):
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

    def adopt(self) -> int:
        """Replace what is found by wrappers; return how many objects those are."""
        made: dict[int, Any] = {}

        def wrapper(native: Any) -> Any:
            kind = type(native)
            if kind is _NATIVE_RLOCK and native._is_owned():
                return native
            if id(native) not in made:
                made[id(native)] = _MAKERS[kind](native)
            return made[id(native)]

        _without_collecting(_exchange, frozenset(_MAKERS), wrapper)
        return len(made)

    def undo(self) -> None:
        """Put the native objects back wherever their wrappers are held now."""
        _without_collecting(_exchange, _WRAPPERS, native_of)


def native_of(wrapper: Any) -> Any:
    """Return what a wrapper stands for."""
    return wrapper._native if type(wrapper) is not AdoptedLocal else original(wrapper)


_WRAPPERS = frozenset((AdoptedLock, AdoptedRLock, AdoptedQueue, AdoptedLocal))
_CHUNK = 200
_CONTAINERS = {dict, list}
# Its one lock for all executors is held while a thread starts, which is a wait: a second green task that submits
# meanwhile to an executor of its own would stop the hub for good.
_EXECUTORS = "concurrent.futures.thread"
_LARGE = 500  # tables of characters, entities, colours: there are no lists of so many locks


def _without_collecting(func: Callable[..., None], *args: Any) -> None:
    """Call with the collector at rest: lists of all objects there are would set it off, for nothing."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        func(*args)
    finally:
        if enabled:
            gc.enable()


def _exchange(kinds: frozenset[Any], new_of: Callable[[Any], Any]) -> None:
    """Replace objects of these types wherever they are found.

    It looks at everything that the collector knows, which in a kernel with plots and widgets is 100,000 objects or
    more; so it asks C for what whole heaps of objects refer to, and goes into those heaps only that hold a find.
    """
    everything = gc.get_objects()
    types_ = list(map(type, everything))
    ways = {kind: way for kind in set(types_) if (way := _way_into(kind)) is not None}
    heaps: dict[type, list[Any]] = {kind: [] for kind in ways}
    for each in itertools.compress(everything, map(ways.__contains__, types_)):
        heaps[type(each)].append(each)
    del everything, types_
    for kind, heap in heaps.items():
        into = ways[kind]
        for start in range(0, len(heap), _CHUNK):
            chunk = heap[start : start + _CHUNK]
            if _refer_to(chunk, kinds):
                for owner in chunk:
                    into(owner, kinds, new_of)
    del heaps
    for name, module in list(sys.modules.items()):
        # threading's own locks are never held across a switch, and C releases them.
        ours = name == _EXECUTORS or (not left_alone(name) and name not in {"threading", "_thread"})
        if ours and isinstance(module, types.ModuleType):
            _in_module(vars(module), kinds, new_of)


def _way_into(kind: type) -> Callable[[Any, frozenset[Any], Callable[[Any], Any]], None] | None:
    """Return what looks into objects of this type, or None for types that are left alone."""
    if issubclass(kind, type):
        return _in_class
    module = getattr(kind, "__module__", None)
    if module in {"builtins", "types"} or left_alone(module):
        return None
    has_attributes = kind.__dictoffset__ or any(base.__dict__.get("__slots__") for base in kind.__mro__)
    return _in_object if has_attributes else None


def _refer_to(chunk: list[Any], kinds: frozenset[Any]) -> bool:
    """Return whether one of these objects holds one of these types, itself or in its dictionary."""
    parts = gc.get_referents(*chunk)
    found = set(map(type, parts))
    if not found.isdisjoint(kinds):
        return True
    if dict not in found:
        return False
    return not kinds.isdisjoint(map(type, gc.get_referents(*[part for part in parts if type(part) is dict])))


def _in_module(namespace: dict[Any, Any], kinds: frozenset[Any], new_of: Callable[[Any], Any]) -> None:
    items = list(namespace.items())
    types_ = [type(value) for _, value in items]
    if not kinds.isdisjoint(types_):
        _in_dict(namespace, kinds, new_of)
    for key, value in itertools.compress(items, map(_CONTAINERS.__contains__, types_)):
        if len(value) > _LARGE or key == "__builtins__":
            continue
        if type(value) is dict and not kinds.isdisjoint(map(type, list(value.values()))):
            _in_dict(value, kinds, new_of)
        elif not kinds.isdisjoint(map(type, value)):
            value[:] = [new_of(each) if type(each) in kinds else each for each in value]


def _in_dict(namespace: dict[Any, Any], kinds: frozenset[Any], new_of: Callable[[Any], Any]) -> None:
    """Replace values, and the methods bound to them that are kept beside them, as Condition does."""
    done: dict[int, Any] = {}
    for key, value in list(namespace.items()):
        # A thread's own lock is released by C when the thread ends.
        if type(value) in kinds and key not in {"_tstate_lock", "_handle"}:
            namespace[key] = done[id(value)] = new_of(value)
    for key, value in list(namespace.items()) if done else ():
        new = done.get(id(getattr(value, "__self__", None)))
        if new is not None and isinstance(value, (types.BuiltinMethodType, types.MethodType)):
            namespace[key] = getattr(new, value.__name__)


def _in_object(owner: Any, kinds: frozenset[Any], new_of: Callable[[Any], Any]) -> None:
    """Replace in the attributes of an object, in slots too."""
    try:
        namespace = object.__getattribute__(owner, "__dict__")
    except AttributeError:
        namespace = None
    if isinstance(namespace, dict) and not kinds.isdisjoint(map(type, list(namespace.values()))):
        _in_dict(namespace, kinds, new_of)
    for base in type(owner).__mro__:
        if not base.__dict__.get("__slots__"):
            continue
        for member in list(vars(base).values()):
            if isinstance(member, types.MemberDescriptorType):
                try:
                    value = member.__get__(owner)
                    if type(value) in kinds:
                        member.__set__(owner, new_of(value))
                except (AttributeError, TypeError):
                    continue  # not set yet, or read only


def _in_class(owner: type, kinds: frozenset[Any], new_of: Callable[[Any], Any]) -> None:
    if left_alone(getattr(owner, "__module__", None)) or not owner.__flags__ & _HEAP_TYPE:
        return
    for name, value in list(vars(owner).items()):
        if type(value) in kinds:
            type.__setattr__(owner, name, new_of(value))


_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: a class that Python made, whose attributes may be set
