"""A batch in an eventlet worker: its tasks are green threads, all at once.

The worker's hub is adopted (see `greenlab.hub.adopted`) when the first batch comes, so that the watchdog sees what
holds it.

Guarantees: no task waits for another of its batch, but where more than the job's limit are at hand, or more than the
worker has room for; a job that waits for room gets its turn as soon as a task of one that has more ends, or after
`_SLICE_S` of brief ones; the green threads of a job are kept while there is work for them.

Must not import: runs, live, magics, celery.
"""

from __future__ import annotations

import contextlib
from collections import deque
from contextvars import copy_context
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

import greenlet

from greenlab import hub as hubs
from greenlab.errors import TaskTimeoutError, UsageError
from greenlab.hub import eventlet
from greenlab.hub.watchdog import watchdog_of
from greenlab.hub.worker_greenlet import NO_TASK, WorkerGreenlet
from greenlab.pools.celery import messages
from greenlab.pools.celery.batch import TOGETHER_S, Printing, Results, prepare
from greenlab.pools.processes.remote_task import Killed

if TYPE_CHECKING:
    from collections.abc import Callable

    from greenlab.hub.blocks import Block
    from greenlab.pools.celery.reports import Reports

_SLICE_S: Final = 0.01
"""How long brief tasks of a job may follow each other in a green thread before others get their turn."""


