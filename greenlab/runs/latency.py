"""How long tasks took."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, nan
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


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


def latency_of(starts_s: Iterable[float], ends_s: Iterable[float]) -> Latency:
    """Give the percentiles of `end - start`, by the nearest-rank method: each is a latency that did occur."""
    taken = sorted(
        end - start
        for start, end in zip(starts_s, ends_s, strict=True)
        if end == end and start == start  # noqa: PLR0124 (nan: not ended, or never started)
    )
    if not taken:
        return Latency()

    def rank(share: float) -> float:
        return taken[max(0, ceil(share * len(taken)) - 1)]

    return Latency(rank(0.50), rank(0.90), rank(0.99), taken[-1])
