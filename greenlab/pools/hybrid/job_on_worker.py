"""What one process of the hybrid pool has of one job: its tasks there, and how many more it may be sent.

Guarantees: nothing here waits.
Must not import: runs, live, magics, eventlet.green.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from greenlab.hub import eventlet
from greenlab.pools.processes.pace import Pace

if TYPE_CHECKING:
    from collections.abc import Iterable

    from greenlab.pools.hybrid.job import ActiveJob

Event = eventlet.event.Event

_AHEAD_S: Final = 0.025
"""How much work a process may have waiting: more than what a result needs to the kernel and the next task back, where
both wait for the processor, or else slots stand idle. What lies behind tasks that turn out slow is recalled."""
_MOST_AHEAD: Final = 512
_MEMORY_S: Final = 0.05  # over how long the pace of a process is measured

Entry: TypeAlias = tuple[int, float, Any]
"""A task at a process: the how-manieth of its job there, when it was sent, and its item."""


class JobOnWorker:
    """What one process has of one job.

    Attributes:
        slot: where the process counts its tasks, see `Marks`.
        share: how many tasks it was told to have in flight.
        outstanding: the tasks that were sent and have not ended, by index.
        ended: an event that comes when nothing of the job runs there any more.
        seen: how many had begun when that was last looked at.
        recalled: whether tasks were recalled, and the process has said nothing since.
    """

    def __init__(self, active: ActiveJob, slot: int, share: int) -> None:
        self.active = active
        self.slot = slot
        self.share = share
        self.outstanding: dict[int, Entry] = {}
        self.ended = Event()
        self.seen = 0
        self.recalled = False
        self._sent = 0
        self._pace = Pace(_MEMORY_S)
        self._task_s = 0.0  # how long a task takes, of late

    @property
    def sent(self) -> int:
        """How many tasks were sent so far."""
        return self._sent

    def note_sent(self, tasks: Iterable[tuple[int, Any, Any]]) -> None:
        """Keep tasks (index, item, parcel) that are sent now."""
        now_s, sent, outstanding = perf_counter(), self._sent, self.outstanding
        for index, item, _ in tasks:
            sent += 1
            outstanding[index] = (sent, now_s, item)
        self._sent = sent

    def note_ends(self, count: int, duration_s: float) -> None:
        """Measure the pace, and how long the tasks took, all together."""
        self._pace.note(count)
        self._task_s += min(1.0, count / self.share) * (duration_s / count - self._task_s)

    @property
    def _ahead(self) -> int:
        """How many tasks may wait there, beyond those that are in flight.

        Of tasks that take long, many may end at once: it is by Little's law that these are not many a second.
        """
        return min(_MOST_AHEAD, int(_AHEAD_S * min(self._pace.now, self.share / max(self._task_s, 1e-9))))

    @property
    def room(self) -> int:
        """How many tasks may be sent now; 0 also when so few may that it is better to wait."""
        ahead = self._ahead
        count = len(self.outstanding)
        room = self.share + ahead - count
        return room if count < self.share or 2 * room >= max(ahead, 1) else 0
