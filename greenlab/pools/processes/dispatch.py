"""From jobs to worker processes: tasks are pulled as there is room for them, and travel in batches.

Each pool says which worker has how much room, and from which of them what waits there is to be recalled.

Guarantees:

* nothing is pulled that no worker has room for, and what has been pulled never waits for an item that is late;
* a task is given to a second worker only when the first one has not begun it and never will;
* a task for which there is no way any more stops its run;
* no timer runs but while tasks wait at one worker and another one could take them.

Must not import: runs, live, magics, eventlet.green.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from greenlab.hub import eventlet
from greenlab.pools.processes import serialization
from greenlab.pools.processes.job import ActiveJob

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from greenlab.pools.processes.framing import Parcel
    from greenlab.pools.processes.round_robin import RoundRobin

get_hub = eventlet.hubs.get_hub
GreenletExit = eventlet.greenlet.GreenletExit

_REBALANCE_S: Final = 0.016
"""How long a worker may stand still, at the least, before what waits there is recalled: twice the work that prefork
sends ahead, so that tasks as short as they were thought never meet it."""
_MOMENT_S: Final = 0.0015
"""How long a recall needs to be seen. The worker's word is in memory some nanoseconds after it was written."""

A = TypeVar("A", bound=ActiveJob)


class Batch(Generic[A]):
    """Tasks of one job on their way to one worker.

    Attributes:
        active: the job.
        handle: the worker's handle.
        tasks: index, item, and the item's own parcel; None for one that shares a pickle with others.
    """

    def __init__(self, active: A, handle: Any, send: Callable[[Batch[A]], None]) -> None:
        self.active = active
        self.handle = handle
        self.tasks: list[tuple[int, Any, Parcel | None]] = []
        self._send = send
        self._posts = handle.posts

    def __len__(self) -> int:
        return len(self.tasks)

    @property
    def stale(self) -> bool:
        """Whether the room that this batch was given says nothing any more.

        The worker has died, or got tasks from elsewhere, or from this batch.
        """
        return not self.handle.takes_tasks or self.handle.posts != self._posts

    def add(self, index: int, item: Any) -> int:
        """Add a task; return how much room it took."""
        if serialization.is_plain(item):
            self.tasks.append((index, item, None))
            return 1
        parcel = self.active.pack(index, item)
        if parcel is None:
            return 0
        self.tasks.append((index, item, parcel))
        return 1 + parcel.size // 4096

    def post(self) -> None:
        """Send what is there. Never blocks: it is also what the hub calls while `pull` waits for an item."""
        self._posts = -1  # it was given its room once
        if self.tasks:
            self._send(self)
            self.tasks = []


class Dispatcher(Generic[A]):
    """Sends the tasks of jobs to the workers of a pool.

    Args:
        jobs: those that run, in the order of whose turn it is.
    """

    def __init__(self, jobs: RoundRobin[A]) -> None:
        self._jobs = jobs
        self._timer: Any = None
        self._moving: set[Any] = set()  # green threads that move tasks

    # --- what each pool knows better

    def find_room(self, active: A) -> tuple[Batch[A], int] | None:
        """Begin a batch for the worker that shall have tasks next; say how many. None if there is no room now."""
        raise NotImplementedError

    def may_move(self) -> bool:
        """Whether tasks wait at a worker while another one could take them."""
        raise NotImplementedError

    def stalled(self) -> Sequence[tuple[Any, ...]]:
        """List the workers that have stood still since the last time while another one could take what waits there.

        Returns:
            the arguments with which each is recalled: its handle, and what `recall` and `take_back` of that take.
        """
        raise NotImplementedError

    # --- from a job to workers

    def feed(self, active: A) -> bool:
        """Hand out tasks until the job has no more now; return whether there were any."""
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

    def give_again(self, tasks: Iterable[tuple[A, int, Any]]) -> None:
        """Hand tasks (job, index, item) to other workers, in the background: the one that had them began none."""
        by_job: dict[A, list[tuple[int, Any]]] = {}
        for active, index, item in tasks:
            by_job.setdefault(active, []).append((index, item))
        for active, of_job in by_job.items():
            self._spawn(self._give_again, active, of_job)

    def _give_again(self, active: A, tasks: Iterable[tuple[int, Any]]) -> None:
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

    def _await_room(self, active: A) -> tuple[Batch[A], int]:
        while True:
            if active.error is not None:
                raise active.error
            found = self.find_room(active)
            if found is not None:
                return found
            active.wait()

    def send(self, batch: Batch[A]) -> None:
        """Send tasks to a worker, or to another one if this has died or been given others meanwhile."""
        if not batch.handle.accepts(batch):
            self.give_again((batch.active, index, item) for index, item, _ in batch.tasks)
            return
        batch.handle.post(batch)
        self._jobs.had_turn(batch.active)
        self.watch()

    def wake(self) -> None:
        """Have every job look for room again."""
        for active in self._jobs:
            active.wake()
        self.watch()

    # --- from one worker to another

    def watch(self) -> None:
        """Look, a little later, whether a worker stands still while tasks wait there that another one could take."""
        if self._timer is None and self._jobs and self.may_move():
            self._timer = get_hub().schedule_call_global(_REBALANCE_S, self._rebalance)

    def _rebalance(self) -> None:
        """The hub calls this, so it must not wait."""
        self._timer = None
        for handle, *what in self.stalled():
            handle.recall(*what)
            self._spawn(self._take_back, handle, *what)
        self.watch()

    def _take_back(self, handle: Any, *what: Any) -> None:
        eventlet.sleep(_MOMENT_S)
        if not handle.is_dead:  # else its tasks are accounted for with its death
            self.give_again(handle.take_back(*what))

    def _spawn(self, func: Callable[..., None], *args: Any) -> None:
        thread = eventlet.spawn(func, *args)
        self._moving.add(thread)
        thread.link(self._moving.discard)

    def stop(self) -> None:
        """Leave no timer and no green thread; called when no job runs, or the pool closes."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for thread in list(self._moving):
            thread.kill()
