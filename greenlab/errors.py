"""Every exception that greenlab raises itself.

Guarantees: all derive from `GreenlabError`; each docstring says when it is raised and what to do.
Must not import: anything of greenlab, IPython or eventlet, so that worker processes can load it cheaply.
"""

from __future__ import annotations

from typing import Any, Self


class GreenlabError(Exception):
    """The root of greenlab's exceptions: catch it to catch them all."""


class _OneLineError(GreenlabError):
    """Renders as one line in a notebook, and is an error of the cell.

    IPython's own UsageError prints to stderr and leaves the cell looking healthy to nbconvert and nbval; an
    exception with `_render_traceback_` prints what it returns and still fails the cell (IPython 9.x).
    """

    def _render_traceback_(self) -> list[str]:
        return [f"{type(self).__name__}: {self}"]


class UsageError(_OneLineError):
    """A user's mistake: an unknown option, pool or value. The message says what to write."""


class NotSendableError(_OneLineError):
    """Something that must travel to or from a worker process cannot be pickled.

    The message names it. Make it inside the task (a connection, a lock, an open file), or use a pool that
    stays in this process: `-p green`.
    """


class _WithRunError(GreenlabError):
    """An error that carries the run it ended, with what had ended before it.

    Attributes:
        run: the `Run`; None where there was none yet, and in an error that came from a worker process.
    """

    def __init__(self, message: str, run: object = None) -> None:
        super().__init__(message)
        self.run = run

    def __reduce__(self) -> tuple[object, ...]:
        rest = {name: value for name, value in vars(self).items() if name != "run"}  # a run stays in its process
        return type(self), self.args, rest or None


class SourceError(_WithRunError):
    """The iterable of items raised half-way. Its exception is `__cause__`; tasks already begun have finished.

    Attributes:
        run: the `Run`, whose outcomes are readable; None if the items were read before any run began.
    """


class WorkerLostError(GreenlabError):
    """A worker process died while it held this task; every other task goes on, on a new worker.

    Attributes:
        pid: the process id of the worker; 0 for a Celery worker that does not answer any more.
        signal: the number of the signal that ended it, or None if it exited by itself.
        exitcode: the status it exited with, or None if a signal ended it.
    """

    def __init__(
        self, pid: int, *, signal: int | None = None, exitcode: int | None = None, how: str | None = None
    ) -> None:
        if how is None:
            how = f"killed by signal {signal}" if signal is not None else f"exited with status {exitcode}"
        super().__init__(f"{f'worker {pid}' if pid else 'the worker'} was lost ({how}) while it held this task")
        self.pid = pid
        self.signal = signal
        self.exitcode = exitcode
        self._how = how

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_worker_lost, (self.pid, self.signal, self.exitcode, self._how)


def _rebuild_worker_lost(pid: int, signal: int | None, exitcode: int | None, how: str) -> WorkerLostError:
    return WorkerLostError(pid, signal=signal, exitcode=exitcode, how=how)


class TaskTimeoutError(GreenlabError, TimeoutError):
    """A task ran longer than `--timeout`. It was stopped where it waited, or its worker was replaced."""

    @classmethod
    def after(cls, limit_s: float) -> Self:
        """Make the error of a task that had so many seconds."""
        return cls(f"the task ran longer than its timeout of {limit_s:g} s")


class CancelledError(_OneLineError):
    """The task was not finished because its run was cancelled. `run.resume()` runs what is missing, in a new run."""


class PendingError(_OneLineError):
    """A result was asked for while its task had not ended. Call `run.wait()` first."""


AS_ATTRIBUTE = "the exception's attribute run"
"""Where an interrupted run is found, in messages, while it has no name."""


class RunInterrupted(KeyboardInterrupt):
    """A cell that waited for a run was interrupted. The run is cancelled, and what has ended stays readable.

    Not a `GreenlabError`: like any KeyboardInterrupt it must pass `except Exception`.

    Attributes:
        run: the `Run`.
    """

    def __init__(self, run: Any, name: str = AS_ATTRIBUTE) -> None:
        counts = run.counts
        total = f"{counts['total']:,} task{'s' * (counts['total'] != 1)}"
        failed = f" ({counts['failed']:,} failed)" if counts["failed"] else ""
        resumed = f"again = {name}.resume()" if name.isidentifier() else "its resume()"
        super().__init__(
            f"the run was interrupted after {counts['succeeded'] + counts['failed']:,} of {total}{failed}; "
            f"what has ended is in {name}, and {resumed} does the rest, as a new run"
        )
        self.run = run

    def _render_traceback_(self) -> list[str]:
        return [f"KeyboardInterrupt: {self}"]


class SeriesInterrupted(RunInterrupted):
    """A cell that waited for a race, a sweep or an advice was interrupted. The runs that have ended stay readable.

    Attributes:
        run: the `Race` or the `Sweep`; of an advice, the `Run` that was going on.
    """

    def __init__(self, message: str, run: Any, name: str = AS_ATTRIBUTE) -> None:
        KeyboardInterrupt.__init__(self, f"{message} is in {name}")
        self.run = run
        self._message = message

    def named(self, name: str) -> Self:
        """Return the same error for where the run is to be found by the name of a variable."""
        return type(self)(self._message, self.run, name)


class RunError(_OneLineError, _WithRunError):
    """A run failed as a whole: every task failed, or the first failure of a run with `-x`.

    The run itself is its attribute, and its outcomes are readable.

    Attributes:
        run: the `Run`.
    """
