"""Advising: a sample in green with accounts, then the plausible pools on the same items; `Advising.run` does it.

Guarantees: the items of the sample are run for real, once in green and once in each plausible pool (a few of them once
more, to make worker processes ready), and no others; a stage that outlasts its time begins no further task; what fails
or cannot be sent is told.

Must not import: live, magics.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import inf, nan
from typing import TYPE_CHECKING, Any

from greenlab.advising.advice import (
    CLOSE,
    STARTUP_S,
    TASKS,
    Advice,
    Plan,
    Tried,
    advise,
    is_delayed,
    settle,
    too_busy,
    worth_a_try,
)
from greenlab.advising.cost_sample import CostSample
from greenlab.advising.model import wider
from greenlab.errors import GreenlabError, RunError, RunInterrupted, SeriesInterrupted
from greenlab.pools.partial_job import PartialJob
from greenlab.pools.registry import spec_of
from greenlab.runs.resource_usage import LEAST_S, UsageMeter
from greenlab.text.format import rate
from greenlab.text.tracebacks import first_line_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from greenlab.advising.advice import TaskCost
    from greenlab.hub import GuestHub
    from greenlab.pools.protocol import InFlight, Job, Pool
    from greenlab.runs.run import Run

SAMPLE = 20
MOST_SAMPLE = 500
ENOUGH_S = 0.5
"""Unless a number is asked for, the sample has `SAMPLE` items, and of short tasks more, until it took so long."""
SECONDS = 10.0
AT_ONCE = 5
"""In flight in the sample: enough to be done soon, few enough to be in nobody's way."""
SHORT = 1.25
"""A pool that takes this many times as long as it should at the least falls short."""
VERY_SHORT, SOON_S = 3.0, 0.1
"""So does one that takes so many times as long, and so much longer, whatever else the machine had to do."""
AMONG = 0.25
NO_GAIN, LONG_S = 0.7, 0.3
"""Tasks that wait for locks and queues for so much of their time, and of which many in flight take so much of the time
that the sample took, with few, wait for each other. To tell that, the sample must have taken so long."""
EACH_OTHER = "tasks wait for each other, for a lock or a queue, of which each process has its own"
TELLING_S = 0.05
"""A try that is over sooner says more of the clock than of the pool."""
FOREIGN = 0.3
"""If others keep so many cores busy, the tries measure them too."""


class SamplingPool:
    """The green pool, with a `CostSample` of what it runs: a pool for one job.

    Args:
        hub: the hub.
        green: the green pool.
        least, enough_s: stop once so many tasks have ended and it took so long.
    """

    name = "green"

    def __init__(self, hub: GuestHub, green: Pool, least: int, enough_s: float) -> None:
        self.sample: CostSample | None = None
        self._hub = hub
        self._green = green
        self._least = least
        self._enough_s = enough_s
        self._ended = 0
        self._leg: Any = None
        self._first_s = 0.0

    @property
    def in_flight(self) -> int:
        """Tasks begun and not ended."""
        return self.count(None)

    def count(self, _job: Job | None) -> int:
        """Count them."""
        return 0 if self._leg is None else self._green.count(self._leg)

    def start(self, job: Job) -> None:
        """Do nothing."""

    def run(self, job: Job) -> None:
        """Run every task of `job`, or as many as are enough."""
        self._leg = PartialJob(job)
        self.sample = CostSample(self._hub, self._leg)
        with self.sample:
            self._leg.on_end = self._note
            self._green.run(self._leg)

    def _note(self, started_s: float, ended_s: float, value: Any, succeeded: bool) -> None:
        if self.sample is not None:
            self.sample.note(started_s, ended_s, value, succeeded)
        self._ended += 1
        self._first_s = self._first_s or started_s
        if self._ended >= self._least and ended_s - self._first_s >= self._enough_s:
            self._leg.close()

    def adjust(self, _job: Job) -> None:
        """Follow the concurrency."""
        self._green.adjust(self._leg)

    def held(self, _job: Job) -> list[InFlight]:
        """List the tasks in flight."""
        return self._green.held(self._leg)

    def kill(self, _job: Job, index: int, error: BaseException) -> bool:
        """End one task."""
        return self._green.kill(self._leg, index, error)

    def close(self) -> None:
        """Do nothing: the green pool is closed by whoever keeps it."""


