"""How long tasks took: percentiles of recorded times, or of a histogram.

Must not import: numpy before there are many tasks to rank.
"""

from __future__ import annotations

import itertools
from array import array
from dataclasses import dataclass
from math import ceil, log2, nan
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Latency:
    """Latency of the tasks of a run that ended, well or badly, in seconds; nan while none has.

    Attributes:
        p50: half of the tasks took at most this long.
        p90: nine of ten.
        p99: ninety-nine of a hundred.
        max: the slowest.
    """

    p50: float = nan
    p90: float = nan
    p99: float = nan
    max: float = nan


def latency_of(starts_s: Sequence[float], ends_s: Sequence[float]) -> Latency:
    """Return the percentiles of `end - start` in seconds, by the nearest-rank method: each is a latency that did occur.

    Args:
        starts_s: when tasks started, in seconds; nan where one never did.
        ends_s: when the same tasks ended, on the same clock; nan where one has not.
    """
    # Sorting a million tasks would hold the hub for a third of a second, as a run ends.
    return _by_partition(starts_s, ends_s) if len(ends_s) > _MOST_SORTED else _by_sorting(starts_s, ends_s)


_MOST_SORTED = 100_000
_PERCENTILES = 0.50, 0.90, 0.99, 1.0


def _rank(share: float, count: int) -> int:
    return max(0, ceil(share * count) - 1)


def _by_sorting(starts_s: Sequence[float], ends_s: Sequence[float]) -> Latency:
    taken = sorted(
        end - start
        for start, end in zip(starts_s, ends_s, strict=True)
        if end == end and start == start  # noqa: PLR0124 (nan: not ended, or never started)
    )
    return Latency(*(taken[_rank(share, len(taken))] for share in _PERCENTILES)) if taken else Latency()


def _by_partition(starts_s: Sequence[float], ends_s: Sequence[float]) -> Latency:
    import numpy as np

    taken = np.asarray(ends_s) - np.asarray(starts_s)
    taken = taken[~np.isnan(taken)]
    if not len(taken):
        return Latency()
    ranks = [_rank(share, len(taken)) for share in _PERCENTILES]
    taken.partition(ranks)
    return Latency(*(float(taken[rank]) for rank in ranks))


_STEPS = 35  # buckets an octave: 2 ** (1 / 35) is 1.02
_LEAST_S = 2.0**-30  # a nanosecond, about
_BUCKETS = 60 * _STEPS  # up to 2 ** 30 s


class Histogram:
    """Counts of latencies in buckets of equal ratio (the idea of HdrHistogram; G. Tene, 2012).

    Guarantees: percentiles are right to within 2 %, and the memory is the same however many latencies are counted.
    """

    def __init__(self) -> None:
        self._counts = array("Q", bytes(8 * _BUCKETS))
        self._total = 0
        self._max_s = 0.0

    def add(self, latency_s: float) -> None:
        """Count one latency, in seconds."""
        self._counts[min(max(0, int(log2(max(latency_s, _LEAST_S) / _LEAST_S) * _STEPS)), _BUCKETS - 1)] += 1
        self._total += 1
        self._max_s = max(self._max_s, latency_s)

    def latency(self) -> Latency:
        """Return the percentiles in seconds, each the middle of its bucket; the maximum is exact."""
        if not self._total:
            return Latency()
        sums = list(itertools.accumulate(self._counts))

        def rank(share: float) -> float:
            wanted = ceil(share * self._total)
            bucket = next(i for i, sum_ in enumerate(sums) if sum_ >= wanted)
            return min(float(_LEAST_S * 2.0 ** ((bucket + 0.5) / _STEPS)), self._max_s)

        return Latency(rank(0.50), rank(0.90), rank(0.99), self._max_s)
