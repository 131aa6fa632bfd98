"""How fast each pool would be with tasks of a given cost: the model behind advice and the auto pool. Pure.

Each pool is a small queueing model: stations that serve one task at a time (the hub, the GIL, the processors, the
parent that hands tasks to processes), and delays that overlap. Its throughput is bounded from above by

    X(N) ≤ min(N / R, 1 / D)

where R is how long a task takes alone, N how many are in flight, and D the demand at the busiest station (asymptotic
bounds: Denning and Buzen, "The operational analysis of queueing network models", ACM Computing Surveys 10(3), 1978).

Must not import: eventlet, asyncio, IPython.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from greenlab.pools.registry import ELSEWHERE, SPECS, spec_of
from greenlab.text.format import seconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from greenlab.pools.registry import PoolSpec

SIMPLEST_FIRST: Final = tuple(name for name, spec in SPECS.items() if spec.make is not None and not spec.leaves_machine)
TASKS = 1000
"""So many tasks are expected where the number is not known."""
MOST_IN_FLIGHT = 1000
"""More tasks in flight than this are not advised, and fewer in a pool where they slow each other down before."""
MOST_WORKERS = 4
"""Prefork worker processes a core: each holds an interpreter's memory for one task at a time."""
ROOM = 2
"""So many times the tasks that Little's law asks for. A closed network with one station and a delay carries at least
m / (m + 1) of its bound with m times that number in flight, however its times scatter (its pessimistic bound,
X(N) ≥ N / (R + (N - 1) D)): two thirds at worst. More room buys little throughput, and latency grows with it."""
CLOSE = 1.2
"""A pool that is simpler, or has fewer processes, is preferred if it takes at most this many times as long: the model
is no more accurate than that."""
MORE_IN_FLIGHT: Final = 4
"""How many times as many in flight to try next where a pool falls short: about half a power of ten."""
STARTUP_S: Final[Mapping[str, float]] = {name: SPECS[name].startup_s for name in SIMPLEST_FIRST}
"""What each pool costs before its first task, where the caller has no measurement."""
SWITCHING = 1.25
"""What OS threads cost more than green ones for the same work: 2,350 fetches a second against 2,900."""
LEAST_SHARE = 0.005
"""A smaller share of a task's time is left out of its description."""


@dataclass(frozen=True)
class TaskCost:
    """What a task of a sample costs on average. Times are seconds; the first three are on the hub's thread.

    Attributes:
        wall_s: from start to end, with nothing else in flight; waiting for a processor is left out.
        cpu_s: computing.
        blocked_s: waiting natively, so that the hub is held.
        wait_s: waiting cooperatively.
        cpu_free_s: how much of `cpu_s` the GIL was released, so that other threads could compute.
        blocked_gil_s: how much of `blocked_s` the GIL was kept.
        sampled: tasks in the sample.
        scatter: standard deviation of the tasks' `wall_s`, divided by its mean.
        other_threads_s: what other threads computed while it held the hub: its own, in a library such as BLAS.
        lock_wait_s: how much of `wait_s` was for a lock or a queue of this process.
        delay_s: waiting for a processor, because the machine is busy.
        sendable: whether the tasks may run in processes; `unsendable` says why not.
    """

    wall_s: float
    cpu_s: float
    blocked_s: float
    wait_s: float
    cpu_free_s: float = 0.0
    blocked_gil_s: float = 0.0
    sampled: int = 20
    scatter: float = 0.0
    other_threads_s: float = 0.0
    lock_wait_s: float = 0.0
    delay_s: float = 0.0
    sendable: bool = True
    unsendable: str = ""

    @property
    def held_s(self) -> float:
        """For how long a task holds the hub, seconds."""
        return self.cpu_s + self.blocked_s

    @property
    def gil_s(self) -> float:
        """For how long a task keeps the GIL, seconds."""
        return max(0.0, self.cpu_s - self.cpu_free_s) + self.blocked_gil_s

    @property
    def alone_s(self) -> float:
        """How long a task takes with nothing else in flight, seconds."""
        return max(self.cpu_s + self.blocked_s + self.wait_s, 1e-7)