@dataclass(frozen=True)
class Advising:
    """Forms an advice.

    Attributes:
        items: the items of the sample; of more than `least`, as many as are enough.
        least: how many of them at the least, if there are so many.
        tasks: how many tasks there will be in all, or None.
        cores: processors that may be used.
        seconds: how long one stage, the sample or a try, may begin tasks.
        watched: makes the run of the sample, and the pool that watches it.
        make: makes a run in a pool: `make(meter=…, pool=…, items=…, **sizes)`.
    """

    items: Sequence[Any]
    least: int
    tasks: int | None
    cores: int
    seconds: float
    watched: Callable[[Sequence[Any], int], tuple[Run, SamplingPool]]
    make: Callable[..., Run]
    meter: UsageMeter = field(default_factory=UsageMeter)

    def run(self) -> Advice:
        """Do it, and wait.

        Raises:
            RunError: every task of the sample failed.
            SeriesInterrupted: it was interrupted.
        """
        try:
            return self._run()
        except RunInterrupted as interrupt:
            raise SeriesInterrupted(
                "the advice was interrupted, before there was one; what its last run did is in the error's `run`",
                interrupt.run,
            ) from None

    def _run(self) -> Advice:
        run, pool = self.watched(self.items, self.least)
        self._complete(run)
        failed, done = run.failed, run.done
        if failed == done or pool.sample is None:
            raise RunError(_verdict(run), run)
        cost = pool.sample.cost()
        if obstacle := pool.sample.what_cannot_travel():
            cost = replace(cost, sendable=False, unsendable=f"the task cannot be sent: {obstacle}")
        items = self.items[:done]
        tried, cost = self._try_all(cost, items)
        measured = {one.plan.pool: one.startup_s for one in tried if one.startup_s is not None}
        startup_s = {**STARTUP_S, **measured}
        advice = self._advise(cost, startup_s)
        if why := _why_busy(cost, tried):
            advice = too_busy(advice, why)
        else:
            advice = self._settle(advice, tried, startup_s)
            advice = self._widen(advice, tried, items, cost)
        if failed:
            advice = replace(advice, doubts=[*advice.doubts, f"{failed} of {done} tasks of the sample failed"])
        return self._annotated(advice, tried, items, cost)

    def _annotated(self, advice: Advice, tried: list[Tried], items: Sequence[Any], cost: TaskCost) -> Advice:
        """Add what the tries tell of the machine, of what the tasks share, and of what was not tried."""
        first, last, doubts = [], [], list(advice.doubts)
        one = _of_plan(advice.plan, tried)
        if one and self._falls_short(one, cost, items):
            could = rate(len(items) / one.plan.duration_s(cost.alone_s, len(items)))
            first.append(f"it did {rate(one.throughput)}, not {could}: something that the tasks share is the limit")
        if advice.concurrency > len(items) and not spec_of(advice.pool).task_a_worker:
            at_once = f"no more than {len(items)} tasks were in flight when it was tried"
            last.append(f"{at_once}: %%greensweep finds out how many help")
        much = max((one.foreign_cores for one in tried if one.foreign_cores > FOREIGN), default=0.0)
        if much:
            doubts.append(f"something else took up to {much:.1f} of {self.cores} cores while pools were tried")
        sure = "likely" if doubts and advice.sure == "sure" else advice.sure
        reasons = [*first, *advice.reasons, *last]
        return replace(advice, reasons=reasons, sure=sure, doubts=doubts, evidence=tuple(tried))

    def _try_all(self, cost: TaskCost, items: Sequence[Any]) -> tuple[list[Tried], TaskCost]:
        """Try what is plausible, and what becomes so when that falls short; add to the cost what this tells."""
        advice = self._advise(cost, STARTUP_S)
        tried: list[Tried] = []
        total_s: dict[str, float] = {}
        while plan := worth_a_try(advice, total_s):
            one = self._try(plan, items)
            tried.append(one)
            total_s[plan.pool] = plan.total_s
            if one.why_not:
                total_s[plan.pool] = inf
            elif self._falls_short(one, cost, items) or one.elapsed_s - SOON_S > _allowed_s(one, cost, items):
                # In doubt: what seems to be somebody else's work may be the system's, for these very tasks.
                total_s[plan.pool] = (self.tasks or TASKS) / one.throughput
                mutual = cost.sendable and plan.workers is None and _wait_for_each_other(one, cost, len(items))
                if mutual and self._falls_short(one, cost, items):
                    cost = replace(cost, sendable=False, unsendable=EACH_OTHER)
                    advice = replace(advice, plans=tuple(plan for plan in advice.plans if plan.workers is None))
        return tried, cost

    def _falls_short(self, one: Tried, cost: TaskCost, items: Sequence[Any]) -> bool:
        """Tell whether a pool took clearly longer than it should, and not for what else the machine had to do."""
        if one.foreign_cores < FOREIGN:  # it is known
            return one.elapsed_s > _allowed_s(one, cost, items)
        return one.elapsed_s > VERY_SHORT * one.plan.duration_s(cost.alone_s, len(items)) + SOON_S

    def _widen(self, advice: Advice, tried: list[Tried], items: Sequence[Any], cost: TaskCost) -> Advice:
        """Try more in flight, as long as it helps, where the advised pool falls short of what it should do.

        The tasks wait for something, then, that the model does not know, or for longer than in the sample.
        """
        one = _of_plan(advice.plan, tried)
        while one and self._falls_short(one, cost, items):
            plan = wider(one.plan, len(items), self.cores)
            if plan is None:
                break
            other = self._try(plan, items)
            tried.append(other)
            if other.throughput < CLOSE * one.throughput:
                break
            one, helps = other, f"more in flight help: {plan} did {rate(other.throughput)}"
            advice = replace(advice, plan=plan, reasons=[helps, *advice.reasons])
        return advice

    def _look_around(self) -> float:
        """Say how many cores something else kept busy during the run that has ended; nan if that is not known."""
        usage = self.meter.usage
        if usage is None or usage.elapsed_s < LEAST_S:
            return nan
        return max(0.0, usage.busy * usage.cores - usage.share)

    def _advise(self, cost: TaskCost, startup_s: Any) -> Advice:
        return advise(cost, tasks=self.tasks, cores=self.cores, startup_s=startup_s)

    def _settle(self, advice: Advice, tried: list[Tried], startup_s: Any) -> Advice:
        told = {one.plan.pool: one.throughput for one in tried if not one.why_not}
        if not told:
            return advice
        if any(one.elapsed_s < TELLING_S for one in tried if not one.why_not):
            doubts = [*advice.doubts, "the sample is over too soon for the tries to tell: a larger --sample would"]
            agree = settle(advice, told, tasks=self.tasks, startup_s=startup_s).pool == advice.pool
            return replace(advice, doubts=doubts, sure="likely" if agree and advice.sure != "a guess" else "a guess")
        return settle(advice, told, tasks=self.tasks, startup_s=startup_s)

    def _try(self, plan: Plan, items: Sequence[Any]) -> Tried:
        sizes = {**plan.options, "meter": self.meter}
        cold = plan.workers is not None
        try:
            if plan.workers is not None:
                warm = self.make(items=items[: plan.workers], **sizes)
                cold = not getattr(warm._pool, "pids", ())
                self._complete(warm)
                startup_s = warm.startup_s if cold else None
            else:
                startup_s = None
            run = self.make(items=items, **sizes)
            self._complete(run)
            if run._pool_error is not None:
                raise run._pool_error
        except RunInterrupted:
            raise
        except GreenlabError as error:
            return Tried(plan, 0.0, 0.0, None, first_line_of(error))
        succeeded = run.done - run.failed
        why_not = "" if succeeded else "every task failed there"
        throughput = succeeded / max(run.elapsed_s, 1e-9)
        return Tried(plan, throughput, run.elapsed_s, startup_s, why_not, self._look_around())

    def _complete(self, run: Run) -> None:
        """Run to the end, but begin no task after the time is over."""
        run.start()

        def enough() -> None:
            run.ledger.stopped = True

        timer = run._hub.schedule_call_global(self.seconds, enough)
        try:
            run.wait()
        finally:
            timer.cancel()


