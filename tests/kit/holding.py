"""What holds the hub: a task that computes, and one that waits natively."""

from __future__ import annotations

import time
from typing import Any

import greenlab


def compute(seconds: float) -> None:
    """Compute for so much processor time, however busy the machine is."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        sum(range(1000))


def wait_natively(seconds: float) -> None:
    with greenlab.native():
        time.sleep(seconds)


def hold_once(how: Any) -> Any:
    """Give a task of which number 1 holds the hub by `how`."""

    def task(x: int) -> None:
        time.sleep(0.01)
        if x == 1:
            how()
        time.sleep(0.01)

    return task
