"""A job of the kernel, as a process of the hybrid pool has it: the green pool there runs it as any other.

Guarantees:

* a task is counted as begun (see `Marks`) before anything of it happens, its function's imports and the unpickling
  of its item too: what ends the process is always a task that had begun;
* no more tasks are in flight than the share, also while more are waiting here;
* whatever a task raises is its own failure.

Must not import: runs, live, magics.
"""

from __future__ import annotations

import os
import pickle
from collections import deque
from math import inf
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, Protocol

import greenlet

from greenlab.hub import eventlet
from greenlab.pools.hybrid import frames
from greenlab.pools.hybrid.output import this_task
from greenlab.pools.processes import framing, serialization
from greenlab.pools.processes.environment import Arrivals, raiser
from greenlab.pools.processes.framing import Bytes, Parcel
from greenlab.pools.processes.remote_task import Killed, Packed, dump_task_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from greenlab.hub import GuestHub
    from greenlab.hub.blocks import Block
    from greenlab.pools.hybrid.frames import Marks

_BRIEF_S: Final = 5e-5  # tasks shorter than this are done by one green thread, one after another
_LONG: Final = 8192  # above this, text and bytes travel by themselves


class WorkerCallbacks(Protocol):
    """Where a job's tasks come from, and their ends go."""

    hub: GuestHub
    forked: bool
    arrivals: Arrivals

    def send(self, parts: list[Bytes]) -> None:
        """Send a frame, with the next post."""

    def post_soon(self, job: RemoteJob, now_s: float) -> None:
        """See to it that the job's results are sent."""

    def end_output(self, task: tuple[Any, int]) -> None:
        """Send what the task has printed and not ended with a line end."""


