"""The green pool: tasks as green threads of this process.

A pool with `-c 500` is 500 long-lived green threads that pull from one job, not a green thread a task: a task then
costs a fraction of a microsecond beyond its own work. They take turns, see `greenlab.pools.fair_scheduler`. Above a
thousand they are made as all that there are have had a task, so a limit that is never reached costs nothing.

Each of them is a `WorkerGreenlet`, which has the job that it runs tasks of, and the task in hand.

Bound: a task is stopped, by its time limit or a kill, where it waits; one that computes without waiting is not.

Must not import: greening, runs, live, magics.
"""

from __future__ import annotations

import sys
from contextvars import copy_context
from time import perf_counter
from typing import TYPE_CHECKING, Any

import greenlet

from greenlab.errors import TaskTimeoutError
from greenlab.hub import current, eventlet, nested
from greenlab.hub.slices import SLICE_S
from greenlab.hub.worker_greenlet import NO_TASK, WorkerGreenlet
from greenlab.places import user_place
from greenlab.pools.fair_scheduler import FairScheduler
from greenlab.pools.protocol import InFlight, whole_of

if TYPE_CHECKING:
    from greenlab.hub import GuestHub
    from greenlab.pools.protocol import Job

_AT_ONCE = 1000


class GreenPool:
    """Runs tasks on the hub of this thread. It keeps nothing between runs."""

    name = "green"
    pids: tuple[int, ...] = ()

    def __init__(self) -> None:
        self._running: set[_Workers] = set()
        self._scheduler: FairScheduler | None = None

    @property
    def in_flight(self) -> int:
        """Tasks begun and not ended."""
        return sum(workers.in_flight for workers in self._running)

    def count(self, job: Job) -> int:
        """Count the tasks of one job that have begun and not ended."""
        return sum(workers.in_flight for workers in self._running if workers.job is job)

    def start(self, job: Job) -> None:
        """Do nothing: green threads are made as a run needs them."""

    def run(self, job: Job) -> None:
        """Run every task of `job`; wait for the last."""
        hub = current()
        if hub is None:
            raise RuntimeError("the green pool runs on greenlab's hub: call greenlab.start() first")
        if self._scheduler is None:
            self._scheduler = FairScheduler(hub)
        workers = _Workers(hub, job, self._scheduler)
        self._running.add(workers)
        try:
            workers.run()
        finally:
            self._running.discard(workers)

    def adjust(self, job: Job) -> None:
        """Start what is missing; those too many leave after their task."""
        for workers in self._running:
            if workers.job is job:
                workers.grow()

    def begun(self, job: Job) -> list[tuple[int, float]]:
        """List the tasks of a job, and when each began."""
        return [begun for workers in self._running if workers.job is job for begun in workers.begun()]

    def held(self, job: Job) -> list[InFlight]:
        """List the tasks of a job, and where each waits."""
        return [held for workers in self._running if workers.job is job for held in workers.held()]

    def kill(self, job: Job, index: int, error: BaseException) -> bool:
        """End one task where it waits."""
        return any(workers.kill_one(index, error) for workers in list(self._running) if workers.job is job)

    def close(self) -> None:
        """Kill what still runs."""
        for workers in list(self._running):
            workers.kill()


