"""What a race says of itself: who won, what limits that, a table. Draws nothing.

Must not import: live, magics, pandas before it is asked for.
"""

from __future__ import annotations

import html
from statistics import median
from typing import TYPE_CHECKING, Any

from greenlab.errors import UsageError
from greenlab.runs.report import rate, seconds
from greenlab.text import table

if TYPE_CHECKING:
    from greenlab.comparing.race import Race, RaceRun

ALIKE = 0.10
"""Throughputs that differ by less are called the same, unless repeats tell them apart."""
SURE_REPEATS = 3
"""From so many repeats on, ranges that do not overlap are enough: for two pools that are alike they fail to overlap
once in ten races of 3 repeats, once in 126 of 5 (2 / C(2n, n), as in the test of Mann and Whitney)."""
BUSY = 0.9
LEAST_S = 0.2
"""The machine counts its time in ticks of 10 ms: of a shorter run they say little."""
ONE_CORE = 0.8
RISEN = 2.0

_HEADER = (
    "pool", "in flight", "throughput", "p50", "p90", "p99", "CPU", "memory", "hub blocked", "errors", "start-up",
)  # fmt: skip


def spread(race: Race, pool: str) -> tuple[float, float, float] | None:
    """Give the lowest, the median and the highest throughput of a pool, in tasks that succeeded a second."""
    rates = [leg.throughput for leg in race.legs_of(pool)]
    return (min(rates), median(rates), max(rates)) if rates else None


def _ranking(race: Race) -> list[tuple[str, tuple[float, float, float]]]:
    spreads = [(pool, found) for pool in race.pools if (found := spread(race, pool))]
    return sorted(spreads, key=lambda pair: -pair[1][1])


def _clearly(race: Race, one: tuple[float, float, float], other: tuple[float, float, float]) -> bool:
    """Tell whether one spread is above another, by more than chance would have it."""
    differs = one[1] > (1 + ALIKE) * other[1]
    repeats = min(len(race.legs_of(pool)) for pool, _ in _ranking(race))
    if repeats < 2:
        return differs
    return one[0] > other[2] and (differs or repeats >= SURE_REPEATS)


def winner(race: Race) -> str | None:
    """Name the pool that was clearly the fastest, or None."""
    ranking = _ranking(race)
    if not ranking or (len(ranking) == 1 and len(race.pools) == 1):
        return None
    (first, best), *others = ranking
    return first if all(_clearly(race, best, other) for _, other in others) else None


def verdict(race: Race) -> str:
    """Say in a sentence who won, and how sure that is."""
    ranking = _ranking(race)
    if not ranking:
        return "no pool has finished" if race.ended else race.stage
    (first, best), *others = ranking
    if not others:
        return f"{first} alone finished: {rate(best[1])}"
    sure = f"medians of {race.repeat}" if race.repeat > 1 else "one run each; --repeat 5 shows the spread"
    alike = [pool for pool, found in others if not _clearly(race, best, found)]
    if not alike:
        second, next_best = others[0]
        return f"{first} was the fastest: {_times(best[1], next_best[1])} the throughput of {second} ({sure})"
    names = _and([first, *alike])
    rest = [(pool, found) for pool, found in others if pool not in alike]
    ahead = f"; {first} had {_times(best[1], rest[0][1][1])} the throughput of {rest[0][0]}" if rest else ""
    why = "within the spread" if race.repeat > 1 else f"within {ALIKE:.0%}, and one run each shows no spread"
    return f"no clear winner: {names} are {why}{ahead}"


def limits(race: Race) -> list[str]:
    """Say where something else than a pool was the limit: the machine, or what the tasks wait for."""
    medians = [leg for pool in race.pools if (leg := race.median_leg(pool))]
    found = _machine(medians)
    held = _plateau(race, medians)
    if held:
        found.append(
            f"what the tasks wait for (a server, a lock) may be the limit, not the pool: {_and(held)} reach the same "
            "throughput with processors to spare, and tasks take longer the more of them are in flight"
        )
    return found


def _machine(medians: list[RaceRun]) -> list[str]:
    """Find pools during whose runs all cores were busy, and say whether the tasks kept them so."""
    by_tasks: dict[str, float] = {}
    by_others: dict[str, float] = {}
    cores = 0
    for leg in medians:
        usage = leg.usage
        if usage is None or usage.busy < BUSY or usage.elapsed_s < LEAST_S:
            continue
        cores = usage.cores
        ours = min(usage.share / cores / usage.busy, 1)
        (by_tasks if ours > 0.5 else by_others)[leg.pool] = ours
    found = []
    if by_tasks:
        found.append(f"the machine was the limit of {_and([*by_tasks])}: its {cores} cores were busy, more would help")
    if by_others:
        found.append(
            f"the machine was the limit, or near it, while {_and([*by_others])} ran: its {cores} cores were busy, for "
            f"{max(by_others.values()):.0%} of that at the most with the tasks; something else takes the time, maybe "
            "what the tasks wait for"
        )
    return found


