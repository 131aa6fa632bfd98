"""A run: many tasks in one pool, started, waited for, cancelled and repeated.

Guarantees: results stand in input order; a failed task never stops the others, unless asked; what has ended stays
readable after an interrupt, an error or a cancel; observers are told of the start and the end exactly once.

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
from greenlab.hub.watchdog import watchdog_of
from greenlab.hub.worker_greenlet import job_of
from greenlab.runs import report
from greenlab.runs.observers import Observers
from greenlab.runs.results import RunResults
from greenlab.runs.self_wait import waiting_for
from greenlab.runs.streams import ShellStreams
from greenlab.text.tracebacks import Raised, message_of
from greenlab.tracing.timeline import Tracing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from greenlab.hub import GuestHub
    from greenlab.hub.blocks import Block
    from greenlab.pools.protocol import Pool
    from greenlab.runs.ledger import Ledger
    from greenlab.tracing.timeline import Timeline

_FEW = 100
"""Tasks of which it is noted when each began, as they are cut short."""


class Run(RunResults):
    """Many tasks in one pool. Made by `greenlab.run` and `%%greenrun`; `RunResults` has what can be read of it."""

    def __init__(
        self,
        hub: GuestHub,
        pool: Pool,
        ledger: Ledger,
        *,
        label: str = "tasks",
        fail_fast: bool = False,
        observers: Sequence[Any] = (),
        make_repeated: Callable[[Ledger | None, Iterable[Any], str, dict[str, Any]], Run] | None = None,
        figure: Callable[[Run], Any] | None = None,
        make_report: Callable[[], Any] | None = None,
    ) -> None:
        super().__init__(pool, ledger, label)
        self.fail_fast = fail_fast
        self._hub = hub
        self._observers = Observers(observers)
        self._make_repeated = make_repeated
        self._figure = figure
        self._make_report = make_report
        self._finished = eventlet.event.Event()
        self._pool_error: Raised | None = None
        self._driver: Any = None
        self._streams = ShellStreams()
        self._cell_waits = False

    # -- start and end -------------------------------------------------------------------------------------

    def start(self) -> Run:
        """Begin, in the background. To be called once."""
        if self.fail_fast:
            self.ledger.on_failure = self._cancel_soon
        self.ledger.on_block = self._note_block
        self.ledger.on_write = _OutputWriter(self._printed).write
        self._driver = spawn(self._hub, self._drive)
        self._driver.name = f"run of {self.label}"
        self._driver.about = self
        self._driver.link(self._end_unstarted)
        self._streams = ShellStreams()
        self.ledger.streams_at_start = sys.stdout, sys.stderr
        self._begun = True
        return self

    def complete(self) -> Run:
        """Begin, wait for the end, and raise what `wait` and `check` raise."""
        __tracebackhide__ = True  # IPython leaves such frames out
        try:
            return self.start().wait().check()
        except RunInterrupted:
            raise
        except KeyboardInterrupt:  # between the start and the wait
            self.cancel()
            raise RunInterrupted(self) from None
        except BaseException:  # such as a time limit, or a kill, of the task that waits
            self.cancel()
            raise

    @property
    def id(self) -> int:
        """The number that `%greenps` lists it by; 0 before it has begun."""
        return int(self._driver.id) if self._driver is not None else 0

    def _drive(self) -> None:
        """Run the tasks, in a green thread of its own, so that a run may be waited for or left."""
        if self._ended_s is not None:
            return  # cancelled by an interrupt that came before its driver was known
        try:
            begin = perf_counter()
            self._pool.start(self.ledger)
            self.started_s = perf_counter()
            self.startup_s = self.started_s - begin
            self._observers.notify("run_started", self)
            self.started_s = perf_counter()  # the time that observers take is not the tasks'
            with watchdog_of(self._hub).watch(self._note_block, self.ledger):
                self._pool.run(self.ledger)
        except greenlet.GreenletExit:
            self.cancelled = True
        except BaseException as error:
            self._pool_error = Raised.of(error)
            self._ended_by = self._ended_by or self._pool_error
        finally:
            self.ledger.stopped = True
            self._ended_s = perf_counter()
            self.ledger.cancel_pending()
            if self._cell_waits or (
                self.ledger.replaced_by is not None and self._streams.native and not self._hub.blocking
            ):
                self._streams.put_back(self.ledger.replaced_by)
            try:
                self._observers.notify("run_ended", self)
            finally:
                self._finished.send(None)

    def _end_unstarted(self, _driver: Any) -> None:
        """End a run whose driver was killed before it began: nothing has run, and no observer was told."""
        if self._ended_s is None:
            self.ledger.stopped = self.cancelled = True
            self._ended_s = perf_counter()
            self._finished.send(None)

    def _end_if_driver_died(self) -> None:
        """End a run whose driver is dead: an interrupt of `start` or `cancel` may have kept it from being linked."""
        if self._driver is not None and self._driver.dead:
            self._end_unstarted(self._driver)

    def _note_block(self, block: Block) -> None:
        self._blocks.append(block)
        self._observers.notify("hub_blocked", self, block)

    def _cancel_soon(self, _index: int, error: BaseException) -> None:
        self.ledger.on_failure = None
        self._ended_by = Raised.of(error)
        self._hub.schedule_call_global(0, self.cancel)

    def wait(self, timeout: float | None = None) -> Run:
        """Wait until the run has ended, cooperatively.

        Args:
            timeout: seconds to wait at the most; None waits for the end.

        Raises:
            PendingError: the time was over first. The run goes on.
            RunInterrupted: the wait was interrupted (a KeyboardInterrupt). The run is cancelled; what has ended
                stays readable.
            UsageError: the caller is a task that this run waits for, so that neither would ever end.
        """
        __tracebackhide__ = True
        self._cell_waits = greenlet.getcurrent() is self._hub.root
        self._end_if_driver_died()
        try:
            if timeout is None:
                with waiting_for(self.ledger):
                    self._finished.wait()
            else:
                with eventlet.Timeout(timeout, False):
                    self._finished.wait()
        except KeyboardInterrupt:
            self.cancel()
            raise RunInterrupted(self) from None
        finally:
            self._cell_waits = False
        if self.running and timeout is not None:
            raise PendingError(f"the run has not ended after {timeout:g} s; it goes on")
        return self

    def cancel(self) -> None:
        """Stop the run: start no further task, stop those in flight, and return when they have stopped."""
        if self._ended_s is not None:
            return
        self.ledger.stopped = True
        self.cancelled = True
        if self._driver is None:  # it has not begun, and will not
            self._ended_s = perf_counter()
            self._finished.send(None)
            return
        self._note_cut()
        if greenlet.getcurrent() is self._hub.greenlet:
            self._hub.schedule_call_global(0, self._driver.kill)
            return
        self._driver.kill()
        self._end_if_driver_died()
        if not self._called_by_own_task():
            self._finished.wait()

    def _note_cut(self) -> None:
        """Keep when the tasks in flight began, of few."""
        if len(self.ledger.state) <= _FEW:
            self._cut_s = dict(self._pool.begun(self.ledger))

    def _called_by_own_task(self) -> bool:
        current = self._hub.owner()
        return current is self._driver or job_of(current) is self.ledger

    def kill(self, index: int) -> bool:
        """End one task that is in flight: it fails with `CancelledError`, and the others go on.

        Returns:
            whether there was such a task in flight, and it could be ended: in a thread of a Celery worker it cannot.
        """
        return self.running and self._pool.kill(self.ledger, index, CancelledError("the task was killed"))

    def check(self) -> Run:
        """Raise if the run failed as a whole. Results stay readable from `error.run`.

        Raises:
            NotSendableError: the function could not be sent to worker processes.
            SourceError: the items' iterator raised.
            UsageError: there were no items.
            RunError: every task failed, or one did and the run was to fail fast.
        """
        __tracebackhide__ = True
        if self._pool_error is not None:
            self._pool_error.again()
        if self.source_error is not None:
            raise SourceError(
                f"the items ended early, after {self.ledger.pulled:,}: {message_of(self.source_error)}", self
            ) from self.source_error
        if not self.ledger.pulled and not self.cancelled:
            raise UsageError("there was nothing to run: the items are empty")
        failed = self.ledger.failed
        if failed and (self.fail_fast or failed == self.ledger.pulled):
            raise RunError(self._failure_message(), self)
        return self

    def _failure_message(self) -> str:
        kinds = ", ".join(f"{count:,} {name}" for name, count in self.error_types.items())
        what = "a task failed and the run was to fail fast" if self.fail_fast else "every task failed"
        return "\n".join([f"{what}: {kinds}", *report.first_traceback(self)])

    # -- again ---------------------------------------------------------------------------------------------

    def resume(self, *, label: str | None = None, **changes: Any) -> Run:
        """Run only what has not succeeded, with some options of `greenlab.run` changed, and wait.

        Args:
            label: the new run's name in views and reports; by default, this one's.
            changes: options of `greenlab.run`.

        Returns:
            a run that has all results, those of this one too.

        Raises:
            UsageError: an unknown option, or one that makes no sense; or the run still goes on.
        """
        if self.running:
            raise UsageError("the run still goes on: run.wait() or run.cancel() first")
        __tracebackhide__ = True
        return self._repeat(self.ledger, (), label, changes)

    def rerun(self, *, label: str | None = None, **changes: Any) -> Run:
        """Run the same tasks again, with some options of `greenlab.run` changed, and wait.

        Args:
            label: the new run's name in views and reports; by default, this one's.
            changes: options of `greenlab.run`.

        Raises:
            UsageError: an unknown option, or one that makes no sense; or the items came from an iterator that was not
                read to its end.
        """
        if self.running:
            raise UsageError("the run still goes on: run.wait() or run.cancel() first")
        __tracebackhide__ = True
        if not self.ledger.source.complete:
            raise UsageError("the items came from an iterator, and not all of them were read: use run.resume()")
        return self._repeat(None, self.ledger.source.items, label, changes)

    def _repeat(self, ledger: Ledger | None, items: Iterable[Any], label: str | None, changes: dict[str, Any]) -> Run:
        __tracebackhide__ = True
        if self._make_repeated is None:
            raise UsageError("this run was not made by greenlab.run, and cannot be repeated")
        for name in ("func", "items", "count"):
            if name in changes:
                raise UsageError(f"{name} cannot be changed in a run that is repeated: make another with greenlab.run")
        return self._make_repeated(ledger, items, label or self.label, changes)

    # -- display -------------------------------------------------------------------------------------------

    @property
    def first_failure(self) -> str:
        """The traceback of the first task that failed, in a few lines; empty if none has."""
        return "\n".join(report.first_traceback(self))

    def to_pandas(self) -> Any:
        """Return a pandas DataFrame, a row a task; see `greenlab.runs.report.frame` for its columns."""
        self._refuse_if_discarded("table")
        return report.frame(self)

    def summary(self) -> str:
        """Return the report as a few lines of plain text."""
        return report.plain(self)

    def __repr__(self) -> str:
        return report.plain(self)

    def _ipython_display_(self) -> None:
        """Show the report of a run that goes on as an output which is replaced when it has ended.

        Raises:
            NotImplementedError: it has ended, or outputs cannot be replaced here; IPython then shows it as usual.
        """
        if not self.running or self._make_report is None:
            raise NotImplementedError
        report = self._make_report()
        report.show(self)
        self._observers.add(report)

    def bundle(self, cell: int | None = None) -> dict[str, str]:
        """Return the report as plain text and as HTML, which leaves out what a picture above it in its cell says.

        Args:
            cell: the number of the cell that shows it; None for the one that runs now.
        """
        below_picture = self._observers.stand_in(cell)
        return {"text/plain": report.plain(self), "text/html": report.rich(self, below_picture=below_picture)}

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:  # noqa: ARG002
        return self.bundle()

    def plot(self) -> Any:
        """Return a matplotlib Figure of throughput and tasks in flight over time.

        Raises:
            UsageError: the run was not made by `greenlab.run`.
        """
        if self._figure is None:
            raise UsageError("this run has no figure: make it with greenlab.run")
        return self._figure(self)

    def timeline(self) -> Timeline:
        """Return the `Timeline` of a run that was made with `trace=True`: what held the hub when, and all waits.

        Raises:
            UsageError: the run was not traced, or it has not ended.
        """
        tracing = self._observers.find(Tracing)
        if tracing is None:
            raise UsageError("this run was not traced: run it with trace=True, or with --trace")
        return tracing.timeline


class _OutputWriter:
    """Shows the output of tasks in other processes in the cell that started the run, and keeps it by task."""

    _MOST = 1 << 20

    def __init__(self, printed: dict[int | None, list[str]]) -> None:
        # A pool that outlives cells writes from a green thread of an earlier cell; the context says to which cell.
        self._context = copy_context()
        self._printed_by_task = printed
        self._left = self._MOST

    def write(self, stream: str, text: str, index: int | None) -> None:
        if self._left > 0:
            self._printed_by_task.setdefault(index, []).append(text[: self._left])
            self._left -= len(text)
        self._context.copy().run(_write, stream, text)


def _write(stream: str, text: str) -> None:
    target = sys.stderr if stream == "stderr" else sys.stdout
    target.write(text)
