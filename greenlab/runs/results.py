"""The results of a run: values, errors, counts, times, read from its ledger. Nothing here changes a run.

Must not import: live, magics.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from greenlab.checks import whole_number
from greenlab.errors import CancelledError, GreenlabError, PendingError, UsageError
from greenlab.hub.blocks import by_line, folded
from greenlab.runs.aggregate import AggregateLedger
from greenlab.runs.bars import bars_of
from greenlab.runs.ledger import CANCELLED, FAILED, OK, PENDING
from greenlab.text.tracebacks import frame_left_out, message_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from greenlab.hub.blocks import Block
    from greenlab.pools.protocol import InFlight, Job, Pool, TaskSpan
    from greenlab.runs.latency import Latency
    from greenlab.runs.ledger import Ledger
    from greenlab.text.tracebacks import Raised

_FAILED_MASK = bytes(state == FAILED for state in range(256))
_READABLE = "run.outcomes has what has ended, and again = run.resume() runs the rest, as a new run"


@runtime_checkable
class DecidingPool(Protocol):
    """A pool that decides where the tasks of a job run, as the auto pool does."""

    def decision(self, job: Job) -> str:
        """Return what was decided for a job, and why, in a sentence; empty before the decision."""

    def limit(self, job: Job) -> int:
        """Return how many tasks of a job may be in flight where it runs now, or has run last."""


class RunResults:
    """What can be read of a run, while it goes on and after.

    Attributes:
        pool: the pool's name.
        label: what the run goes over, such as `url in feeds`.
        started_s: when it started, `time.perf_counter()` seconds; the pool's start-up is not counted.
        startup_s: how long the pool took to be ready, seconds.
        ledger: the records: in columns, or in sums if the run discards its results.
    """

    def __init__(self, pool: Pool, ledger: Ledger, label: str) -> None:
        self.pool = pool.name
        self.label = label
        self.ledger = ledger
        self.started_s = perf_counter()
        self.startup_s = 0.0
        self.cancelled = False
        self._pool = pool
        self._begun = False
        self._ended_s: float | None = None
        self._blocks: list[Block] = []
        self._latency: Latency | None = None
        self._ended_by: Raised | None = None
        self._printed: dict[int | None, list[str]] = {}
        self._cut_s: dict[int, float] = {}  # when tasks that a cancel cut short began

    @property
    def running(self) -> bool:
        """Whether the run goes on: it has begun, and not ended."""
        return self._begun and self._ended_s is None

    @property
    def concurrency(self) -> int:
        """Tasks that may be in flight. It may be set while the run goes on; of prefork, it is the workers.

        Raises:
            UsageError: it is set to something else than a whole number of 1 or more.
        """
        return self.ledger.concurrency

    @concurrency.setter
    def concurrency(self, value: int) -> None:
        self.ledger.concurrency = whole_number("concurrency", value, 1)
        if self.running:
            self._pool.adjust(self.ledger)

    @property
    def limit(self) -> int:
        """How many tasks may be in flight now: less than `concurrency` where the auto pool allows fewer."""
        return self._pool.limit(self.ledger) if isinstance(self._pool, DecidingPool) else self.concurrency

    @property
    def total(self) -> int | None:
        """How many tasks there are in all, begun or not; None while that is not known."""
        known = self.ledger.total
        return known if known is not None or self.running else self.ledger.pulled

    @property
    def done(self) -> int:
        """Tasks that have ended, well or badly."""
        return self.ledger.done

    @property
    def begun(self) -> int:
        """Tasks that have begun in this run, whether they have ended or not."""
        return self.ledger.pulled - self.ledger.done_before

    @property
    def done_before(self) -> int:
        """How many of these had succeeded before, in the run that this one resumes."""
        return self.ledger.done_before

    @property
    def failed(self) -> int:
        """Tasks that ended with an exception."""
        return self.ledger.failed

    @property
    def in_flight(self) -> int:
        """Tasks begun and not ended."""
        return self._pool.count(self.ledger) if self.running else 0

    @property
    def cut_by(self) -> str:
        """What ended the run before all its tasks had, in words; empty if nothing did, or it goes on."""
        if self.running:
            return ""
        if self._ended_by is not None:
            # greenlab's own messages are sentences that need no type before them.
            error = self._ended_by.error
            return str(error) if isinstance(error, GreenlabError) else message_of(error)
        if self.source_error is not None:
            return f"the items ended early: {message_of(self.source_error)}"
        return "it was stopped" if self.cancelled else ""

    @property
    def source_error(self) -> BaseException | None:
        """What the items' iterator raised, or None."""
        return self.ledger.source_error

    @property
    def results(self) -> list[Any]:
        """The tasks' values, in input order.

        Raises:
            PendingError: the run goes on.
            CancelledError: the run was cancelled; `outcomes` has what has ended, and `resume` runs the rest.
            Exception: the error that ended the run, such as the first failure of one that was to fail fast; otherwise
                that of the first task, in input order, that failed or was cancelled.
        """
        if self._ended_s is None:
            raise PendingError("the run has not ended: run.wait() first, or read run.outcomes")
        self._refuse_if_discarded("results")
        with frame_left_out:
            for index, state in enumerate(self.ledger.state):
                if state != OK and self._ended_by is not None:
                    self._ended_by.again()  # the cause, of which a task before it was cancelled
                if state == CANCELLED:
                    raise CancelledError(f"task {index:,} had not ended when the run was cancelled: {_READABLE}")
                if state != OK:
                    self.ledger.raised(index).again()
            if self.ledger.exhausted or self.ledger.total == len(self.ledger.values):
                return list(self.ledger.values)
            if self._ended_by is not None:
                self._ended_by.again()
            if self.cancelled:
                raise CancelledError(f"the run was cancelled before all tasks had begun: {_READABLE}")
            return list(self.ledger.values)

    @property
    def outcomes(self) -> list[Any]:
        """A value or an exception for each task pulled, in input order; PendingError for one that runs."""
        self._refuse_if_discarded("outcomes")
        ledger = self.ledger
        return [
            ledger.values[index]
            if state == OK
            else PendingError("the task has not ended")
            if state == PENDING
            else ledger.errors[index]
            for index, state in enumerate(ledger.state)
        ]

    @property
    def errors(self) -> dict[int, BaseException]:
        """The exceptions, by index of the item; of cancelled tasks too. Of a run that discards, the first 100."""
        return dict(sorted(self.ledger.errors.items()))

    @property
    def error_types(self) -> dict[str, int]:
        """How many failures there are of each exception type, most frequent first."""
        return dict(self.ledger.error_types.most_common())

    @property
    def counts(self) -> dict[str, int]:
        """How many tasks: total, and of these succeeded, failed, cancelled (cut short), pending (in flight).

        The tasks that are in none of these four never began.
        """
        counts = self.ledger.counts()
        return {"total": self.total if self.total is not None else sum(counts.values()), **counts}

    @property
    def elapsed_s(self) -> float:
        """Seconds from the start to the end, or until now."""
        return (self._ended_s or perf_counter()) - self.started_s

    @property
    def throughput(self) -> float:
        """Tasks ended a second, over the whole run; not those that had succeeded before it resumed another one."""
        return (self.done - self.done_before) / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def latency(self) -> Latency:
        """Latency percentiles in seconds: attributes p50, p90, p99, max.

        Of a task that was tried again, its last try counts.
        """
        if self._latency is not None:
            return self._latency
        latency = self.ledger.latency()
        if not self.running:
            self._latency = latency  # sorting a million tasks takes a third of a second
        return latency

    @property
    def blocked(self) -> list[Block]:
        """What held the hub for 100 ms or more: where, for how long, and how many waited behind it."""
        return list(self._blocks)

    @property
    def blocked_by_line(self) -> dict[str, float]:
        """For how many seconds in all each line of code held the hub, the longest first."""
        return by_line(self._blocks)

    @property
    def blocked_lines(self) -> list[str]:
        """What held the hub, as the report says it: one text a line of code, the longest in all first."""
        return folded(self._blocks)

    @property
    def moved(self) -> str:
        """What the auto pool decided, and why, in a sentence; empty before that, and in other pools."""
        return self._pool.decision(self.ledger) if isinstance(self._pool, DecidingPool) else ""

    def spans(self) -> tuple[Sequence[float], Sequence[float]]:
        """Return when tasks started and ended, in seconds from the run's start, of those that have ended.

        Of a task that was tried again it is the start of its last try; with a rate, its intended first start.
        """
        pairs = [
            (start - self.started_s, end - self.started_s)
            for start, end in zip(self.ledger.started_s, self.ledger.ended_s, strict=True)
            if end == end  # noqa: PLR0124 (nan: not ended)
        ]
        return [start for start, _ in pairs], [end for _, end in pairs]

    def times(self) -> tuple[Sequence[float], Sequence[float]]:
        """Return when tasks started and ended, by index, in `time.perf_counter()` seconds; nan where one has not."""
        return self.ledger.started_s, self.ledger.ended_s

    def failures(self) -> bytes:
        """Return a byte a task, by index: 1 where it failed. Empty for a run that discards its results."""
        return bytes(self.ledger.state.translate(_FAILED_MASK))

    def bars(self, most: int) -> list[TaskSpan]:
        """Return each task that began, by name, start, end and outcome, in the order of the starts.

        Empty if they are more than `most`, and for a run that discards its results.
        """
        if not 0 < len(self.ledger.state) <= most:
            return []
        if self._ended_s is not None:
            return bars_of(self.ledger, self._cut_s, self.started_s, self._ended_s)
        return bars_of(self.ledger, dict(self._pool.begun(self.ledger)), self.started_s, perf_counter())

    def ended_s_sorted(self) -> Sequence[float]:
        """Return when tasks ended, in seconds from the run's start, ascending."""
        return sorted(self.spans()[1])

    @property
    def discards(self) -> bool:
        """Whether the run keeps counts and latencies only, and no results."""
        return isinstance(self.ledger, AggregateLedger)

    @property
    def printed(self) -> dict[int | None, str]:
        """What tasks in worker processes printed, by index of the task; the first mebibyte in all.

        It was shown at once, too; here it is by task.
        """
        return {index: "".join(texts) for index, texts in self._printed.items()}

    def tasks_in_flight(self) -> list[InFlight]:
        """List the tasks in flight: index, when each began, in which process or thread, and where it stands."""
        return self._pool.held(self.ledger) if self.running else []

    def _refuse_if_discarded(self, what: str) -> None:
        if self.discards:
            raise UsageError(f"this run has no {what}, because it was made with discard: leave that out to keep them")