def _plateau(race: Race, medians: list[RaceRun]) -> list[str]:
    """Find pools at the same throughput, idle enough, in which tasks take longer than they do when they are few."""
    if len(medians) < 2:
        return []
    best = max(leg.throughput for leg in medians)
    same = [leg for leg in medians if leg.throughput >= (1 - ALIKE) * best and not _used_up(leg)]
    seen = [
        (leg.run.throughput * leg.run.latency.p50, leg.run.latency.p50)
        for leg in race.legs
        if leg.run.done and leg.run.latency.p50 > 0
    ]
    for leg in same:
        here_s = leg.run.latency.p50
        in_flight = leg.run.throughput * here_s
        # With half as many in flight, tasks were twice as fast or more: they queue somewhere.
        if len(same) > 1 and any(few <= in_flight / 2 and here_s >= RISEN * fast_s for few, fast_s in seen):
            return [leg.pool for leg in same]
    return []


def _used_up(leg: RaceRun) -> bool:
    """Tell whether a pool had used its own processors up: one for this process, or one a worker."""
    if leg.usage is None:
        return False
    room = min(leg.run.concurrency, leg.usage.cores) if leg.usage.workers_cpu_s > leg.usage.own_cpu_s else 1
    return leg.usage.share >= ONE_CORE * room or leg.usage.busy >= BUSY


def rows(race: Race) -> list[list[str]]:
    """Give a row of words for each pool: its figures, or its name and why there are none."""
    return [_row(race, pool) for pool in race.pools]


def _row(race: Race, pool: str) -> list[str]:
    leg, found = race.median_leg(pool), spread(race, pool)
    if leg is None or found is None:
        cut = [other for other in race.legs if other.pool == pool and other.reason == "interrupted"]
        if pool in race.failures:
            return [pool, f"failed: {race.failures[pool]}"]
        if cut:
            return [pool, f"interrupted after {cut[-1].run.done:,} of {len(race.items):,} tasks"]
        return [pool, "did not run"]
    run, latency = leg.run, leg.run.latency
    low, middle, high = found
    between = f" ({_number(low)} to {_number(high)})" if race.repeat > 1 else ""
    blocked_s = sum(block.duration_s for block in run.blocked)
    ready_s = startup_s(race, pool)
    return [
        pool,
        f"{run.concurrency:,}",
        f"{rate(middle)}{between}",
        *(seconds(value) for value in (latency.p50, latency.p90, latency.p99)),
        seconds(leg.usage.cpu_s) if leg.usage else "",
        _memory(max((other.usage.memory for other in race.legs if other.pool == pool and other.usage), default=0)),
        f"{len(run.blocked)}: {seconds(blocked_s)}" if run.blocked else "0",
        _errors(leg),
        seconds(ready_s) if ready_s >= 1e-3 else "0",
    ]


def startup_s(race: Race, pool: str) -> float:
    """Give how long a pool took to be ready, in seconds; next to nothing if it had been started before."""
    return max((leg.run.startup_s for leg in race.legs if leg.pool == pool), default=0.0)


def _errors(leg: RaceRun) -> str:
    kinds = leg.run.error_types
    return ", ".join(f"{count:,} {name}" for name, count in kinds.items()) if kinds else "0"


def plain(race: Race) -> str:
    """Give the plain-text report."""
    notes = [f"  warning: {note}" for note in limits(race)]
    return "\n".join([race.name, f"  {verdict(race)}", *table.plain(_HEADER, rows(race)), *notes])


def rich(race: Race) -> str:
    """Give the report as HTML."""
    notes = "".join(f"<br>⚠ {html.escape(note)}" for note in limits(race))
    return (
        f'<div class="greenlab-race"><b>{html.escape(race.name)}</b><br>{html.escape(verdict(race))}{notes}'
        f"{table.rich(_HEADER, rows(race))}</div>"
    )


def frame(race: Race) -> Any:
    """Give a pandas DataFrame, a row a run that ran, warm-ups too; times in seconds, memory in bytes."""
    try:
        import pandas as pd
    except ImportError:
        raise UsageError("to_pandas needs pandas: pip install pandas") from None
    return pd.DataFrame(
        [
            {
                "pool": leg.pool,
                "repeat": leg.repeat,
                "counts": leg.counts,
                "concurrency": leg.run.concurrency,
                "tasks": leg.run.done,
                "failed": leg.run.failed,
                "elapsed_s": leg.run.elapsed_s,
                "throughput": leg.throughput,
                "p50_s": leg.run.latency.p50,
                "p90_s": leg.run.latency.p90,
                "p99_s": leg.run.latency.p99,
                "cpu_s": leg.usage.cpu_s if leg.usage else float("nan"),
                "memory": leg.usage.memory if leg.usage else 0,
                "busy": leg.usage.busy if leg.usage else float("nan"),
                "blocked_s": sum(block.duration_s for block in leg.run.blocked),
                "startup_s": leg.run.startup_s,
            }
            for leg in race.legs
        ]
    )


def _times(more: float, less: float) -> str:
    ratio = more / less if less > 0 else float("inf")
    return f"{ratio:,.0f} times" if ratio >= 10 else f"{ratio:.1f} times" if ratio >= 1.3 else f"{ratio:.2f} times"


def _and(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _number(value: float) -> str:
    return rate(value).removesuffix(" tasks/s")


def _memory(size: int) -> str:
    return f"{max(size, 0) / 2**20:,.0f} MiB"
