"""A sample: what the first tasks of a job cost while they run in green, as a `TaskCost`.

Every number is taken task by task: a task that is in flight when the sample ends does not count. The time in which a
task could have gone on, but others held the hub, is no part of its wait.

Guarantees: when the sample has ended, none of its threads and hooks is left.
Bounds: what a task's own green threads do counts as its wait; the first task, which opens connections and imports
modules, counts only if there are few tasks and it took about as long as the others.

Must not import: live, magics, a concrete pool.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from greenlab.advising.advice import FEW, TaskCost
from greenlab.errors import NotSendableError
from greenlab.hub.account import accounts_of
from greenlab.hub.gil import GilProbe
from greenlab.hub.worker_greenlet import job_of
from greenlab.pools import inside_worker

if TYPE_CHECKING:
    from greenlab.hub import GuestHub
    from greenlab.hub.account import Spent
    from greenlab.pools.partial_job import PartialJob

UNUSUALLY_LONG = 3.0
LEAST_OTHER_THREADS = 0.1
_NOTHING: Any = object()


@dataclass(frozen=True)
class _TaskParts:
    """The parts of one task's time, in seconds."""

    cpu_s: float
    blocked_s: float
    wait_s: float
    delay_s: float
    other_threads_s: float
    lock_wait_s: float

    @property
    def alone_s(self) -> float:
        return self.cpu_s + self.blocked_s + self.wait_s


class CostSample:
    """Measures the tasks of a partial job while the green pool runs it, inside a `with` block."""

    def __init__(self, hub: GuestHub, part: PartialJob) -> None:
        self._part = part
        self._tasks: list[_TaskParts] = []
        self._item = self._value = _NOTHING
        self._accounts = accounts_of(hub)
        whole = part.whole
        self._account = self._accounts.open(lambda green: job_of(green) is whole, on_stop=self.end)
        self._probe = GilProbe(self._account.held_by_now)
        self._open = False

    def __enter__(self) -> Self:
        self._open = True
        self._probe.start()
        self._part.on_pull = self._begin
        return self

    def __exit__(self, *_exc: object) -> None:
        self.end()

    def end(self) -> None:
        """Stop measuring. Safe to call twice; what was measured stays."""
        if self._open:
            self._open = False
            self._part.on_pull = None
            self._accounts.end(self._account)
            self._probe.stop()

    @property
    def ended(self) -> int:
        """How many tasks that count have ended."""
        return len(self._tasks)

    @property
    def held_s(self) -> float:
        """For how long the tasks have held the hub so far, in all, those in flight too."""
        return self._account.held_by_now()

    def _begin(self, item: Any) -> None:
        self._account.take()
        self._item = item

    def record_end(self, started_s: float, ended_s: float, value: Any, succeeded: bool) -> None:
        """Count a task that has ended; called in its own green thread."""
        if not self._open:
            return
        spent = self._account.take()
        if succeeded:
            self._tasks.append(_parts(spent, ended_s - started_s))
            self._value = value

    def cost(self) -> TaskCost:
        """Return what a task costs on average."""
        tasks = _without_the_first(self._tasks)
        if not tasks:
            return TaskCost(0.0, 0.0, 0.0, 0.0, sampled=0)
        cpu_s, blocked_s, wait_s, delay_s, other_threads_s, lock_wait_s = (
            statistics.fmean(getattr(task, name) for task in tasks)
            for name in ("cpu_s", "blocked_s", "wait_s", "delay_s", "other_threads_s", "lock_wait_s")
        )
        alone_s = [task.alone_s for task in tasks]
        mean_s = statistics.fmean(alone_s)
        return TaskCost(
            wall_s=mean_s,
            cpu_s=cpu_s,
            blocked_s=blocked_s,
            wait_s=wait_s,
            cpu_free_s=cpu_s * (1 - self._probe.kept_computing),
            blocked_gil_s=blocked_s * self._probe.kept_waiting,
            sampled=len(tasks),
            scatter=statistics.pstdev(alone_s) / mean_s if mean_s > 0 else 0.0,
            # The probe itself computes a little.
            other_threads_s=other_threads_s if other_threads_s > LEAST_OTHER_THREADS * (cpu_s + blocked_s) else 0.0,
            lock_wait_s=min(lock_wait_s, wait_s),
            delay_s=delay_s,
        )

    def unsendable_part(self) -> str:
        """Return what cannot be sent to a worker process: the function, an item or a result; empty if all can."""
        from greenlab.pools.processes import serialization

        if inside_worker():
            return "a worker process has none of its own"
        try:
            serialization.dump_function(self._part.func)
        except NotSendableError as error:
            return str(error).partition(" to a worker process")[0].removeprefix("cannot send ")
        for what, value in (("an item", self._item), ("a result", self._value)):
            if value is not _NOTHING:
                try:
                    serialization.dump(value)
                except Exception:
                    return f"{what} ({serialization.type_name(value)})"
        return ""


def _without_the_first(tasks: list[_TaskParts]) -> list[_TaskParts]:
    """Leave out the first task if there are many, or if it took several times as long as the others."""
    if len(tasks) < 3:
        return tasks
    first, *others = tasks
    usual_s = statistics.median(task.alone_s for task in others)
    return others if len(others) >= FEW or first.alone_s > UNUSUALLY_LONG * usual_s else tasks


def _parts(spent: Spent, wall_s: float) -> _TaskParts:
    return _TaskParts(
        cpu_s=spent.cpu_s,
        blocked_s=max(0.0, spent.held_s - spent.cpu_s - spent.delay_s),
        wait_s=max(0.0, wall_s - spent.held_s - spent.late_s),
        delay_s=spent.delay_s,
        other_threads_s=spent.others_s,
        lock_wait_s=spent.lock_wait_s,
    )
