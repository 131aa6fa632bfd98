"""An advice, derived from the costs of a sample of tasks: pool, `-c` and `-w`, with reasons. Pure: it runs nothing.

The pool in which the whole work ends first, by `greenlab.advising.model`, is advised; a simpler one that comes close to
it is preferred. Trials override the model.

Must not import: eventlet, asyncio, IPython.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from greenlab.advising import advice_report
from greenlab.advising.model import (
    CLOSE,
    MOST_IN_FLIGHT,
    SIMPLEST_FIRST,
    STARTUP_S,
    TASKS,
    Plan,
    TaskCost,
    complexity,
    concurrency,
    describe_cost,
    estimate,
    plan_all,
    simplest_of_the_close,
)
from greenlab.text.format import ALIKE, counted, rate, seconds, times_as

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "CLOSE",
    "FEW",
    "MOST_IN_FLIGHT",
    "SIMPLEST_FIRST",
    "STARTUP_S",
    "TASKS",
    "Advice",
    "Plan",
    "TaskCost",
    "Trial",
    "advise",
    "concurrency",
    "describe_cost",
    "discount_trials",
    "estimate",
    "is_delayed",
    "next_trial",
    "plan_all",
    "simplest_of_the_close",
    "weigh_trials",
]  # fmt: skip

PLAUSIBLE = 2.0
"""A pool that would take longer than this many times the best is not tried."""
FEW = 10
"""With fewer tasks the mean of a sample is off by a third of their scatter, or more."""
SCATTER = 1.0
"""Scatter of an exponential distribution: above it a few tasks make up most of the time."""
SMALL_S = 1e-4
"""Shorter tasks cost less than it takes a pool to start them."""
DELAYED = 0.3
"""If tasks wait for a processor for this share of their time, the machine is too busy to measure."""
MOST_UNEXPLAINED = 0.3
"""If the parts differ from the whole by this share, something was not measured."""


@dataclass(frozen=True)
class Trial:
    """How a pool did on a sample.

    Attributes:
        plan: the pool and its sizes, and what the model expected.
        throughput: tasks that succeeded, a second.
        elapsed_s: how long the trial took, seconds.
        startup_s: how long the pool took to be ready, which is not counted; None if it had no processes to start.
        why_not: why the trial has no result; empty if it has one.
        foreign_cores: how many cores something else kept busy meanwhile; nan if the trial was too short to know.
    """

    plan: Plan
    throughput: float
    elapsed_s: float
    startup_s: float | None = None
    why_not: str = ""
    foreign_cores: float = math.nan


@dataclass(frozen=True, repr=False)
class Advice:
    """Which pool, with which concurrency and workers, and why. `greenlab.run(f, items, **advice.options)` follows it.

    Attributes:
        plan: what is advised; its `pool`, `concurrency` and `workers` are attributes of the advice too.
        reasons: why, as sentences without their full stops.
        sure: "sure", "likely" or "a guess".
        doubts: why it is not sure.
        plans: every plan, best first.
        evidence: the trials of pools on the sample, if there were any.
    """

    plan: Plan
    reasons: list[str]
    sure: str
    doubts: list[str] = field(default_factory=list)
    plans: tuple[Plan, ...] = ()
    evidence: tuple[Trial, ...] = ()

    @property
    def pool(self) -> str:
        """The pool's name."""
        return self.plan.pool

    @property
    def concurrency(self) -> int:
        """Tasks in flight."""
        return self.plan.concurrency

    @property
    def workers(self) -> int | None:
        """Processes, or None if the pool has none."""
        return self.plan.workers

    @property
    def options(self) -> dict[str, Any]:
        """The options of `greenlab.run` that follow the advice."""
        return self.plan.options

    def __str__(self) -> str:
        return "\n".join([advice_report.headline(self), *(f"  {reason}" for reason in self.reasons)])

    def __repr__(self) -> str:
        return advice_report.plain(self)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:  # noqa: ARG002
        return {"text/plain": advice_report.plain(self), "text/html": advice_report.rich(self)}


def advise(
    cost: TaskCost,
    *,
    tasks: int | None = None,
    cores: int | None = None,
    startup_s: Mapping[str, float] = STARTUP_S,
) -> Advice:
    """Advise a pool for tasks of this cost.

    Args:
        cost: what a task costs.
        tasks: how many there will be; by default, a thousand.
        cores: processors of this machine; by default, as many as it has.
        startup_s: how long each pool takes before its first task, in seconds, where that has been measured.
    """
    count = TASKS if tasks is None else tasks
    cores = cores or os.cpu_count() or 1
    plans = plan_all(cost, count, cores, startup_s)
    best = simplest_of_the_close(plans)
    ordered = (best, *(plan for plan in plans if plan is not best))
    sure, doubts = _confidence(cost, ordered)
    return Advice(best, _reasons(cost, ordered, count), sure, doubts, ordered)


def next_trial(advice: Advice, total_s: Mapping[str, float]) -> Plan | None:
    """Return the plausible plan to try next, the advised one first; None if all have been tried.

    The model's throughput is an upper bound: a disk or a server that the tasks share is not in it. Where a pool falls
    short of it, others become plausible.

    Args:
        advice: by the model.
        total_s: how long all tasks would take in each pool that was tried, by its trial; inf if that failed.
    """
    soonest = min(total_s.get(plan.pool, plan.total_s) for plan in advice.plans)
    left = (plan for plan in advice.plans if plan.pool not in total_s)
    return next((plan for plan in left if plan.total_s <= PLAUSIBLE * soonest), None)


