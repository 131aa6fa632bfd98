"""Which worker of the prefork pool gets how many tasks, and from which of them what waits there is recalled.

Short tasks go ahead in batches, so that a worker has a few milliseconds of work waiting. Where one of them turns out
slow, or its worker is stopped, what waits behind it is recalled and goes to another worker.

Guarantees: those of `processes.dispatch`.
Must not import: runs, live, magics, eventlet.green.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from greenlab.pools.prefork.job import ActiveJob
from greenlab.pools.processes import dispatch
from greenlab.pools.processes.dispatch import Batch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from greenlab.pools.prefork.worker_handle import WorkerHandle
    from greenlab.pools.processes.round_robin import RoundRobin
    from greenlab.pools.processes.supervisor import Supervisor


class Dispatcher(dispatch.Dispatcher[ActiveJob]):
    """Sends the tasks of jobs to the workers of a prefork pool."""

    def __init__(self, supervisor: Supervisor[WorkerHandle], jobs: RoundRobin[ActiveJob]) -> None:
        super().__init__(jobs)
        self._supervisor = supervisor

    def find_room(self, active: ActiveJob) -> tuple[Batch[ActiveJob], int] | None:
        """Begin a batch for the worker that has most room; see `processes.dispatch`."""
        handles = self._supervisor.processes
        handle, room = self._find_room(handles, active)
        active.hungry = handle is None and not self._is_full(handles, active)
        return None if handle is None else (Batch(active, handle, self.send), room)

    def _find_room(self, handles: Sequence[WorkerHandle], active: ActiveJob) -> tuple[WorkerHandle | None, int]:
        """Find the worker that has most room for a job, and how many tasks it may be sent.

        A job is given no more workers than its concurrency; and no more are busy in all than the pool is to have,
        for the replacement of a worker that is about to leave is there before that has finished.
        """
        best, most = None, 0
        target, shared = self._supervisor.target, len(self._jobs) > 1
        full = self._is_full(handles, active)
        crowded = target < len(handles) and sum(bool(handle.outstanding) for handle in handles) >= target
        kept = self._kept_for_others(handles, active) if shared else ()
        for handle in handles:
            if handle.takes_tasks and not handle.outbox and not (full and not handle.holds(active)):
                if handle in kept or (crowded and not handle.outstanding):
                    continue
                room = handle.room(active, shared)
                if room > most:
                    best, most = handle, room
        return best, most

    @staticmethod
    def _is_full(handles: Sequence[WorkerHandle], active: ActiveJob) -> bool:
        """Whether a job has as many workers as it may have."""
        concurrency = active.job.concurrency
        return concurrency < len(handles) and sum(handle.holds(active) for handle in handles) >= concurrency

    def _kept_for_others(self, handles: Sequence[WorkerHandle], active: ActiveJob) -> Sequence[WorkerHandle]:
        """List the workers that jobs before this one wait for: a job of longer tasks needs one that has run empty.

        They are those that will be empty soonest, one for each job whose turn is before this one's.
        """
        count = sum(other.hungry and other.error is None for other in self._jobs.before(active))
        serving = (handle for handle in handles if handle.takes_tasks)
        return sorted(serving, key=lambda handle: len(handle.outstanding))[:count]

    # --- from one worker to another

    def may_move(self) -> bool:
        """Whether tasks wait at a worker, and another one could take them."""
        handles = self._supervisor.processes
        return len(handles) > 1 and any(map(self._may_move, handles))

    def _may_move(self, handle: WorkerHandle) -> bool:
        last = handle.last_waiting
        if last is None:
            return False
        others = [other for other in self._supervisor.processes if other is not handle]
        return self._find_room(others, last)[0] is not None

    def stalled(self) -> list[tuple[WorkerHandle]]:
        """List the workers that have done nothing since the last time, while tasks wait there."""
        still = [handle for handle in self._supervisor.processes if handle.stands_still()]
        return [(handle,) for handle in still if self._may_move(handle)]
