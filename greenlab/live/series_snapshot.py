"""Snapshots of races and sweeps, which their pictures are drawn from: plain columns that can be pickled.

Must not import: numpy, matplotlib, ipywidgets, eventlet, runs (a series is known by its attributes alone).
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from greenlab.live.words import done_text, format_count, format_duration
from greenlab.text.format import plural

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_TIMES, MOST_NOW = 20_000, 4_000
"""Times of a run that has ended, and of one that goes on, which are read every second on the hub's thread; of more,
every k-th stands for k."""


@dataclass(frozen=True)
class RunTimes:
    """When the tasks of one run ended.

    Attributes:
        ends_s: in seconds from the run's start, in any order; nan where one has not ended.
        weight: how many tasks each of them stands for.
        elapsed_s: how long the run took, or has taken.
    """

    ends_s: Sequence[float]
    weight: float
    elapsed_s: float


@dataclass(frozen=True)
class SeriesRow:
    """One pool of a race.

    Attributes:
        pool: its name.
        runs: its runs that count.
        now: its run that goes on, or None.
        rates: throughput of each run that counts, tasks/s.
        text: what is written beside its bar.
        failed: whether the text is why there is no bar.
    """

    pool: str
    runs: tuple[RunTimes, ...]
    now: RunTimes | None
    rates: tuple[float, ...]
    text: str
    failed: bool


@dataclass(frozen=True)
class RaceSnapshot:
    """A race so far.

    Attributes:
        label: what it goes over.
        subtitle: how far it is, or how it was run.
        lines: sentences on it, each with whether it is a warning.
        rows: its pools.
        total: how many tasks each run has.
        ended: whether it has ended.
    """

    drawn_by: ClassVar[str] = "greenlab.live.drawing.race_figure"

    label: str
    subtitle: str
    lines: tuple[tuple[str, bool], ...]
    rows: tuple[SeriesRow, ...]
    total: int
    ended: bool = False


@dataclass(frozen=True)
class SweepPoint:
    """One concurrency of a sweep, in tasks/s and seconds; `measured` is false where too few tasks ended."""

    concurrency: int
    throughput: float
    error: float
    p50_s: float
    p99_s: float
    measured: bool


@dataclass(frozen=True)
class SweepSnapshot:
    """A sweep so far.

    Attributes:
        label: what it goes over.
        pool: the pool's name.
        subtitle: how far it is.
        lines: sentences on it, each with whether it is a warning.
        wanted: the concurrencies to try.
        points: those that have been tried.
        law: the figures λ, σ and κ of the fitted law, or None.
        option: which option sets the concurrency.
        advised: the advised concurrency, or None.
        interval: its lowest and highest likely value, or None.
        knee: the concurrency at which tasks begin to wait for each other, or None.
    """

    drawn_by: ClassVar[str] = "greenlab.live.drawing.sweep_figure"

    label: str
    pool: str
    subtitle: str
    lines: tuple[tuple[str, bool], ...]
    wanted: tuple[int, ...]
    points: tuple[SweepPoint, ...]
    law: tuple[float, float, float] | None
    option: str
    advised: int | None
    interval: tuple[int, int] | None
    knee: int | None


def snapshot_of(series: Any, cache: dict[int, RunTimes] | None = None) -> RaceSnapshot | SweepSnapshot:
    """Return a snapshot of a race or a sweep.

    Args:
        series: the race or the sweep.
        cache: the times of runs that have ended, from earlier calls for the same series.
    """
    return _of_race(series, {} if cache is None else cache) if series.kind == "race" else _of_sweep(series)


def _of_race(race: Any, cache: dict[int, RunTimes]) -> RaceSnapshot:
    lines: list[tuple[str, bool]] = []
    if race.ended:
        lines = [(race.verdict, False), *((text, True) for text in race.warnings)]
    subtitle = _stage(race) or (f"{race.repeat} runs a pool, one after another" if race.repeat > 1 else "")
    rows = tuple(_row_of(race, pool, cache) for pool in race.pools)
    return RaceSnapshot(race.label, subtitle, tuple(lines), rows, len(race.items), race.ended)


def _row_of(race: Any, pool: str, cache: dict[int, RunTimes]) -> SeriesRow:
    runs = race.runs_of(pool)
    one = race.median_run(pool)
    current = race.current
    now = _times_of(current, MOST_NOW) if current is not None and current.pool == pool and not race.warming else None
    reason = race.failures.get(pool, "")
    text = ""
    if one is not None:
        latency = one.run.latency
        text = f"p50 {format_duration(latency.p50)}, p99 {format_duration(latency.p99)}"
        if one.run.failed:
            text += f", {one.run.failed:,} failed"
    elif reason:
        text = f"failed: {reason}"
    elif race.ended:
        cut = [other.run for other in race.all_runs if other.pool == pool and other.reason == "interrupted"]
        text = f"interrupted after {done_text(cut[-1])}" if cut else "did not run"
    elif current is not None and current.pool == pool:
        text = "runs now" if now else "warms up"
    else:
        text = "has not run yet"
    return SeriesRow(
        pool,
        tuple(cache.get(id(each)) or cache.setdefault(id(each), _times_of(each.run, MOST_TIMES)) for each in runs),
        now,
        tuple(each.throughput for each in runs),
        text,
        bool(reason),
    )


def _times_of(run: Any, most: int) -> RunTimes:
    _, ends_s = run.times()
    stride = 1 + len(ends_s) // most
    began_s = run.started_s
    return RunTimes(array("d", (end - began_s for end in ends_s[::stride])), stride, run.elapsed_s)


def _of_sweep(sweep: Any) -> SweepSnapshot:
    lines: list[tuple[str, bool]] = []
    if sweep.ended:
        lines = [(sweep.advice, False), *((text, True) for text in sweep.missing)]
    recommendation = sweep.recommendation if sweep.ended else None
    law = recommendation.law if recommendation else None
    points = tuple(
        SweepPoint(
            point.concurrency,
            point.throughput,
            point.error,
            point.latency.p50,
            point.latency.p99,
            point.counted > 0,
        )
        for point in sweep.points
    )
    return SweepSnapshot(
        label=sweep.label,
        pool=sweep.pool,
        subtitle=_stage(sweep),
        lines=tuple(lines),
        wanted=sweep.concurrencies,
        points=points,
        law=(law.rate, law.contention, law.coherency) if law else None,
        option=sweep.option,
        advised=recommendation.concurrency if recommendation else None,
        interval=recommendation.interval if recommendation else None,
        knee=recommendation.knee if recommendation else None,
    )


def _stage(series: Any) -> str:
    """Return how far a series is; empty when it has ended."""
    if series.ended:
        return "interrupted" if series.interrupted else ""
    run = series.current
    return series.stage if run is None else f"{series.stage}: {format_count(run.done)} {plural('task', run.done)}"
