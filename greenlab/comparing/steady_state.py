"""The steady state of one point of a sweep: what is measured between its ramps.

A run begins with nothing in flight and ends by draining; neither shows what the concurrency can carry. What counts is
the time from the end of the first round of tasks (as many as the concurrency) to the moment at which no further task
began. Both edges are moments at which a task ended, so that tasks that end in step, as equal waits do, are counted
right.

Must not import: live, magics, numpy.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from dataclasses import dataclass
from math import ceil, nan, sqrt
from typing import TYPE_CHECKING

from greenlab.runs.latency import Latency, latency_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

BATCHES = 10
"""A point is cut into so many batches at the most, to see how much its throughput varies."""
LEAST_ERROR = 0.01
"""No throughput is known better than to this share, because of clocks, timers and other processes."""


@dataclass(frozen=True)
class Point:
    """One concurrency of a sweep.

    Attributes:
        concurrency: tasks that should be in flight: `-c`, or the workers of prefork.
        tasks: how many ended, in all.
        failed: how many of these failed.
        counted: how many ended between the ramps; the figures below are of these.
        throughput: tasks/s.
        error: its standard error in tasks/s, from batch means; nan if there are fewer than two batches.
        batches: the throughput of each batch, in tasks/s.
        mean_s: mean latency in seconds.
        latency: its percentiles.
        in_flight: tasks that were in flight, as a mean over time.
        elapsed_s: how long the point took, ramps and all.
        error_types: how many failures there are of each exception type.
    """

    concurrency: int
    tasks: int
    failed: int
    counted: int
    throughput: float
    error: float
    batches: tuple[float, ...]
    mean_s: float
    latency: Latency
    in_flight: float
    elapsed_s: float
    error_types: tuple[tuple[str, int], ...] = ()

    @property
    def by_littles_law(self) -> float:
        """Tasks in flight that throughput and mean latency amount to.

        L = X · R (J. D. C. Little, A Proof for the Queuing Formula: L = λW, Operations Research 9, 1961).
        """
        return self.throughput * self.mean_s

    @property
    def relative_error(self) -> float:
        """The standard error as a share of the throughput; nan if it is not known."""
        return self.error / self.throughput if self.throughput else nan


def measure(
    concurrency: int,
    starts_s: Sequence[float],
    ends_s: Sequence[float],
    until_s: float,
    *,
    failed: int = 0,
    elapsed_s: float = 0.0,
    error_types: Iterable[tuple[str, int]] = (),
) -> Point:
    """Measure a run that kept a number of tasks in flight.

    Args:
        concurrency: that number.
        starts_s: when tasks started, by index, on any clock.
        ends_s: when they ended; nan where one has not.
        until_s: from when on no further task began, on the same clock.
        failed: how many of them failed.
        elapsed_s: how long the run took.
        error_types: its failures by type.
    """
    spans = sorted((end, start) for start, end in zip(starts_s, ends_s, strict=True) if end - start >= 0)
    ends = [end for end, _ in spans]
    first, last = min(concurrency, len(ends)), bisect_right(ends, until_s)
    counted = max(last - first, 0)
    # A run without a steady state has figures too, but its `counted` is 0.
    inner = spans[first:last] if counted else spans
    begin_s = ends[first - 1] if counted else min((start for _, start in spans), default=0.0)
    span_s = (inner[-1][0] - begin_s) if inner else 0.0
    taken = [end - start for end, start in inner]
    throughput = len(inner) / span_s if span_s > 0 else 0.0
    batches = _batch_rates([begin_s, *(end for end, _ in inner)], concurrency) if counted else ()
    return Point(
        concurrency=concurrency,
        tasks=len(spans),
        failed=failed,
        counted=counted,
        throughput=throughput,
        error=_standard_error(batches, throughput),
        batches=batches,
        mean_s=sum(taken) / len(taken) if taken else nan,
        latency=latency_of([start for _, start in inner], [end for end, _ in inner]),
        in_flight=_mean_in_flight(spans, begin_s, begin_s + span_s),
        elapsed_s=elapsed_s,
        error_types=tuple(error_types),
    )


def _batch_rates(edges_s: Sequence[float], concurrency: int) -> tuple[float, ...]:
    """Cut the ends into batches of whole rounds, and return the rate of each.

    Tasks that started together end together: less than a round would show that rhythm, not the noise.
    """
    count = len(edges_s) - 1
    size = concurrency * ceil(max(count / BATCHES, 1) / concurrency)
    cuts = [edges_s[at] for at in range(0, count + 1, size)]
    return tuple(size / (after - before) for before, after in itertools.pairwise(cuts) if after > before)


def _standard_error(batches: Sequence[float], throughput: float) -> float:
    """Return the standard error of the throughput by batch means (A. Law, Simulation Modeling and Analysis, 9.5)."""
    if len(batches) < 2:
        return nan
    mean = sum(batches) / len(batches)
    variance = sum((rate - mean) ** 2 for rate in batches) / (len(batches) - 1)
    return max(sqrt(variance / len(batches)), LEAST_ERROR * throughput)


def _mean_in_flight(spans: Sequence[tuple[float, float]], begin_s: float, end_s: float) -> float:
    if end_s <= begin_s:
        return 0.0
    overlap_s = sum(max(min(end, end_s) - max(start, begin_s), 0.0) for end, start in spans)
    return overlap_s / (end_s - begin_s)
