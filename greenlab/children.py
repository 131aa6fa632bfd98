"""Starting processes of our own from a kernel that may be debugged.

Must not import: anything of greenlab, eventlet, asyncio or IPython.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from contextlib import AbstractContextManager


def undebugged() -> AbstractContextManager[object]:
    """Let this thread start a process that the kernel's debugger leaves alone.

    Once a debugger is attached, pydevd (of debugpy 1.8) puts itself before the program of every child, where it waits
    for a client that takes it over; JupyterLab's debugger does not, and the child never begins.
    """
    monkey = sys.modules.get("_pydev_bundle.pydev_monkey")
    skip = getattr(monkey, "skip_subprocess_arg_patch", None)
    return contextlib.nullcontext() if skip is None else skip()
