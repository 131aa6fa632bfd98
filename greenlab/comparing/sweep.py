"""A sweep: the same tasks at several concurrencies in one pool, and which concurrency is enough.

Every point begins with the first item and repeats the items until its time is over: the same items in the same order
everywhere, and enough of them at every concurrency. Its time is `seconds`; without that, it ends between `SHORTEST_S`
and `LONGEST_S`, when fifty tasks and six rounds of tasks have ended. Values are not kept.

Guarantees: what is measured is read between the ramps (`greenlab.comparing.steady_state`); no advice is given where the
points do not carry one (`greenlab.comparing.recommend`), and what is missing is reported.

Must not import: live, magics, scipy before the fit, pandas before it is asked for.
"""

from __future__ import annotations

import math
from time import perf_counter
from typing import TYPE_CHECKING, Any

from greenlab.comparing import recommend, steady_state, sweep_report
from greenlab.comparing.series import Series
from greenlab.errors import RunError
from greenlab.runs.resource_usage import UsageMeter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from greenlab.comparing.recommend import Recommendation
    from greenlab.comparing.steady_state import Point
    from greenlab.comparing.usl import Usl
    from greenlab.runs.run import Run

SHORTEST_S, LONGEST_S = 2.0, 10.0
ROUNDS, TASKS = 6, 50
MOST_TASKS = 100_000
"""No more tasks begin at one concurrency: more would add nothing."""


class RepeatedItems:
    """The items, repeated until the time is over.

    Attributes:
        until_s: when the time was over and no further item was given, `time.perf_counter()` seconds; infinite before.
    """

    def __init__(self, items: Sequence[Any], concurrency: int, seconds: float | None) -> None:
        self._items = items
        self._least_s, self._most_s = (SHORTEST_S, LONGEST_S) if seconds is None else (seconds, seconds)
        # For so many to end, one more round must begin.
        self._enough = max(ROUNDS * concurrency, TASKS) + concurrency
        self._at = 0
        self._begin_s: float | None = None
        self.until_s = math.inf

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        now = perf_counter()
        if self._begin_s is None:
            self._begin_s = now
        spent_s = now - self._begin_s
        over = spent_s >= self._most_s or (spent_s >= self._least_s and self._at >= self._enough)
        if over or self._at >= MOST_TASKS or self.until_s < math.inf:
            self.until_s = min(self.until_s, now)
            raise StopIteration
        item = self._items[self._at % len(self._items)]
        self._at += 1
        return item

    @property
    def share(self) -> float:
        """How much is over, from 0 to 1: of the time at the most, or of the least time and of as many as are enough."""
        if self._begin_s is None:
            return 0.0
        spent_s = perf_counter() - self._begin_s
        return min(max(spent_s / self._most_s, min(spent_s / self._least_s, self._at / self._enough)), 1.0)


