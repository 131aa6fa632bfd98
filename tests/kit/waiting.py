"""Waiting for what nothing tells a test of. Where there is an event, wait for that."""

from __future__ import annotations

import time
from typing import Any

from greenlab.hub import eventlet

LIMIT_S = 60


def wait_until(
    condition: Any, what: str = "it", *, pause_s: float = 0.005, natively: bool = False, limit_s: float = LIMIT_S
) -> None:
    """Wait, while other green threads run, until a condition holds; fail the test if it never does.

    Args:
        condition: asked again and again.
        what: what is waited for, in the message of the failure.
        pause_s: between two questions, in seconds; with 0 the hub turns once.
        natively: sleep instead, in a test in which no hub turns.
        limit_s: how long to wait at the most, in seconds.
    """
    sleep = time.sleep if natively else eventlet.sleep
    end_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end_s, f"waited for {what} in vain"
        sleep(pause_s)
