"""A job, as the prefork pool sees it: how long its tasks take, and so how many a worker may have waiting.

Guarantees: those of `processes.job`.
Must not import: runs, live, magics, eventlet.green.
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any, Final

from greenlab.pools.processes import environment, framing
from greenlab.pools.processes import job as jobs
from greenlab.pools.processes.framing import Bytes, Parcel

if TYPE_CHECKING:
    from collections.abc import Iterable

    from greenlab.pools.processes.ring_buffer import Ring
    from greenlab.pools.protocol import Job

OVERHEAD_S: Final = 5e-6
"""What a task costs a worker besides its own time."""
_AHEAD_S: Final = 0.008  # how much work a worker may have waiting
_MOST_AHEAD: Final = 256


class ActiveJob(jobs.ActiveJob):
    """A job that runs now.

    Attributes:
        opening: the frame that makes it known to a worker.
        task_s: how long a task takes, as far as is known; negative while it is not.
        hungry: whether it waits for a worker to have room, and may have one more.
    """

    def __init__(self, number: int, job: Job) -> None:
        super().__init__(number, job)
        body = pickle.dumps((job.max_memory, environment.pack(job.func)), 5)
        self.opening = framing.frame(framing.JOB, number, 0, Parcel(framing.PICKLED, [body]))
        self.task_s = -1.0
        self.hungry = False

    def learn(self, duration_s: float) -> None:
        """Follow rises fast and falls slowly, for it is slow tasks that must not queue."""
        before = self.task_s
        step = 0.5 if duration_s > before else 0.25
        self.task_s = duration_s if before < 0 else before + step * (duration_s - before)

    @property
    def ahead(self) -> int:
        """How many tasks one worker may be given at a time."""
        if self.task_s < 0:
            return 1
        return max(1, min(_MOST_AHEAD, int(_AHEAD_S / (self.task_s + OVERHEAD_S))))


Entry = tuple[ActiveJob, int, Any]
"""A task at a worker: its job, its index and its item."""


def frames_of(
    active: ActiveJob, first: int, tasks: Iterable[tuple[int, Any, Parcel | None]], outward: Ring
) -> list[Bytes]:
    """Return the frames of tasks, whose numbers rise from `first` on; neighbours without a parcel share one."""
    parts: list[Bytes] = []
    plain: list[Any] = []
    number = first
    for number, (_, item, parcel) in enumerate(tasks, first):
        if parcel is None:
            plain.append(item)
            continue
        if plain:
            parts += _frame_of_many(active, number - len(plain), plain)
            plain = []
        parts += outward.frame(framing.TASK, active.number, number, parcel)
    if plain:
        parts += _frame_of_many(active, number - len(plain) + 1, plain)
    return parts


def _frame_of_many(active: ActiveJob, first: int, items: list[Any]) -> list[Bytes]:
    return framing.frame(framing.BATCH, active.number, first, Parcel(framing.PICKLED, [pickle.dumps(items, 5)]))
