"""What the pictures of races and sweeps are drawn from: plain columns that can be pickled.

Must not import: numpy, matplotlib, ipywidgets, eventlet, runs (a series is known by its attributes alone).
"""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from greenlab.live.words import count_words, duration_words

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_TIMES, MOST_NOW = 20_000, 4_000
"""Times that are drawn from of a run that has ended, and of one that goes on, which are taken every second on the hub's
thread; of more, every k-th stands for k."""


@dataclass(frozen=True)
class Trace:
    """When the tasks of one run ended.

    Attributes:
        ends_s: in seconds from the run's start, in any order; nan where one has not ended.
        weight: how many tasks each of them stands for.
        elapsed_s: how long the run took, or has taken.
        p50_s: median latency in seconds, or nan.
    """

    ends_s: Sequence[float]
    weight: float
    elapsed_s: float
    p50_s: float


@dataclass(frozen=True)
class SeriesRow:
    """One pool of a race.

    Attributes:
        pool: its name.
        traces: its runs that count.
        now: its run that goes on, or None.
        rates: throughput of each run that counts, tasks/s.
        words: what is said beside its bar.
        failed: whether that is why there is none.
    """

    pool: str
    traces: tuple[Trace, ...]
    now: Trace | None
    rates: tuple[float, ...]
    words: str
    failed: bool


@dataclass(frozen=True)
class RaceSource:
    """A race so far.

    Attributes:
        label: what it goes over.
        note: how far it is, or how it was run.
        lines: what is said of it, each with whether it is a warning.
        lanes: its pools.
    """

    drawn_by: ClassVar[str] = "greenlab.live.drawing.race_figure"

    label: str
    note: str
    lines: tuple[tuple[str, bool], ...]
    lanes: tuple[SeriesRow, ...]


@dataclass(frozen=True)
class Dot:
    """One concurrency of a sweep, in tasks/s and seconds; `solid` is false where too few tasks ended."""

    concurrency: int
    throughput: float
    error: float
    p50_s: float
    p99_s: float
    solid: bool


@dataclass(frozen=True)
class SweepSource:
    """A sweep so far.

    Attributes:
        label: what it goes over.
        pool: in which pool.
        note: how far it is.
        lines: what is said of it, each with whether it is a warning.
        wanted: the concurrencies to try.
        dots: those that have been tried.
        law: the figures λ, σ and κ of the fitted law, or None.
        option: which option sets the concurrency.
        advised: the advised concurrency, or None.
        interval: from where to where it may lie, or None.
        knee: where tasks begin to wait for each other, or None.
    """

    drawn_by: ClassVar[str] = "greenlab.live.drawing.sweep_figure"

    label: str
    pool: str
    note: str
    lines: tuple[tuple[str, bool], ...]
    wanted: tuple[int, ...]
    dots: tuple[Dot, ...]
    law: tuple[float, float, float] | None
    option: str
    advised: int | None
    interval: tuple[int, int] | None
    knee: int | None


def source_of(series: Any, known: dict[int, Trace] | None = None) -> RaceSource | SweepSource:
    """Take what a race or a sweep is drawn from.

    Args:
        series: the race or the sweep.
        known: traces of runs that have ended, from earlier calls for the same series: they are taken once.
    """
    return _of_race(series, {} if known is None else known) if series.kind == "race" else _of_sweep(series)


def _of_race(race: Any, known: dict[int, Trace]) -> RaceSource:
    lines: list[tuple[str, bool]] = []
    if race.ended:
        lines = [(race.verdict, False), *((words, True) for words in race.warnings)]
    note = _stage(race) or (f"{race.repeat} runs a pool, one after another" if race.repeat > 1 else "")
    return RaceSource(race.label, note, tuple(lines), tuple(_lane(race, pool, known) for pool in race.pools))


def _lane(race: Any, pool: str, known: dict[int, Trace]) -> SeriesRow:
    runs = race.runs_of(pool)
    one = race.median_run(pool)
    current = race.current
    now = _trace(current, MOST_NOW) if current is not None and current.pool == pool and not race.warming else None
    reason = race.failures.get(pool, "")
    words = ""
    if one is not None:
        latency = one.run.latency
        words = f"p50 {duration_words(latency.p50)}, p99 {duration_words(latency.p99)}"
    elif reason:
        words = f"failed: {reason}"
    elif race.ended:
        words = "interrupted" if race.interrupted else "did not run"
    else:
        words = "runs now" if now else ""
    return SeriesRow(
        pool,
        tuple(known.get(id(each)) or known.setdefault(id(each), _trace(each.run, MOST_TIMES)) for each in runs),
        now,
        tuple(each.throughput for each in runs),
        words,
        bool(reason),
    )


def _trace(run: Any, most: int) -> Trace:
    _, ends_s = run.times()
    stride = 1 + len(ends_s) // most
    began_s = run.started_s
    p50_s = math.nan if run.running else run.latency.p50
    return Trace(array("d", (end - began_s for end in ends_s[::stride])), stride, run.elapsed_s, p50_s)


def _of_sweep(sweep: Any) -> SweepSource:
    lines: list[tuple[str, bool]] = []
    if sweep.ended:
        lines = [(sweep.advice, False), *((words, True) for words in sweep.missing)]
    recommendation = sweep.recommendation if sweep.ended else None
    law = recommendation.law if recommendation else None
    dots = tuple(
        Dot(
            point.concurrency,
            point.throughput,
            point.error,
            point.latency.p50,
            point.latency.p99,
            point.counted > 0,
        )
        for point in sweep.points
    )
    return SweepSource(
        label=sweep.label,
        pool=sweep.pool,
        note=_stage(sweep),
        lines=tuple(lines),
        wanted=sweep.concurrencies,
        dots=dots,
        law=(law.rate, law.contention, law.coherency) if law else None,
        option=sweep.option,
        advised=recommendation.concurrency if recommendation else None,
        interval=recommendation.interval if recommendation else None,
        knee=recommendation.knee if recommendation else None,
    )


def _stage(series: Any) -> str:
    """Say how far a series is; nothing when it has ended."""
    if series.ended:
        return "interrupted" if series.interrupted else ""
    run = series.current
    return series.stage if run is None else f"{series.stage}: {count_words(run.done)} tasks"