class _GreenJob:
    """The tasks of one job in this process."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.watching = contextlib.ExitStack()
        self.queue: deque[tuple[_GreenMessage, int, Any]] = deque()
        self.runners: set[Any] = set()
        self.running: dict[tuple[str, int], Any] = {}
        self.ended = False
        self.turn = 0

    @property
    def wants_room(self) -> bool:
        """Whether a task waits that none of the green threads will take next."""
        free = len(self.runners) - len(self.running)
        return len(self.queue) > free and len(self.runners) < max(1, self.limit)


class _GreenMessage:
    def __init__(self, id_: str, batch: messages.Batch, results: Results, count: int) -> None:
        self.id = id_
        self.batch = batch
        self.results = results
        self.left = count
        self.through = eventlet.event.Event()
        self._flusher: Any = None

    def flush_soon(self) -> None:
        """Send the results with the last task of the message, or a moment later where that is not the last."""
        if self.left == 1:
            self.results.flush()
        elif self._flusher is None:
            self._flusher = eventlet.spawn_after(TOGETHER_S, self._flush)

    def _flush(self) -> None:
        self._flusher = None
        self.results.flush()

    def end_one(self) -> None:
        self.left -= 1
        if not self.left and not self.through.ready():
            self.through.send()


class GreenBatches:
    """Runs tasks as green threads of an eventlet worker.

    Args:
        reports: what tells the kernel how tasks end.
        room: returns how many tasks the worker may run at a time, of all jobs together.
    """

    def __init__(self, reports: Reports, room: Callable[[], int]) -> None:
        self._reports = reports
        self._room = room
        self._runners: set[Any] = set()
        self._turns = 0
        self._printing = Printing(reports)
        self._jobs: dict[str, _GreenJob] = {}
        self._hub: Any = None

    @property
    def running(self) -> int:
        """How many tasks run here."""
        return sum(len(job.running) for job in self._jobs.values())

    def run(self, message: str, batch: messages.Batch) -> None:
        """Hand the tasks of a batch to the job's green threads, and wait until they have ended."""
        tasks = messages.tasks_of(batch)
        held = _GreenMessage(message, batch, Results(self._reports, batch.reply_queue, message), len(tasks))
        held.results.tell(messages.BEGUN)
        # Telling may wait, and the job's other messages may end meanwhile: it is looked for after that.
        job = self._jobs.get(batch.job) or self._begin(batch)
        job.limit = batch.limit
        job.queue.extend((held, index, item) for index, item in tasks)
        self._fill_room()
        try:
            held.through.wait()
        finally:
            held.results.flush()
            if not job.queue and not job.running:
                if self._jobs.get(batch.job) is job:  # a later message may have begun it anew
                    del self._jobs[batch.job]
                job.watching.close()

    def kill(self, job: str, message: str, index: int) -> None:
        """End one task where it waits."""
        here = self._jobs.get(job)
        if here is None:
            return
        key = message, index
        runner = here.running.get(key)
        if runner is not None:
            self._hub.schedule_call_global(0, self._throw, runner, key, here)
            return
        for place, (held, waiting, _) in enumerate(here.queue):
            if held.id == message and waiting == index:
                del here.queue[place]
                now_s = perf_counter()
                held.results.fail(index, now_s, now_s, Killed())
                held.end_one()
                return

    def end(self, job: str) -> None:
        """Stop what runs of a job."""
        here = self._jobs.pop(job, None)
        if here is None:
            return
        here.ended = True
        held = {id(one[0]): one[0] for one in here.queue}
        here.queue.clear()
        here.watching.close()
        for runner in list(here.running.values()):
            self._hub.schedule_call_global(0, runner.throw)
        for one in held.values():
            if not one.through.ready():
                one.through.send()

    def set_limit(self, job: str, limit: int) -> None:
        """Follow the job's concurrency."""
        here = self._jobs.get(job)
        if here is not None:
            here.limit = limit
            self._fill_room()

    def _fill_room(self) -> None:
        """Start green threads while there is room: each for the job that has the fewest, or of such waits longest."""
        while len(self._runners) < max(1, self._room()):
            waiting = [job for job in self._jobs.values() if job.wants_room]
            if not waiting:
                return
            job = min(waiting, key=lambda one: (len(one.runners), one.turn))
            self._turns += 1
            job.turn = self._turns
            runner = WorkerGreenlet(job, partial(self._work, job), self._hub.greenlet)
            runner.gr_context = copy_context()
            job.runners.add(runner)
            self._runners.add(runner)
            self._hub.schedule_call_global(0, runner.switch)

    def _is_owed(self, job: _GreenJob) -> bool:
        """Return whether a green thread of a job is to leave its room to one of another."""
        if len(self._jobs) == 1 or len(self._runners) < max(1, self._room()):
            return False
        return any(
            one.wants_room and (not one.runners or len(one.runners) + 1 < len(job.runners))
            for one in self._jobs.values()
            if one is not job
        )

    def _begin(self, batch: messages.Batch) -> _GreenJob:
        if self._hub is None:
            try:
                self._hub = hubs.start()
            except UsageError:  # a hub of another class: nothing watches it then
                self._hub = eventlet.hubs.get_hub()
        job = self._jobs[batch.job] = _GreenJob(batch.limit)
        if isinstance(self._hub, hubs.GuestHub):
            watchdog = watchdog_of(self._hub)
            watchdog.after_s = batch.blocked_after_s

            def report(block: Block) -> None:
                told = replace(block, worker=self._reports.worker)
                self._reports.tell(batch.reply_queue, messages.BLOCKED, batch.job, told)

            job.watching.enter_context(watchdog.watch(report, job))
        return job

    @staticmethod
    def _throw(runner: Any, key: tuple[str, int], job: _GreenJob) -> None:
        if key in job.running and job.running[key] is runner:  # it may have ended meanwhile
            runner.throw(Killed())

    def _work(self, job: _GreenJob) -> None:
        me: Any = greenlet.getcurrent()
        try:
            self._run_tasks(me, job)
        finally:
            job.runners.discard(me)
            self._runners.discard(me)
            self._fill_room()

    def _run_tasks(self, me: Any, job: _GreenJob) -> None:
        turned_s = perf_counter()
        while job.queue and len(job.running) < max(1, job.limit):
            held, index, item = job.queue.popleft()
            key = held.id, index
            job.running[key] = me
            batch, results = held.batch, held.results
            owner = ((batch.reply_queue, batch.job), index)
            me.index = index
            me.started_s = started_s = perf_counter()
            try:
                value = copy_context().run(_call, batch, owner, item)
            except BaseException as error:
                self._printing.end(owner)
                if job.ended:
                    return
                ended_s = self._end_task(batch, started_s)
                results.fail(index, started_s, ended_s, error)
            else:
                self._printing.end(owner)
                ended_s = self._end_task(batch, started_s)
                results.succeed(index, started_s, ended_s, value)
                held.flush_soon()
            finally:
                me.index = NO_TASK
                job.running.pop(key, None)
                held.end_one()
            del item
            if ended_s - turned_s > _SLICE_S:
                if self._is_owed(job):
                    return
                eventlet.sleep(0)  # brief tasks, one after another, are not to hold the hub together
                turned_s = perf_counter()

    def _end_task(self, batch: messages.Batch, started_s: float) -> float:
        """Return the time, and tell of a block before the result: with the last result, the kernel's run ends."""
        ended_s = perf_counter()
        if ended_s - started_s >= batch.blocked_after_s and isinstance(self._hub, hubs.GuestHub):
            watchdog_of(self._hub).flush()
        return ended_s


def _call(batch: messages.Batch, owner: Any, item: Any) -> Any:
    func, item = prepare(batch, owner, item)
    if batch.timeout_s is None:
        return func(item)
    error = TaskTimeoutError.after(batch.timeout_s)
    with eventlet.Timeout(batch.timeout_s, error):
        return func(item)
