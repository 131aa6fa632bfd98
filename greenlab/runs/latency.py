"""How long tasks took.

Must not import: numpy before there are many tasks to rank.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, nan
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
    """Give the percentiles of `end - start`, by the nearest-rank method: each is a latency that did occur.

    Args:
        starts_s: when tasks started, in seconds; nan where one never did.
        ends_s: when the same tasks ended, on the same clock; nan where one has not.
    """
    # Sorting a million tasks would hold the hub for a third of a second, as a run ends.
    return _picked(starts_s, ends_s) if len(ends_s) > _MANY else _sorted(starts_s, ends_s)


_MANY = 100_000
_SHARES = 0.50, 0.90, 0.99, 1.0


def _rank(share: float, count: int) -> int:
    return max(0, ceil(share * count) - 1)


def _sorted(starts_s: Sequence[float], ends_s: Sequence[float]) -> Latency:
    taken = sorted(
        end - start
        for start, end in zip(starts_s, ends_s, strict=True)
        if end == end and start == start  # noqa: PLR0124 (nan: not ended, or never started)
    )
    return Latency(*(taken[_rank(share, len(taken))] for share in _SHARES)) if taken else Latency()


def _picked(starts_s: Sequence[float], ends_s: Sequence[float]) -> Latency:
    import numpy as np

    taken = np.asarray(ends_s) - np.asarray(starts_s)
    taken = taken[~np.isnan(taken)]
    if not len(taken):
        return Latency()
    ranks = [_rank(share, len(taken)) for share in _SHARES]
    taken.partition(ranks)
    return Latency(*(float(taken[rank]) for rank in ranks))
