"""The green threads in which a pool runs tasks, and what each of them does now.

Guarantees: what is read here is what the green thread does now; any other greenlet has no job.

Must not import: greening, pools, runs, live, magics.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

import greenlet

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["NO_TASK", "WorkerGreenlet", "index_of", "job_of"]

NO_TASK = -1
"""The index of a worker that is between two tasks."""


class WorkerGreenlet(greenlet.greenlet):  # type: ignore[misc]  # mypy skips greenlet's types
    """A green thread that runs one task of a job after another.

    Args:
        job: the job that a run knows.
        work: what it runs; called without arguments.
        hub: the greenlet of the hub, its parent.

    Attributes:
        job: the job.
        index: the index of the task in hand, or `NO_TASK`.
        started_s: when that task began, `time.perf_counter()` seconds.
        until_s: when it is over its time limit, where a signal enforces that (see `pools.hybrid.worker`); else inf.
        kill_error: a task that is being killed, and what it fails with.
    """

    # Slots: read and written for every task.
    __slots__ = ("index", "job", "kill_error", "started_s", "until_s")

    def __init__(self, job: Any, work: Callable[[], object], hub: Any) -> None:
        super().__init__(work, hub)
        self.job = job
        self.index = NO_TASK
        self.started_s = 0.0
        self.until_s = inf
        self.kill_error: tuple[int, BaseException] | None = None


def job_of(green: Any) -> Any:
    """Return the job whose tasks a greenlet runs, or None."""
    return green.job if isinstance(green, WorkerGreenlet) else None


def index_of(green: Any) -> int | None:
    """Return the index of the task that a greenlet runs, `NO_TASK` between two of them, or None if it runs none."""
    return green.index if isinstance(green, WorkerGreenlet) else None
