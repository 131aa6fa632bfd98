"""A job, as the hybrid pool sees it, and its tasks on their way to a process.

Guarantees: those of `processes.job`.
Must not import: runs, live, magics, eventlet.green.
"""

from __future__ import annotations

import pickle
from time import perf_counter
from typing import TYPE_CHECKING, Any

from greenlab.pools.processes import environment, framing
from greenlab.pools.processes import job as jobs
from greenlab.pools.processes.framing import Bytes, Parcel

if TYPE_CHECKING:
    from collections.abc import Iterable

    from greenlab.pools.protocol import Job


class ActiveJob(jobs.ActiveJob):
    """A job that runs now.

    Attributes:
        body: its surroundings and function, pickled.
        handles: of the processes that serve it, as many as it may have; None where one is missing.
        began_s: when it began, `time.perf_counter()` seconds.
        blocked_after_s: how long a task may hold its hub before that is called a block.
        kill_errors: what tasks that are being killed will fail with, by index.
    """

    def __init__(self, number: int, job: Job, blocked_after_s: float) -> None:
        super().__init__(number, job)
        self.began_s = perf_counter()
        self.blocked_after_s = blocked_after_s
        self.body = pickle.dumps(environment.pack(job.func), 5)
        self.handles: list[Any] = []  # of a class that knows this one
        self.kill_errors: dict[int, BaseException] = {}

    @property
    def width(self) -> int:
        """How many processes the job may have."""
        return max(1, min(self.job.workers, self.job.concurrency))

    def share(self, place: int) -> int:
        """Return how many tasks the process at this place may have in flight: all shares are `concurrency`."""
        each, rest = divmod(max(1, self.job.concurrency), len(self.handles))
        return each + (place < rest)

    def share_of(self, handle: Any) -> int:
        """Return how many tasks one of the processes that serve the job may have in flight."""
        return self.share(self.handles.index(handle))


def frames_of(active: ActiveJob, tasks: Iterable[tuple[int, Any, Parcel | None]]) -> list[Bytes]:
    """Return the frames of tasks; neighbours without a parcel share one."""
    parts: list[Bytes] = []
    indexes: list[int] = []
    items: list[Any] = []
    for index, item, parcel in tasks:
        if parcel is None:
            indexes.append(index)
            items.append(item)
            continue
        if items:
            parts += _frame_of_many(active, indexes, items)
            indexes, items = [], []
        parts += framing.frame(framing.TASK, active.number, index, parcel)
    if items:
        parts += _frame_of_many(active, indexes, items)
    return parts


def _frame_of_many(active: ActiveJob, indexes: list[int], items: list[Any]) -> list[Bytes]:
    body = pickle.dumps((indexes, items), 5)
    return framing.frame(framing.BATCH, active.number, 0, Parcel(framing.PICKLED, [body]))
