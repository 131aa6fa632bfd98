"""Where a thread stands: the innermost frame of the call under test, and what it calls there.

A native call has no frame of its own. It is identified by the source at the frame's present instruction,
`client.get(key)`, and by what the first name of that stands for: an object of pylibmc's.

Must not import: eventlet, asyncio, IPython.
"""

from __future__ import annotations

import linecache
import re
from functools import cached_property
from types import ModuleType
from typing import TYPE_CHECKING, Any

from greenlab.probes.figures import Place
from greenlab.text.format import shortened

if TYPE_CHECKING:
    from types import CodeType

_DOTTED = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*")
_LONGEST = 80


class Finder:
    """Finds where threads stand, while they go on.

    Args:
        own: the folder whose frames are skipped.
        stop: the file of the frame that calls the call under test: frames outside it are not part of the call.
    """

    def __init__(self, own: str, stop: str) -> None:
        self._own = own
        self._stop = stop
        self._known: dict[tuple[CodeType, int], Sighting | None] = {}

    def __call__(self, frame: Any) -> Sighting | None:
        """Return where a frame stands; None if it is not in the call."""
        while frame is not None and frame.f_code.co_filename.startswith(self._own):
            if frame.f_code.co_filename == self._stop:
                return None
            frame = frame.f_back
        if frame is None:
            return None
        key = frame.f_code, frame.f_lasti
        if key not in self._known:
            seen = Sighting(frame, self._stop)
            self._known[key] = seen if seen.inside else None
        return self._known[key]


class Sighting:
    """Where a frame stood.

    Making it reads no file: that would release the GIL a few times, and if the watched call keeps the GIL for long,
    each time it would be late to get it back. `place` reads the source, and is for afterwards.
    """

    def __init__(self, frame: Any, stop: str) -> None:
        self._code: CodeType = frame.f_code
        self._lineno: int = frame.f_lineno or 0
        self._lasti: int = frame.f_lasti
        self._globals = frame.f_globals
        # Not the values themselves: they would be kept alive.
        self._locals = {name: _meaning(value) for name, value in frame.f_locals.items()}
        self._modules = []
        while frame is not None and frame.f_code.co_filename != stop:
            self._modules.append(str(frame.f_globals.get("__name__", "")).partition(".")[0])
            frame = frame.f_back
        self.inside = frame is not None  # else these are the hub's own frames

    @cached_property
    def place(self) -> Place:
        """The place, with its source and what is called there."""
        code, source = self._code, self._source()
        names = dict.fromkeys([*self._callees(source), *self._modules])
        return Place(code.co_name, code.co_filename, self._lineno, source, tuple(names))

    def _source(self) -> str:
        """Return the source of the instruction."""
        line = linecache.getline(self._code.co_filename, self._lineno)
        positions = list(self._code.co_positions())
        at = self._lasti // 2
        if line and 0 <= at < len(positions):
            first, last, begin, end = positions[at]
            if first is not None and first == last and begin is not None and end is not None:
                line = line.encode()[begin:end].decode(errors="replace")
        return shortened(line.strip(), _LONGEST)

    def _callees(self, source: str) -> list[str]:
        """Return what is called there: the function with its module, `os.system`, and the object's module."""
        match = _DOTTED.match(source)
        if match is None:
            return []
        first, _, rest = match[0].partition(".")
        is_module, name = self._locals.get(first) or _meaning(self._globals.get(first))
        found = [f"{name}.{rest}"] if is_module else []
        return [*found, name.partition(".")[0]] if name else found


def _meaning(value: Any) -> tuple[bool, str]:
    """Return whether a value is a module, and its name; for other values the name of the module of their type.

    No code of the value's own is run: a proxy may do anything when an attribute is read.
    """
    is_module = issubclass(type(value), ModuleType)
    try:
        name = object.__getattribute__(value, "__name__" if is_module else "__module__")
    except AttributeError:
        name = type(value).__module__
    return is_module, name if isinstance(name, str) else ""
