"""From a job to worker processes: tasks are pulled as there is room for them, and travel in batches.

Guarantees: nothing is pulled that nobody has room for, and what has been pulled never waits for an item that is late;
a task for which there is no way any more stops its run.
Must not import: runs, live, magics, eventlet.green.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from greenlab.hub import eventlet
from greenlab.pools.processes.job import ActiveJob

if TYPE_CHECKING:
    from collections.abc import Iterable

get_hub = eventlet.hubs.get_hub
GreenletExit = eventlet.greenlet.GreenletExit


class Batch(Protocol):
    """Tasks of one job on their way to one process."""

    @property
    def stale(self) -> bool:
        """Whether the process died, or got tasks from elsewhere, since this batch was given its room."""

    def add(self, index: int, item: Any) -> int:
        """Add a task; return how much room it took."""

    def post(self) -> None:
        """Send what is there. Never blocks: it is also what the hub calls while `pull` waits for an item."""


A = TypeVar("A", bound=ActiveJob)


class Feeder(Generic[A]):
    """Gives the tasks of jobs to the processes of a pool. Each pool says which of them has how much room."""

    def find_room(self, active: A) -> tuple[Batch, int] | None:
        """Begin a batch for the process that shall have tasks next; say how many. None if there is no room now."""
        raise NotImplementedError

    def feed(self, active: A) -> bool:
        """Give out tasks until the job has no more now; return whether there were any."""
        pull, fed = active.job.pull, False
        while True:
            batch, room = self._await_room(active)
            # If `pull` waits, the tasks that were pulled before must not wait with it.
            timer = get_hub().schedule_call_global(0, batch.post) if room > 1 else None
            active.puller = eventlet.getcurrent()
            try:
                while room > 0:
                    index, item = pull()
                    fed = True
                    active.pending += 1
                    if batch.stale:
                        self._place(active, index, item)
                        break
                    room -= batch.add(index, item)
                    if timer is not None and timer.called:  # `pull` did wait, and may again
                        break
            except StopIteration:
                batch.post()
                return fed
            finally:
                active.puller = None
                if timer is not None:
                    timer.cancel()
            batch.post()

    def replace(self, active: A, tasks: Iterable[tuple[int, Any]]) -> None:
        """Give to other processes what one did not begin; waits, so this is for a green thread of its own."""
        left = deque(tasks)
        try:
            while left:
                batch, room = self._await_room(active)
                while left and room > 0:
                    room -= batch.add(*left.popleft())
                batch.post()
        except GreenletExit:
            raise
        except BaseException as error:  # that of its run, or one that its run must have
            active.stop(error)

    def _place(self, active: A, index: int, item: Any) -> None:
        batch, _ = self._await_room(active)
        batch.add(index, item)
        batch.post()

    def _await_room(self, active: A) -> tuple[Batch, int]:
        while True:
            if active.error is not None:
                raise active.error
            found = self.find_room(active)
            if found is not None:
                return found
            active.wait()
