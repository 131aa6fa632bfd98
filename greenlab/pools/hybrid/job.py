"""A job, as the hybrid pool sees it, and its tasks on their way to a process.

Guarantees: those of `processes.job`.
Must not import: runs, live, magics, eventlet.green.
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

from greenlab.pools.processes import environment, framing, serialization
from greenlab.pools.processes import job as jobs
from greenlab.pools.processes.framing import Bytes, Parcel

if TYPE_CHECKING:
    from collections.abc import Callable

    from greenlab.pools.protocol import Job


class ActiveJob(jobs.ActiveJob):
    """A job that runs now.

    Attributes:
        body: its surroundings and function, pickled.
        crew: the processes that serve it, as many as it may have; None where one is missing.
        blocked_after_s: how long a task may hold its hub before that is called a block.
        sentences: what tasks that are being killed will fail with, by index.
    """

    def __init__(self, number: int, job: Job, blocked_after_s: float) -> None:
        super().__init__(number, job)
        self.blocked_after_s = blocked_after_s
        self.body = pickle.dumps(environment.pack(job.func), 5)
        self.crew: list[Any] = []  # of worker handles, which know this class
        self.sentences: dict[int, BaseException] = {}

    @property
    def width(self) -> int:
        """How many processes the job may have."""
        return max(1, min(self.job.workers, self.job.concurrency))

    def share(self, place: int) -> int:
        """How many tasks the process at this place of the crew may have in flight: all shares are `concurrency`."""
        each, rest = divmod(max(1, self.job.concurrency), len(self.crew))
        return each + (place < rest)


class Batch:
    """Tasks of one job on their way to one process."""

    def __init__(self, active: ActiveJob, link: Any, post: Callable[[Batch], None]) -> None:
        self.active = active
        self.link = link
        self.tasks: list[tuple[int, Any]] = []
        self.parts: list[Bytes] = []
        self._post = post
        self._posts = link.posts
        self._plain: tuple[list[int], list[Any]] = ([], [])

    @property
    def stale(self) -> bool:
        """Whether the process died, or got tasks from elsewhere, since this batch was given its room."""
        return not self.link.open or self.link.posts != self._posts

    def add(self, index: int, item: Any) -> int:
        """Add a task; return how much room it took."""
        if serialization.is_plain(item):
            self._plain[0].append(index)
            self._plain[1].append(item)
            self.tasks.append((index, item))
            return 1
        parcel = self.active.pack(index, item)
        if parcel is None:
            return 0
        self._close_plain()
        self.parts += framing.frame(framing.TASK, self.active.number, index, parcel)
        self.tasks.append((index, item))
        return 1 + parcel.size // 4096

    def post(self) -> None:
        """Send what is there. Never blocks: it is also what the hub calls while `pull` waits for an item."""
        self._close_plain()
        self._posts = -1  # it was given its room once
        if self.tasks:
            self._post(self)
            self.tasks, self.parts = [], []

    def _close_plain(self) -> None:
        if self._plain[0]:
            parcel = Parcel(framing.PICKLED, [pickle.dumps(self._plain, 5)])
            self.parts += framing.frame(framing.BATCH, self.active.number, 0, parcel)
            self._plain = ([], [])
