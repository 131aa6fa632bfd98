"""The prefork pool: tasks in a few worker processes, driven by green threads.

Each worker has a socket and a green thread that reads it; each run feeds tasks from the green thread that called
`run`. Which workers there are is up to `Supervisor`, which of them gets which task to `dispatch`; the loop in the
process is `worker`.

Guarantees:

* each task is run at most once and reported exactly once, also when its worker dies or is stopped: the task that a
  dead worker held fails with `WorkerLostError`, those on their way to it go to another one, and it is replaced at once;
* no task waits long behind a slow one while another worker could run it, also if the slow one's worker is stopped;
* a task that outlasts its limit is told so by a TaskTimeoutError raised inside it; if that does not end it within a
  second, its worker is killed and replaced;
* what is killed is killed with the processes that it started, and costs no task but the one that was meant;
* a worker runs at most `max_tasks` tasks, and begins none once it was seen above `max_memory`;
* jobs that run at the same time take turns at the workers;
* an idle pool wakes nothing: no timer, no polling.

Bounds: what C code writes to the descriptors 1 and 2 goes where the kernel's own output goes, not to `job.write`.
A task that handles SIGUSR1 itself, or computes in C, meets only the hard limit, and does not tell where it stands.
A limit that strikes while an inner green task of a task runs fails that one only; then the hard limit applies.
The memory by which large items and results travel, up to 16 MiB each way, counts as the worker's own: see `max_memory`.
A worker that leaves when it has done its share leaves the processes alone that its tasks started.
Must not import: runs, live, magics, eventlet.green. It patches nothing, and needs nothing patched.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Final, Self

from greenlab.errors import CancelledError, UsageError
from greenlab.hub import eventlet
from greenlab.pools.prefork.dispatch import Dispatcher
from greenlab.pools.prefork.job import ActiveJob
from greenlab.pools.prefork.worker_handle import WorkerHandle
from greenlab.pools.processes.pool import ProcessPool

if TYPE_CHECKING:
    from collections.abc import Sequence

    from greenlab.pools.protocol import InFlight, Job

_SPARED_S: Final = 0.02  # a short task of a cancelled run may end by itself, where others' wait at its worker
_ANSWER_S: Final = 0.2  # for workers to say where their tasks stand
_TURN_S: Final = 0.2  # for workers to say that the task to which they had just turned was skipped
_LOOK_S: Final = 0.002


class PreforkPool(ProcessPool[ActiveJob, WorkerHandle]):
    """Runs jobs in worker processes that come from a clean fork server.

    Args:
        workers: how many processes; None for as many as the widest of the jobs that run at a time asks for.

    Raises:
        UsageError: `workers` is not a number above 0.
    """

    name = "prefork"

    def __init__(self, workers: int | None = None) -> None:
        super().__init__("greenlab.pools.prefork.worker")
        self._dispatcher = Dispatcher(self._supervisor, self._jobs)
        self._fixed = workers is not None
        self._supervisor.target = _checked(workers) if workers is not None else 0

    def _make_handle(self) -> WorkerHandle:
        return WorkerHandle(self._jobs, self._supervisor, self._dispatcher)

    def _make_active(self, number: int, job: Job) -> ActiveJob:
        return ActiveJob(number, job)

    def _wanted(self, job: Job) -> int:
        if self._fixed:
            return self._supervisor.target
        return max(1, job.concurrency, *(active.job.concurrency for active in self._jobs))

    @property
    def workers(self) -> int:
        """How many worker processes the pool keeps."""
        return self._supervisor.target

    @property
    def in_flight(self) -> int:
        """Tasks being run at this moment: one a worker at the most."""
        return sum(handle.is_busy for handle in self._supervisor.processes)

    def __enter__(self) -> Self:
        self.start()
        return self

    def count(self, job: Job) -> int:
        """Count the tasks of one job that are being run at this moment."""
        return len(self._running(job))

    def start(self, job: Job | None = None) -> None:
        """Make the workers ready; at once if they are.

        Args:
            job: what will run; a pool without a fixed number of workers then has as many as the widest of the
                present jobs wants, and no more.

        Raises:
            GreenlabError: no worker process could be started.
        """
        if job is not None:
            self._supervisor.target = self._wanted(job)
            if job.max_tasks is not None:
                for handle in list(self._supervisor.processes):
                    if handle.given >= job.max_tasks:
                        self._supervisor.retire(handle)
        self._supervisor.start()

    def resize(self, workers: int) -> None:
        """Keep another number of workers; those too many leave when they have done what they hold.

        Raises:
            UsageError: `workers` is not a number above 0.
        """
        self._supervisor.target = _checked(workers)
        if self._supervisor.server_pid:
            self._supervisor.start()

    def begun(self, job: Job) -> list[tuple[int, float]]:
        """List the tasks of a job that are being run, and when each began."""
        return [(index, handle.began_s) for handle, _, index in self._running(job)]

    def held(self, job: Job) -> list[InFlight]:
        """List the tasks of a job that are being run. Waits up to 0.2 s for the workers to say where these stand."""
        asked = [(handle, task) for handle, *_ in self._running(job) if (task := handle.ask()) is not None]
        end_s = perf_counter() + _ANSWER_S
        while perf_counter() < end_s and any(handle.is_asked for handle, _ in asked):
            eventlet.sleep(_LOOK_S)
        return [handle.answer(*task) for handle, task in asked]

    def kill(self, job: Job, index: int, error: BaseException) -> bool:
        """End one task that runs: its worker is killed and replaced, and the task fails with `error`.

        One that waits at a worker, and has not begun, is not in flight yet.
        """
        for handle, number, running in self._running(job):
            if running == index:
                return handle.end_task(number, error)
        return False

    def _running(self, job: Job) -> list[tuple[WorkerHandle, int, int]]:
        """Return the workers that run a task of a job, with its number and index."""
        found = ((handle, handle.running) for handle in self._supervisor.processes)
        return [(handle, one[0], one[1][1]) for handle, one in found if one is not None and one[1][0].job is job]

    def _abandon(self, active: ActiveJob) -> None:
        """Stop what runs of this job; what waits at a worker behind another job's task is skipped there."""
        active.stop(CancelledError("the run was cancelled"))
        self._dispatcher.wake()  # a worker that was kept for this job is free for others
        concerned = [handle for handle in self._supervisor.processes if handle.holds(active)]
        for handle in concerned:
            handle.skip(active)
        shared = [handle for handle in concerned if handle.is_shared]
        end_s = perf_counter() + _SPARED_S
        while any(handle.runs(active) for handle in shared) and perf_counter() < end_s:
            eventlet.sleep(_LOOK_S)
        self._supervisor.await_end(self._end_tasks(active, concerned))

    def _end_tasks(self, active: ActiveJob, handles: Sequence[WorkerHandle]) -> list[WorkerHandle]:
        """Kill the workers that run a task of this job; return them when no other worker runs one or will begin one."""
        ended: list[WorkerHandle] = []
        end_s = perf_counter() + _TURN_S
        while handles:
            forced = perf_counter() > end_s
            ended += [handle for handle in handles if handle.end_task_of(active, forced)]
            handles = [handle for handle in handles if handle not in ended and handle.is_at(active)]
            if forced:
                break
            if handles:
                eventlet.sleep(_LOOK_S)
        return ended

    def _forget(self, handle: WorkerHandle, active: ActiveJob) -> None:
        handle.forget(active)

    def lost(self, handle: WorkerHandle, status: int) -> None:
        """Account for a dead worker's tasks; see `PoolCallbacks`."""
        self._dispatcher.give_again(handle.account_for_loss(status))


def _checked(workers: int) -> int:
    if not isinstance(workers, int) or workers < 1:
        raise UsageError(f"workers is a number of processes from 1 on, not {workers!r}")
    return workers
