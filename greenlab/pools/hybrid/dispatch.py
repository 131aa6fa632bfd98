"""From jobs to processes: which process gets how many tasks, and what becomes of those that it never began.

Guarantees: those of `processes.feeding`; the process that holds fewest tasks of a job gets the next ones. What waits
in a process that begins hardly any more (its tasks turned out slow, or it computes, or is stopped) is recalled while
another has slots that stand idle. No timer runs but while that may be.
Must not import: runs, live, magics, eventlet.green.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from greenlab.hub import eventlet
from greenlab.pools.hybrid.job import ActiveJob, Batch
from greenlab.pools.processes import dispatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from greenlab.pools.hybrid.worker_handle import WorkerHandle

get_hub = eventlet.hubs.get_hub

_MOST: Final = 1024
"""How many tasks are sent at a time, so that the first of very many need not wait for the last."""
_PATROL_S: Final = 0.016
_MOMENT_S: Final = 0.0015
"""How long a recall needs to be seen. The process's word is in memory some nanoseconds after it was written."""


class Feeder(dispatch.Feeder[ActiveJob]):
    """Gives the tasks of jobs to the processes of their crews."""

    def __init__(self, actives: Mapping[int, ActiveJob]) -> None:
        self._actives = actives
        self._timer: Any = None
        self._moving: set[Any] = set()  # green threads that move tasks

    def stop(self) -> None:
        """Leave no timer and no green thread; called when no job is active, or the pool closes."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for thread in list(self._moving):
            thread.kill()

    def find_room(self, active: ActiveJob) -> tuple[Batch, int] | None:
        """Begin a batch for the process that holds fewest tasks; see `processes.feeding`."""
        best: WorkerHandle | None = None
        most, least = 0, (0, 0)
        for place, link in enumerate(active.crew):
            if link is None:
                continue
            room = link.room(active, active.share(place))
            load = link.held(active), link.load
            if room > 0 and (best is None or load < least):
                best, most, least = link, room, load
        if best is None:
            return None
        hint, count = active.job.size_hint(), len(active.crew)
        if count > 1:  # not all to the first that has room: few tasks, too, are for all processes
            share = most // 8 if hint is None else -(-hint // count)
            most = min(most, max(1, share)) if hint != 0 else most
        return Batch(active, best, self._post), min(most, _MOST)

    def give_again(self, active: ActiveJob, tasks: Iterable[tuple[int, Any]]) -> None:
        """Give to other processes, in the background, what one did not begin."""
        self._spawn(self.replace, active, tasks)

    # --- from one process to another

    def watch(self) -> None:
        """Look, a little later, whether a process hardly gets on while another one could take what waits there."""
        if self._timer is None and any(self._may_move(active) for active in self._actives.values()):
            self._timer = get_hub().schedule_call_global(_PATROL_S, self._rebalance)

    def _may_move(self, active: ActiveJob) -> bool:
        """Whether tasks of a job wait at a process, and slots stand idle at another."""
        if len(active.crew) < 2 or not any(link is not None and link.waiting(active) for link in active.crew):
            return False
        return any(
            link is not None and link.room(active, share) > 0 and link.held(active) < share
            for link, share in zip(active.crew, map(active.share, range(len(active.crew))), strict=True)
        )

    def _rebalance(self) -> None:
        """The hub calls this, so it must not wait."""
        self._timer = None
        for active in self._actives.values():
            if self._may_move(active):
                for link in active.crew:
                    if link is not None and link.waiting(active) and link.stands(active):
                        link.recall(active)
                        self._spawn(self._move, active, link)
        self.watch()

    def _move(self, active: ActiveJob, link: WorkerHandle) -> None:
        eventlet.sleep(_MOMENT_S)
        if not link.dead:
            self.replace(active, link.take_back(active))

    def _spawn(self, func: Callable[..., None], *args: Any) -> None:
        thread = eventlet.spawn(func, *args)
        self._moving.add(thread)
        thread.link(self._moving.discard)

    def _post(self, batch: Batch) -> None:
        """Send tasks to a process, or to another one if this has died meanwhile."""
        active, link = batch.active, batch.link
        if link.open and link in active.crew:
            link.post(active, active.share(active.crew.index(link)), batch.tasks, batch.parts)
            self.watch()
        else:
            self.give_again(active, batch.tasks)
