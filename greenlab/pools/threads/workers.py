"""The threads of one run, and the hub's side of them: they take tasks from one queue, which the hub's thread feeds.

What has ended reaches the hub through its wake-up queue: one wake-up for many ends.

Guarantees:

* whether a task ended or was given up is decided on the hub's thread alone, so each task ends exactly once;
* short tasks wait ready in the queue, a few milliseconds of work at the most; longer ones are pulled as they start;
* while tasks wait, there are as many threads as are of use: those that left or were given up are replaced, and
  where tasks only seemed tiny, more are started within some 30 ms.

Must not import: runs, live, magics.
"""

from __future__ import annotations

import _queue  # the C queue, which the greening does not replace
import contextlib
import ctypes
import itertools
import sys
import threading
from collections import deque
from contextvars import Context, copy_context
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from greenlab.errors import GreenlabError, TaskTimeoutError
from greenlab.greening import native
from greenlab.hub import eventlet
from greenlab.hub.slices import SLICE_S
from greenlab.hub.worker_greenlet import NO_TASK
from greenlab.places import user_place
from greenlab.pools.protocol import InFlight

if TYPE_CHECKING:
    from collections.abc import Callable

    from greenlab.hub import GuestHub
    from greenlab.pools.protocol import Job

_AHEAD_S: Final = 0.002  # how much work the queue may hold for each thread
_OVERHEAD_S: Final = 5e-6  # what a task costs besides its own time
_MOST_AHEAD: Final = 256
_TINY_S: Final = 50e-6
_FEW: Final = 2
_LOOK_S: Final = 0.01  # between two looks whether tasks begin, while some wait; tiny ones begin in any case
_numbers = itertools.count(1)


class TaskStopped(BaseException):  # an Exception might be swallowed by the task
    """Raised in the thread of a task that was killed or whose run was cancelled."""


class _Worker:
    """One thread of a job, as both sides see it.

    Attributes:
        token: the index of the task in hand, in a list: the side that takes it out of there, the thread when the task
            has ended or the hub when it gives the task up, decides how it ended. None between two tasks.
        started_s: when the task in hand began.
    """

    def __init__(self, workers: Workers) -> None:
        self.token: list[int] | None = None
        self.started_s = 0.0
        self.thread = threading.Thread(
            target=self._work, args=(workers,), name=f"greenlab-{next(_numbers)}", daemon=True
        )

    @property
    def index(self) -> int:
        """The index of the task in hand, or `NO_TASK`."""
        token = self.token
        try:
            return token[0] if token is not None else NO_TASK
        except IndexError:  # it has just ended
            return NO_TASK

    def take(self, index: int) -> bool:
        """Take the end of a task away from the thread, if it has not come to it."""
        token = self.token
        try:
            return token is not None and token[0] == index and token.pop() == index
        except IndexError:
            return False

    def _work(self, workers: Workers) -> None:
        """Run tasks until there is a None in the queue, or the task in hand was given up."""
        try:
            self._serve(workers, workers.todo.get, workers.report, workers.func, workers.context)
        except (TaskStopped, TaskTimeoutError):
            if self.token:  # the task was not given up
                raise

    def _serve(
        self, workers: Workers, get: Callable[[], Any], report: Callable[[_End], None], func: Any, context: Context
    ) -> None:
        clock = perf_counter
        while (task := get()) is not None:
            index, item = task
            self.started_s = started_s = clock()
            self.token = token = [index]
            if workers.closed:  # while it had the task in hand, and the token was not seen
                return
            value = failure = None
            try:
                # A copy for each task: what one sets, the next one does not see; and two threads cannot share one.
                value = context.copy().run(func, item)
            except BaseException as error:
                failure = error
            ended_s = clock()
            try:
                token.pop()
            except IndexError:
                return
            self.token = None
            report((self, index, started_s, ended_s, value, failure))
            del task, item, value, failure
        report((self, NO_TASK, 0.0, 0.0, None, None))


_End = tuple[_Worker, int, float, float, Any, BaseException | None]


