"""`threading.local` that is a task's own on the hub's thread, and a thread's own everywhere else.

`Local` subclasses the native class. For other threads, and for the main greenlet, the native class does all: the
attributes, `__init__` in each thread, the end of a thread. A green task has a dictionary a local, kept by its
greenlet, so that it goes with the task; the attributes of the class are looked up as Python always does. A greenlet
that others made sees the values of its owner, see `greenlab.hub.nested`.

Guarantees: `__init__` runs again, with the arguments of the first call, in each task that touches the local, as it
does in each thread; a task's values are freed when the task ends or the local goes, whichever is first.

Locals that were made before are the threads' own still, with two exceptions: plain ones that a module or an object
holds are adopted (see `adopted`), and subclasses of the native class get these methods (`patch`).

`threading.get_ident()` and `current_thread()` stay what they are, and return the hub's OS thread for all green tasks.
That keeps libraries right that hand the ident to the system (signals, `sys._current_frames`), that ask whether this
is the main thread, or that may be used only in the thread that made them (sqlite3, asyncio).
"""

from __future__ import annotations

import _thread
import gc
import threading
import weakref
from typing import TYPE_CHECKING, Any

import greenlet

from greenlab.greening.scope import left_alone, owner_of, scope

if TYPE_CHECKING:
    from greenlab.greening.patches import Patches

NativeLocal: Any = _thread._local
_get, _set, _del = NativeLocal.__getattribute__, NativeLocal.__setattr__, NativeLocal.__delattr__
_get_ident = _thread.get_ident
_getcurrent = greenlet.getcurrent
_KEY = "_greenlab_locals"


class _Store(dict[int, Any]):
    """All locals' dictionaries of one green task: by the local's id, with a reference that ends them together."""

    __slots__ = ("__weakref__",)


def _task() -> Any:
    """Return the green task that runs, or None for the main greenlet and every other thread."""
    if _get_ident() != scope.thread_id:
        return None
    try:
        owner = owner_of(_getcurrent())
    except RuntimeError:  # the interpreter ends, and a finalizer asks
        return None
    return None if owner is scope.root else owner


def _values(self: Any, task: Any) -> dict[str, Any]:
    """Return the dictionary of `self` in a task, made if need be."""
    store = task.__dict__.get(_KEY)
    if store is None:
        store = task.__dict__[_KEY] = _Store()
    entry = store.get(id(self))
    if entry is None:
        values: dict[str, Any] = {}
        mine = weakref.ref(store)
        key = id(self)

        def forget(_gone: Any) -> None:
            # A strong reference to the store would be a cycle: what a task holds shall go when the task goes.
            left = mine()
            if left is not None:
                left.pop(key, None)

        store[key] = values, weakref.ref(self, forget)
        args, kwargs = _arguments(self)
        if type(self).__init__ is not object.__init__:
            try:
                type(self).__init__(self, *args, **kwargs)
            except BaseException:
                store.pop(key, None)
                raise
        return values
    found: dict[str, Any] = entry[0]
    return found


