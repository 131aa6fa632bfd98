"""What a view reads of a run: all that `greenlab.live` knows of runs.

Must not import: anything of greenlab but what a pool's protocol has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from greenlab.pools.protocol import TaskSpan


class Percentiles(Protocol):
    """The latency of tasks, in seconds; nan while none has ended."""

    @property
    def p50(self) -> float:
        """Half of the tasks took at most this long."""

    @property
    def p99(self) -> float:
        """Ninety-nine of a hundred."""


class Watched(Protocol):
    """A run, as its view reads it, on the hub's thread."""

    @property
    def pool(self) -> str:
        """The pool's name."""

    @property
    def label(self) -> str:
        """What the run goes over, such as `url in feeds`."""

    @property
    def concurrency(self) -> int:
        """How many tasks may be in flight; a view may set it."""

    @concurrency.setter
    def concurrency(self, value: int) -> None: ...

    @property
    def limit(self) -> int:
        """How many tasks may be in flight now, where it is less than `concurrency` too."""

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
        """Tasks that ended, with a value or an exception."""

    @property
    def begun(self) -> int:
        """Tasks that have begun in this run, whether they have ended or not."""

    @property
    def done_before(self) -> int:
        """How many of these had ended before the run began, in the one that it resumes."""

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
    def cut_by(self) -> str:
        """What ended the run before all its tasks had, in words; empty if nothing did, or it goes on."""

    @property
    def blocked(self) -> Sequence[Any]:
        """What held the hub: objects with `started_s` and `ended_s`, on `time.perf_counter`, and `worker`."""

    @property
    def blocked_lines(self) -> Sequence[str]:
        """The same as text: one line of code each, the longest in all first."""

    @property
    def error_types(self) -> dict[str, int]:
        """How many failures there are of each exception type, most frequent first."""

    @property
    def first_failure(self) -> str:
        """What the first task that failed raised, and where, in a few lines; empty if none has."""

    @property
    def latency(self) -> Percentiles:
        """The latency of the tasks that ended, also where the run keeps no records of them."""

    def cancel(self) -> object:
        """Stop the run. On the hub's thread only."""

    def summary(self) -> str:
        """Return the report as a few lines of plain text."""

    def times(self) -> tuple[Sequence[float], Sequence[float]]:
        """Return when each task started and ended, on `time.perf_counter`; nan where it has not ended.

        Both are empty if the run keeps no records of its tasks.
        """

    def failures(self) -> bytes:
        """Return a byte a task, 1 where it failed, in the order of `times`; empty if the run keeps no records."""

    def bars(self, most: int) -> Sequence[TaskSpan]:
        """Return each task that began, if they are at most so many, on `time.perf_counter`.

        In the order of the starts. Empty if there are more, or the run keeps no records.
        """
