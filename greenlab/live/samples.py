"""Samples of a run that goes on, in columns: counts, and the latency of the tasks that ended since the last sample.

Guarantees: a sample costs the hub a fraction of a millisecond, however many tasks ended since the one before; memory is
bounded, however long a run is. Both can be pickled, for the process that draws.

Must not import: numpy, matplotlib, ipywidgets, eventlet: this is loaded with the first cell.
"""

from __future__ import annotations

import math
import random
from array import array
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from greenlab.live.watched import Watched

MAX_SAMPLES = 960
"""Samples kept of a run: four minutes at four a second; then every other one is dropped."""
MAX_READ = 500
"""Tasks whose latency is read for one sample; of more, so many are chosen at random."""

_RANDOM = random.Random(0)  # noqa: S311  # a generator of its own: the user may have seeded the global one


def _doubles() -> array[float]:
    return array("d", [0.0])


def _unknown() -> array[float]:
    return array("d", [math.nan])


def _counts() -> array[int]:
    return array("q", [0])


class RecentLatencies:
    """Percentiles of the tasks that ended since the last call: of all, or of some that are chosen at random.

    At random, not every k-th task: inputs are often periodic.
    """

    def __init__(self) -> None:
        self._seen = 0
        self._open: list[int] = []

    def read(self, run: Watched) -> tuple[float, float]:
        """Return p50 and p99, in seconds, by the nearest-rank method; nan if there is nothing new."""
        starts_s, ends_s = run.times()
        taken_s, still_open = [], []
        for index in chain(self._open, _chosen(self._seen, len(ends_s))):
            end_s = ends_s[index]
            if end_s != end_s:  # noqa: PLR0124 (nan: not ended)
                still_open.append(index)
            elif end_s >= run.started_s:  # not of a run that this one resumes
                taken_s.append(end_s - starts_s[index])
        self._seen = len(ends_s)
        self._open = still_open if len(still_open) <= 2 * MAX_READ else _RANDOM.sample(still_open, MAX_READ)
        return nearest_ranks(taken_s)

    def __reduce__(self) -> tuple[object, ...]:
        # The process that draws does not need it.
        return RecentLatencies, ()


@dataclass
class Columns:
    """Samples of a run, in columns, which grow while the run goes on.

    Attributes:
        t_s: when, in seconds from the start.
        done: tasks ended by then.
        failed: tasks ended by an exception by then.
        in_flight: tasks in flight at that moment.
        limit: tasks that might be in flight at that moment.
        p50_s: median latency, in seconds, of tasks that ended since the sample before; nan if none did, or it is not
            known.
        p99_s: the same for the 99th percentile.
    """

    t_s: array[float] = field(default_factory=_doubles)
    done: array[int] = field(default_factory=_counts)
    failed: array[int] = field(default_factory=_counts)
    in_flight: array[int] = field(default_factory=_counts)
    limit: array[int] = field(default_factory=_counts)
    p50_s: array[float] = field(default_factory=_unknown)
    p99_s: array[float] = field(default_factory=_unknown)
    _stride: int = 1
    _skipped: int = 0
    _latencies: RecentLatencies = field(default_factory=RecentLatencies, repr=False, compare=False)

    def add_sample(self, run: Watched) -> None:
        """Take a sample of a run; of a long run, which needs fewer, only at every so many calls."""
        self._skipped += 1
        if self._skipped >= self._stride or not run.running:
            self._skipped = 0
            self._append(run)
        if len(self.t_s) > MAX_SAMPLES:
            self._stride *= 2
            for column in (self.t_s, self.done, self.failed, self.in_flight, self.limit, self.p50_s, self.p99_s):
                del column[1:-1:2]

    def _append(self, run: Watched) -> None:
        p50_s, p99_s = self._latencies.read(run)
        self.t_s.append(max(run.elapsed_s, self.t_s[-1]))
        self.done.append(run.done - run.done_before)
        self.failed.append(run.failed)
        self.in_flight.append(run.in_flight)
        self.limit.append(run.limit)
        self.p50_s.append(p50_s)
        self.p99_s.append(p99_s)


def _chosen(start: int, stop: int) -> Iterable[int]:
    count = stop - start
    if count <= MAX_READ:
        return range(start, stop)
    # The same one twice does no harm, and to exclude that (`sample`) takes five times as long.
    lot = _RANDOM.random
    return [start + int(lot() * count) for _ in range(MAX_READ)]


def nearest_ranks(taken_s: Sequence[float]) -> tuple[float, float]:
    """Return the 50th and 99th percentile, each a latency that did occur; nan without any."""
    if not taken_s:
        return math.nan, math.nan
    ranked = sorted(taken_s)
    return ranked[math.ceil(0.5 * len(ranked)) - 1], ranked[math.ceil(0.99 * len(ranked)) - 1]
