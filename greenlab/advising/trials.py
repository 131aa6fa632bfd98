"""Trials: a measured sample in green, then each plausible pool on the same items; `Advisor.run` does all of it.

Guarantees: the items of the sample are run for real, once in green and once in each plausible pool (a few of them once
more, to make worker processes ready), and no others; a stage whose time is over begins no further task; what fails or
cannot be sent is reported.

Must not import: live, magics.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import inf, nan
from typing import TYPE_CHECKING, Any, ClassVar

from greenlab.advising.advice import (
    CLOSE,
    STARTUP_S,
    TASKS,
    Advice,
    Plan,
    Trial,
    advise,
    discount_trials,
    is_delayed,
    next_trial,
    weigh_trials,
)
from greenlab.advising.cost_sample import CostSample
from greenlab.advising.model import with_more_in_flight
from greenlab.errors import GreenlabError, RunError, RunInterrupted, SeriesInterrupted
from greenlab.pools.partial_job import PartialJob
from greenlab.pools.registry import spec_of
from greenlab.runs.observers import Observers
from greenlab.runs.resource_usage import LEAST_S, UsageMeter
from greenlab.text.format import counted, rate
from greenlab.text.tracebacks import first_line_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from greenlab.advising.advice import TaskCost
    from greenlab.hub import GuestHub
    from greenlab.pools.protocol import InFlight, Job, Pool
    from greenlab.runs.run import Run

SAMPLE = 20
MOST_SAMPLE = 500
ENOUGH_S = 0.5
"""By default the sample has `SAMPLE` items; more if the tasks are short, until it has taken so long."""
SECONDS = 10.0
AT_ONCE = 5
"""Tasks in flight in the sample: enough to be done soon, few enough not to slow each other down."""
SHORT = 1.25
"""A pool falls short if it takes more than this many times as long as the model says."""
VERY_SHORT, SOON_S = 3.0, 0.1
"""On a busy machine it falls short only if it takes so many times as long, and so many seconds longer."""
LOCK_WAIT = 0.25
NO_GAIN, LONG_S = 0.7, 0.3
"""Tasks that wait for locks and queues for so much of their time, and that take so much of the sample's time although
many more are in flight, wait for each other. To see that, the sample must have taken so long."""
EACH_OTHER = "tasks wait for each other, for a lock or a queue, of which each process has its own"
TELLING_S = 0.05
"""A shorter trial measures the clock rather than the pool."""
FOREIGN = 0.3
"""If other processes keep so many cores busy, the trials measure them too."""


class SamplingPool:
    """The green pool, with a `CostSample` of what it runs. It runs one job only.

    Args:
        hub: the hub.
        green: the green pool.
        least: begin no further task once so many have ended, and `enough_s` is over.
        enough_s: seconds.
    """

    name = "green"
    pids: tuple[int, ...] = ()

    def __init__(self, hub: GuestHub, green: Pool, least: int, enough_s: float) -> None:
        self.sample: CostSample | None = None
        self._hub = hub
        self._green = green
        self._least = least
        self._enough_s = enough_s
        self._ended = 0
        self._part: Any = None
        self._first_s = 0.0

    @property
    def in_flight(self) -> int:
        """Tasks begun and not ended."""
        return self.count(None)

    def count(self, _job: Job | None) -> int:
        """Count the tasks in flight."""
        return 0 if self._part is None else self._green.count(self._part)

    def start(self, job: Job) -> None:
        """Do nothing."""

    def run(self, job: Job) -> None:
        """Run every task of `job`, or as many as are enough."""
        self._part = PartialJob(job)
        self.sample = CostSample(self._hub, self._part)
        with self.sample:
            self._part.on_end = self._on_task_end
            self._green.run(self._part)

    def _on_task_end(self, started_s: float, ended_s: float, value: Any, succeeded: bool) -> None:
        if self.sample is not None:
            self.sample.record_end(started_s, ended_s, value, succeeded)
        self._ended += 1
        self._first_s = self._first_s or started_s
        if self._ended >= self._least and ended_s - self._first_s >= self._enough_s:
            self._part.close()

    def adjust(self, _job: Job) -> None:
        """Follow the concurrency."""
        self._green.adjust(self._part)

    def begun(self, _job: Job) -> list[tuple[int, float]]:
        """List the tasks in flight, and when each began."""
        return self._green.begun(self._part)

    def held(self, _job: Job) -> list[InFlight]:
        """List the tasks in flight."""
        return self._green.held(self._part)

    def kill(self, _job: Job, index: int, error: BaseException) -> bool:
        """End one task."""
        return self._green.kill(self._part, index, error)

    def close(self) -> None:
        """Do nothing: the green pool is closed by its owner, the hub."""


@dataclass
class Advisor:
    """Runs the sample and the trials, and makes the advice.

    To its observers it is a series of runs, see `greenlab.runs.observers`.

    Attributes:
        items: the items of the sample. If there are more than `least`, as many are run as are needed.
        least: how many of them are run at the least, if there are so many.
        tasks: how many tasks there will be in all, or None.
        cores: processors that may be used.
        seconds: for how long a stage, the sample or a trial, may begin tasks.
        make_sample: makes the run of the sample, and its pool.
        make_run: makes a run in a pool: `make_run(meter=…, pool=…, items=…, **sizes)`.
        label: what the tasks are called.
        observers: are told of the start and the end.
        current: the run that goes on, or the last one; None before there is one.
        stage: what is being done, in a few words.
        interrupted: whether it was interrupted.
    """

    kind: ClassVar[str] = "advice"
    share: ClassVar[float | None] = None
    """How much is done is not known: what a trial shows decides whether another one follows."""

    items: Sequence[Any]
    least: int
    tasks: int | None
    cores: int
    seconds: float
    make_sample: Callable[[Sequence[Any], int], tuple[Run, SamplingPool]]
    make_run: Callable[..., Run]
    label: str = "tasks"
    observers: Iterable[Any] = ()
    meter: UsageMeter = field(default_factory=UsageMeter)
    current: Run | None = None
    stage: str = "about to start"
    interrupted: bool = False

    @property
    def name(self) -> str:
        """Its name, in one line."""
        return f"advice on {self.label}"

    def run(self) -> Advice:
        """Run the sample and the trials, and wait.

        Raises:
            RunError: every task of the sample failed.
            SeriesInterrupted: it was interrupted.
        """
        observers = Observers(self.observers)
        observers.notify("series_started", self)
        try:
            return self._run()
        except KeyboardInterrupt:
            self.interrupted = True
            if self.current is None:
                raise
            self.current.cancel()
            what = "the advice was interrupted before it was made; the run that was going on"
            raise SeriesInterrupted(what, self.current) from None
        finally:
            observers.notify("series_ended", self)

    def _run(self) -> Advice:
        run, pool = self.make_sample(self.items, self.least)
        up_to = "up to " if len(self.items) > self.least else ""
        self._complete(run, f"a sample of {up_to}{counted(len(self.items), 'task')}")
        failed, done = run.failed, run.done
        if failed == done or pool.sample is None:
            raise RunError(_failure_message(run), run)
        cost = pool.sample.cost()
        if obstacle := pool.sample.unsendable_part():
            cost = replace(cost, sendable=False, unsendable=f"the task cannot be sent: {obstacle}")
        items = self.items[:done]
        trials, cost = self._try_plausible(cost, items)
        measured = {one.plan.pool: one.startup_s for one in trials if one.startup_s is not None}
        startup_s = {**STARTUP_S, **measured}
        advice = self._advise(cost, startup_s)
        if why := _why_busy(cost, trials):
            advice = discount_trials(advice, why)
        else:
            advice = self._weigh(advice, trials, startup_s)
            advice = self._try_more_in_flight(advice, trials, items, cost)
        if failed:
            advice = replace(
                advice, doubts=[*advice.doubts, f"{failed:,} of {counted(done, 'task')} of the sample failed"]
            )
        return self._annotated(advice, trials, items, cost)

    def _annotated(self, advice: Advice, trials: list[Trial], items: Sequence[Any], cost: TaskCost) -> Advice:
        """Add what the trials show of the machine, of what the tasks share, and of what was not tried."""
        first, last, doubts = [], [], list(advice.doubts)
        one = _of_plan(advice.plan, trials)
        if one and self._falls_short(one, cost, items):
            could = rate(len(items) / one.plan.duration_s(cost.alone_s, len(items)))
            first.append(f"it did {rate(one.throughput)}, not {could}: something that the tasks share is the limit")
        if advice.concurrency > len(items) and not spec_of(advice.pool).task_a_worker:
            at_once = f"no more than {counted(len(items), 'task')} in flight when it was tried"
            last.append(f"{at_once}: %%greensweep finds out how many help")
        much = max((one.foreign_cores for one in trials if one.foreign_cores > FOREIGN), default=0.0)
        if much:
            doubts.append(
                f"something else took up to {much:.1f} of {counted(self.cores, 'core')} while pools were tried"
            )
        sure = "likely" if doubts and advice.sure == "sure" else advice.sure
        reasons = [*first, *advice.reasons, *last]
        return replace(advice, reasons=reasons, sure=sure, doubts=doubts, evidence=tuple(trials))

    def _try_plausible(self, cost: TaskCost, items: Sequence[Any]) -> tuple[list[Trial], TaskCost]:
        """Try each plausible pool, and what becomes so when one falls short; return the trials and the final cost."""
        advice = self._advise(cost, STARTUP_S)
        trials: list[Trial] = []
        total_s: dict[str, float] = {}
        while plan := next_trial(advice, total_s):
            one = self._try(plan, items)
            trials.append(one)
            total_s[plan.pool] = plan.total_s
            if one.why_not:
                total_s[plan.pool] = inf
            elif self._falls_short(one, cost, items) or one.elapsed_s - SOON_S > _allowed_s(one, cost, items):
                # In doubt: what seems to be other processes' work may be the system's, for these very tasks.
                total_s[plan.pool] = (self.tasks or TASKS) / one.throughput
                mutual = cost.sendable and plan.workers is None and _wait_for_each_other(one, cost, len(items))
                if mutual and self._falls_short(one, cost, items):
                    cost = replace(cost, sendable=False, unsendable=EACH_OTHER)
                    advice = replace(advice, plans=tuple(plan for plan in advice.plans if plan.workers is None))
        return trials, cost

    def _falls_short(self, one: Trial, cost: TaskCost, items: Sequence[Any]) -> bool:
        """Return whether a pool took clearly longer than the model says, and not because the machine was busy."""
        if one.foreign_cores < FOREIGN:  # it is known
            return one.elapsed_s > _allowed_s(one, cost, items)
        return one.elapsed_s > VERY_SHORT * one.plan.duration_s(cost.alone_s, len(items)) + SOON_S

    def _try_more_in_flight(self, advice: Advice, trials: list[Trial], items: Sequence[Any], cost: TaskCost) -> Advice:
        """Try more in flight, as long as it helps, where the advised pool falls short of the model.

        Then the tasks wait for something that is not in the model, or for longer than in the sample.
        """
        one = _of_plan(advice.plan, trials)
        while one and self._falls_short(one, cost, items):
            plan = with_more_in_flight(one.plan, len(items), self.cores)
            if plan is None:
                break
            other = self._try(plan, items)
            trials.append(other)
            if other.throughput < CLOSE * one.throughput:
                break
            one, helps = other, f"more in flight help: {plan} did {rate(other.throughput)}"
            advice = replace(advice, plan=plan, reasons=[helps, *advice.reasons])
        return advice

    def _foreign_cores(self) -> float:
        """Return how many cores other processes kept busy during the run that has ended; nan if that is not known."""
        usage = self.meter.usage
        if usage is None or usage.elapsed_s < LEAST_S:
            return nan
        return max(0.0, usage.busy * usage.cores - usage.cores_used)

    def _advise(self, cost: TaskCost, startup_s: Any) -> Advice:
        return advise(cost, tasks=self.tasks, cores=self.cores, startup_s=startup_s)

    def _weigh(self, advice: Advice, trials: list[Trial], startup_s: Any) -> Advice:
        throughputs = {one.plan.pool: one.throughput for one in trials if not one.why_not}
        if not throughputs:
            return advice
        if any(one.elapsed_s < TELLING_S for one in trials if not one.why_not):
            doubts = [
                *advice.doubts,
                "the sample is over too soon for the trials to decide: a larger --sample helps",
            ]
            agree = weigh_trials(advice, throughputs, tasks=self.tasks, startup_s=startup_s).pool == advice.pool
            return replace(advice, doubts=doubts, sure="likely" if agree and advice.sure != "a guess" else "a guess")
        return weigh_trials(advice, throughputs, tasks=self.tasks, startup_s=startup_s)

    def _try(self, plan: Plan, items: Sequence[Any]) -> Trial:
        sizes = {**plan.options, "meter": self.meter}
        cold = plan.workers is not None
        try:
            if plan.workers is not None:
                warm = self.make_run(items=items[: plan.workers], **sizes)
                cold = not warm._pool.pids
                self._complete(warm, f"{plan}, warming up")
                startup_s = warm.startup_s if cold else None
            else:
                startup_s = None
            run = self.make_run(items=items, **sizes)
            self._complete(run, f"trying {plan}")
            if run._pool_error is not None:
                run._pool_error.again()
        except RunInterrupted:
            raise
        except GreenlabError as error:
            return Trial(plan, 0.0, 0.0, None, first_line_of(error))
        succeeded = run.done - run.failed
        why_not = "" if succeeded else "every task failed there"
        throughput = succeeded / max(run.elapsed_s, 1e-9)
        return Trial(plan, throughput, run.elapsed_s, startup_s, why_not, self._foreign_cores())

    def _complete(self, run: Run, stage: str) -> None:
        """Run to the end, but begin no task after `seconds`."""
        self.current, self.stage = run, stage
        run.start()

        def enough() -> None:
            run.ledger.stopped = True

        timer = run._hub.schedule_call_global(self.seconds, enough)
        try:
            run.wait()
        finally:
            timer.cancel()


def _why_busy(cost: TaskCost, trials: Sequence[Trial]) -> str:
    """Return why the machine was too busy for trials; empty if it was not.

    A server that the tasks wait for may compute on this machine too, so other processes count only where the tasks
    compute themselves.
    """
    if is_delayed(cost):
        return "the machine was too busy: tasks had to wait for a processor"
    much = max((one.foreign_cores for one in trials if one.foreign_cores > FOREIGN), default=0.0)
    if much and cost.cpu_s > cost.alone_s / 2:
        return f"the machine was too busy: something else took up to {much:.1f} cores while pools were tried"
    return ""


def _allowed_s(one: Trial, cost: TaskCost, items: Sequence[Any]) -> float:
    return SHORT * one.plan.duration_s(cost.alone_s, len(items))


def _wait_for_each_other(one: Trial, cost: TaskCost, tasks: int) -> bool:
    sample_s = tasks * cost.alone_s / AT_ONCE
    return cost.lock_wait_s > LOCK_WAIT * cost.alone_s and sample_s >= LONG_S and one.elapsed_s >= NO_GAIN * sample_s


def _of_plan(plan: Plan, trials: Sequence[Trial]) -> Trial | None:
    return next((one for one in trials if one.plan == plan and not one.why_not), None)


def _failure_message(run: Run) -> str:
    from greenlab.runs import report

    kinds = ", ".join(f"{count:,} {name}" for name, count in run.error_types.items()) or "none ended"
    return "\n".join([f"no advice: every task of the sample failed: {kinds}", *report.first_traceback(run)])
