"""A job, as a pool of worker processes sees it while it runs.

Guarantees: nothing here waits, but `Active.wait`.
Must not import: runs, live, magics, eventlet.green.
"""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from greenlab.hub import eventlet
from greenlab.pools.processes import sending, wire
from greenlab.pools.processes.wire import Bytes, Parcel

if TYPE_CHECKING:
    from greenlab.pools.protocol import Job

Event = eventlet.event.Event

OVERHEAD_S: Final = 5e-6
"""What a task costs a worker besides its own time."""
_AHEAD_S: Final = 0.008  # how much work a worker may have waiting
_MOST_AHEAD: Final = 256


class Active:
    """A job that runs now."""

    def __init__(self, number: int, job: Job) -> None:
        setting = (str(Path.cwd()), [p for p in sys.path if isinstance(p, str)], dict(os.environ))
        body = pickle.dumps((setting, job.max_memory, sending.dump_function(job.func)), 5)
        self.number = number
        self.job = job
        self.opening = wire.frame(wire.JOB, number, 0, Parcel(wire.PICKLED, [body]))
        self.pending = 0  # tasks that have been pulled and have not ended
        self.task_s = -1.0  # how long a task takes, as far as is known
        self.error: BaseException | None = None
        self._event: Any = None

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

    def wait(self) -> None:
        """Wait for a change: room at a worker, an ended task, an error."""
        if self._event is None:
            self._event = Event()
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


Entry = tuple[Active, int, Any]
"""A task at a worker: its job, its index and its item."""


class Printed:
    """What tasks have printed, joined while it is of one task and stream."""

    def __init__(self) -> None:
        self._to: tuple[Job, str, int | None] | None = None
        self._texts: list[str] = []

    def add(self, job: Job, stream: str, index: int | None, body: Bytes) -> None:
        """Keep a text; pass on what is there if it is another task's."""
        to = job, stream, index
        if self._to != to:
            self.flush()
            self._to = to
        self._texts.append(str(body, "utf-8", "replace"))

    def flush(self) -> None:
        """Pass on what is there."""
        if self._to is not None:
            job, stream, index = self._to
            self._to = None
            texts, self._texts = self._texts, []
            job.write(stream, "".join(texts), index)