class RemoteJob:
    """The `Job` that the green pool of this process runs.

    Args:
        worker: where results go.
        number: the job's number.
        marks: where to count tasks that have begun, and to see what is recalled; `slot` is the place.
        share: how many tasks may be in flight here.
        timeout_s: how long one may take, or None.
        body: the pickled setting and function.
    """

    workers = 1
    max_tasks = max_memory = None

    def __init__(
        self,
        worker: WorkerCallbacks,
        number: int,
        marks: Marks,
        slot: int,
        share: int,
        timeout_s: float | None,
        body: Bytes,
    ) -> None:
        self.number = number
        self.concurrency = share
        self.timeout_s = timeout_s
        self.ended = False
        self.inside = 0  # tasks whose function has been called and has not returned
        self.when_empty: Callable[[], object] | None = None
        self._worker = worker
        self._marks, self._slot = marks, slot
        self._body: Bytes = body
        self._func: Any = None
        self._opening = eventlet.semaphore.Semaphore(1)
        self._queue: deque[tuple[int, Any] | None] = deque()
        self._idle: list[Any] = []  # green threads that wait for a task
        self._woken: set[Any] = set()
        self._pulled = self._running = 0
        self._task_s = 1.0
        self._results: tuple[list[int], list[float], list[float], list[Any]] = ([], [], [], [])

    # --- what the green pool calls

    @property
    def func(self) -> Any:
        """The function, once it has been unpickled."""
        return self._call

    @property
    def has_more(self) -> bool:
        """Whether tasks wait here."""
        return bool(self._queue)

    def size_hint(self) -> int | None:
        """Return more than have come: more may come."""
        return len(self._queue) + 1

    def write(self, stream: str, text: str, index: int | None = None) -> None:
        """Do nothing: here tasks print for themselves."""

    def note_block(self, block: Block) -> None:
        """Send it to the kernel."""
        self._worker.send(
            framing.frame(frames.BLOCKED, self.number, 0, Parcel(framing.PICKLED, [pickle.dumps(block, 5)]))
        )
        self._worker.post_soon(self, perf_counter())

    def pull(self) -> tuple[int, Any]:
        """Take the next task, or wait for one."""
        queue, marks, slot = self._queue, self._marks, self._slot
        while True:
            if queue and self._running < self.concurrency:
                task = queue.popleft()
                self._pulled += 1
                marks.begun[slot] = self._pulled
                if self._pulled <= marks.recall[slot]:
                    self._return(task)
                    continue
                if task is None:  # killed while it waited
                    continue
                self._running += 1
                marks.running[slot] = self._running
                if queue and self._idle:
                    self.wake()
                if self._func is None:
                    self._open()
                return task
            if self.ended:
                raise StopIteration
            if self._worker.forked:  # a task has forked, and this is what came of it
                os._exit(1)
            self._wait()

    def succeed(self, index: int, started_s: float, ended_s: float, value: Any) -> None:
        """Send a result: a small one together with others."""
        duration_s = ended_s - started_s
        self._task_s += 0.1 * (duration_s - self._task_s) if duration_s < self._task_s else duration_s - self._task_s
        self._end(index)
        if self.ended:
            return
        if serialization.is_plain(value) and (type(value) not in (str, bytes) or len(value) < _LONG):
            indexes, starts, ends, values = self._results
            indexes.append(index)
            starts.append(started_s)
            ends.append(ended_s)
            values.append(value)
        else:
            self._send_by_itself(index, started_s, ended_s, value)
        self._worker.post_soon(self, ended_s)

    def fail(self, index: int, started_s: float, ended_s: float, error: BaseException) -> None:
        """Send an error."""
        self._end(index)
        if self.ended:
            return
        if isinstance(error, Killed):
            self._send_killed(index, started_s, ended_s)
        else:
            self._send_error(index, started_s, ended_s, error)
        self._worker.post_soon(self, ended_s)

    # --- what the kernel says

    def add(self, tasks: list[tuple[int, Any]]) -> None:
        """Take more tasks."""
        self._queue.extend(tasks)
        self.wake()

    def kill_waiting(self, index: int) -> bool:
        """End a task that has not begun; return whether there was one."""
        for i, task in enumerate(self._queue):
            if task is not None and task[0] == index:
                self._queue[i] = None  # it still counts, when its turn comes
                now_s = perf_counter()
                self._send_killed(index, now_s, now_s)
                return True
        return False

    def stop(self) -> None:
        """Have no more tasks."""
        self.ended = True
        self._queue.clear()

    def take_results(self) -> list[Bytes]:
        """Return the frame of the results that wait to be sent."""
        if not self._results[0]:
            return []
        body = pickle.dumps(self._results, 5)
        self._results = ([], [], [], [])
        return framing.frame(frames.RESULTS, self.number, 0, Parcel(framing.PICKLED, [body]))

    def wake(self) -> None:
        """Wake green threads that wait: as many as there are tasks; one, which wakes the next, for brief ones."""
        wanted = min(len(self._queue), self.concurrency - self._running)
        if self._task_s < _BRIEF_S:
            wanted = min(wanted, 1)
        for _ in range(min(wanted - len(self._woken), len(self._idle))):
            thread = self._idle.pop()
            self._woken.add(thread)
            self._worker.hub.schedule_call_global(0, self._resume, thread)

    # --- inside

    def _resume(self, thread: Any) -> None:
        if thread in self._woken:  # else it was killed meanwhile
            thread.switch()

    def _wait(self) -> None:
        me = greenlet.getcurrent()
        self._idle.append(me)
        try:
            self._worker.hub.switch()
        finally:
            if me in self._woken:
                self._woken.discard(me)
            else:
                self._idle.remove(me)

    def _return(self, task: tuple[int, Any] | None) -> None:
        """Send which tasks are not begun, being recalled: this one, and those behind it."""
        queue, recall, returned = self._queue, self._marks.recall[self._slot], []
        while True:
            if task is not None:
                returned.append((task[0], self._pulled))
            if not queue or self._pulled >= recall:
                break
            task = queue.popleft()
            self._pulled += 1
        self._marks.begun[self._slot] = self._pulled
        parcel = Parcel(framing.PICKLED, [pickle.dumps(returned, 5)])
        self._worker.send(framing.frame(frames.RETURNED, self.number, 0, parcel))
        self._worker.post_soon(self, perf_counter())

    def _call(self, item: Any) -> Any:
        me: Any = greenlet.getcurrent()
        this_task.set((self, me.index))
        self.inside += 1
        try:
            if type(item) is Packed:
                item = item.load(self._worker.arrivals.knows)
            if self.timeout_s is None:
                return self._func(item)
            me.until_s = perf_counter() + self.timeout_s
            return self._func(item)
        finally:
            me.until_s = inf
            self.inside -= 1
            if self.when_empty is not None and not self.inside:
                self.when_empty()

    def _open(self) -> None:
        """Unpickle the function, in none of its tasks' time, but after the first of them has begun."""
        with self._opening:
            if self._func is not None:
                return
            try:
                self._func = self._worker.arrivals.unpack(*pickle.loads(self._body))
            except greenlet.GreenletExit:
                raise
            except BaseException as error:
                self._func = raiser(error)
            self._body = b""

    def _end(self, index: int) -> None:
        self._running -= 1
        self._marks.running[self._slot] = self._running
        self._worker.end_output((self, index))
        if self._queue and self._idle:  # the caller may be one too many, and leave
            self.wake()

    def _send_by_itself(self, index: int, started_s: float, ended_s: float, value: Any) -> None:
        try:
            parcel = serialization.dump(value)
        except BaseException as cause:
            self._send_error(index, started_s, ended_s, serialization.unsendable_result(value, cause))
            return
        self._worker.send(framing.frame(framing.RESULT, self.number, index, parcel, (started_s, ended_s)))

    def _send_error(self, index: int, started_s: float, ended_s: float, error: BaseException) -> None:
        parcel = dump_task_error(error)
        self._worker.send(framing.frame(framing.ERROR, self.number, index, parcel, (started_s, ended_s)))

    def _send_killed(self, index: int, started_s: float, ended_s: float) -> None:
        self._worker.send(
            framing.frame(frames.KILLED, self.number, index, Parcel(framing.NOTHING, []), (started_s, ended_s))
        )
