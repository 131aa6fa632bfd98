"""Places: the line of the user's own code at which a stack of frames stands.

Must not import: anything of greenlab, eventlet or asyncio; worker processes load this.
"""

from __future__ import annotations

import os
import re
import sys
from typing import Any

Place = tuple[str, int, str]
"""File name (a cell's is `Cell In[3]`), line number, function."""

PACKAGE = os.path.dirname(__file__) + os.sep  # noqa: PTH120
"""The folder of greenlab's own code, with the separator behind it."""
_PICKLER = f"{os.sep}cloudpickle{os.sep}"
_LIBRARIES = "site-packages", "dist-packages"  # the second is Debian's
_WAITS = tuple(f"{folder}{os.sep}eventlet{os.sep}" for folder in _LIBRARIES)
_GREENED = f"{os.sep}eventlet{os.sep}green{os.sep}"  # modules that tasks may use themselves
_CELL_FILE = re.compile(r"[^\"\n]*[/\\]ipykernel_\d+[/\\]\d+\.py|<ipython-input-\d+-[0-9a-f]+>")
"""What IPython 9 calls the file of a cell, in a kernel and in a terminal."""
_IN_TRACEBACK = re.compile(f'(?<=File ")(?:{_CELL_FILE.pattern})')
_STDLIB = os.path.dirname(os.__file__) + os.sep  # noqa: PTH120


def shell() -> Any:
    """Return IPython's shell, or None where there is none; nothing is imported for it."""
    ipython: Any = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython is not None else None


def is_own(filename: str) -> bool:
    """Return whether code is the user's own: not greenlab's, a library's or the standard library's."""
    if filename.startswith((PACKAGE, _STDLIB, "<frozen")):
        return False
    return not any(name in filename for name in _LIBRARIES)


def is_machinery(filename: str) -> bool:
    """Return whether code is what runs and sends tasks, which no traceback need show.

    It is greenlab's, its pickler's, or eventlet's, in which tasks wait.
    """
    if filename.startswith(PACKAGE) or _PICKLER in filename:
        return True
    return any(name in filename for name in _WAITS) and _GREENED not in filename


def user_place(frame: Any) -> Place | None:
    """Return the place of the innermost frame that is not greenlab's, a library's or the standard library's.

    Args:
        frame: the innermost frame of the stack, or None.

    Returns:
        that place; where no frame is the user's own, the place of the innermost frame; None for no frame.
    """
    first: Place | None = None
    while frame is not None:
        code = frame.f_code
        here = code.co_filename, frame.f_lineno, code.co_name
        if first is None:
            first = here
        if is_own(code.co_filename):
            return here
        frame = frame.f_back
    return first


def format_place(place: Place) -> str:
    """Format a place for people: `line 3 of Cell In[2], in fetch`."""
    name, line, function = place
    return f"line {line} of {file_label(name)}, in {function}"


def file_label(filename: str) -> str:
    """Return what a reader calls a file: a cell by its number, a file by the last part of its path."""
    # IPython's cells are files of generated names, and IPython alone knows which is which.
    name = getattr(getattr(shell(), "compile", None), "format_code_name", lambda _: None)(filename)
    if not name and _CELL_FILE.fullmatch(filename):
        return "a cell"  # of another process or kernel: its number is not known here
    return " ".join(name) if name else os.path.basename(filename)  # noqa: PTH119


def with_cells_named(text: str) -> str:
    """Return a traceback with cells by their numbers, not by the names of files that IPython makes up for them."""
    return _IN_TRACEBACK.sub(lambda found: file_label(found[0]), text)
