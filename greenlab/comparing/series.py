"""A series: runs of the same task, one after another, to compare them. Races and sweeps are series.

Guarantees: one run goes on at a time; observers are told of the start, of each run's end and of the end (the hooks are
`series_started(series)`, `run_added(series)`, `series_ended(series)`), and one that raises is dropped; what has ended
stays readable after an interrupt, which is shown in one line.

Must not import: live, magics.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Self

from greenlab.errors import SeriesInterrupted, SourceError, UsageError
from greenlab.runs.observers import Observers
from greenlab.text.theme import STYLE
from greenlab.text.tracebacks import message_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from greenlab.runs.resource_usage import UsageMeter
    from greenlab.runs.run import Run

WARM_UP = 10
"""Tasks that a pool runs before anything counts: imports, name look-ups and first connections are made."""


class Series:
    """Runs of the same task over the same items.

    Attributes:
        label: what they go over, such as `url in feeds`.
        items: what they go over, read once.
        current: the run that goes on, or None.
        stage: what is being done, in a few words.
        warming: whether that is a warm-up, which does not count.
        interrupted: whether it was interrupted.
    """

    kind = "series"

    def __init__(
        self,
        items: Sequence[Any],
        *,
        label: str,
        make_run: Callable[..., Run],
        warm_up: int | None = None,
        observers: Iterable[Any] = (),
        figure: Callable[[Any], Any] | None = None,
    ) -> None:
        self.items = items
        self.label = label
        self.current: Run | None = None
        self.stage = "about to start"
        self.warming = False
        self.interrupted = False
        self.ended = False
        self._make_run = make_run
        self._warm_up = min(WARM_UP if warm_up is None else warm_up, len(items))
        self._observers = Observers(observers)
        self._figure = figure

    @property
    def share(self) -> float | None:
        """How much of it is done, from 0 to 1; None if only the run that goes on says how far it is."""
        return None

    @property
    def name(self) -> str:
        """The series' name, in one line without a number that varies: test tools compare it with a saved one."""
        raise NotImplementedError

    def run(self) -> Self:
        """Run everything, and wait. To be called once.

        Raises:
            SeriesInterrupted: the wait was interrupted. What has ended stays readable.
            RunError: everything failed, or a task did with `fail_fast`.
        """
        self._observers.notify("series_started", self)
        try:
            self._run_all()
        except KeyboardInterrupt:
            self.interrupted = True
            raise SeriesInterrupted(self._interrupt_message(), self) from None
        finally:
            self.current, self.ended = None, True
            self._observers.notify("series_ended", self)
        return self.check()

    def check(self) -> Self:
        """Raise if the series failed as a whole."""
        return self

    def _run_all(self) -> None:
        raise NotImplementedError

    def _interrupt_message(self) -> str:
        """Return what is missing, and what there is: where it is follows."""
        raise NotImplementedError

    def _warm_up_in(self, pool: str, stage: str, meter: UsageMeter, **options: Any) -> Run | None:
        """Run a few tasks that do not count, so that the pool is ready."""
        if not self._warm_up:
            return None
        self.warming = True
        try:
            return self._run_in(pool, self.items[: self._warm_up], f"{stage}, warming up", meter, **options)
        finally:
            self.warming = False

    def _run_in(self, pool: str, items: Iterable[Any], stage: str, meter: UsageMeter, **options: Any) -> Run:
        self.stage = stage
        run = self.current = self._make_run(pool, items, observers=(meter,), **options)
        try:
            run.start().wait()
        except BaseException:  # an interrupt between the two, or a kill of the task that waits
            run.cancel()
            raise
        finally:
            self.current = None
        return run

    def _notify_run_added(self) -> None:
        self._observers.notify("run_added", self)

    # -- display -------------------------------------------------------------------------------------------

    def plot(self) -> Any:
        """Return a matplotlib Figure.

        Raises:
            UsageError: the series was not made by `greenlab.race` or `greenlab.sweep`.
        """
        if self._figure is None:
            raise UsageError("this has no figure: make it with greenlab.race or greenlab.sweep")
        return self._figure(self)

    def summary(self) -> str:
        """Return the report as plain text."""
        raise NotImplementedError

    def _html(self, *, below_picture: bool) -> str:
        raise NotImplementedError

    def __repr__(self) -> str:
        return self.summary()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:  # noqa: ARG002
        report = self._html(below_picture=self._observers.stand_in())
        return {"text/plain": self.summary(), "text/html": f"{report}{STYLE}"}


def read_once(items: Iterable[Any], most: int | None = None) -> Sequence[Any]:
    """Read the items into a sequence, so that every run has the same ones.

    Raises:
        SourceError: the iterator raised.
        UsageError: there are none.
    """
    if isinstance(items, (list, tuple, range)):
        return items
    try:
        read = list(islice(items, most))
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise SourceError(f"the items ended early: {message_of(error)}") from error
    if not read:
        raise UsageError("there is nothing to run: the items are empty")
    return read
