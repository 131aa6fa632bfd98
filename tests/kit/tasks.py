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


def divide(a: int, b: int) -> float:
    return a / b


def doze(x: Any) -> Any:
    for _ in range(2000):
        time.sleep(0.01)
    return x


def double(x: int) -> int:
    time.sleep(0.002)
    return x * 2


def burn(_: int) -> int:
    return sum(i * i for i in range(30_000))


def fail(_: int) -> None:
    raise OSError("gone")
