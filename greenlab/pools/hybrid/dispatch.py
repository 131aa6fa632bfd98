"""Which process of the hybrid pool gets how many tasks, and from which of them what waits there is recalled.

The process that holds fewest tasks of a job gets the next ones. What waits in a process that begins hardly any more
(its tasks turned out slow, or it computes, or is stopped) is recalled while another has slots that stand idle.

Guarantees: those of `processes.dispatch`.
Must not import: runs, live, magics, eventlet.green.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from greenlab.pools.hybrid.job import ActiveJob
from greenlab.pools.processes import dispatch
from greenlab.pools.processes.dispatch import Batch

if TYPE_CHECKING:
    from greenlab.pools.hybrid.worker_handle import WorkerHandle

_MOST: Final = 1024
"""How many tasks are sent at a time, so that the first of very many need not wait for the last."""


class Dispatcher(dispatch.Dispatcher[ActiveJob]):
    """Sends the tasks of jobs to the processes that serve them."""

    def find_room(self, active: ActiveJob) -> tuple[Batch[ActiveJob], int] | None:
        """Begin a batch for the process that holds fewest tasks; see `processes.dispatch`."""
        best: WorkerHandle | None = None
        most, least = 0, (0, 0)
        for place, handle in enumerate(active.handles):
            if handle is None:
                continue
            room = handle.room(active, active.share(place))
            load = handle.held(active), handle.load
            if room > 0 and (best is None or load < least):
                best, most, least = handle, room, load
        if best is None:
            return None
        hint, count = active.job.size_hint(), len(active.handles)
        if count > 1:  # not all to the first that has room: few tasks, too, are for all processes
            share = most // 8 if hint is None else -(-hint // count)
            most = min(most, max(1, share)) if hint != 0 else most
        return Batch(active, best, self.send), min(most, _MOST)

    # --- from one process to another

    def may_move(self) -> bool:
        """Whether tasks of a job wait at a process, and slots stand idle at another."""
        return any(map(self._may_move, self._jobs))

    def _may_move(self, active: ActiveJob) -> bool:
        handles = active.handles
        if len(handles) < 2 or not any(handle is not None and handle.waiting(active) for handle in handles):
            return False
        return any(
            handle is not None and handle.room(active, share) > 0 and handle.held(active) < share
            for handle, share in zip(handles, map(active.share, range(len(handles))), strict=True)
        )

    def stalled(self) -> list[tuple[WorkerHandle, ActiveJob]]:
        """List the processes that hardly get on with a job, each with the job."""
        return [
            (handle, active)
            for active in self._jobs
            if self._may_move(active)
            for handle in active.handles
            if handle is not None and handle.waiting(active) and handle.stands_still(active)
        ]