class Workers:
    """The threads of one job. Everything but `report` is for the hub's thread."""

    def __init__(self, hub: GuestHub, job: Job) -> None:
        self.job = job
        self.func = job.func
        self.context = copy_context()
        self.todo: _queue.SimpleQueue[Any] = _queue.SimpleQueue()
        self._hub = hub
        self._workers: set[_Worker] = set()
        self._ended: deque[_End] = deque()
        self._collect_due = False
        self._unfinished = 0  # tasks that were put into the queue and have not ended
        self._leaving = 0  # threads that were asked to leave and have not yet
        self._task_s = -1.0
        self.closed = False
        self._error: BaseException | None = None
        self._event: Any = None
        self._timer: Any = None
        self._look: Any = None
        self._looks = 0  # during which no task has begun
        self._began_s = 0.0

    @property
    def busy(self) -> int:
        """Tasks begun and not ended."""
        return sum(worker.index != NO_TASK for worker in self._workers)

    def run(self) -> None:
        """Feed the queue until the job has no more, and all has ended."""
        while self._feed():  # a job may have more to pull once a task has ended: a retry
            while self._unfinished:
                self._wait()

    def _feed(self) -> bool:
        pull, put, fed = self.job.pull, self.todo.put, False
        while True:
            while self._unfinished >= self._room():
                self._wait()
            try:
                task = pull()
            except StopIteration:
                return fed
            fed = True
            self._unfinished += 1
            if self._ended:  # what a task takes decides whether another thread is of use
                self._collect()
            self._start_missing()
            put(task)
            if self.job.timeout_s is not None and self._timer is None:
                self._watch(self.job.timeout_s)
            if perf_counter() - self._hub.turn_started_s > SLICE_S:  # a thread takes a while to start
                eventlet.sleep(0)

    def _room(self) -> int:
        """Return how many tasks may be begun or wait in the queue."""
        if self._error is not None:
            raise self._error
        ahead = 0
        if self._task_s >= 0:
            ahead = int(_AHEAD_S / (self._task_s + _OVERHEAD_S)) * max(1, len(self._workers))
        return self.job.concurrency + min(_MOST_AHEAD, ahead)

    def _wanted(self) -> int:
        """Return how many threads are of use: tasks that take less than to wake a thread need few."""
        few = 0 <= self._task_s < _TINY_S
        return min(_FEW, self.job.concurrency) if few else self.job.concurrency

    def _start_missing(self) -> None:
        """Start the threads that are of use; also where others have left, or were given up, while tasks wait."""
        while len(self._workers) < min(self._unfinished, self._wanted()):
            worker = _Worker(self)
            try:
                with native():  # the new thread says that it has begun, by a lock that is ours to wait for
                    worker.thread.start()
            except RuntimeError as error:  # the system has no more: go on with those that there are
                if not self._workers:
                    self.stop(GreenlabError(f"no thread for the tasks: {error}"))
                return
            self._workers.add(worker)
            if perf_counter() - self._hub.turn_started_s > SLICE_S:
                break
        if self._look is None and len(self._workers) < min(self._unfinished, self.job.concurrency):
            self._look = self._hub.schedule_call_global(_LOOK_S, self._look_again)

    def _look_again(self) -> None:
        """See whether tasks wait behind some that only seemed tiny. The hub calls this, so it must not wait."""
        self._look = None
        began_s = max((worker.started_s for worker in self._workers), default=0.0)
        self._looks = self._looks + 1 if began_s == self._began_s else 0
        self._began_s = began_s
        if self._looks > 1:  # two, for at one the hub may have held the GIL
            self._task_s = max(self._task_s, perf_counter() - began_s)
        self._start_missing()

    def adjust(self) -> None:
        """Ask threads that are too many to leave."""
        for _ in range(len(self._workers) - self._leaving - self.job.concurrency):
            self._leaving += 1
            self.todo.put(None)
        self._go_on()

    # -- what has ended ------------------------------------------------------------------------------------

    def report(self, end: _End) -> None:
        """Have the hub's side collect how a task ended. Called in its thread."""
        self._ended.append(end)
        # The hub's side lowers the flag before it empties the queue, so an end is never left uncollected.
        if not self._collect_due:
            self._collect_due = True
            self._hub.call_soon_threadsafe(self._collect)

    def _collect(self) -> None:
        """Take what has ended, and go on. The hub calls this, so it must not wait."""
        self._collect_due = False
        if not self.closed:
            self._take_ends()
            self._go_on()

    def _take_ends(self) -> None:
        ended, job = self._ended, self.job
        while ended:
            worker, index, started_s, ended_s, value, error = ended.popleft()
            if index == NO_TASK:
                self._workers.discard(worker)
                self._leaving -= 1
                continue
            self._unfinished -= 1
            self._learn(ended_s - started_s)
            if error is None:
                job.succeed(index, started_s, ended_s, value)
            else:
                job.fail(index, started_s, ended_s, error)
            del value, error

    def _go_on(self) -> None:
        self._start_missing()
        self._wake()

    def _learn(self, taken_s: float) -> None:
        """Learn how long tasks take: rises at once and falls slowly, since slow tasks must not be pulled ahead."""
        self._task_s = max(taken_s, self._task_s + 0.25 * (taken_s - self._task_s)) if self._task_s >= 0 else taken_s

    # -- what is given up ----------------------------------------------------------------------------------

    def give_up(self, index: int, error: BaseException) -> bool:
        """Fail a task now; in its thread an exception is raised, as soon as that can be."""
        for worker in self._workers:
            if worker.take(index):
                self._abandon(worker, TaskTimeoutError if isinstance(error, TaskTimeoutError) else TaskStopped)
                self._unfinished -= 1
                self.job.fail(index, worker.started_s, perf_counter(), error)
                self._go_on()
                return True
        return False

    def _abandon(self, worker: _Worker, kind: type[BaseException]) -> None:
        self._workers.discard(worker)
        ident = worker.thread.ident
        if ident is not None:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(kind))

    def _watch(self, left_s: float) -> None:
        self._timer = self._hub.schedule_call_global(left_s, self._check_time)

    def _check_time(self) -> None:
        """The hub calls this, so it must not wait."""
        self._timer = None
        limit_s = self.job.timeout_s
        if limit_s is None or not self._unfinished:
            return
        now_s, left_s = perf_counter(), limit_s
        for worker in list(self._workers):
            index, started_s = worker.index, worker.started_s
            if index == NO_TASK:
                continue
            if started_s + limit_s <= now_s:
                self.give_up(index, TaskTimeoutError.after(limit_s))
            else:
                left_s = min(left_s, started_s + limit_s - now_s)
        self._watch(left_s)

    def stop(self, error: BaseException) -> None:
        """Make `run` raise."""
        self._error = error
        self._wake()

    def end(self) -> None:
        """Have the threads leave; those that are in a task are given up."""
        self._take_ends()
        self.closed = True
        for timer in (self._timer, self._look):
            if timer is not None:
                timer.cancel()
        for worker in list(self._workers):
            if worker.take(worker.index):
                self._abandon(worker, TaskStopped)
        while not self.todo.empty():  # a thread may be faster
            with contextlib.suppress(_queue.Empty):
                self.todo.get_nowait()
        for _ in self._workers:
            self.todo.put(None)
        self._workers.clear()

    # -- waiting -------------------------------------------------------------------------------------------

    def _wait(self) -> None:
        if self._error is not None:
            raise self._error
        self._event = eventlet.event.Event()
        self._event.wait()

    def _wake(self) -> None:
        if self._event is not None:
            event, self._event = self._event, None
            event.send(None)

    def begun(self) -> list[tuple[int, float]]:
        """List the tasks begun, and when."""
        found = [(worker.index, worker.started_s) for worker in self._workers]
        return [(index, started_s) for index, started_s in found if index != NO_TASK]

    def held(self) -> list[InFlight]:
        """List the tasks begun, and where each stands."""
        frames = sys._current_frames()
        found = []
        for worker in self._workers:
            index, thread = worker.index, worker.thread
            if index != NO_TASK:
                place = user_place(frames.get(thread.ident or 0))
                found.append(InFlight(index, worker.started_s, thread.native_id, place))
        return found
