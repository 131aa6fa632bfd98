"""Snapshots of a run, which its picture is drawn from.

`Samples` are taken while a run goes on, `Records` are exact and taken when it has ended;
`greenlab.live.drawing.curves` makes a picture of either. Both can be pickled, for the process that draws.

Must not import: numpy, matplotlib, ipywidgets, eventlet: this is loaded with the first cell.
"""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass, replace
from pickle import PickleBuffer
from typing import TYPE_CHECKING, Any, Final

from greenlab.live.samples import Columns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from greenlab.live.watched import Watched
    from greenlab.pools.protocol import TaskSpan


FEW_TASKS: Final = 30
"""Of fewer tasks each is drawn by itself, from the run's start on: their throughput says nothing."""
SHORT_S: Final = 1.0
"""So are those of a run that was shorter than this, where there is room for them; before its end that is not known."""
MOST_ROWS: Final = 60


@dataclass(frozen=True)
class Facts:
    """What is written about a run beside its curves.

    Attributes:
        pool: the word that `-p` takes.
        label: what the run goes over.
        concurrency: how many tasks may be in flight.
        total: how many tasks there are, or None.
        done: tasks that ended, both ways.
        done_before: how many of these had ended before the run began, in the one that it resumes.
        begun: whether any task has begun.
        cut_by: what ended the run before all its tasks had, in words; empty if nothing did.
        failed: tasks that ended by an exception.
        elapsed_s: seconds since the start.
        blocked: start and end of each time in which the hub was blocked, in seconds from the start.
        running: whether the run goes on.
        titled: whether the picture has a title with all this, because no header stands above it.
        p50_s: median latency in seconds, or nan.
        p99_s: latency in seconds that one task in a hundred exceeds, or nan.
        error_types: exception types and how many failures there are of each, most frequent first.
        blocked_lines: what blocked the hub, or those of hybrid processes: one text a line of code, the longest first.
    """

    pool: str
    label: str
    concurrency: int
    total: int | None
    done: int
    failed: int
    elapsed_s: float
    blocked: tuple[tuple[float, float], ...]
    running: bool
    titled: bool
    p50_s: float = math.nan
    p99_s: float = math.nan
    error_types: tuple[tuple[str, int], ...] = ()
    blocked_lines: tuple[str, ...] = ()
    done_before: int = 0
    begun: bool = True
    cut_by: str = ""

    @property
    def done_here(self) -> int:
        """Tasks that ended in this run, both ways."""
        return self.done - self.done_before

    @property
    def throughput(self) -> float:
        """Tasks/s over the whole run so far; 0 at its very start."""
        return self.done_here / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def fruitless(self) -> bool:
        """Whether the run has ended, and none of its tasks had."""
        return not self.running and not self.done_here


@dataclass(frozen=True)
class Samples:
    """A run that goes on, or that kept no records: its facts, and its samples so far.

    Attributes:
        facts: what is written beside the curves.
        columns: the samples.
        bars: each task by itself that has begun, in the order of their starts, in seconds from the run's start; None
            where they may become too many, or are not known.
    """

    facts: Facts
    columns: Columns
    bars: tuple[TaskSpan, ...] | None = None

    @property
    def has_bars(self) -> bool:
        """Whether each task is drawn by itself."""
        return self.bars is not None


@dataclass(frozen=True)
class Records:
    """A run that has ended: its facts, when each task started and ended, and its samples.

    Attributes:
        facts: what is written beside the curves.
        began_s: when the run started, on the clock of the next two.
        starts_s: when each task started, in any order.
        ends_s: when the same tasks ended; nan where one has not.
        columns: the samples.
        failures: a byte a task, 1 where it failed; empty if that is not known, and the samples show about when.
        bars: each task by itself, in the order of their starts, in seconds from the run's start; empty where they are
            too many.
    """

    facts: Facts
    began_s: float
    starts_s: Sequence[float]
    ends_s: Sequence[float]
    columns: Columns
    failures: bytes = b""
    bars: tuple[TaskSpan, ...] = ()

    @property
    def has_bars(self) -> bool:
        """Whether each task is drawn by itself."""
        return bool(self.bars)

    def __reduce__(self) -> tuple[Any, ...]:
        # As buffers the times of millions of tasks travel without a copy, which would hold the hub.
        times = _buffer(self.starts_s), _buffer(self.ends_s)
        return _records, (self.facts, self.began_s, *times, self.columns, PickleBuffer(self.failures), self.bars)


def _buffer(times: Sequence[float]) -> PickleBuffer:
    return PickleBuffer(times if isinstance(times, array) else array("d", times))


def _records(facts: Facts, began_s: float, starts_s: Any, ends_s: Any, columns: Columns, *more: Any) -> Records:
    starts_s, ends_s = (memoryview(times).cast("B").cast("d") for times in (starts_s, ends_s))
    failures, bars = more
    return Records(facts, began_s, starts_s, ends_s, columns, bytes(failures), bars)


def facts_of(run: Watched, *, titled: bool) -> Facts:
    """Return what is written about a run beside its curves; its percentiles are computed where it is drawn."""
    blocked = tuple(
        (block.started_s - run.started_s, block.ended_s - run.started_s)
        for block in run.blocked
        if block.worker is None  # a block of another process does not stop this one
    )
    return Facts(
        pool=run.pool,
        label=run.label,
        concurrency=run.concurrency,
        total=run.total,
        done=run.done,
        failed=run.failed,
        elapsed_s=run.elapsed_s,
        blocked=blocked,
        running=run.running,
        titled=titled,
        error_types=tuple(run.error_types.items()) if run.failed else (),
        blocked_lines=tuple(run.blocked_lines),
        done_before=run.done_before,
        begun=run.begun > 0,
        cut_by=run.cut_by,
    )


def records_of(run: Watched, columns: Columns | None = None) -> Records | Samples:
    """Return the exact times of a run's ended tasks, with its samples if there are any.

    Of a run that keeps no times of its tasks, return the samples alone.
    """
    starts_s, ends_s = run.times()
    if columns is None:
        columns = Columns()
        columns.add_sample(run)
    facts = facts_of(run, titled=True)
    if run.done and not len(ends_s):
        latency = run.latency
        return Samples(replace(facts, p50_s=latency.p50, p99_s=latency.p99), columns)
    failures = run.failures() if run.failed else b""
    if run.running:
        most = FEW_TASKS - 1 if _is_of_few(run) else 0
    else:
        most = MOST_ROWS if run.elapsed_s < SHORT_S else FEW_TASKS - 1
    return Records(facts, run.started_s, starts_s, ends_s, columns, failures, _bars_of(run, most))


def samples_of(run: Watched, facts: Facts, columns: Columns) -> Samples:
    """Return what the picture of a run that goes on is drawn from.

    Args:
        run: the run.
        facts: what is written about it.
        columns: its samples so far.
    """
    if not _is_of_few(run):
        return Samples(facts, columns)
    bars = _bars_of(run, FEW_TASKS - 1)
    # A run that keeps no records has none however much it has done.
    return Samples(facts, columns, bars if bars or run.done == run.done_before else None)


def _is_of_few(run: Watched) -> bool:
    return run.total is not None and run.total < FEW_TASKS


def _bars_of(run: Watched, most: int) -> tuple[TaskSpan, ...]:
    began_s = run.started_s
    return tuple(bar._replace(start_s=bar.start_s - began_s, end_s=bar.end_s - began_s) for bar in run.bars(most))
