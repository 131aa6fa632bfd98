"""What tests have worker processes do. It imports little: a process that is sent one of these loads this module."""

from __future__ import annotations

import os
import time
from typing import Any


def nap(seconds: float) -> int:
    """Sleep; return the process."""
    time.sleep(seconds)
    return os.getpid()


def compute(seconds: float) -> int:
    """Keep the processor busy; return the process."""
    end_s = time.perf_counter() + seconds
    while time.perf_counter() < end_s:
        pass
    return os.getpid()


def note_to(log: Any, task_s: float = 0.0) -> Any:
    """Make a task that tells of itself in a file, in one write, and then takes its time."""
    path = str(log)

    def note(x: Any) -> Any:
        with open(path, "a") as file:  # noqa: PTH123
            file.write(f"{x}\n")
        if task_s:
            time.sleep(task_s)
        return x

    return note
