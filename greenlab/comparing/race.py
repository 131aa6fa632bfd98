"""A race: the same tasks in several pools, one pool after another, and which one was the fastest.

Each pool warms up on a few tasks, which makes it ready too; then all pools run all tasks, `repeat` times over. Every
other time they run in the opposite order, so that a machine that slows down slows all of them alike.

Guarantees: if a pool fails as a whole, its reason is kept and the others go on; `check` raises only if all failed; a
run that was interrupted does not count, and stays readable.

Must not import: live, magics, pandas before it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from greenlab.comparing import race_analysis, race_report
from greenlab.comparing.race_analysis import RaceRun
from greenlab.comparing.series import Series
from greenlab.errors import RunError, RunInterrupted
from greenlab.runs.resource_usage import UsageMeter
from greenlab.text.format import counted
from greenlab.text.tracebacks import first_line_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from greenlab.runs.run import Run


class Race(Series):
    """The same tasks in several pools. Made by `greenlab.race` and `%%greenrace`.

    Attributes:
        pools: the pools' names, in the order in which they were asked for.
        repeat: how often each of them runs.
        all_runs: every run so far, warm-ups too.
        failures: why a pool failed as a whole, by its name.
    """

    kind = "race"

    def __init__(self, items: Sequence[Any], *, pools: Sequence[str], repeat: int = 1, **series: Any) -> None:
        super().__init__(items, **series)
        self.pools = tuple(pools)
        self.repeat = repeat
        self.all_runs: list[RaceRun] = []
        self.failures: dict[str, str] = {}
        self._errors: dict[str, BaseException] = {}

    @property
    def name(self) -> str:
        """The race's name, in one line without a number that varies."""
        return f"race: {self.label} in {', '.join(self.pools)}"

    def _run_all(self) -> None:
        meters = {pool: UsageMeter() for pool in self.pools}
        for pool in self.pools:
            self._run_once(pool, 0, meters[pool])
        for repeat in range(1, self.repeat + 1):
            order = self.pools if repeat % 2 else self.pools[::-1]
            for pool in order:
                if pool not in self.failures:
                    self._run_once(pool, repeat, meters[pool])

    def _run_once(self, pool: str, repeat: int, meter: UsageMeter) -> None:
        """Run a pool once, and record the result."""
        meter.usage = None
        run: Run | None = None
        reason = ""
        try:
            if repeat:
                often = f", {repeat} of {self.repeat}" if self.repeat > 1 else ""
                run = self._run_in(pool, self.items, f"{pool}{often}", meter)
            else:
                run = self._warm_up_in(pool, pool, meter)
            if run is not None:
                run.check()
        except RunInterrupted as interrupt:
            self.all_runs.append(RaceRun(pool, repeat, interrupt.run, meter.usage, "interrupted"))
            raise
        except Exception as error:
            # Only the first few tasks may fail, during the warm-up; the pool still runs.
            if repeat or not isinstance(error, RunError):
                reason = self._fail(pool, error)
            if isinstance(error, RunError) and run is not None and run.fail_fast:
                self.all_runs.append(RaceRun(pool, repeat, run, meter.usage, reason))
                raise
        if run is not None:
            self.all_runs.append(RaceRun(pool, repeat, run, meter.usage, reason))
        self._notify_run_added()

    def _fail(self, pool: str, error: BaseException) -> str:
        first = first_line_of(error)
        reason = first if isinstance(error, RunError) else f"{type(error).__name__}: {first}"
        self.failures[pool] = reason
        self._errors[pool] = error
        return reason

    def _interrupt_message(self) -> str:
        missing = [pool for pool in self.pools if pool not in self.failures and not self.runs_of(pool)]
        again = [
            f"{pool} ran {len(self.runs_of(pool))} of {counted(self.repeat, 'time')}"
            for pool in self.pools
            if pool not in missing and pool not in self.failures and len(self.runs_of(pool)) < self.repeat
        ]
        what = "; ".join([*([f"{', '.join(missing)} did not finish"] if missing else []), *again])
        return f"the race was interrupted: {what or 'all had run'}; what has ended"

    def check(self) -> Race:
        """Raise if every pool failed.

        Raises:
            GreenlabError: the only pool's own error.
            RunError: all of several failed; the message says why, pool by pool.
        """
        if len(self.failures) < len(self.pools):
            return self
        if len(self.pools) == 1:
            raise self._errors[self.pools[0]]
        each = "; ".join(f"{pool}: {self.failures[pool]}" for pool in self.pools)
        raise RunError(f"every pool failed: {each}", self) from self._errors[self.pools[0]]

    # -- results -------------------------------------------------------------------------------------------

    def runs_of(self, pool: str) -> list[RaceRun]:
        """Return the runs of a pool that count, in the order in which they ran."""
        return race_analysis.runs_of(self.all_runs, pool)

    def median_run(self, pool: str) -> RaceRun | None:
        """Return the run of a pool whose throughput is the median; the lower of two. None if none counts."""
        return race_analysis.median_run(self.all_runs, pool)

    @property
    def runs(self) -> dict[str, Run]:
        """The run of each pool, by its name: the one with the median throughput of those that count.

        For a pool without a run that counts it is the last in which tasks ended, interrupted or failed; a pool
        without any is missing.
        """
        found = {}
        for pool in self.pools:
            one = self.median_run(pool)
            others = [other for other in self.all_runs if other.pool == pool and other.repeat and other.run.done]
            if one is not None or others:
                found[pool] = (one or others[-1]).run
        return found

    @property
    def winner(self) -> str | None:
        """The pool that was clearly the fastest, or None."""
        return race_analysis.winner(self.all_runs, self.pools)

    @property
    def verdict(self) -> str:
        """Which pool won, and how sure that is, in a sentence."""
        return race_report.verdict(self)

    @property
    def warnings(self) -> list[str]:
        """Signs that something else than the pools was the limit, a sentence each."""
        return race_analysis.limits(self.all_runs, self.pools)

    def to_pandas(self) -> Any:
        """Return a DataFrame, a row a run; see `greenlab.comparing.race_report.frame` for its columns."""
        return race_report.frame(self)

    def summary(self) -> str:
        """Return the report as plain text: which pool won, a table, and warnings."""
        return race_report.plain(self)

    def _html(self, *, below_picture: bool) -> str:
        return race_report.rich(self, below_picture=below_picture)
