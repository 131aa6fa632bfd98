"""Starting greenlab's own processes, from a kernel that may be debugged, and how many of them may compute at once.

Must not import: anything of greenlab, eventlet, asyncio or IPython.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from contextlib import AbstractContextManager


def undebugged() -> AbstractContextManager[object]:
    """Return a context in which this thread starts processes that the kernel's debugger leaves alone.

    Once a debugger is attached, pydevd (of debugpy 1.8) puts itself before the program of every child, where it waits
    for a client that takes it over; JupyterLab's debugger does not, and the child never begins.
    """
    monkey = sys.modules.get("_pydev_bundle.pydev_monkey")
    skip = getattr(monkey, "skip_subprocess_arg_patch", None)
    return contextlib.nullcontext() if skip is None else skip()


def count_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "process_cpu_count"):
        return os.process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
