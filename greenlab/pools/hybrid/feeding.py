"""From jobs to processes: which process gets how many tasks, and what becomes of those that it never had.

Guarantees: those of `processes.feeding`; the process that holds fewest tasks of a job gets the next ones.
Must not import: runs, live, magics, eventlet.green.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from greenlab.hub import eventlet
from greenlab.pools.hybrid.job import Active, Batch
from greenlab.pools.processes import feeding

if TYPE_CHECKING:
    from collections.abc import Iterable

    from greenlab.pools.hybrid.link import Link


class Feeder(feeding.Feeder[Active]):
    """Gives the tasks of jobs to the processes of their crews."""

    def find_room(self, active: Active) -> tuple[Batch, int] | None:
        """Begin a batch for the process that holds fewest tasks; see `processes.feeding`."""
        best: Link | None = None
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
            most = min(most, max(1, most // 8 if hint is None else -(-hint // count)))
        return Batch(active, best, self._post), most

    def give_again(self, active: Active, tasks: Iterable[tuple[int, Any]]) -> None:
        """Give to other processes, in the background, what one did not begin."""
        eventlet.spawn(self.replace, active, tasks)

    def _post(self, batch: Batch) -> None:
        """Send tasks to a process, or to another one if this has died meanwhile."""
        active, link = batch.active, batch.link
        if link.open and link in active.crew:
            link.post(active, active.share(active.crew.index(link)), batch.tasks, batch.parts)
        else:
            self.give_again(active, batch.tasks)
