"""A sample: what the first tasks of a job cost while they run in green, as an `TaskCost`.

Every number is taken task by task: a task that is in flight when the sample ends counts for nothing. The time in which
a task could have gone on, and others held the hub, is no part of its wait.

Guarantees: when the sample has ended there is no thread and no hook of it left.
Bounds: what a task's own green threads do counts as its wait; the first task, which makes first connections and
imports, counts only if there are few, and it was much like them.

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
from greenlab.pools import inside_worker

if TYPE_CHECKING:
    from greenlab.hub import GuestHub
    from greenlab.hub.account import Spent
    from greenlab.pools.partial_job import PartialJob

UNUSUAL = 3.0
HELPED = 0.1
_NOTHING: Any = object()


@dataclass(frozen=True)
class _Task:
    """What one task cost; seconds."""

    cpu_s: float
    blocked_s: float
    wait_s: float
    delay_s: float
    others_s: float
    among_s: float

    @property
    def alone_s(self) -> float:
        return self.cpu_s + self.blocked_s + self.wait_s


class CostSample:
    """Watches a leg while the green pool runs it. Use it in a `with` block."""

    def __init__(self, hub: GuestHub, leg: PartialJob) -> None:
        self._leg = leg
        self._tasks: list[_Task] = []
        self._item = self._value = _NOTHING
        self._accounts = accounts_of(hub)
        whole = leg.whole
        self._account = self._accounts.open(
            lambda green: getattr(green, "greenlab_job", None) is whole, on_stop=self.end
        )
        self._probe = GilProbe(self._account.held_by_now)
        self._open = False

    def __enter__(self) -> Self:
        self._open = True
        self._probe.start()
        self._leg.on_pull = self._begin
        return self

    def __exit__(self, *_exc: object) -> None:
        self.end()

    def end(self) -> None:
        """Stop watching. Safe to call twice; what is known stays."""
        if self._open:
            self._open = False
            self._leg.on_pull = None
            self._accounts.end(self._account)
            self._probe.stop()

    @property
    def ended(self) -> int:
        """How many tasks have ended, and count."""
        return len(self._tasks)

    @property
    def held_s(self) -> float:
        """For how long the tasks have held the hub so far, in all, those in flight too."""
        return self._account.held_by_now()

    def _begin(self, item: Any) -> None:
        self._account.take()
        self._item = item

    def note(self, started_s: float, ended_s: float, value: Any, succeeded: bool) -> None:
        """Count a task that has ended; called in its own green thread."""
        if not self._open:
            return
        spent = self._account.take()
        if succeeded:
            self._tasks.append(_parts(spent, ended_s - started_s))
            self._value = value

    def cost(self) -> TaskCost:
        """Give what a task costs, in the mean."""
        tasks = _without_the_first(self._tasks)
        if not tasks:
            return TaskCost(0.0, 0.0, 0.0, 0.0, sampled=0)
        cpu_s, blocked_s, wait_s, delay_s, others_s, among_s = (
            statistics.fmean(getattr(task, name) for task in tasks)
            for name in ("cpu_s", "blocked_s", "wait_s", "delay_s", "others_s", "among_s")
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
            others_s=others_s if others_s > HELPED * (cpu_s + blocked_s) else 0.0,
            among_s=min(among_s, wait_s),
            delay_s=delay_s,
        )

    def what_cannot_travel(self) -> str:
        """Say what is in the way of worker processes, of the function and of the last item and value; or nothing."""
        from greenlab.pools.processes import serialization

        if inside_worker():
            return "a worker process has none of its own"
        try:
            serialization.dump_function(self._leg.func)
        except NotSendableError as error:
            return str(error).partition(" to a worker process")[0].removeprefix("cannot send ")
        for what, value in (("an item", self._item), ("a result", self._value)):
            if value is not _NOTHING:
                try:
                    serialization.dump(value)
                except Exception:
                    return f"{what} ({serialization.type_name(value)})"
        return ""


def _without_the_first(tasks: list[_Task]) -> list[_Task]:
    """Leave out the first task if there are many, or if it took several times as long as the others."""
    if len(tasks) < 3:
        return tasks
    first, *others = tasks
    usual_s = statistics.median(task.alone_s for task in others)
    return others if len(others) >= FEW or first.alone_s > UNUSUAL * usual_s else tasks


def _parts(spent: Spent, wall_s: float) -> _Task:
    return _Task(
        cpu_s=spent.cpu_s,
        blocked_s=max(0.0, spent.held_s - spent.cpu_s - spent.delay_s),
        wait_s=max(0.0, wall_s - spent.held_s - spent.late_s),
        delay_s=spent.delay_s,
        others_s=spent.others_s,
        among_s=spent.among_s,
    )
