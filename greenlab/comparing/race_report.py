"""The report of a race: which pool won, warnings, a table. Draws nothing.

Must not import: live, magics, pandas before it is asked for.
"""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any, Protocol

from greenlab.comparing.race_analysis import (
    RaceRun,
    is_faster,
    joined,
    limits,
    median_run,
    ranking,
    spread,
)
from greenlab.errors import UsageError
from greenlab.text import table
from greenlab.text.format import ALIKE, counted, rate, seconds, times_as

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class RaceFacts(Protocol):
    """A race, as its report reads it. See `greenlab.comparing.race.Race`."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def pools(self) -> Sequence[str]: ...  # noqa: D102
    @property
    def repeat(self) -> int: ...  # noqa: D102
    @property
    def all_runs(self) -> Sequence[RaceRun]: ...  # noqa: D102
    @property
    def items(self) -> Sequence[Any]: ...  # noqa: D102
    @property
    def failures(self) -> Mapping[str, str]: ...  # noqa: D102
    @property
    def stage(self) -> str: ...  # noqa: D102
    @property
    def ended(self) -> bool: ...  # noqa: D102


_HEADER = (
    "pool", "in flight", "throughput", "p50", "p90", "p99", "CPU", "memory", "hub blocked", "errors", "start-up",
)  # fmt: skip


def verdict(race: RaceFacts) -> str:
    """Return a sentence: which pool won, and how sure that is."""
    ranked = ranking(race.all_runs, race.pools)
    if not ranked:
        return "no pool has finished" if race.ended else race.stage
    (first, best), *others = ranked
    if not others:
        return f"{first} alone finished: {rate(best.median)}"
    sure = f"medians of {race.repeat}" if race.repeat > 1 else "one run each; --repeat 5 shows the spread"
    alike = [pool for pool, found in others if not is_faster(race.all_runs, race.pools, best, found)]
    if not alike:
        second, next_best = others[0]
        return f"{first} was the fastest: {_as_fast_as(best.median, next_best.median)} {second} ({sure})"
    rest = [(pool, found) for pool, found in others if pool not in alike]
    ahead = f"; {first} was {_as_fast_as(best.median, rest[0][1].median)} {rest[0][0]}" if rest else ""
    slowest = min(found.median for pool, found in others if pool in alike)
    equal = "about equally fast, " if best.median <= (1 + ALIKE) * slowest else ""
    why = "within the spread" if race.repeat > 1 else f"within {ALIKE:.0%}, and one run each shows no spread"
    return f"no clear winner: {joined([first, *alike])} are {equal}{why}{ahead}"


def _as_fast_as(more: float, less: float) -> str:
    return times_as(more / less if less > 0 else float("inf"), "fast")


def rows(race: RaceFacts) -> list[list[str]]:
    """Return a row of the table for each pool: its figures, or its name and why there are none."""
    return [_row(race, pool) for pool in race.pools]


def _row(race: RaceFacts, pool: str) -> list[str]:
    one, found = median_run(race.all_runs, pool), spread(race.all_runs, pool)
    if one is None or found is None:
        cut = [other for other in race.all_runs if other.pool == pool and other.reason == "interrupted"]
        if pool in race.failures:
            return [pool, f"failed: {race.failures[pool]}"]
        if cut:
            return [pool, f"interrupted after {cut[-1].run.done:,} of {counted(len(race.items), 'task')}"]
        return [pool, "did not run"]
    run, latency = one.run, one.run.latency
    low, middle, high = found
    between = f" ({_number(low)} to {_number(high)})" if race.repeat > 1 else ""
    blocked_s = sum(block.duration_s for block in run.blocked)
    ready_s = startup_s(race, pool)
    return [
        pool,
        f"{run.concurrency:,}",
        f"{rate(middle)}{between}",
        *(seconds(value) for value in (latency.p50, latency.p90, latency.p99)),
        seconds(one.usage.cpu_s) if one.usage else "",
        _memory(max((other.usage.memory for other in race.all_runs if other.pool == pool and other.usage), default=0)),
        f"{len(run.blocked)}: {seconds(blocked_s)}" if run.blocked else "0",
        _errors(one),
        seconds(ready_s) if ready_s >= 1e-3 else "0",
    ]


def startup_s(race: RaceFacts, pool: str) -> float:
    """Return how long a pool took to be ready, in seconds; about 0 if it had been started before."""
    return max((one.run.startup_s for one in race.all_runs if one.pool == pool), default=0.0)


def _errors(one: RaceRun) -> str:
    kinds = one.run.error_types
    return ", ".join(f"{count:,} {name}" for name, count in kinds.items()) if kinds else "0"


def plain(race: RaceFacts) -> str:
    """Return the plain-text report."""
    warnings = [f"  warning: {warning}" for warning in limits(race.all_runs, race.pools)]
    return "\n".join([race.name, f"  {verdict(race)}", *table.plain(_HEADER, rows(race)), *warnings])


def rich(race: RaceFacts, *, below_picture: bool = False) -> str:
    """Return the report as HTML.

    Args:
        race: the race.
        below_picture: whether its picture, which says who won and the warnings, stands above it.
    """
    said = [] if below_picture else [verdict(race), *(f"⚠ {text}" for text in limits(race.all_runs, race.pools))]
    words = "".join(f"<br>{html.escape(text)}" for text in said)
    return f'<div class="greenlab-race"><b>{html.escape(race.name)}</b>{words}{table.rich(_HEADER, rows(race))}</div>'


def frame(race: RaceFacts) -> Any:
    """Return a pandas DataFrame, a row a run, warm-ups too; times in seconds, memory in bytes.

    Raises:
        UsageError: pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError:
        raise UsageError("to_pandas needs pandas: pip install pandas") from None
    return pd.DataFrame(
        [
            {
                "pool": one.pool,
                "repeat": one.repeat,
                "counts": one.counts,
                "concurrency": one.run.concurrency,
                "tasks": one.run.done,
                "failed": one.run.failed,
                "elapsed_s": one.run.elapsed_s,
                "throughput": one.throughput,
                "p50_s": one.run.latency.p50,
                "p90_s": one.run.latency.p90,
                "p99_s": one.run.latency.p99,
                "cpu_s": one.usage.cpu_s if one.usage else float("nan"),
                "memory": one.usage.memory if one.usage else 0,
                "busy": one.usage.busy if one.usage else float("nan"),
                "blocked_s": sum(block.duration_s for block in one.run.blocked),
                "startup_s": one.run.startup_s,
            }
            for one in race.all_runs
        ]
    )


def _number(value: float) -> str:
    return rate(value).removesuffix(" tasks/s")


def _memory(size: int) -> str:
    return f"{max(size, 0) / 2**20:,.0f} MiB"