class Sweep(Series):
    """The same tasks at several concurrencies. Made by `greenlab.sweep` and `%%greensweep`.

    Attributes:
        pool: the pool's name.
        concurrencies: the concurrencies to try, ascending.
        seconds: how long each is tried, or None.
        points: what was measured so far, in the same order.
    """

    kind = "sweep"

    def __init__(
        self,
        items: Sequence[Any],
        *,
        pool: str,
        concurrencies: Sequence[int],
        seconds: float | None = None,
        own_workers: Callable[[], AbstractContextManager[None]] | None = None,
        **series: Any,
    ) -> None:
        super().__init__(items, **series)
        self.pool = pool
        self.concurrencies = tuple(sorted(set(concurrencies)))
        self.seconds = seconds
        self._own_workers = own_workers
        self._laps: RepeatedItems | None = None
        self.points: list[Point] = []
        self._recommendation: Recommendation | None = None

    @property
    def share(self) -> float:
        """How much of it is done, from 0 to 1, by the time that each concurrency takes."""
        now = 0.0 if self._laps is None else self._laps.share
        return (len(self.points) + now) / len(self.concurrencies)

    @property
    def name(self) -> str:
        """The sweep's name, in one line without a number that varies."""
        return f"sweep: {self.label} in {self.pool}"

    def _run_all(self) -> None:
        meter = UsageMeter()
        if self._own_workers is None:
            self._warm_up_at(self.concurrencies[0], meter)
        for concurrency in self.concurrencies:
            if self._own_workers is None:
                self._measure_point(concurrency, meter)
                continue
            with self._own_workers():
                self._warm_up_at(concurrency, meter)  # processes that are new to the task
                self._measure_point(concurrency, meter)

    def _warm_up_at(self, concurrency: int, meter: UsageMeter) -> None:
        warm = self._warm_up_in(self.pool, self._stage_at(concurrency), meter, concurrency=concurrency)
        if warm is not None:
            self._check(warm, counts=False)

    def _stage_at(self, concurrency: int) -> str:
        which = self.concurrencies.index(concurrency) + 1
        return f"{concurrency:,} in flight, {which} of {len(self.concurrencies)}"

    def _measure_point(self, concurrency: int, meter: UsageMeter) -> None:
        items = self._laps = RepeatedItems(self.items, concurrency, self.seconds)
        run = self._run_in(self.pool, items, self._stage_at(concurrency), meter, concurrency=concurrency)
        self._laps = None
        self._check(run)
        starts_s, ends_s = run.times()
        self.points.append(
            steady_state.measure(
                concurrency,
                starts_s,
                ends_s,
                items.until_s,
                failed=run.failed,
                elapsed_s=run.elapsed_s,
                error_types=run.error_types.items(),
            )
        )
        self._notify_run_added()

    def _check(self, run: Run, *, counts: bool = True) -> None:
        """Raise if every task of the first run that counts failed, since all would; a later one may fail."""
        try:
            run.check()
        except RunError:
            if run.fail_fast or (counts and not self.points):
                raise

    def _interrupt_message(self) -> str:
        missing = ", ".join(f"{value:,}" for value in self.concurrencies[len(self.points) :])
        what = f"no figures for {missing} in flight" if missing else "all had been tried"
        return f"the sweep was interrupted: {what}; what has ended"

    # -- results -------------------------------------------------------------------------------------------

    @property
    def recommendation(self) -> Recommendation:
        """What follows from the points; see `greenlab.comparing.recommend.Recommendation`."""
        if self._recommendation is not None:
            return self._recommendation
        found = recommend.recommend_concurrency(self.points, len(self.concurrencies) if self.interrupted else 0)
        if self.ended:
            self._recommendation = found  # every repr asks for it
        return found

    @property
    def concurrency(self) -> int | None:
        """The advised `-c` (for prefork: `-w`), or None: then `missing` says why."""
        return self.recommendation.concurrency

    @property
    def interval(self) -> tuple[int, int] | None:
        """The interval in which the best concurrency lies nine times out of ten, or None."""
        return self.recommendation.interval

    @property
    def knee(self) -> int | None:
        """The concurrency at which tasks begin to wait for each other more than throughput gains, or None."""
        return self.recommendation.knee

    @property
    def law(self) -> Usl | None:
        """The fitted Universal Scalability Law, or None."""
        return self.recommendation.law

    @property
    def advice(self) -> str:
        """The advice, in a sentence."""
        return sweep_report.advice(self)

    @property
    def option(self) -> str:
        """The option that sets the concurrency: `-c`, or `-w` of prefork, which holds one task a worker."""
        return sweep_report.option(self)

    @property
    def missing(self) -> list[str]:
        """What is missing for an advice, a sentence each; empty if there is one."""
        return list(self.recommendation.missing)

    def to_pandas(self) -> Any:
        """Return a DataFrame, a row a concurrency; see `greenlab.comparing.sweep_report.frame` for its columns."""
        return sweep_report.frame(self)

    def summary(self) -> str:
        """Return the report as plain text: the advice, a table, and Little's law as a check."""
        return sweep_report.plain(self)

    def symbols(self) -> str:
        """Return the formulas behind the report, λ, σ, κ, X·R and N*, with the figures of this sweep: to be printed."""
        return sweep_report.symbols(self)

    def _html(self, *, below_picture: bool) -> str:
        return sweep_report.rich(self, below_picture=below_picture)
