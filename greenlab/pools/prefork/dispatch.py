"""From jobs to workers: which worker gets how many tasks, and what becomes of those that it did not begin.

Short tasks go ahead in batches, so that a worker has a few milliseconds of work waiting. Where one of them turns out
slow, or its worker is stopped, what waits behind it is recalled and goes to another worker.

Guarantees: a task is given to a second worker only when the first one has not begun it and never will; no timer
runs but while tasks wait behind one that runs and another worker could take them.
Must not import: runs, live, magics, eventlet.green.
"""

from __future__ import annotations

import itertools
import pickle
from typing import TYPE_CHECKING, Any, Final

from greenlab.hub import eventlet
from greenlab.pools.prefork.job import ActiveJob, Entry
from greenlab.pools.processes import dispatch, framing, serialization
from greenlab.pools.processes.framing import Bytes, Page, Parcel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from greenlab.pools.prefork.worker_handle import WorkerHandle
    from greenlab.pools.processes.supervisor import Supervisor

get_hub = eventlet.hubs.get_hub

_PATROL_S: Final = 0.016
"""How long a worker may stand still, at the least, before what waits there is recalled: twice the work that is sent
ahead, so that tasks as short as they were thought never meet it."""
_MOMENT_S: Final = 0.0015
"""How long a recall needs to be seen. The worker's word is in memory some nanoseconds after it was written."""