def weigh_trials(
    advice: Advice,
    tried: Mapping[str, float],
    *,
    tasks: int | None = None,
    startup_s: Mapping[str, float] | None = None,
) -> Advice:
    """Return the advice that follows from trials, which override the model.

    Args:
        advice: by the model.
        tried: throughput in tasks/s that plausible pools reached on a sample, by pool.
        tasks: how many there will be; by default, a thousand.
        startup_s: how long each pool takes before its first task, in seconds; by default, 0.
    """
    known = [plan for plan in advice.plans if tried.get(plan.pool, 0.0) > 0]
    if not known:
        return advice
    count = TASKS if tasks is None else tasks
    total_s = {plan.pool: (startup_s or {}).get(plan.pool, 0.0) + count / tried[plan.pool] for plan in known}
    soonest = min(total_s.values())
    best = min((plan for plan in known if total_s[plan.pool] <= CLOSE * soonest), key=complexity)
    fastest = max(known, key=lambda plan: tried[plan.pool])
    results = ", ".join(f"{plan.pool} {rate(tried[plan.pool])}" for plan in known)
    reasons = [f"{advice_report.TRIED}{results}", *advice.reasons]
    if fastest is not best:
        reasons.insert(0, _why_not(fastest.pool, best.pool, tried, total_s, count))
    ordered = (best, *(plan for plan in advice.plans if plan is not best))
    if best.pool == advice.pool:
        sure = "sure" if advice.sure != "a guess" and len(known) > 1 else advice.sure
        return Advice(best, reasons, sure, [] if sure == "sure" else advice.doubts, ordered)
    doubts = [f"by its costs {advice.pool} should have won"]
    return Advice(best, reasons, "likely", doubts, ordered)


def discount_trials(advice: Advice, why: str) -> Advice:
    """Return the advice by costs alone, which are exact on a busy machine too; trials there measure the machine."""
    doubt = f"{why}, so that the trials mean nothing: run it again when the machine has less to do"
    return replace(advice, sure="a guess", doubts=[*advice.doubts, doubt], reasons=["by its costs", *advice.reasons])


def is_delayed(cost: TaskCost) -> bool:
    """Return whether the machine kept the tasks of the sample waiting for a processor."""
    return cost.delay_s > DELAYED * cost.alone_s


# --- reasons -----------------------------------------------------------------------------------------------


def _why_not(fastest: str, best: str, tried: Mapping[str, float], total_s: Mapping[str, float], tasks: int) -> str:
    """Return why the pool that was fastest on the sample is not the one that is advised."""
    more = f"{fastest} did {times_as(tried[fastest] / tried[best], 'much', alike=ALIKE)} {best} on the sample"
    all_tasks = counted(tasks, "task")
    if total_s[fastest] >= total_s[best]:
        return f"{more}, but with its start-up {all_tasks} would not end sooner there"
    return f"{more}, but {all_tasks} would end at most {CLOSE - 1:.0%} sooner there, and {best} is simpler"


def _reasons(cost: TaskCost, plans: Sequence[Plan], tasks: int) -> list[str]:
    reasons = [describe_cost(cost)]
    if cost.cpu_s >= cost.alone_s / 4:
        free = cost.cpu_free_s / cost.cpu_s
        reasons.append(f"it computes with the GIL {'released' if free > 0.5 else 'kept'} for most of the time")
    if cost.blocked_gil_s > cost.blocked_s / 2 and cost.blocked_s >= cost.alone_s / 4:
        reasons.append("it keeps the GIL while it blocks, so that threads would wait too")
    for plan in plans:
        about = f"{counted(tasks, 'task')} in about {seconds(plan.total_s)}"
        reasons.append(f"{plan}: up to {rate(plan.ceiling)}, limited by {plan.limit}; {about}")
    if not cost.sendable:
        why = cost.unsendable or "the task cannot be sent"
        reasons.append(f"processes are out of the question, for {why}")
    return reasons


def _confidence(cost: TaskCost, plans: Sequence[Plan]) -> tuple[str, list[str]]:
    """Return how sure the advice is, and why not more: what makes it a guess comes first."""
    guess, doubt = [], []
    if cost.sampled < FEW:
        guess.append(f"the sample has {counted(cost.sampled, 'task')} only")
    if cost.alone_s < SMALL_S:
        guess.append("a task is so short that the pools' own costs decide")
    explained = cost.cpu_s + cost.blocked_s + cost.wait_s
    if abs(cost.wall_s - explained) > MOST_UNEXPLAINED * max(cost.wall_s, 1e-9):
        guess.append("much of the time is not accounted for")
    if cost.scatter > SCATTER:
        doubt.append("the tasks differ much from each other")
    if is_delayed(cost):
        doubt.append("the machine was busy with something else")
    close = [plan.pool for plan in plans[1:] if plan.total_s <= CLOSE * plans[0].total_s]
    if close:
        doubt.append(f"{' and '.join(close)} {'comes' if len(close) == 1 else 'come'} close")
    if guess:
        return "a guess", [*guess, *doubt]
    return ("likely", doubt) if doubt else ("sure", [])
