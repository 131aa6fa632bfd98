"""A picture of the whole process: what modules, types and functions refer to, and what the system holds for it.

Things are compared by identity, so a picture keeps alive what it shows. It is taken in the process that it shows: by a
test, or by a cell that imports this module into its kernel.
"""

from __future__ import annotations

import _thread
import asyncio
import functools
import gc
import os
import signal
import sys
import threading
import types
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator

_MISSING = object()
_BY_VALUE = {bool, int, float, str, bytes, type(None), types.MethodType}
_OURS = ("greenlab", "eventlet")


class Picture:
    """What there is now.

    Attributes:
        owners: modules, types, functions and partials, by their id.
        held: what stands in each of them, by (the owner's id, name).
        process: what belongs to the process as a whole, by name, as values.
    """

    def __init__(self) -> None:
        gc.collect()
        self.owners: dict[int, Any] = {}
        self.held: dict[tuple[int, str], Any] = {}
        for owner, parts in _owners():
            self.owners[id(owner)] = owner
            for name, value in parts:
                self.held[id(owner), name] = value
        self.process = _process()

    def changes(self, later: Picture) -> list[str]:
        """List what is different in a later picture, a line each, of all that is in both."""
        lines = []
        for where in self.held.keys() | later.held.keys():
            key, name = where
            before, after = self.held.get(where, _MISSING), later.held.get(where, _MISSING)
            if before is after or key not in self.owners or key not in later.owners:
                continue
            if type(before) in _BY_VALUE and type(before) is type(after) and before == after:
                continue
            owner = later.owners[key]
            if before is _MISSING and _is_part(owner, name, after):
                continue
            lines.append(f"{_words(owner)} {name}: {_words(before)} -> {_words(after)}")
        for name in self.process.keys() | later.process.keys():
            before, after = self.process.get(name), later.process.get(name)
            if before != after:
                lines.append(f"{name}: {before!r} -> {after!r}")
        return sorted(lines)


def references(packages: tuple[str, ...] = _OURS) -> list[str]:
    """List where modules, types and functions of others refer to these packages' modules, functions and types."""
    found = []
    for owner, parts in _owners():
        if _belongs(owner, _OURS):
            continue
        for name, value in parts:
            if issubclass(type(value), (types.ModuleType, types.FunctionType, type)) and _belongs(value, packages):
                found.append(f"{_words(owner)} {name}: {_words(value)}")
    return sorted(found)


def _belongs(thing: Any, packages: tuple[str, ...]) -> bool:
    """Tell by where it was made, not by what it calls itself: a green lock says that it is C's."""
    if type(thing) is functools.partial:
        thing = thing.func
    if isinstance(thing, types.FunctionType):
        # A decorator's closure is in another module than what it wraps, and a generated function says nothing.
        name = thing.__module__ or thing.__globals__.get("__name__")
    elif isinstance(thing, types.ModuleType):
        name = thing.__name__
    elif isinstance(thing, type):
        own = [each for each in vars(thing).values() if isinstance(each, types.FunctionType)]
        name = thing.__module__
        if name in {"_queue", "_thread", "select"} and own:
            name = own[0].__globals__.get("__name__")
    else:
        return False
    return isinstance(name, str) and name.partition(".")[0] in packages


def _owners() -> Iterator[tuple[Any, list[tuple[str, Any]]]]:
    """Give everything that others' code may have been changed in, and what stands there."""
    for module in list(sys.modules.values()):
        if isinstance(module, types.ModuleType) and module.__name__ not in {__name__, "__main__"}:
            yield module, [item for item in vars(module).items() if item[0] != "__warningregistry__"]
    for thing in gc.get_objects():
        # By its real type: proxies say that they are what they stand for.
        kind = type(thing)
        if issubclass(kind, type):
            yield thing, list(type.__dict__["__dict__"].__get__(thing).items())
        elif kind is types.FunctionType and thing.__globals__.get("__name__") != __name__:
            parts: list[tuple[str, Any]] = [("__code__", thing.__code__)]
            parts.extend((f"default {i}", value) for i, value in enumerate(thing.__defaults__ or ()))
            parts.extend((f"default {name}", value) for name, value in (thing.__kwdefaults__ or {}).items())
            parts.extend(_closure(thing))
            yield thing, parts
        elif kind is functools.partial:
            yield thing, [("func", thing.func), *((f"argument {i}", value) for i, value in enumerate(thing.args))]


def _closure(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f"closure {name}", cell.cell_contents
        except ValueError:
            continue  # not set yet


def _is_part(owner: Any, name: str, value: Any) -> bool:
    """Tell whether an attribute is new because a submodule was imported."""
    return isinstance(owner, types.ModuleType) and sys.modules.get(f"{owner.__name__}.{name}") is value is not None


def _process() -> dict[str, Any]:
    facts: dict[str, Any] = {
        "threads": sorted(f"{t.name} {type(t).__name__}" for t in threading.enumerate()),
        "native threads": _thread._count(),
        "system threads": psutil.Process().num_threads(),
        "children": sorted(child.name() for child in psutil.Process().children()),
        "folder": str(Path.cwd()),
        "wake-up descriptor": _wakeup_fd(),
        "hooks": [sys.excepthook, sys.displayhook, sys.unraisablehook, sys.breakpointhook, threading.excepthook],
        "streams": [sys.stdin, sys.stdout, sys.stderr],
        "finders": [*sys.meta_path, *sys.path_hooks],
        "path": list(sys.path),
        "tracing": [sys.gettrace(), sys.getprofile()],
        "collector": [gc.isenabled(), gc.get_threshold(), list(gc.callbacks)],
        "switch interval": sys.getswitchinterval(),
        "recursion limit": sys.getrecursionlimit(),
        "warnings": list(warnings.filters),
    }
    facts.update((f"environment {name}", value) for name, value in os.environ.items())
    facts.update((f"descriptor {fd}", what) for fd, what in _descriptors())
    facts.update((f"signal {number}", signal.getsignal(number)) for number in signal.valid_signals())
    for timer in ("ITIMER_REAL", "ITIMER_VIRTUAL", "ITIMER_PROF"):
        facts[timer] = signal.getitimer(getattr(signal, timer))
    try:
        loop: Any = asyncio.get_running_loop()
    except RuntimeError:
        return facts
    facts["watched by the loop"] = sorted(key.fd for key in loop._selector.get_map().values())
    return facts


def _wakeup_fd() -> int:
    if threading.current_thread() is not threading.main_thread():
        return -1
    fd = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(fd, warn_on_full_buffer=False)
    return fd


def _descriptors() -> Iterator[tuple[int, str]]:
    for fd in range(psutil.Process().num_fds() + 100):
        try:
            status = os.fstat(fd)
        except OSError:
            continue
        yield fd, f"{status.st_mode:o} {status.st_dev} {status.st_ino}"


def _words(thing: Any) -> str:
    if thing is _MISSING:
        return "nothing"
    if isinstance(thing, types.FunctionType):
        return f"function {thing.__module__}.{thing.__qualname__}"
    return repr(thing)[:150]