class Feeder(dispatch.Feeder[ActiveJob]):
    """Gives the tasks of jobs to the workers of a pool."""

    def __init__(self, fleet: Supervisor[WorkerHandle], actives: dict[int, ActiveJob], numbers: Iterator[int]) -> None:
        self._fleet = fleet
        self._actives = actives  # in the order of whose turn it is
        self._numbers = numbers
        self._timer: Any = None
        self._moving: set[Any] = set()  # green threads that move tasks

    def give_again(self, entries: Iterable[Entry]) -> None:
        """Give to other workers, in the background, what one did not begin."""
        shares: dict[int, list[Entry]] = {}
        for entry in entries:
            shares.setdefault(entry[0].number, []).append(entry)
        for share in shares.values():
            self._spawn(self.replace, share[0][0], [(index, item) for _, index, item in share])

    def watch(self) -> None:
        """Look, a little later, whether a worker stands still while tasks wait there that another could take."""
        links = self._fleet.processes
        if self._timer is None and len(links) > 1 and self._actives and any(map(self._may_move, links)):
            self._timer = get_hub().schedule_call_global(_PATROL_S, self._rebalance)

    def stop(self) -> None:
        """Leave no timer and no green thread; called when no job is active, or the pool closes."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for thread in list(self._moving):
            thread.kill()

    # --- to a worker

    def find_room(self, active: ActiveJob) -> tuple[Batch, int] | None:
        """Begin a batch for the worker that has most room; see `processes.feeding`."""
        link, room = self._find_room(self._fleet.processes, active)
        active.hungry = link is None and not self._is_full(self._fleet.processes, active)
        return None if link is None else (Batch(active, link, self._post), room)

    def _find_room(self, links: Sequence[WorkerHandle], active: ActiveJob) -> tuple[WorkerHandle | None, int]:
        """Find the worker that has most room for a job, and how many tasks it may be sent.

        A job is given no more workers than its concurrency; and no more are busy in all than the pool is to have,
        for the replacement of a worker that is about to leave is there before that has finished.
        """
        best, most = None, 0
        target, shared = self._fleet.target, len(self._actives) > 1
        full = self._is_full(links, active)
        crowded = target < len(links) and sum(bool(link.outstanding) for link in links) >= target
        kept = self._kept_for_others(links, active) if shared else ()
        for link in links:
            if link.open and not link.outbox and not (full and not link.holds(active)) and link not in kept:
                if crowded and not link.outstanding:
                    continue
                room = link.room(active, shared)
                if room > most:
                    best, most = link, room
        return best, most

    @staticmethod
    def _is_full(links: Sequence[WorkerHandle], active: ActiveJob) -> bool:
        """Whether a job has as many workers as it may have."""
        concurrency = active.job.concurrency
        return concurrency < len(links) and sum(link.holds(active) for link in links) >= concurrency

    def _kept_for_others(self, links: Sequence[WorkerHandle], active: ActiveJob) -> Sequence[WorkerHandle]:
        """Name the workers that jobs before this one wait for: a job of longer tasks needs one that has run empty.

        They are those that will be empty soonest, one for each job whose turn is before this one's.
        """
        before = itertools.takewhile(lambda other: other is not active, self._actives.values())
        count = sum(other.hungry and other.error is None for other in before)
        return sorted((link for link in links if link.open), key=lambda link: len(link.outstanding))[:count]

    def _post(self, batch: Batch) -> None:
        """Send tasks to a worker, or to another one if this has died or been given others meanwhile."""
        link, active = batch.link, batch.active
        most = active.job.max_tasks
        if not link.open or (most is not None and link.given + len(batch) > most):
            self.give_again(batch.entries())
            return
        if active.number not in link.jobs:
            link.jobs.add(active.number)
            link.page.skip[Page.flag_of(active.number)] = 0
            link.outbox.put(active.opening)
        link.outbox.put(batch.number(self._numbers))
        link.low = len(link.outstanding) // 2
        link.posts += 1
        link.given += len(batch)
        link.write()
        if len(self._actives) > 1:  # to the end of the queue
            self._actives[active.number] = self._actives.pop(active.number)
        if active.job.timeout_s is not None and link.timer is None:
            link.watch(active.job.timeout_s)
        self.retire_spent(link)
        self.watch()

    def retire_spent(self, link: WorkerHandle) -> None:
        """Let a worker leave that was given as many tasks as a present job allows; the next is forked meanwhile."""
        limits = [most for one in self._actives.values() if (most := one.job.max_tasks) is not None]
        if limits and link.given >= min(limits):
            self._fleet.retire(link)

    # --- from one worker to another

    def _may_move(self, link: WorkerHandle) -> bool:
        """Whether tasks wait at a worker, and another one could take them."""
        if link.silent or not link.has_queue:
            return False
        first = link.outstanding[next(reversed(link.outstanding))][0]
        others = [other for other in self._fleet.processes if other is not link]
        return self._find_room(others, first)[0] is not None

    def _rebalance(self) -> None:
        """The hub calls this, so it must not wait."""
        self._timer = None
        for link in self._fleet.processes:
            before, link.mark = link.mark, (link.page.taken[0], link.outbox.sent, link.posts)
            if before == link.mark and self._may_move(link):
                self._spawn(self._recall, link)
        self.watch()

    def _recall(self, link: WorkerHandle) -> None:
        link.recall()
        eventlet.sleep(_MOMENT_S)
        if not link.closed:
            self.give_again(link.take_back())

    def _spawn(self, func: Callable[..., None], *args: Any) -> None:
        thread = eventlet.spawn(func, *args)
        self._moving.add(thread)
        thread.link(self._moving.discard)


class Batch:
    """Tasks of one job on their way to one worker."""

    def __init__(self, active: ActiveJob, link: WorkerHandle, post: Callable[[Batch], None]) -> None:
        self.active = active
        self.link = link
        self._send = post
        self._posts = link.posts
        self._tasks: list[tuple[int, Any, Parcel | None]] = []  # without a parcel what shares a pickle with others

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def stale(self) -> bool:
        """Whether the worker died, or got tasks from elsewhere, since this batch was given its room."""
        return not self.link.open or self.link.posts != self._posts

    def add(self, index: int, item: Any) -> int:
        """Add a task; return how much room it took."""
        if serialization.is_plain(item):
            self._tasks.append((index, item, None))
            return 1
        parcel = self.active.pack(index, item)
        if parcel is None:
            return 0
        self._tasks.append((index, item, parcel))
        return 1 + parcel.size // 4096

    def post(self) -> None:
        """Send what is there. Never blocks: it is also what the hub calls while `pull` waits for an item."""
        if self._tasks:
            self._send(self)
            self._tasks = []
            self._posts = self.link.posts

    def entries(self) -> list[Entry]:
        """The tasks, as a link keeps them."""
        return [(self.active, index, item) for index, item, _ in self._tasks]

    def number(self, numbers: Iterator[int]) -> list[Bytes]:
        """Give each task its number, now that it is sent: so they rise in the order in which the worker sees them.

        Returns:
            the frames. The tasks are outstanding from now on.
        """
        active, outstanding, parts = self.active, self.link.outstanding, []
        plain: list[Any] = []
        number = 0
        for index, item, parcel in self._tasks:
            number = next(numbers)
            outstanding[number] = (active, index, item)
            if parcel is None:
                plain.append(item)
                continue
            if plain:
                parts += _frame_of_many(active, number - len(plain), plain)
                plain = []
            parts += self.link.outward.frame(framing.TASK, active.number, number, parcel)
        if plain:
            parts += _frame_of_many(active, number - len(plain) + 1, plain)
        return parts


def _frame_of_many(active: ActiveJob, first: int, items: list[Any]) -> list[Bytes]:
    return framing.frame(framing.BATCH, active.number, first, Parcel(framing.PICKLED, [pickle.dumps(items, 5)]))