def _why_busy(cost: TaskCost, tried: Sequence[Tried]) -> str:
    """Say that the machine had too much else to do for the tries to tell; nothing if it had not.

    What tasks wait for may compute on this machine too, such as a server: only where tasks compute themselves does it
    count what else did.
    """
    if is_delayed(cost):
        return "the machine was too busy: tasks had to wait for a processor"
    much = max((one.foreign_cores for one in tried if one.foreign_cores > FOREIGN), default=0.0)
    if much and cost.cpu_s > cost.alone_s / 2:
        return f"the machine was too busy: something else took up to {much:.1f} cores while pools were tried"
    return ""


def _allowed_s(one: Tried, cost: TaskCost, items: Sequence[Any]) -> float:
    return SHORT * one.plan.duration_s(cost.alone_s, len(items))


def _wait_for_each_other(one: Tried, cost: TaskCost, tasks: int) -> bool:
    sample_s = tasks * cost.alone_s / AT_ONCE
    return cost.among_s > AMONG * cost.alone_s and sample_s >= LONG_S and one.elapsed_s >= NO_GAIN * sample_s


def _of_plan(plan: Plan, tried: Sequence[Tried]) -> Tried | None:
    return next((one for one in tried if one.plan == plan and not one.why_not), None)


def _verdict(run: Run) -> str:
    from greenlab.runs import report

    kinds = ", ".join(f"{count:,} {name}" for name, count in run.error_types.items()) or "none ended"
    return "\n".join([f"no advice: every task of the sample failed: {kinds}", *report.first_traceback(run)])