@dataclass(frozen=True)
class Plan:
    """One pool with its sizes, and what the model expects of it.

    Attributes:
        pool, concurrency, workers: as the options of `greenlab.run`; workers is None in a pool without processes.
        ceiling: tasks/s that its busiest station allows.
        limit: what that station is, in words.
        total_s: seconds for all tasks, start-up included.
    """

    pool: str
    concurrency: int
    workers: int | None
    ceiling: float
    limit: str
    total_s: float

    @property
    def options(self) -> dict[str, Any]:
        """The plan as options of `greenlab.run`."""
        return {"pool": self.pool, **spec_of(self.pool).sizes(self.concurrency, self.workers)}

    def duration_s(self, alone_s: float, tasks: int) -> float:
        """Return how long so few tasks would take at the least, in seconds, without start-up; one takes `alone_s`."""
        return max(alone_s * math.ceil(tasks / self.concurrency), tasks / self.ceiling)

    def __str__(self) -> str:
        wide = f" -w {self.workers}" if self.workers is not None else ""
        width = "" if spec_of(self.pool).task_a_worker else f" -c {self.concurrency}"
        return f"-p {self.pool}{width}{wide}"


def plan_all(cost: TaskCost, tasks: int, cores: int, startup_s: Mapping[str, float] = STARTUP_S) -> list[Plan]:
    """Return the best plan of each pool that can run these tasks, the one that ends first at the front."""
    plans = []
    for name in _able(cost):
        spec = spec_of(name)
        widths: Sequence[int | None] = [None]
        if spec.has_workers:
            widths = _widths(cores * MOST_WORKERS if spec.task_a_worker else cores)
        wide = [_plan(name, cost, tasks, cores, workers, startup_s) for workers in widths]
        soonest = min(plan.total_s for plan in wide)
        # The fewest workers that suffice: more of them cost memory, and gain less than the model can predict.
        plans.append(next(plan for plan in wide if plan.total_s <= CLOSE * soonest))
    return sorted(plans, key=lambda plan: plan.total_s)


def _plan(
    pool: str,
    cost: TaskCost,
    tasks: int,
    cores: int,
    workers: int | None,
    startup_s: Mapping[str, float],
    width: int | None = None,
) -> Plan:
    spec = spec_of(pool)
    stations = dict(_stations(spec, cost, cores, workers))
    limit = max(stations, key=lambda name: stations[name])
    demand = stations[limit]
    if width is None:
        most = _most(spec, workers or 1)
        width = most if spec.task_a_worker else concurrency(cost.alone_s, demand, min(most, tasks))
    ceiling = min(1 / demand, width / cost.alone_s)
    if ceiling < 0.99 / demand:
        limit = "the tasks in flight"
    # The last task begins when all others are served, and takes its own time.
    total_s = startup_s.get(pool, spec.startup_s) + cost.alone_s + max(0, tasks - 1) / ceiling
    return Plan(pool, width, workers, ceiling, limit, total_s)


def _most(spec: PoolSpec, workers: int) -> int:
    """Return how many tasks in flight are of any use in a pool of so many workers."""
    if spec.task_a_worker:
        return workers
    return _bounded(spec, MOST_IN_FLIGHT)


def _bounded(spec: PoolSpec, concurrency: int) -> int:
    """Return a concurrency, or where the pool's tasks begin to slow each other down if that is less."""
    return concurrency if spec.slow_beyond is None else min(concurrency, spec.slow_beyond)


def plan_elsewhere(cost: TaskCost, tasks: int, concurrency: int, capacity: int, cores: int) -> Plan:
    """Return the plan for Celery workers that run `capacity` tasks at a time on so many processors."""
    return _plan(ELSEWHERE, cost, tasks, cores, None, {}, min(concurrency, capacity))


def with_more_in_flight(plan: Plan, most: int, cores: int) -> Plan | None:
    """Return the plan with four times as many in flight, at most `most`; None if that is not twice as many."""
    spec = spec_of(plan.pool)
    width = min(MORE_IN_FLIGHT * plan.concurrency, most, _most(spec, cores * MOST_WORKERS))
    if width < 2 * plan.concurrency:
        return None
    return replace(plan, concurrency=width, workers=width if spec.task_a_worker else plan.workers)


