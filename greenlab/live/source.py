"""What a view asks of a run, and the plain columns that it takes from one.

`Samples` are noted while a run goes on, `Records` are exact and taken when it has ended; `live.curves`
makes a picture of either. Both can be pickled, for the process that draws.

Must not import: numpy, matplotlib, ipywidgets, eventlet: this is loaded with the first cell.
"""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_SAMPLES = 960
"""Samples kept of a run: four minutes at four a second; then every other one is dropped."""


class Watched(Protocol):
    """A run, as its view sees it. Everything is read on the hub's thread."""

    @property
    def pool(self) -> str:
        """The word that `-p` takes."""

    @property
    def label(self) -> str:
        """What the run goes over, such as `url in feeds`."""

    @property
    def concurrency(self) -> int:
        """How many tasks may be in flight."""

    @property
    def total(self) -> int | None:
        """How many tasks there are, or None if that is not known."""

    @property
    def started_s(self) -> float:
        """When the run started, on `time.perf_counter`."""

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start, or from start to end."""

    @property
    def done(self) -> int:
        """Tasks that ended, one way or the other."""

    @property
    def failed(self) -> int:
        """Tasks that ended by an exception."""

    @property
    def in_flight(self) -> int:
        """Tasks that have started and not ended."""

    @property
    def running(self) -> bool:
        """Whether the run goes on."""

    @property
    def blocked(self) -> Sequence[Any]:
        """What held the hub: objects with `started_s` and `ended_s`, on `time.perf_counter`."""

    def cancel(self) -> object:
        """Stop the run. On the hub's thread only."""

    def summary(self) -> str:
        """Say in a few lines of plain text how the run went."""

    def times(self) -> tuple[Sequence[float], Sequence[float]]:
        """When each task started and ended, on `time.perf_counter`; nan where it has not ended."""


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

    @property
    def throughput(self) -> float:
        """Tasks/s over the whole run so far; 0 at its very start."""
        return self.done / self.elapsed_s if self.elapsed_s > 0 else 0.0


@dataclass
class Columns:
    """Counts noted now and then: the columns of `Samples`, which grow while a run goes on.

    Attributes:
        t_s: when, in seconds from the start.
        done: tasks ended by then.
        failed: tasks ended by an exception by then.
        in_flight: tasks in flight at that moment.
    """

    t_s: array[float] = field(default_factory=lambda: array("d", [0.0]))
    done: array[int] = field(default_factory=lambda: array("q", [0]))
    failed: array[int] = field(default_factory=lambda: array("q", [0]))
    in_flight: array[int] = field(default_factory=lambda: array("q", [0]))
    _stride: int = 1
    _skipped: int = 0

    def note(self, run: Watched) -> None:
        """Take a sample of a run, or only count the moment where a long run needs fewer."""
        self._skipped += 1
        if self._skipped >= self._stride or not run.running:
            self._skipped = 0
            self._append(run)
        if len(self.t_s) > MAX_SAMPLES:
            self._stride *= 2
            for column in (self.t_s, self.done, self.failed, self.in_flight):
                del column[1:-1:2]

    def _append(self, run: Watched) -> None:
        self.t_s.append(max(run.elapsed_s, self.t_s[-1]))
        self.done.append(run.done)
        self.failed.append(run.failed)
        self.in_flight.append(run.in_flight)


@dataclass(frozen=True)
class Samples:
    """A run that goes on: its facts, and counts noted so far."""

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


def facts_of(run: Watched, *, titled: bool) -> Facts:
    """Read what is said about a run beside its curves; its percentiles are left to whoever draws."""
    blocked = tuple((held.started_s - run.started_s, held.ended_s - run.started_s) for held in run.blocked)
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
    )


def records_of(run: Watched, columns: Columns | None = None) -> Records:
    """Take the exact times of a run's ended tasks, with the counts noted on the way if there are any."""
    starts_s, ends_s = run.times()
    if columns is None:
        columns = Columns()
        columns.note(run)
    return Records(facts_of(run, titled=True), run.started_s, starts_s, ends_s, columns)
