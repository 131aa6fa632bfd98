"""The hybrid pool: a few processes, each with its own hub, that together hold `concurrency` tasks in flight.

In each process the tasks of a job are green threads of the very same green pool that the kernel uses, so that time
limits, slices and contexts are alike; the standard library cooperates there too. Each process may have its share
in flight (`concurrency` divided by the processes), and is sent one more task as one ends: a slow process does not
hold back what another could do. Some go ahead, as many as it ends in 25 ms at its pace of late, and are recalled
where they would wait for long while slots stand idle elsewhere.
Which processes there are is up to `Supervisor`, which of them gets which task to `dispatch`; what runs in a process is
`worker`.

Guarantees:

* each task is run at most once and reported exactly once, also when its process dies: those that had begun there
  fail with `WorkerLostError`, those that had not go to another process, and it is replaced at once;
* what holds the hub of a process is told the job, as it is told of the hub here;
* a time limit, too, stops a task that computes: the process raises `TaskTimeoutError` in it, and in no other;
* jobs that run at the same time share the processes; an idle pool wakes nothing.

Bounds: a process holds many tasks, so its death costs all that it had begun, and results of its last two milliseconds
(or of the turn of its hub) that it had not sent; `resume()` or retries run just these again. A task that computes
holds up those of its process that have begun.
When a run is cancelled, a process that does not end its tasks within 0.5 s (it computes, or is stopped) is killed;
within 5 s, if tasks of other runs would be lost with it. What is deaf to signals (a C call that does not return) is
deaf to the time limit too.

Must not import: runs, live, magics, eventlet.green. It patches nothing, and needs nothing patched.
"""

from __future__ import annotations

import itertools
from time import perf_counter
from typing import TYPE_CHECKING, Final

from greenlab.errors import CancelledError
from greenlab.hub import eventlet
from greenlab.hub.watchdog import AFTER_S
from greenlab.pools.hybrid.dispatch import Dispatcher
from greenlab.pools.hybrid.job import ActiveJob
from greenlab.pools.hybrid.worker_handle import WorkerHandle
from greenlab.pools.processes.pool import ProcessPool
from greenlab.pools.protocol import InFlight

if TYPE_CHECKING:
    from collections.abc import Callable

    from greenlab.pools.hybrid.job_on_worker import JobOnWorker
    from greenlab.pools.protocol import Job

_GRACE_S: Final = 0.5  # for the processes of a cancelled run to end its tasks …
_SHARED_GRACE_S: Final = 5.0  # … where tasks of other runs would be lost with them
_ANSWER_S: Final = 0.2


