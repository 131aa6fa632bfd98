"""A run: many tasks in one pool, and everything that is known of them.

Guarantees: results stand in input order; a failed task never stops the others, unless asked; what has ended stays
readable after an interrupt, an error or a cancel; observers hear of the start and the end exactly once.

Must not import: live, magics.
"""

from __future__ import annotations

import sys
from contextvars import copy_context
from time import perf_counter
from typing import TYPE_CHECKING, Any

import greenlet

from greenlab.errors import CancelledError, PendingError, RunError, RunInterrupted, SourceError, UsageError
from greenlab.hub import eventlet, spawn
from greenlab.hub.blocks import by_line
from greenlab.hub.watchdog import watchdog_of
from greenlab.runs import report
from greenlab.runs.latency import Latency, latency_of
from greenlab.runs.ledger import CANCELLED, FAILED, OK, PENDING, Ledger
from greenlab.runs.observers import Observers
from greenlab.runs.timeline import timeline_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from greenlab.hub import GuestHub
    from greenlab.hub.blocks import Block
    from greenlab.pools.protocol import Pool
    from greenlab.runs.timeline import Timeline


class Run:
    """Many tasks in one pool. Made by `greenlab.run` and `%%greenrun`.

    Attributes:
        pool: the pool's name.
        label: what the run goes over, such as `url in feeds`.
        started_s: when it started, `time.perf_counter()` seconds; the pool's start-up is not counted.
        startup_s: how long the pool took to be ready, seconds.
        ledger: the records, in columns.
    """

    def __init__(
        self,
        hub: GuestHub,
        pool: Pool,
        ledger: Ledger,
        *,
        label: str = "tasks",
        fail_fast: bool = False,
        observers: Sequence[Any] = (),
        again: Callable[..., Run] | None = None,
        figure: Callable[[Run], Any] | None = None,
    ) -> None:
        self.pool = pool.name
        self.label = label
        self.ledger = ledger
        self.fail_fast = fail_fast
        self.started_s = perf_counter()
        self.startup_s = 0.0
        self.cancelled = False
        self._hub = hub
        self._pool = pool
        self._observers = Observers(observers)
        self._again = again
        self._figure = figure
        self._ended_s: float | None = None
        self._finished = eventlet.event.Event()
        self._pool_error: BaseException | None = None
        self._blocks: list[Block] = []
        self._driver: Any = None
        self._latency: Latency | None = None

    # -- life ----------------------------------------------------------------------------------------------

    def start(self) -> Run:
        """Begin, in the background. Called once, by whoever makes the run."""
        if self.fail_fast:
            self.ledger.on_failure = self._stop_early
        # A pool that outlives cells speaks from a green thread of an earlier one; output goes by the context.
        context = copy_context()
        self.ledger.on_write = lambda stream, text: context.copy().run(_write, stream, text)
        self._driver = spawn(self._hub, self._drive)
        self._driver.name = f"run of {self.label}"
        return self

    def _drive(self) -> None:
        """Run the tasks, in a green thread of its own, so that a run may be waited for or left."""
        try:
            begin = perf_counter()
            self._pool.start()
            self.started_s = perf_counter()
            self.startup_s = self.started_s - begin
            self._observers.tell("run_started", self)
            self.started_s = perf_counter()  # what it takes to appear is not the tasks' time
            with watchdog_of(self._hub).watch(self._note_block, self.ledger):
                self._pool.run(self.ledger)
        except greenlet.GreenletExit:
            self.cancelled = True
        except BaseException as error:
            self._pool_error = error
        finally:
            self.ledger.stopped = True
            self._ended_s = perf_counter()
            self.ledger.cancel_pending()
            try:
                self._observers.tell("run_ended", self)
            finally:
                self._finished.send(None)

    def _note_block(self, block: Block) -> None:
        self._blocks.append(block)
        self._observers.tell("hub_blocked", self, block)

    def _stop_early(self, _index: int, _error: BaseException) -> None:
        self.ledger.on_failure = None
        self._hub.schedule_call_global(0, self.cancel)

    def wait(self, timeout: float | None = None) -> Run:
        """Wait until the run has ended, cooperatively.

        Args:
            timeout: seconds to wait at the most; None waits for the end.

        Raises:
            PendingError: the time was over first. The run goes on.
            RunInterrupted: the wait was interrupted (a KeyboardInterrupt). The run is cancelled; what has ended
                stays readable.
        """
        try:
            with eventlet.Timeout(timeout, False):
                self._finished.wait()
        except KeyboardInterrupt:
            self.cancel()
            raise RunInterrupted(self) from None
        if self.running:
            raise PendingError(f"the run has not ended after {timeout:g} s; it goes on")
        return self

    def cancel(self) -> None:
        """Stop the run: no further task starts, and those in flight are stopped. Returns when they are."""
        if not self.running:
            return
        self.ledger.stopped = True
        self.cancelled = True
        if self._driver is None:
            return
        if greenlet.getcurrent() is self._hub.greenlet:
            self._hub.schedule_call_global(0, self._driver.kill)
            return
        self._driver.kill()
        if not self._inside():
            self._finished.wait()

    def _inside(self) -> bool:
        return greenlet.getcurrent() is self._driver

    def check(self) -> Run:
        """Raise what a cell must not hide; see Raises. Results stay readable from `error.run`.

        Raises:
            NotSendableError: the function could not be sent to worker processes.
            SourceError: the items' iterator raised.
            UsageError: the items' iterator gave nothing.
            RunError: every task failed, or one did and the run was to fail fast.
        """
        if self._pool_error is not None:
            raise self._pool_error
        if self.source_error is not None:
            raise SourceError(
                f"the items ended early, after {self.ledger.pulled:,}: "
                f"{type(self.source_error).__name__}: {self.source_error}"
            ) from self.source_error
        if not self.ledger.state and not self.cancelled:
            raise UsageError("there was nothing to run: the items are empty")
        failed = self.ledger.failed
        if failed and (self.fail_fast or failed == len(self.ledger.state)):
            raise RunError(self._verdict(), self)
        return self

    def _verdict(self) -> str:
        kinds = ", ".join(f"{count:,} {name}" for name, count in self.error_types.items())
        what = "a task failed and the run was to fail fast" if self.fail_fast else "every task failed"
        return "\n".join([f"{what}: {kinds}", *report.first_traceback(self)])

    # -- what is known -------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether the run goes on."""
        return self._ended_s is None

    @property
    def concurrency(self) -> int:
        """Tasks that may be in flight. It may be set while the run goes on."""
        return self.ledger.concurrency

    @concurrency.setter
    def concurrency(self, value: int) -> None:
        self.ledger.concurrency = max(1, int(value))

    @property
    def total(self) -> int | None:
        """How many tasks there are in all, begun or not; None while the items do not tell."""
        known = self.ledger.total
        return known if known is not None or self.running else len(self.ledger.state)

    @property
    def done(self) -> int:
        """Tasks that have ended, well or badly."""
        return self.ledger.done

    @property
    def failed(self) -> int:
        """Tasks that ended with an exception."""
        return self.ledger.failed

    @property
    def in_flight(self) -> int:
        """Tasks begun and not ended; of the whole pool, if it serves several runs."""
        return self._pool.in_flight if self.running else 0

    @property
    def source_error(self) -> BaseException | None:
        """What the items' iterator raised, or None."""
        return self.ledger.source_error

    @property
    def results(self) -> list[Any]:
        """The tasks' values, in input order.

        Raises:
            PendingError: the run goes on.
            Exception: the error of the first task, in input order, that failed or was cancelled.
        """
        if self.running:
            raise PendingError("the run has not ended: run.wait() first, or read run.outcomes")
        for index, state in enumerate(self.ledger.state):
            if state != OK:
                raise self.ledger.errors[index]
        return list(self.ledger.values)

    @property
    def outcomes(self) -> list[Any]:
        """A value or an exception for each task pulled, in input order; PendingError for one that runs."""
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
        """The exceptions, by index of the item; of cancelled tasks too."""
        return dict(sorted(self.ledger.errors.items()))

    @property
    def error_types(self) -> dict[str, int]:
        """How many failures there are of each exception type, most frequent first."""
        counts: dict[str, int] = {}
        for error in self.ledger.errors.values():
            if not isinstance(error, CancelledError):
                counts[type(error).__name__] = counts.get(type(error).__name__, 0) + 1
        return dict(sorted(counts.items(), key=lambda pair: -pair[1]))

    @property
    def counts(self) -> dict[str, int]:
        """How many tasks: total, and of these succeeded, failed, cancelled (cut short), pending (in flight).

        What is missing to the total never began.
        """
        state = self.ledger.state
        counts = {
            "succeeded": state.count(OK),
            "failed": state.count(FAILED),
            "cancelled": state.count(CANCELLED),
            "pending": state.count(PENDING),
        }
        return {"total": self.total if self.total is not None else len(state), **counts}

    @property
    def elapsed_s(self) -> float:
        """Seconds from the start to the end, or until now."""
        return (self._ended_s or perf_counter()) - self.started_s

    @property
    def throughput(self) -> float:
        """Tasks ended a second, over the whole run."""
        return self.done / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def latency(self) -> Latency:
        """Latency percentiles in seconds: attributes p50, p90, p99, max."""
        if self._latency is not None:
            return self._latency
        latency = latency_of(self.ledger.started_s, self.ledger.ended_s)
        if not self.running:
            self._latency = latency  # a million tasks take a third of a second to sort
        return latency

    @property
    def blocked(self) -> list[Block]:
        """What held the hub for 100 ms or more, where, how long, and who waited behind it."""
        return list(self._blocks)

    @property
    def blocked_by_line(self) -> dict[str, float]:
        """For how many seconds in all each line held the hub, the longest first."""
        return by_line(self._blocks)

    def spans(self) -> tuple[Sequence[float], Sequence[float]]:
        """Give when tasks started and ended, in seconds from the run's start, of those that have ended."""
        pairs = [
            (start - self.started_s, end - self.started_s)
            for start, end in zip(self.ledger.started_s, self.ledger.ended_s, strict=True)
            if end == end  # noqa: PLR0124 (nan: not ended)
        ]
        return [start for start, _ in pairs], [end for _, end in pairs]

    def times(self) -> tuple[Sequence[float], Sequence[float]]:
        """Give when tasks started and ended, by index, in `time.perf_counter()` seconds; nan where one has not."""
        return self.ledger.started_s, self.ledger.ended_s

    def ended_s_sorted(self) -> Sequence[float]:
        """Give when tasks ended, in seconds from the run's start, ascending."""
        return sorted(self.spans()[1])

    # -- once more -----------------------------------------------------------------------------------------

    def resume(self) -> Run:
        """Run only what has not succeeded, and wait. The run returned has all results.

        Raises:
            UsageError: the run still goes on.
        """
        if self.running:
            raise UsageError("the run still goes on: run.wait() or run.cancel() first")
        return self._repeat(self.ledger.resumed())

    def rerun(self, **changes: Any) -> Run:
        """Run the same tasks again, with some options of `greenlab.run` changed, and wait.

        Raises:
            UsageError: an unknown option; or the items came from an iterator that was not read to its end.
        """
        if self.running:
            raise UsageError("the run still goes on: run.wait() or run.cancel() first")
        ledger = self.ledger
        if ledger._kept is not None and not ledger.exhausted:
            raise UsageError("the items came from an iterator that was not read to its end: use run.resume()")
        return self._repeat(None, items=ledger.items, **changes)

    def _repeat(self, ledger: Ledger | None, items: Iterable[Any] = (), **changes: Any) -> Run:
        if self._again is None:
            raise UsageError("this run was made by hand: use greenlab.run")
        return self._again(ledger, items, **changes)

    # -- how it shows --------------------------------------------------------------------------------------

    def to_pandas(self) -> Any:
        """Give a DataFrame, a row a task; see `greenlab.runs.report.frame` for its columns."""
        return report.frame(self)

    def plot(self) -> Any:
        """Give a matplotlib Figure of throughput and tasks in flight over time."""
        if self._figure is None:
            raise UsageError("this run has no figure: make it with greenlab.run")
        return self._figure(self)

    def timeline(self) -> Timeline:
        """Give who held the hub when, and what the others waited for, if the run was made with `trace=True`."""
        return timeline_of(self._observers)

    def summary(self) -> str:
        """Give the run in a few lines of plain text."""
        return report.plain(self)

    def __repr__(self) -> str:
        return report.plain(self)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:  # noqa: ARG002
        return {"text/plain": report.plain(self), "text/html": report.rich(self)}


def _write(stream: str, text: str) -> None:
    target = sys.stderr if stream == "stderr" else sys.stdout
    target.write(text)
