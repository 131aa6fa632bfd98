"""The auto pool: begins in green, measures what tasks cost, and runs the rest in the pool that suits them.

The first tasks run in green, few at a time: what is in flight doubles as long as the hub has time to spare, so that
few tasks block it. As soon as the sample is large enough, the model estimates when the remaining tasks would end in
each pool, its start-up included. If another pool ends clearly sooner, no further task
begins in green, those in flight end there, and the rest runs in the other pool: threads for what blocks without
computing, prefork for what computes, hybrid for both. Where this machine's processors are the limit, and
Celery workers of other machines are up that would end clearly sooner, they get the rest.

Guarantees: no task is lost, and none is run twice: both pools take from the one job. What was decided, and why, is
reported in a sentence; so is what prevents the use of worker processes.

Bounds: it decides once, by its first tasks: those that come later may be of another kind. Tasks that rely on the
objects of this process (a list that they append to) must not be sent elsewhere: auto cannot know, and -p green keeps
them. An item that cannot be sent, after the sample could, fails as it does in prefork. Threads are 200 at the most.

Must not import: live, magics.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from importlib import import_module
from time import perf_counter
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from greenlab import patched, pools
from greenlab.advising.advice import STARTUP_S, TASKS, describe_cost, estimate, simplest_of_the_close
from greenlab.advising.cost_sample import CostSample
from greenlab.advising.model import plan_elsewhere
from greenlab.errors import GreenlabError
from greenlab.pools.partial_job import PartialJob
from greenlab.pools.registry import ELSEWHERE, spec_of
from greenlab.text.format import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from greenlab.advising.advice import Plan, TaskCost
    from greenlab.hub import GuestHub
    from greenlab.pools.protocol import InFlight, Job, Pool
    from greenlab.pools.registry import PoolSpec

LEAST_TASKS = 20
LEAST_S = 0.1
MANY_TASKS = 200
"""A sample is enough when so many tasks have ended and so much time has passed, when very many have ended, …"""
LONG_S = 0.3
LEAST_LONG = 3
"""… or when fewer have held the hub for so long."""
FIRST = 10
"""So many tasks are in flight at first."""
GROW_S = 0.25
"""If none ends for so long, and the hub has time to spare, what is in flight doubles all the same."""
SPARE = 0.5
"""The hub has time to spare while tasks hold it for less than this share of the time."""
BUSY = 0.8
"""This machine is the limit where the best plan keeps so much of its processors busy."""
MARGIN = 1.25
LEAST_GAIN_S = 0.2
"""The rest is moved if it would take this many times as long in green, and so many seconds longer."""


def get_pool(hub: GuestHub, name: str) -> Pool:
    """Return the pool called `name`, auto too; see `greenlab.pools.get`."""
    if name != pools.AUTO:
        return pools.get(hub, name)
    patched.refuse_natively(f"the {name} pool")
    pool: AutoPool = hub.keep("pool auto", lambda: AutoPool(hub))
    return pool


class AutoPool:
    """Runs jobs in other pools.

    Args:
        hub: the hub whose pools these are.
        choose: decides, from what a task costs, how a job goes on; see `choose_plan`.
    """

    name = pools.AUTO

    def __init__(self, hub: GuestHub, choose: Callable[[TaskCost, Job, dict[str, float]], Plan] | None = None) -> None:
        self.hub = hub
        self.choose = choose or choose_plan
        self.startup_s = dict(STARTUP_S)
        self._auto_jobs: list[_AutoJob] = []
        self._decisions: WeakKeyDictionary[Any, str] = WeakKeyDictionary()
        self._limits: WeakKeyDictionary[Any, int] = WeakKeyDictionary()

    @property
    def pids(self) -> tuple[int, ...]:
        """The process ids of the workers that its jobs use at this moment."""
        return tuple(pid for auto_job in self._auto_jobs for pid in auto_job.pool.pids)

    @property
    def in_flight(self) -> int:
        """Tasks begun and not ended."""
        return sum(auto_job.pool.count(auto_job.part) for auto_job in self._auto_jobs)

    def decision(self, job: Job) -> str:
        """Return what was decided for a job, and why; empty before the decision."""
        return self._decisions.get(job, "")

    def limit(self, job: Job) -> int:
        """Return how many tasks of a job may be in flight where it runs now, or has run last."""
        for auto_job in self._of(job):
            most = auto_job.part.most
            self._limits[job] = job.concurrency if most is None else min(most, job.concurrency)
        return self._limits.get(job, job.concurrency)

    def record_decision(self, job: Job, what: str) -> None:
        """Record what was decided."""
        self._decisions[job] = what

    def start(self, job: Job) -> None:  # noqa: ARG002 (it begins in green, for every job)
        """Import the pools that it may move to: while tasks run, that would hold the hub, and be told as a block."""
        for name in (*pools.LOCAL, ELSEWHERE):
            if name != pools.AUTO:
                getattr(import_module(f"greenlab.pools.{name}"), f"{name.title()}Pool")  # packages load it when asked

    def run(self, job: Job) -> None:
        """Run every task of `job`; wait for the last."""
        auto_job = _AutoJob(self, job)
        self._auto_jobs.append(auto_job)
        try:
            auto_job.run()
        finally:
            self.limit(job)
            self._auto_jobs.remove(auto_job)

    def count(self, job: Job) -> int:
        """Count the tasks of one job that have begun and not ended."""
        return sum(auto_job.pool.count(auto_job.part) for auto_job in self._of(job))

    def adjust(self, job: Job) -> None:
        """Follow `job.concurrency`; of prefork it sets the workers, and no more of them than the job asked for."""
        for auto_job in self._of(job):
            auto_job.pool.adjust(auto_job.part)

    def begun(self, job: Job) -> list[tuple[int, float]]:
        """List the tasks of a job that are being run, and when each began."""
        return [task for auto_job in self._of(job) for task in auto_job.pool.begun(auto_job.part)]

    def held(self, job: Job) -> list[InFlight]:
        """List the tasks of a job that are being run."""
        return [task for auto_job in self._of(job) for task in auto_job.pool.held(auto_job.part)]

    def kill(self, job: Job, index: int, error: BaseException) -> bool:
        """End one task that is being run."""
        return any(auto_job.pool.kill(auto_job.part, index, error) for auto_job in self._of(job))

    def close(self) -> None:
        """Do nothing: the pools that it uses are closed by their owner, the hub."""

    def _of(self, job: Job) -> list[_AutoJob]:
        return [auto_job for auto_job in self._auto_jobs if auto_job.job is job]


class _AutoJob:
    """One job, in the pool where it is now.

    Attributes:
        pool: the pool that runs it now.
        part: the partial job that this pool runs.
    """

    def __init__(self, owner: AutoPool, job: Job) -> None:
        self.job = job
        self.pool: Pool = pools.get(owner.hub, "green")
        self.part = PartialJob(job, most=FIRST)
        self._owner = owner
        self._sample = CostSample(owner.hub, self.part)
        self._begun_s = perf_counter()
        self._decided = False
        self._plan: Plan | None = None
        self._cost: TaskCost | None = None
        self._why = ""
        self._timer: Any = None
        self._last_look = (0, 0.0, self._begun_s)

    def run(self) -> None:
        self._timer = self._owner.hub.schedule_call_global(GROW_S, self._on_timer)
        try:
            with self._sample:
                self.part.on_end = self._on_task_end
                self.pool.run(self.part)
        finally:
            self._timer.cancel()
        if not self._decided:
            self._owner.record_decision(self.job, "stayed in green: it ended before there was enough to tell")
        elif self._plan is not None:
            self._move(self._plan)

    # -- the sample ----------------------------------------------------------------------------------------

    def _on_task_end(self, started_s: float, ended_s: float, value: Any, succeeded: bool) -> None:
        """Measure a task that has ended; decide, or raise the concurrency. Called in the task's green thread."""
        sample = self._sample
        sample.record_end(started_s, ended_s, value, succeeded)
        ended = sample.ended
        enough = ended >= MANY_TASKS or (ended >= LEAST_TASKS and perf_counter() - self._begun_s >= LEAST_S)
        if enough or (ended >= LEAST_LONG and sample.held_s >= LONG_S):
            self.part.on_end = None
            self._decide()
        elif ended - self._last_look[0] >= (self.part.most or 0):
            self._grow_if_idle()

    def _on_timer(self) -> None:
        """Raise the concurrency if no task has ended. Called by the hub, so it must not wait."""
        if not self._decided:
            self._timer = self._owner.hub.schedule_call_global(GROW_S, self._on_timer)
            if self._sample.ended == self._last_look[0]:
                self._grow_if_idle()

    def _grow_if_idle(self) -> None:
        """Double the tasks in flight, if the hub had time to spare since the last look."""
        ended, held_s, since_s = self._last_look
        ended, now_s, now_held_s = self._sample.ended, perf_counter(), self._sample.held_s
        self._last_look = ended, now_held_s, now_s
        if self.part.most is not None and now_held_s - held_s < SPARE * (now_s - since_s):
            self.part.most *= 2
            self.pool.adjust(self.part)

    # -- the decision --------------------------------------------------------------------------------------

    def _decide(self) -> None:
        self._decided = True
        self._sample.end()
        cost = self._sample.cost()
        choose, startup_s = self._owner.choose, self._owner.startup_s
        plan = choose(cost, self.job, startup_s)
        self._why = describe_cost(cost)
        if plan.workers is not None and (obstacle := self._sample.unsendable_part()):
            self._why += f"; {plan.pool} is out of the question, for {obstacle} cannot be sent to processes"
            plan = choose(replace(cost, sendable=False), self.job, startup_s)
        if spec_of(plan.pool).on_hub:
            self._owner.record_decision(self.job, f"stayed in green: {self._why}")
            self.part.most = None
            self.pool.adjust(self.part)
        else:
            self._plan, self._cost = plan, cost
            self.part.close()

    def _move(self, plan: Plan) -> None:
        """Run the rest in another pool."""
        owner, job = self._owner, self.job
        after, kind = self.part.pulled, None
        elsewhere = self._find_elsewhere(plan)
        if elsewhere is not None:
            plan, kind = elsewhere
            self._why += "; the processors of this machine are the limit"
        pool = pools.get(owner.hub, plan.pool)
        part = PartialJob(job, most=_bound(spec_of(plan.pool), job), kind=kind)
        cold = not pool.pids
        begin_s = perf_counter()
        try:
            pool.start(part)
        except GreenlabError as error:
            owner.record_decision(job, f"stayed in green: {self._why}; but {plan.pool} cannot be started: {error}")
            self.part = PartialJob(job)
            self.pool.run(self.part)
            return
        if cold:
            owner.startup_s[plan.pool] = perf_counter() - begin_s
        owner.record_decision(job, f"moved to {plan.pool} after {counted(after, 'task')}: {self._why}")
        self.pool, self.part = pool, part
        pool.run(part)

    def _find_elsewhere(self, plan: Plan) -> tuple[Plan, str] | None:
        """Return a clearly better plan for Celery workers of other machines, if there is one, and the kind of tasks."""
        cost, left = self._cost, self.job.size_hint()
        if cost is None or plan.ceiling * cost.cpu_s < BUSY * pools.count_cores():
            return None
        found = []
        with contextlib.suppress(GreenlabError):  # Celery is not installed, or no broker is configured, or it is away
            workers: Any = pools.get(self._owner.hub, ELSEWHERE)
            for kind in ("cpu", "io"):
                has = workers.strength(kind)
                if has.elsewhere:
                    tasks = TASKS if left is None else left
                    other = plan_elsewhere(cost, tasks, self.job.concurrency, has.capacity, has.cores)
                    found.append((other.total_s, kind, other))
        if not found:
            return None
        _, kind, best = min(found, key=lambda one: one[:2])
        return (best, kind) if _gains(plan, best) else None


def _gains(plan: Plan, other: Plan) -> bool:
    """Return whether another plan is better by enough to move."""
    return plan.total_s > MARGIN * other.total_s and plan.total_s - other.total_s > LEAST_GAIN_S


def _bound(spec: PoolSpec, job: Job) -> int | None:
    """Return how many tasks of a job a pool may have in flight, or None for as many as the job may have."""
    if spec.task_a_worker:
        return job.workers
    return spec.slow_beyond


def choose_plan(cost: TaskCost, job: Job, startup_s: dict[str, float]) -> Plan:
    """Return the plan for the tasks that are left.

    Args:
        cost: what a task costs.
        job: how many are left, and the sizes.
        startup_s: how long each pool takes before its first task, in seconds.

    Returns:
        green's plan, unless another one is clearly better.
    """
    left = job.size_hint()
    plans = estimate(
        cost,
        tasks=TASKS if left is None else left,
        concurrency=job.concurrency,
        workers=job.workers,
        cores=pools.count_cores(),
        startup_s=startup_s,
    )
    green = next(plan for plan in plans if spec_of(plan.pool).on_hub)
    best = simplest_of_the_close(plans)
    return best if _gains(green, best) else green