class _Workers:
    """The green threads of one job."""

    def __init__(self, hub: GuestHub, job: Job, scheduler: FairScheduler) -> None:
        self.hub = hub
        self.job = job
        self.in_flight = 0
        self._scheduler = scheduler
        self._queue = scheduler.join()
        self._greenlets: set[WorkerGreenlet] = set()
        self._fresh = 0  # those that have not had a task yet
        self._killed = False
        self._ended = eventlet.event.Event()

    def run(self) -> None:
        try:
            self.grow(1)
            self._ended.wait()
        finally:
            self.kill()
            self._scheduler.leave(self._queue)

    def grow(self, least: int = 0) -> None:
        """Start what is missing, where there may be work for it: the concurrency may be raised during the run."""
        hint, count = self.job.size_hint(), len(self._greenlets)
        wanted = min(self.job.concurrency - count, max(_AT_ONCE, count))
        for _ in range(max(least, wanted if hint is None else min(wanted, hint))):
            worker = WorkerGreenlet(whole_of(self.job), self._work, self.hub.greenlet)
            # A greenlet begins with an empty context, and output goes by it.
            worker.gr_context = copy_context()
            self._greenlets.add(worker)
            self._fresh += 1
            self._scheduler.start(self._queue, worker)

    def begun(self) -> list[tuple[int, float]]:
        return [(worker.index, worker.started_s) for worker in self._greenlets if worker.index != NO_TASK]

    def held(self) -> list[InFlight]:
        current = greenlet.getcurrent()
        return [
            InFlight(
                worker.index,
                worker.started_s,
                where=user_place(sys._getframe() if worker is current else worker.gr_frame),
            )
            for worker in self._greenlets
            if worker.index != NO_TASK
        ]

    def kill_one(self, index: int, error: BaseException) -> bool:
        for worker in self._greenlets:
            if worker.index == index:
                worker.kill_error = index, error
                self.hub.schedule_call_global(0, _throw_kill, self.hub, worker, index)
                return True
        return False

    def kill(self) -> None:
        self._killed = True
        self._queue.waiting.clear()
        for worker in list(self._greenlets):
            if worker:  # has begun
                nested.kill(self.hub, worker)
        self._greenlets.clear()

    def _work(self) -> None:
        me: Any = greenlet.getcurrent()
        try:
            self._loop(me)
        except greenlet.GreenletExit:
            if not self._killed:
                raise
        finally:
            self._greenlets.discard(me)
            if not self._greenlets and not self._ended.ready():
                self._ended.send(None)

    def _loop(self, me: WorkerGreenlet) -> None:
        job, hub = self.job, self.hub
        func, pull, succeed, fail = job.func, job.pull, job.succeed, job.fail
        if job.timeout_s is not None:
            func = _limited(func, job.timeout_s)
        greenlets, scheduler, queue = self._greenlets, self._scheduler, self._queue
        fresh = True
        while True:
            try:
                index, item = pull()
            except StopIteration:
                return
            self.in_flight += 1
            if fresh:
                fresh = False
                self._fresh -= 1
                if not self._fresh:
                    self.grow()
            started = perf_counter()
            me.started_s = started
            me.index = index
            try:
                # A context of its own: what one task sets, the next one in this green thread does not see.
                value = copy_context().run(func, item)
            except BaseException as error:
                me.index = NO_TASK
                if self._killed and isinstance(error, greenlet.GreenletExit):
                    raise
                ended = perf_counter()
                fail(index, started, ended, _error_of(me, index, error))
                del error
            else:
                me.index = NO_TASK
                ended = perf_counter()
                succeed(index, started, ended, value)
                del value
            finally:
                self.in_flight -= 1
            del item
            if ended - hub.turn_started_s > SLICE_S:
                scheduler.wait(queue)
            if len(greenlets) > job.concurrency:
                return


def _throw_kill(hub: GuestHub, worker: WorkerGreenlet, index: int) -> None:
    """Throw a kill into a green thread, if it still runs the task that was meant."""
    if worker.index == index:
        nested.throw(hub, worker, greenlet.GreenletExit)


def _error_of(worker: WorkerGreenlet, index: int, error: BaseException) -> BaseException:
    """Return what a task failed with: a kill comes as GreenletExit, which `except Exception` cannot swallow."""
    if worker.kill_error is None or worker.kill_error[0] != index or not isinstance(error, greenlet.GreenletExit):
        return error
    return worker.kill_error[1]


def _limited(func: Any, limit_s: float) -> Any:
    def call(item: Any) -> Any:
        error = TaskTimeoutError.after(limit_s)
        with eventlet.Timeout(limit_s, error):
            return func(item)

    return call
