"""What tasks leave in a folder, wherever they ran: a file each, with a line for each time."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

from waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def mark(folder: Path, task: int) -> None:
    """Note, in a task, that it ran."""
    with (folder / str(task)).open("a") as file:
        file.write("ran\n")


def note(folder: Path, x: int) -> int:
    """Be a task that waits a moment and leaves its mark."""
    time.sleep(0.05)
    mark(folder, x)
    return x


def wait_for_marks(folder: Path, count: int) -> None:
    """Wait, in a thread beside the run, until so many tasks ran."""
    wait_until(lambda: len(list(folder.iterdir())) >= count, f"{count} tasks", pause_s=0.01, natively=True)


def times_run(folder: Path) -> Counter[int]:
    """Return how many tasks ran how often; one that was killed before it wrote into its file did not."""
    return Counter(times for file in folder.iterdir() if (times := len(file.read_text().split())))


def beside(trouble: Callable[[], object]) -> threading.Thread:
    """Make trouble in a thread, while the run that it is for goes on."""
    thread = threading.Thread(target=trouble)
    thread.start()
    return thread
