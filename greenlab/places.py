"""Places: in which line of the user's own code a stack of frames stands.

Must not import: anything of greenlab, eventlet or asyncio; worker processes load this.
"""

from __future__ import annotations

import os
import sys
from typing import Any

Place = tuple[str, int, str]
"""File name (a cell's is `Cell In[3]`), line number, function."""

_PACKAGE = os.path.dirname(__file__) + os.sep  # noqa: PTH120
_LIBRARIES = "site-packages", "dist-packages"  # the second is Debian's
_STDLIB = os.path.dirname(os.__file__) + os.sep  # noqa: PTH120


def is_own(filename: str) -> bool:
    """Tell whether code is the user's own: not greenlab's, a library's or the standard library's."""
    if filename.startswith((_PACKAGE, _STDLIB, "<frozen")):
        return False
    return not any(name in filename for name in _LIBRARIES)


def user_place(frame: Any) -> Place | None:
    """Find the innermost frame that is not greenlab's, a library's or the standard library's, if there is one.

    Args:
        frame: the innermost frame of the stack, or None.

    Returns:
        the place; that of the innermost frame where no frame is the user's own; None for no frame.
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


def say_place(place: Place) -> str:
    """Write a place as people read it."""
    name, line, function = place
    return f"line {line} of {file_words(name)}, in {function}"


def file_words(filename: str) -> str:
    """Name a file as the reader knows it: a cell by its number, a file by its last part."""
    ipython: Any = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    # IPython's cells are files of generated names, and IPython alone knows which is which.
    name = getattr(getattr(shell, "compile", None), "format_code_name", lambda _: None)(filename)
    return " ".join(name) if name else os.path.basename(filename)  # noqa: PTH119