def _arguments(self: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(self, Local):
        try:
            kept: tuple[tuple[Any, ...], dict[str, Any]] = _arguments_slot.__get__(self)
        except AttributeError:
            return (), {}
        return kept
    # Made before, or of a class that was. C keeps the arguments for threads to come, and only the collector can read
    # them, after what a subclass adds: the type, the arguments, keywords if there are any, its own tables.
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    for each in gc.get_referents(self)[::-1]:
        if type(each) is dict and each and all(type(key) is str for key in each):
            kwargs = each
        elif type(each) is tuple:
            args = each
            break
        elif isinstance(each, type):
            break
    return args, kwargs


def _attribute_of_class(self: Any, name: str) -> Any:
    for owner in type(self).__mro__:
        if name in owner.__dict__:
            return owner.__dict__[name]
    return None


def getattribute(self: Any, name: str) -> Any:
    # As `_task` and `_values`, but written out: attributes of locals are read in the hottest places.
    if _get_ident() != scope.thread_id:
        return _get(self, name)
    try:
        task = _getcurrent()
    except RuntimeError:  # the interpreter ends, and a finalizer asks
        return _get(self, name)
    if task is scope.root:
        return _get(self, name)
    try:
        values = task.__dict__[_KEY][id(self)][0]
    except KeyError:
        task = owner_of(task)
        if task is scope.root:
            return _get(self, name)
        values = _values(self, task)
    if name in values and (type(self) is Local or not hasattr(type(_attribute_of_class(self, name)), "__set__")):
        return values[name]
    if name == "__dict__":
        return values
    # Without the native class's own lookup, which would add the dictionary of the thread.
    return object.__getattribute__(self, name)


def setattribute(self: Any, name: str, value: Any) -> None:
    task = _task()
    if task is None:
        _set(self, name, value)
    elif name == "__dict__":
        raise AttributeError(f"{type(self).__name__!r} object attribute '__dict__' is read-only")
    else:
        values = _values(self, task)
        of_class = _attribute_of_class(self, name)
        if hasattr(type(of_class), "__set__"):
            of_class.__set__(self, value)
        else:
            values[name] = value


def delattribute(self: Any, name: str) -> None:
    task = _task()
    if task is None:
        _del(self, name)
    elif name == "__dict__":
        raise AttributeError(f"{type(self).__name__!r} object attribute '__dict__' is read-only")
    else:
        values = _values(self, task)
        of_class = _attribute_of_class(self, name)
        if hasattr(type(of_class), "__delete__"):
            of_class.__delete__(self)
        elif name in values:
            del values[name]
        else:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


class Local(NativeLocal):  # type: ignore[misc]  # the base is known at run time only
    """threading.local for green tasks and OS threads alike."""

    __slots__ = ("_greenlab_arguments",)

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if cls.__module__ != __name__ and left_alone(cls.__module__):
            # As those that were made before: its values are the thread's, whatever runs there.
            for name in ("__getattribute__", "__setattr__", "__delattr__"):
                setattr(cls, name, getattr(NativeLocal, name))

    def __new__(cls, /, *args: Any, **kwargs: Any) -> Any:
        made = NativeLocal.__new__(cls, *args, **kwargs)
        if args or kwargs:
            _arguments_slot.__set__(made, (args, kwargs))
        return made

    __getattribute__ = getattribute
    __setattr__ = setattribute
    __delattr__ = delattribute


_arguments_slot: Any = Local.__dict__["_greenlab_arguments"]
# The name of C's own type.
Local.__module__, Local.__qualname__, Local.__name__ = "_thread", "_local", "_local"


class AdoptedLocal(Local):
    """Stands in for a plain local that was made before: threads, and the main greenlet, see that one's attributes."""

    __slots__ = ("_greenlab_native",)

    def __new__(cls, native: Any) -> Any:
        made = NativeLocal.__new__(cls)
        _native_slot.__set__(made, native)
        return made

    def __getattribute__(self, name: str) -> Any:
        return getattribute(self, name) if _task() is not None else _get(_native_slot.__get__(self), name)

    def __setattr__(self, name: str, value: Any) -> None:
        if _task() is not None:
            setattribute(self, name, value)
        else:
            _set(_native_slot.__get__(self), name, value)

    def __delattr__(self, name: str) -> None:
        if _task() is not None:
            delattribute(self, name)
        else:
            _del(_native_slot.__get__(self), name)


_native_slot: Any = AdoptedLocal.__dict__["_greenlab_native"]


def original(adopted: AdoptedLocal) -> Any:
    """Return the native local that `adopted` stands for."""
    return _native_slot.__get__(adopted)


def _subclasses(owner: Any) -> set[Any]:
    found = set(owner.__subclasses__())
    return found.union(*(_subclasses(each) for each in found)) if found else found


def patch(patches: Patches) -> None:
    """Make the values of `threading.local` a task's own."""
    for owner in (_thread, threading):
        patches.replace(owner, "local" if owner is threading else "_local", Local)
    for owner in _subclasses(NativeLocal) - {Local, AdoptedLocal} - _subclasses(Local):
        # A manager's proxies keep a connection a thread: one for two tasks, and a put waits behind the get it is for.
        if left_alone(owner.__module__) and owner.__module__ != "multiprocessing.util":
            continue
        for name, method in (
            ("__getattribute__", getattribute), ("__setattr__", setattribute), ("__delattr__", delattribute)
        ):  # fmt: skip
            if getattr(owner, name) is getattr(NativeLocal, name):
                patches.replace(owner, name, method)
