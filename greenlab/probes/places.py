"""Where a thread stands: the innermost frame of the call under test, and what it calls there.

A native call has no frame of its own. It is told by the source at the frame's present instruction, `client.get(key)`,
and by what the first name of that means: an object of pylibmc's.

Must not import: eventlet, asyncio, IPython.
"""

from __future__ import annotations

import linecache
import re
from types import ModuleType
from typing import TYPE_CHECKING, Any

from greenlab.probes.figures import Place

if TYPE_CHECKING:
    from types import CodeType

_DOTTED = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*")
_LONGEST = 80


class Finder:
    """Finds places; each is worked out once, since the thread that samples must not hold the GIL for long.

    Args:
        own: the folder whose frames are passed over.
        stop: the file of the frame that calls the call under test: from there outwards nothing is of interest.
    """

    def __init__(self, own: str, stop: str) -> None:
        self._own = own
        self._stop = stop
        self._known: dict[tuple[CodeType, int], Place | None] = {}

    def __call__(self, frame: Any) -> Place | None:
        """Describe where a frame stands, or None if it is not in the call."""
        while frame is not None and frame.f_code.co_filename.startswith(self._own):
            if frame.f_code.co_filename == self._stop:
                return None
            frame = frame.f_back
        if frame is None:
            return None
        key = frame.f_code, frame.f_lasti
        if key not in self._known:
            self._known[key] = self._describe(frame)
        return self._known[key]

    def _describe(self, frame: Any) -> Place | None:
        code, lineno = frame.f_code, frame.f_lineno or 0
        source = _source(frame)
        names = dict.fromkeys(_callees(frame, source))
        above = frame
        while above is not None and above.f_code.co_filename != self._stop:
            names[str(above.f_globals.get("__name__", "")).partition(".")[0]] = None
            above = above.f_back
        if above is None:  # the hub's own frames
            return None
        return Place(code.co_name, code.co_filename, lineno, source, tuple(names))


def _source(frame: Any) -> str:
    """Give the source of the instruction that a frame stands at."""
    line = linecache.getline(frame.f_code.co_filename, frame.f_lineno or 0)
    positions = list(frame.f_code.co_positions())
    at = frame.f_lasti // 2
    if line and 0 <= at < len(positions):
        first, last, begin, end = positions[at]
        if first is not None and first == last and begin is not None and end is not None:
            line = line.encode()[begin:end].decode(errors="replace")
    return line.strip()[:_LONGEST]


def _callees(frame: Any, source: str) -> list[str]:
    """Name what is called there: the function with its module, `os.system`, and the module of the object."""
    match = _DOTTED.match(source)
    if match is None:
        return []
    first, _, rest = match[0].partition(".")
    value = frame.f_locals.get(first, frame.f_globals.get(first))
    if isinstance(value, ModuleType):
        return [f"{value.__name__}.{rest}", value.__name__.partition(".")[0]]
    module = getattr(value, "__module__", None) or type(value).__module__
    return [module.partition(".")[0]] if isinstance(module, str) else []