def _stations(spec: PoolSpec, cost: TaskCost, cores: int, workers: int | None) -> Iterable[tuple[str, float]]:
    """Yield the name of each station of a pool, and a task's demand there in seconds."""
    spread = workers or 1
    yield "the processors", max((cost.cpu_s + cost.other_threads_s) / cores, 1e-6)
    if spec.on_hub:
        yield "the hub, which a task holds", cost.held_s
    elif spec.own_hubs:
        yield "the hubs, which a task holds", cost.held_s / spread
    elif not spec.leaves_process:
        yield "the GIL", cost.gil_s * SWITCHING
    if spec.leaves_process:
        yield "handing tasks to processes", spec.sending_s


def concurrency(alone_s: float, demand_s: float, most: int) -> int:
    """Return how many tasks in flight keep the busiest station busy.

    By Little's law (Operations Research 9(3), 1961) the mean number in flight is throughput times time: at the
    ceiling, 1 / D, that is R / D. There is some `ROOM`, since times scatter; the number is rounded up to 1, 2 or 5
    of a power of ten, since it is not known more exactly.
    """
    wanted = ROOM * alone_s / demand_s
    if demand_s >= alone_s / 1.25:
        wanted = 2  # nearly nothing overlaps: one runs, and the next is ready
    if wanted >= most:
        return max(1, most)
    power = 10 ** math.floor(math.log10(max(wanted, 1)))
    nice = next(step * power for step in (1, 2, 5, 10) if step * power >= wanted - 1e-9)
    return int(max(1, min(nice, most)))


def _widths(most: int) -> Sequence[int]:
    """Return the numbers of workers to consider: each up to 8, then doubling."""
    widths = [width for width in range(1, 9) if width <= most]
    while widths[-1] * 2 <= most:
        widths.append(widths[-1] * 2)
    return widths


def complexity(plan: Plan) -> tuple[int, int]:
    """Return a key that orders plans by their number of processes, then by the simplicity of their pools."""
    return plan.workers or 0, SIMPLEST_FIRST.index(plan.pool)


def estimate(
    cost: TaskCost,
    *,
    tasks: int,
    concurrency: int,
    workers: int,
    cores: int | None = None,
    startup_s: Mapping[str, float] = STARTUP_S,
) -> list[Plan]:
    """Return each pool's plan for tasks of this cost and with the given sizes, the one that ends first at the front."""
    cores = cores or os.cpu_count() or 1
    sizes = [_sizes(spec_of(name), concurrency, workers) for name in _able(cost)]
    plans = [_plan(name, cost, tasks, cores, wide, startup_s, width) for name, width, wide in sizes]
    return sorted(plans, key=lambda plan: plan.total_s)


def _able(cost: TaskCost) -> list[str]:
    """Return the pools that can run these tasks."""
    return [name for name in SIMPLEST_FIRST if cost.sendable or not spec_of(name).leaves_process]


def _sizes(spec: PoolSpec, concurrency: int, workers: int) -> tuple[str, int, int | None]:
    """Return a pool's name, and the concurrency and workers that it would have with the given sizes."""
    if spec.task_a_worker:
        return spec.name, min(concurrency, workers), workers
    if spec.has_workers:
        return spec.name, _bounded(spec, concurrency), min(concurrency, workers)
    return spec.name, _bounded(spec, concurrency), None


def simplest_of_the_close(plans: Sequence[Plan]) -> Plan:
    """Return the plan that ends first, or a simpler one that ends nearly as soon."""
    soonest = min(plan.total_s for plan in plans)
    return min((plan for plan in plans if plan.total_s <= CLOSE * soonest), key=complexity)


def describe_cost(cost: TaskCost) -> str:
    """Describe what a task does with its time: `a task waits 100 ms (99%)`."""
    parts = {"computes": cost.cpu_s, "blocks": cost.blocked_s, "waits": cost.wait_s}
    shown = {name: value for name, value in parts.items() if value >= LEAST_SHARE * cost.alone_s and value}
    text = ", ".join(f"{name} {seconds(value)} ({value / cost.alone_s:.0%})" for name, value in shown.items())
    return f"a task {text}" if text else "a task does next to nothing"
