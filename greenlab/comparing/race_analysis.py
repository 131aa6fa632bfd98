"""Which pool won a race, and whether something else was the limit: pure functions over the runs of a race.

Must not import: live, magics. It runs nothing, and formats only the sentences of its warnings.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from greenlab.runs.resource_usage import LEAST_S
from greenlab.text.format import ALIKE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from greenlab.runs.resource_usage import Usage
    from greenlab.runs.run import Run

SURE_REPEATS = 3
"""From so many repeats on, ranges that do not overlap are enough: for two pools that are alike they fail to overlap
in one race in ten with 3 repeats, in one in 126 with 5 (2 / C(2n, n), as in the test of Mann and Whitney)."""
BUSY = 0.9
"""From this share of the cores' time on, the machine is called busy."""
ONE_CORE = 0.8
"""A pool that keeps so much of a core busy has used it up."""
SLOWED = 2.0
"""Tasks that take so many times as long as with half as many in flight wait for each other."""


@dataclass(frozen=True)
class RaceRun:
    """One run of a race.

    Attributes:
        pool: the pool's name.
        repeat: the number of the repeat: 1, 2 …; 0 is the warm-up.
        run: the run.
        usage: the resources that it used, or None if it never started.
        reason: why it does not count; empty if it does.
    """

    pool: str
    repeat: int
    run: Run
    usage: Usage | None
    reason: str = ""

    @property
    def counts(self) -> bool:
        """Whether it counts in the race."""
        return self.repeat > 0 and not self.reason

    @property
    def throughput(self) -> float:
        """Tasks that succeeded, a second: a pool does not win by failing fast."""
        succeeded = self.run.counts["succeeded"]
        return succeeded / self.run.elapsed_s if self.run.elapsed_s > 0 else 0.0


class Spread(NamedTuple):
    """The lowest, the median and the highest throughput of a pool, in tasks that succeeded a second."""

    low: float
    median: float
    high: float


def runs_of(runs: Sequence[RaceRun], pool: str) -> list[RaceRun]:
    """Return the runs of a pool that count, in the order in which they ran."""
    return [one for one in runs if one.pool == pool and one.counts]


def median_run(runs: Sequence[RaceRun], pool: str) -> RaceRun | None:
    """Return the run of a pool whose throughput is the median; the lower of two. None if none counts."""
    ranked = sorted(runs_of(runs, pool), key=lambda one: one.throughput)
    return ranked[(len(ranked) - 1) // 2] if ranked else None


def spread(runs: Sequence[RaceRun], pool: str) -> Spread | None:
    """Return how the throughput of a pool spreads, or None if no run of it counts."""
    rates = [one.throughput for one in runs_of(runs, pool)]
    return Spread(min(rates), median(rates), max(rates)) if rates else None


def ranking(runs: Sequence[RaceRun], pools: Sequence[str]) -> list[tuple[str, Spread]]:
    """Return the pools that have finished with their spreads, the fastest first."""
    spreads = [(pool, found) for pool in pools if (found := spread(runs, pool))]
    return sorted(spreads, key=lambda pair: -pair[1].median)


def is_faster(runs: Sequence[RaceRun], pools: Sequence[str], one: Spread, other: Spread) -> bool:
    """Return whether one spread is above another by more than chance explains."""
    differs = one.median > (1 + ALIKE) * other.median
    repeats = min(len(runs_of(runs, pool)) for pool, _ in ranking(runs, pools))
    if repeats < 2:
        return differs
    return one.low > other.high and (differs or repeats >= SURE_REPEATS)


def winner(runs: Sequence[RaceRun], pools: Sequence[str]) -> str | None:
    """Return the pool that was clearly the fastest, or None."""
    ranked = ranking(runs, pools)
    if not ranked or (len(ranked) == 1 and len(pools) == 1):
        return None
    (first, best), *others = ranked
    return first if all(is_faster(runs, pools, best, other) for _, other in others) else None


def limits(runs: Sequence[RaceRun], pools: Sequence[str]) -> list[str]:
    """Return a sentence for each limit that is not a pool: the machine, or what the tasks wait for."""
    medians = [one for pool in pools if (one := median_run(runs, pool))]
    found = _machine_limits(medians)
    at_limit = _pools_at_shared_limit(runs, medians)
    if at_limit:
        found.append(
            f"what the tasks wait for (a server, a lock) may be the limit, not the pool: {joined(at_limit)} reach the "
            "same throughput with processors to spare, and tasks take longer the more of them are in flight"
        )
    return found


def _machine_limits(medians: list[RaceRun]) -> list[str]:
    """Return sentences on the pools during whose runs all cores were busy: by the tasks, or by something else."""
    by_tasks: dict[str, float] = {}
    by_others: dict[str, float] = {}
    cores = 0
    for one in medians:
        usage = one.usage
        if usage is None or usage.busy < BUSY or usage.elapsed_s < LEAST_S:
            continue
        cores = usage.cores
        share = min(usage.cores_used / cores / usage.busy, 1)
        (by_tasks if share > 0.5 else by_others)[one.pool] = share
    found = []
    if by_tasks:
        found.append(f"the machine was the limit of {joined([*by_tasks])}: {_busy(cores)}, more would help")
    if by_others:
        found.append(
            f"the machine was the limit, or near it, while {joined([*by_others])} ran: {_busy(cores)}, "
            f"and the tasks took at most {max(by_others.values()):.0%} of that time; something else takes the rest, "
            "maybe what the tasks wait for"
        )
    return found


def _busy(cores: int) -> str:
    return f"its {cores} cores were busy" if cores > 1 else "its one core was busy"


def _pools_at_shared_limit(runs: Sequence[RaceRun], medians: list[RaceRun]) -> list[str]:
    """Return the pools that reach the same throughput, with processors to spare, and in which more tasks only queue."""
    if len(medians) < 2:
        return []
    best = max(one.throughput for one in medians)
    same = [one for one in medians if one.throughput >= (1 - ALIKE) * best and not _used_up_processors(one)]
    seen = [
        (one.run.throughput * one.run.latency.p50, one.run.latency.p50)
        for one in runs
        if one.run.done and one.run.latency.p50 > 0
    ]
    for one in same:
        here_s = one.run.latency.p50
        in_flight = one.run.throughput * here_s
        # With half as many in flight, tasks took half as long or less: they queue somewhere.
        if len(same) > 1 and any(few <= in_flight / 2 and here_s >= SLOWED * fast_s for few, fast_s in seen):
            return [each.pool for each in same]
    return []


def _used_up_processors(one: RaceRun) -> bool:
    """Return whether a pool had used up its own processors: one for this process, or one a worker."""
    if one.usage is None:
        return False
    room = min(one.run.concurrency, one.usage.cores) if one.usage.workers_cpu_s > one.usage.own_cpu_s else 1
    return one.usage.cores_used >= ONE_CORE * room or one.usage.busy >= BUSY


def joined(names: list[str]) -> str:
    """Join names for a sentence: `a, b and c`."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
