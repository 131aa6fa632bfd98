"""Work for processors, and how much of it was done at the same instant.

A throughput says little about parallelism on a busy machine. So work keeps the instants at which it got on, by a clock
that all processes share, and the process that has the results counts those at which several did.

Guarantees: `compute` takes as much of a processor on every machine, however many others want one.
Must not import: anything of greenlab, nor anything outside the standard library.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["compute", "parallel_share"]

_INSTANTS_A_SECOND = 10_000


def compute(seconds: float) -> frozenset[int]:
    """Compute, in Python, until this thread has had a processor for so many seconds.

    Returns:
        the instants at which it computed, in tenths of a millisecond by the system's monotonic clock.
    """
    # Looked up before: while the hub turns in this thread, `time` may be greened.
    used_s, now_s = time.thread_time, time.monotonic
    instants = set()
    until_s = used_s() + seconds
    while used_s() < until_s:
        instants.add(int(now_s() * _INSTANTS_A_SECOND))
    return frozenset(instants)


def parallel_share(results: Iterable[frozenset[int]]) -> float:
    """Return at which share of the instants two or more computed at once, from what their `compute` returned.

    0 is one after another, however quickly they take turns; with several processors to themselves it nears 1.
    """
    counts = Counter(instant for instants in results for instant in instants)
    return sum(count > 1 for count in counts.values()) / (len(counts) or 1)
