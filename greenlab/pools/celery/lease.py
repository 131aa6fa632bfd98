"""Whether a message that a worker holds may still be begun, or may have been given to another worker meanwhile.

A kernel that has not heard a worker for `workers.DEAD_S` takes it as dead, and sends again what it had not begun. One
that was stopped or cut off for as long, and goes on, must not begin that too.

Must not import: runs, live, magics, celery, kombu.
"""

from __future__ import annotations

import mmap
from time import perf_counter
from typing import Final

from greenlab.pools.celery.workers import DEAD_S

LEASE_S: Final = DEAD_S - 3.0
"""How long a worker may say nothing of a message and still begin it: that it has begun is to be told in time."""


class Lease:
    """When a worker has told its kernels what it holds; in memory that the processes forked from it share."""

    def __init__(self) -> None:
        # When it was told last, and up to when messages came that it said nothing of for too long.
        self._times_s = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("d")

    def renew(self, told_s: float) -> None:
        """The worker has told what it holds, at this `time.perf_counter()`."""
        if told_s - self._times_s[0] > LEASE_S:
            self._times_s[1] = told_s - LEASE_S
        self._times_s[0] = told_s

    def holds(self, received_s: float) -> bool:
        """Return whether a message that came then may be begun now."""
        told_s, lapsed_s = self._times_s[0], self._times_s[1]
        return received_s > lapsed_s and perf_counter() - max(received_s, told_s) < LEASE_S