class HybridPool(ProcessPool[ActiveJob, WorkerHandle]):
    """Runs jobs in processes that each have a hub.

    Args:
        blocked_after: says for how long a task may hold the hub of its process before that is called a block, seconds.
    """

    name = "hybrid"

    def __init__(self, blocked_after: Callable[[], float] = lambda: AFTER_S) -> None:
        super().__init__("greenlab.pools.hybrid.worker")
        self._dispatcher = Dispatcher(self._jobs)
        self._blocked_after = blocked_after
        self._questions = itertools.count(1)

    def _make_handle(self) -> WorkerHandle:
        return WorkerHandle(self._jobs, self._supervisor, self._dispatcher)

    def _make_active(self, number: int, job: Job) -> ActiveJob:
        return ActiveJob(number, job, self._blocked_after())

    def _wanted(self, job: Job) -> int:
        return max(1, min(job.workers, job.concurrency), *(active.width for active in self._jobs))

    @property
    def in_flight(self) -> int:
        """Tasks begun and not ended."""
        return sum(map(self._count, self._jobs))

    def count(self, job: Job) -> int:
        """Count the tasks of one job that have begun and not ended."""
        return sum(map(self._count, self._of(job)))

    def _count(self, active: ActiveJob) -> int:
        return sum(handle.count(active) for handle in self._supervisor.processes)

    def begun(self, job: Job) -> list[tuple[int, float]]:
        """List the tasks of a job that are being run, and when each was sent."""
        processes = self._supervisor.processes
        return [begun for active in self._of(job) for handle in processes for begun in handle.begun(active)]

    def held(self, job: Job) -> list[InFlight]:
        """List the tasks of a job that are being run; waits for the processes to answer, 0.2 s at the most."""
        asked = []
        for active in self._of(job):
            for handle in self._supervisor.processes:
                if handle.held(active):
                    question = next(self._questions)
                    asked.append((handle, active, question, handle.ask(active, question)))
        found: list[InFlight] = []
        end_s = perf_counter() + _ANSWER_S
        for handle, active, question, event in asked:
            with eventlet.Timeout(max(0.0, end_s - perf_counter()), False):
                found += event.wait()
                continue
            handle.dont_answer(question)
            if not handle.is_dead:
                found += [InFlight(index, sent_s, handle.pid) for index, sent_s in handle.begun(active)]
        return found

    def kill(self, job: Job, index: int, error: BaseException) -> bool:
        """End one task, where it waits: it fails with `error`."""
        return any(
            handle.kill(active, index, error) for active in self._of(job) for handle in self._supervisor.processes
        )

    # --- how a run goes; see `ProcessPool`

    def _begin(self, active: ActiveJob) -> None:
        self._assign(active)

    def _finish(self, active: ActiveJob) -> None:
        """Wait for what the watchdogs of the processes still have to say of a job; not for long."""
        if perf_counter() - active.began_s < active.blocked_after_s:
            return
        ending = self._end(active)
        with eventlet.Timeout(_ANSWER_S, False):
            for _, placed in ending:
                placed.ended.wait()

    def _abandon(self, active: ActiveJob) -> None:
        """Stop what runs of this job, by force where a process does not answer."""
        active.stop(CancelledError("the run was cancelled"))
        begin_s = perf_counter()
        to_kill: list[WorkerHandle] = []
        for handle, placed in self._end(active):
            grace_s = _SHARED_GRACE_S if any(handle.held(other) for other in self._jobs) else _GRACE_S
            with eventlet.Timeout(max(0.0, begin_s + grace_s - perf_counter()), False):
                placed.ended.wait()
                continue
            to_kill.append(handle)
            self._supervisor.kill(handle)
        self._supervisor.await_end(to_kill)

    def _end(self, active: ActiveJob) -> list[tuple[WorkerHandle, JobOnWorker]]:
        """End a job at the processes that have something of it."""
        found = [(handle, handle.end(active)) for handle in self._supervisor.processes]
        return [(handle, placed) for handle, placed in found if placed is not None]

    def _forget(self, handle: WorkerHandle, active: ActiveJob) -> None:
        handle.end(active)

    # --- processes that come and go

    def _assign(self, active: ActiveJob) -> None:
        """Choose a job's processes: those it has, if it may keep them, and those with the fewest jobs."""
        serving = [handle for handle in self._supervisor.processes if handle.takes_tasks]
        handles = [handle for handle in active.handles if handle in serving][: active.width]
        others = [handle for handle in serving if handle not in handles]
        others.sort(key=lambda handle: (handle.job_count, handle.load))
        handles += others[: active.width - len(handles)]
        missing = min(active.width, self._supervisor.target) - len(handles)  # they are being forked
        active.handles = [*handles, *([None] * missing)]
        for place, handle in enumerate(handles):
            handle.tell_share(active, active.share(place))
        for handle in serving:
            if handle not in handles:
                handle.tell_share(active, max(1, handle.held(active)))

    def changed(self) -> None:
        """There are other processes: give them their jobs; see `PoolCallbacks`."""
        for active in self._jobs:
            self._assign(active)
        super().changed()

    def lost(self, handle: WorkerHandle, status: int) -> None:
        """Account for a dead process's tasks; see `PoolCallbacks`."""
        self._dispatcher.give_again(handle.account_for_loss(status))
