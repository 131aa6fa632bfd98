"""The green pool: tasks as green threads of this process.

A pool with `-c 500` is 500 long-lived green threads that pull from one job, not a green thread a task: a task then
costs a fraction of a microsecond beyond its own work. They take turns, see `greenlab.pools.fair_scheduler`. Above a
thousand they are made as all that there are have had a task, so a limit that is never reached costs nothing.

Each of these green threads has attributes that tell what it does: `greenlab_job`, `greenlab_index` (-1 between two
tasks) and `greenlab_started_s`.

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
from greenlab.places import user_place
from greenlab.pools.fair_scheduler import FairScheduler
from greenlab.pools.protocol import InFlight, whole_of

if TYPE_CHECKING:
    from greenlab.hub import GuestHub
    from greenlab.pools.protocol import Job

_NONE = -1
_AT_ONCE = 1000


class GreenPool:
    """Runs tasks on the hub of this thread. It keeps nothing between runs."""

    name = "green"

    def __init__(self) -> None:
        self._crews: set[_Workers] = set()
        self._gate: FairScheduler | None = None

    @property
    def in_flight(self) -> int:
        """Tasks begun and not ended."""
        return sum(crew.in_flight for crew in self._crews)

    def count(self, job: Job) -> int:
        """Count the tasks of one job that have begun and not ended."""
        return sum(crew.in_flight for crew in self._crews if crew.job is job)

    def start(self, job: Job) -> None:
        """Do nothing: green threads are made as a run needs them."""

    def run(self, job: Job) -> None:
        """Run every task of `job`; wait for the last."""
        hub = current()
        if hub is None:
            raise RuntimeError("the green pool runs on greenlab's hub: call greenlab.start() first")
        if self._gate is None:
            self._gate = FairScheduler(hub)
        crew = _Workers(hub, job, self._gate)
        self._crews.add(crew)
        try:
            crew.run()
        finally:
            self._crews.discard(crew)

    def adjust(self, job: Job) -> None:
        """Hire what is missing; those too many leave after their task."""
        for crew in self._crews:
            if crew.job is job:
                crew.grow()

    def held(self, job: Job) -> list[InFlight]:
        """List the tasks of a job, and where each waits."""
        return [held for crew in self._crews if crew.job is job for held in crew.held()]

    def kill(self, job: Job, index: int, error: BaseException) -> bool:
        """End one task where it waits."""
        return any(crew.kill_one(index, error) for crew in list(self._crews) if crew.job is job)

    def close(self) -> None:
        """Kill what still runs."""
        for crew in list(self._crews):
            crew.kill()


class _Workers:
    """The green threads of one job."""

    def __init__(self, hub: GuestHub, job: Job, gate: FairScheduler) -> None:
        self.hub = hub
        self.job = job
        self.in_flight = 0
        self._gate = gate
        self._line = gate.join()
        self._greenlets: set[Any] = set()
        self._fresh = 0  # those that have not had a task yet
        self._killed = False
        self._ended = eventlet.event.Event()

    def run(self) -> None:
        try:
            self.grow(1)
            self._ended.wait()
        finally:
            self.kill()
            self._gate.leave(self._line)

    def grow(self, least: int = 0) -> None:
        """Hire what is missing, where there may be work for it: the concurrency may be raised during the run."""
        hint, count = self.job.size_hint(), len(self._greenlets)
        wanted = min(self.job.concurrency - count, max(_AT_ONCE, count))
        for _ in range(max(least, wanted if hint is None else min(wanted, hint))):
            worker = greenlet.greenlet(self._work, self.hub.greenlet)
            # A greenlet begins with an empty context, and output goes by it.
            worker.gr_context = copy_context()
            worker.greenlab_job = whole_of(self.job)
            worker.greenlab_index = _NONE
            self._greenlets.add(worker)
            self._fresh += 1
            self._gate.start(self._line, worker)

    def held(self) -> list[InFlight]:
        current = greenlet.getcurrent()
        return [
            InFlight(
                worker.greenlab_index,
                worker.greenlab_started_s,
                where=user_place(sys._getframe() if worker is current else worker.gr_frame),
            )
            for worker in self._greenlets
            if worker.greenlab_index != _NONE
        ]

    def kill_one(self, index: int, error: BaseException) -> bool:
        for worker in self._greenlets:
            if worker.greenlab_index == index:
                worker.greenlab_sentence = index, error
                self.hub.schedule_call_global(0, _execute, self.hub, worker, index)
                return True
        return False

    def kill(self) -> None:
        self._killed = True
        self._line.waiting.clear()
        for worker in list(self._greenlets):
            if worker:  # has begun
                nested.kill(self.hub, worker)
        self._greenlets.clear()

    def _work(self) -> None:
        me = greenlet.getcurrent()
        try:
            self._loop(me)
        except greenlet.GreenletExit:
            if not self._killed:
                raise
        finally:
            self._greenlets.discard(me)
            if not self._greenlets and not self._ended.ready():
                self._ended.send(None)

    def _loop(self, me: Any) -> None:
        job, hub = self.job, self.hub
        func, pull, succeed, fail = job.func, job.pull, job.succeed, job.fail
        if job.timeout_s is not None:
            func = _limited(func, job.timeout_s)
        crew, gate, line = self._greenlets, self._gate, self._line
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
            me.greenlab_started_s = started
            me.greenlab_index = index
            try:
                # A context of its own: what one task sets, the next one in this green thread does not see.
                value = copy_context().run(func, item)
            except BaseException as error:
                me.greenlab_index = _NONE
                if self._killed and isinstance(error, greenlet.GreenletExit):
                    raise
                ended = perf_counter()
                fail(index, started, ended, _verdict(me, index, error))
                del error
            else:
                me.greenlab_index = _NONE
                ended = perf_counter()
                succeed(index, started, ended, value)
                del value
            finally:
                self.in_flight -= 1
            del item
            if ended - hub.turn_started_s > SLICE_S:
                gate.wait(line)
            if len(crew) > job.concurrency:
                return


def _execute(hub: GuestHub, worker: Any, index: int) -> None:
    """Throw a kill into a green thread, if it still runs the task that was meant."""
    if worker.greenlab_index == index:
        nested.throw(hub, worker, greenlet.GreenletExit)


def _verdict(worker: Any, index: int, error: BaseException) -> BaseException:
    """Say what a task failed with: a kill comes as GreenletExit, which `except Exception` cannot swallow."""
    meant, sentence = getattr(worker, "greenlab_sentence", (_NONE, error))
    return sentence if meant == index and isinstance(error, greenlet.GreenletExit) else error


def _limited(func: Any, limit_s: float) -> Any:
    def call(item: Any) -> Any:
        error = TaskTimeoutError(f"the task ran longer than its timeout of {limit_s:g} s")
        with eventlet.Timeout(limit_s, error):
            return func(item)

    return call
