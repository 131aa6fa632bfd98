"""What a view takes from a run.

`Samples` are noted while a run goes on, `Records` are exact and taken when it has ended; `live.curves`
makes a picture of either. Both can be pickled, for the process that draws.

Must not import: numpy, matplotlib, ipywidgets, eventlet: this is loaded with the first cell.
"""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass, replace
from pickle import PickleBuffer
from typing import TYPE_CHECKING, Any

from greenlab.live.samples import Columns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from greenlab.live.watched import Watched


@dataclass(frozen=True)
class Facts:
    """What is said about a run beside its curves.

    Attributes:
        pool: the word that `-p` takes.
        label: what the run goes over.
        concurrency: how many tasks may be in flight.
        total: how many tasks there are, or None.
        done: tasks that ended, both ways.
        failed: tasks that ended by an exception.
        elapsed_s: seconds since the start.
        blocked: from when to when the hub was held, in seconds from the start.
        running: whether the run goes on.
        titled: whether the picture says all this itself, because nothing beside it does.
        p50_s: median latency in seconds, or nan.
        p99_s: latency in seconds that one task in a hundred exceeds, or nan.
        error_types: exception types and how many failures there are of each, most frequent first.
        blocked_lines: what held the hub, or those of hybrid processes, in words: a line of code each, the worst first.
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

    @property
    def throughput(self) -> float:
        """Tasks/s over the whole run so far; 0 at its very start."""
        return self.done / self.elapsed_s if self.elapsed_s > 0 else 0.0


@dataclass(frozen=True)
class Samples:
    """A run that goes on, or that kept no records: its facts, and counts noted so far."""

    facts: Facts
    columns: Columns


@dataclass(frozen=True)
class Records:
    """A run that has ended: its facts, when each task started and ended, and the counts noted on the way.

    Attributes:
        facts: what is said beside the curves.
        began_s: when the run started, on the clock of the next two.
        starts_s: when each task started, in any order.
        ends_s: when the same tasks ended; nan where one has not. Whoever draws has numpy to sort that out.
        columns: the counts noted on the way; they say when tasks failed, which the times do not.
    """

    facts: Facts
    began_s: float
    starts_s: Sequence[float]
    ends_s: Sequence[float]
    columns: Columns

    def __reduce__(self) -> tuple[Any, ...]:
        # As buffers the times of millions of tasks travel without a copy, which would hold the hub.
        return _records, (self.facts, self.began_s, _buffer(self.starts_s), _buffer(self.ends_s), self.columns)


def _buffer(times: Sequence[float]) -> PickleBuffer:
    return PickleBuffer(times if isinstance(times, array) else array("d", times))


def _records(facts: Facts, began_s: float, starts_s: Any, ends_s: Any, columns: Columns) -> Records:
    starts_s, ends_s = (memoryview(times).cast("B").cast("d") for times in (starts_s, ends_s))
    return Records(facts, began_s, starts_s, ends_s, columns)


def facts_of(run: Watched, *, titled: bool) -> Facts:
    """Read what is said about a run beside its curves; its percentiles are left to whoever draws."""
    blocked = tuple(
        (held.started_s - run.started_s, held.ended_s - run.started_s)
        for held in run.blocked
        if held.worker is None  # where another process stood still, others went on
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
    )


def records_of(run: Watched, columns: Columns | None = None) -> Records | Samples:
    """Take the exact times of a run's ended tasks, with the counts noted on the way if there are any.

    A run that keeps no times of its tasks is known by those counts alone.
    """
    starts_s, ends_s = run.times()
    if columns is None:
        columns = Columns()
        columns.note(run)
    facts = facts_of(run, titled=True)
    if run.done and not len(ends_s):
        latency: Any = getattr(run, "latency", None)
        return Samples(replace(facts, p50_s=latency.p50, p99_s=latency.p99) if latency else facts, columns)
    return Records(facts, run.started_s, starts_s, ends_s, columns)
