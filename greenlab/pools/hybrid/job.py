"""A job, as the hybrid pool sees it, and its tasks on their way to a process.

Guarantees: nothing here waits, but `Active.wait`.
Must not import: runs, live, magics, eventlet.green.
"""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from greenlab.errors import NotSendableError
from greenlab.hub import eventlet
from greenlab.pools.processes import sending, wire
from greenlab.pools.processes.wire import Bytes, Parcel

if TYPE_CHECKING:
    from collections.abc import Callable

    from greenlab.pools.hybrid.link import Link
    from greenlab.pools.protocol import Job

_HINT: Final = "make it inside the task, or use -p green"


class Active:
    """A job that runs now.

    Attributes:
        pending: how many tasks have been pulled and have not ended.
        error: why `run` is to raise, or None.
        crew: the processes that serve it, as many as it may have; None where one is missing.
        sentences: what tasks that are being killed will fail with, by index.
    """

    def __init__(self, number: int, job: Job) -> None:
        setting = (str(Path.cwd()), [p for p in sys.path if isinstance(p, str)], dict(os.environ))
        self.number = number
        self.job = job
        self.body = pickle.dumps((setting, sending.dump_function(job.func)), 5)
        self.pending = 0
        self.error: BaseException | None = None
        self.crew: list[Link | None] = []
        self.sentences: dict[int, BaseException] = {}
        self._event: Any = None

    @property
    def width(self) -> int:
        """How many processes the job may have."""
        return max(1, min(self.job.workers, self.job.concurrency))

    def share(self, place: int) -> int:
        """How many tasks the process at this place of the crew may have in flight: all shares are `concurrency`."""
        each, rest = divmod(max(1, self.job.concurrency), len(self.crew))
        return each + (place < rest)

    def wait(self) -> None:
        """Wait for a change: room at a process, an ended task, an error."""
        if self._event is None:
            self._event = eventlet.event.Event()
        self._event.wait()

    def wake(self) -> None:
        """End the wait."""
        if self._event is not None:
            event, self._event = self._event, None
            event.send()

    def stop(self, error: BaseException) -> None:
        """Make `run` raise; what still comes for this job is dropped."""
        if self.error is None:
            self.error = error
        self.wake()

    def tell(self, index: int, start_s: float, end_s: float, value: Any, error: BaseException | None = None) -> None:
        """Tell the job how a task ended."""
        self.pending -= 1
        if self.sentences:
            self.sentences.pop(index, None)
        if self.error is not None:
            return
        try:
            if error is None:
                self.job.succeed(index, start_s, end_s, value)
            else:
                self.job.fail(index, start_s, end_s, error)
        except Exception as broken:  # the job itself, whose run must not wait for ever
            self.stop(broken)

    def write(self, stream: str, text: str, index: int | None) -> None:
        """Give the job what a task printed."""
        if self.error is not None:
            return
        try:
            self.job.write(stream, text, index)
        except Exception as broken:
            self.stop(broken)


class Batch:
    """Tasks of one job on their way to one process."""

    def __init__(self, active: Active, link: Link, post: Callable[[Batch], None]) -> None:
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
        if sending.is_plain(item):
            self._plain[0].append(index)
            self._plain[1].append(item)
            self.tasks.append((index, item))
            return 1
        try:
            parcel = sending.dump(item)
        except Exception as cause:
            what = f"item {index} ({sending.type_name(item)})"
            error = NotSendableError(f"cannot send {what} to a worker process: {_HINT}")
            error.__cause__ = cause
            now_s = perf_counter()
            self.active.tell(index, now_s, now_s, None, error)
            return 0
        self._close_plain()
        self.parts += wire.frame(wire.TASK, self.active.number, index, parcel)
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
            parcel = Parcel(wire.PICKLED, [pickle.dumps(self._plain, 5)])
            self.parts += wire.frame(wire.BATCH, self.active.number, 0, parcel)
            self._plain = ([], [])
