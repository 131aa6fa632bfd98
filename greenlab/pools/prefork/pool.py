"""The prefork pool: tasks in a few worker processes, driven by green threads.

Each worker has a socket and a green thread that reads it; each run feeds tasks from the green thread that
called `run`. Who works is up to `Supervisor`, who gets which task to `dispatch`; the loop in the process is `worker`.

Guarantees:

* each task is run at most once and reported exactly once, also when its worker dies or is stopped: the task that a
  dead worker held fails with `WorkerLostError`, those on their way to it go to another one, and it is replaced at once;
* no task waits long behind a slow one while another worker could run it, also if the slow one's worker is stopped;
* a task that outlasts its limit is told so by a TaskTimeoutError raised inside it; if that does not end it within a
  second, its worker is killed and replaced;
* what is killed is killed with the processes that it started, and costs no task but the one that was meant;
* a worker runs at most `max_tasks` tasks, and begins none once it was seen above `max_memory`;
* jobs that run at the same time take turns at the workers;
* an idle pool wakes nobody: no timer, no polling.

Bounds: what C code writes to the descriptors 1 and 2 goes where the kernel's own output goes, not to `job.write`.
A task that handles SIGUSR1 itself, or computes in C, meets only the hard limit, and does not tell where it stands.
A limit that strikes while an inner green task of a task runs fails that one only; then the hard limit applies.
The memory by which large items and results travel, up to 16 MiB each way, counts as the worker's own: see `max_memory`.
A worker that leaves when it has done its share leaves the processes alone that its tasks started.
Must not import: runs, live, magics, eventlet.green. It patches nothing, and needs nothing patched.
"""

from __future__ import annotations

import itertools
import signal
from time import perf_counter
from typing import TYPE_CHECKING, Final, Self

from greenlab.errors import CancelledError, GreenlabError, UsageError
from greenlab.hub import eventlet
from greenlab.pools.prefork.dispatch import Feeder
from greenlab.pools.prefork.job import ActiveJob, Entry
from greenlab.pools.prefork.worker_handle import WorkerHandle
from greenlab.pools.processes.framing import Page
from greenlab.pools.processes.supervisor import Supervisor
from greenlab.pools.protocol import InFlight

if TYPE_CHECKING:
    from greenlab.pools.protocol import Job

_SPARED_S: Final = 0.02  # a short task of a cancelled run may end by itself, where others' wait at its worker
_ANSWER_S: Final = 0.2  # for workers to say where their tasks stand
_LOOK_S: Final = 0.002


class PreforkPool:
    """Runs jobs in worker processes that come from a clean fork server.

    Args:
        workers: how many processes; None for as many as the widest of the jobs that run at a time asks for.

    Raises:
        UsageError: `workers` is not a number above 0.
    """

    name = "prefork"

    def __init__(self, workers: int | None = None) -> None:
        self._fixed = workers is not None
        self._active: dict[int, ActiveJob] = {}  # in the order of whose turn it is
        self._fleet: Supervisor[WorkerHandle] = Supervisor("greenlab.pools.prefork.worker", self._make_link, self)
        self._fleet.target = _checked(workers) if workers is not None else 0
        self._jobs = itertools.count(1)
        # Tasks are numbered over all jobs, from 1 on; 0 is none's.
        self._feeder = Feeder(self._fleet, self._active, itertools.count(1))

    def _make_link(self) -> WorkerHandle:
        return WorkerHandle(self._active, self)

    @property
    def workers(self) -> int:
        """How many worker processes the pool keeps."""
        return self._fleet.target

    @property
    def pids(self) -> tuple[int, ...]:
        """The process ids of the workers; empty before the start."""
        return tuple(link.pid for link in self._fleet.processes)

    @property
    def in_flight(self) -> int:
        """Tasks being run at this moment: one a worker at the most."""
        return sum(link.is_busy for link in self._fleet.processes)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def count(self, job: Job) -> int:
        """Count the tasks of one job that are being run at this moment."""
        return sum(1 for _ in self._running(job))

    def start(self, job: Job | None = None) -> None:
        """Make the workers ready; at once if they are.

        Args:
            job: what will run; a pool without a fixed number of workers then has as many as the widest of the
                present jobs wants, and no more.

        Raises:
            GreenlabError: no worker process could be started.
        """
        if job is not None:
            self._size(job)
            if job.max_tasks is not None:
                for link in list(self._fleet.processes):
                    if link.given >= job.max_tasks:
                        self._fleet.retire(link)
        self._fleet.start()

    def resize(self, workers: int) -> None:
        """Keep another number of workers; those too many leave when they have done what they hold.

        Raises:
            UsageError: `workers` is not a number above 0.
        """
        self._fleet.target = _checked(workers)
        if self._fleet.server_pid:
            self._fleet.start()

    def adjust(self, job: Job) -> None:
        """Follow `job.concurrency`, which was changed while the job runs."""
        if self._size(job):
            self._fleet.adjust()
        self.wake()

    def _size(self, job: Job) -> bool:
        if not self._fixed:
            present = (active.job.concurrency for active in self._active.values())
            self._fleet.target = max(1, job.concurrency, *present)
        return not self._fixed

    def run(self, job: Job) -> None:
        """Run every task of `job`; wait for the last.

        Raises:
            NotSendableError: the function, or what it uses, cannot be pickled; no task has started.
            GreenlabError: the workers cannot be kept alive, or the pool was closed.
        """
        active = ActiveJob(next(self._jobs), job)
        self.start(job)
        self._active[active.number] = active
        try:
            while self._feeder.feed(active):  # a job may have more to pull once a task has ended: a retry
                active.await_end()
        except BaseException:
            self._abandon(active)
            raise
        finally:
            del self._active[active.number]
            if not self._active:
                self._feeder.stop()
            for link in self._fleet.processes:
                link.forget(active)

    def held(self, job: Job) -> list[InFlight]:
        """List the tasks of a job that are being run. Waits up to 0.2 s for the workers to say where these stand."""
        found = [(link, number, index, link.page.started_s[0]) for link, number, index in self._running(job)]
        for link, *_ in found:
            link.ask()
        end_s = perf_counter() + _ANSWER_S
        while perf_counter() < end_s and any(not link.closed and link.page.is_asked for link, *_ in found):
            eventlet.sleep(_LOOK_S)
        now_s = perf_counter()
        return [
            InFlight(index, min(started_s, now_s), link.pid, None if link.closed else link.page.place_of(number))
            for link, number, index, started_s in found
        ]

    def kill(self, job: Job, index: int, error: BaseException) -> bool:
        """End one task that runs: its worker is killed and replaced, and the task fails with `error`.

        One that waits at a worker, and has not begun, is not in flight yet.
        """
        for link, number, running in self._running(job):
            if running == index:
                return link.end_task(number, error)
        return False

    def _running(self, job: Job) -> list[tuple[WorkerHandle, int, int]]:
        """The workers that run a task of a job, with its number and index."""
        found = ((link, link.running) for link in self._fleet.processes)
        return [(link, one[0], one[1][1]) for link, one in found if one is not None and one[1][0].job is job]

    def close(self) -> None:
        """End the workers and the fork server; runs that are under way raise. It may be started again."""
        self.failed(GreenlabError("the pool was closed while it ran tasks"))
        self._feeder.stop()
        self._fleet.close()

    def _abandon(self, active: ActiveJob) -> None:
        """Stop what runs of this job; what waits at a worker behind another job's task is skipped there."""
        active.stop(CancelledError("the run was cancelled"))
        self.wake()  # a worker that was kept for this job is free for others
        concerned = [link for link in self._fleet.processes if link.holds(active)]
        for link in concerned:
            link.page.skip[Page.flag_of(active.number)] = 1
        shared = [link for link in concerned if link.is_shared]
        end_s = perf_counter() + _SPARED_S
        while any(link.runs(active) for link in shared) and perf_counter() < end_s:
            eventlet.sleep(_LOOK_S)
        to_kill = [link for link in concerned if link.runs(active) and link.end_task(link.page.running[0])]
        self._fleet.await_end(to_kill)

    # --- what the fleet tells

    def changed(self) -> None:
        """There are other workers: look again at what may be sent; see `PoolCallbacks`."""
        self.wake()

    def lost(self, link: WorkerHandle, status: int) -> None:
        """Account for a dead worker's tasks; see `PoolCallbacks`."""
        held, started_s = link.page.running[0], link.page.started_s[0]
        lost, link.outstanding = link.outstanding, {}
        for number, (active, index, _) in lost.items():
            if active.error is not None:
                active.pending -= 1
            elif number == held:
                now_s = perf_counter()
                active.tell(index, min(started_s, now_s), now_s, None, link.loss_of(number, active, status))
        self.give_again([entry for number, entry in lost.items() if number != held and entry[0].error is None])

    def failed(self, error: GreenlabError) -> None:
        """End all runs; see `PoolCallbacks`."""
        for active in self._active.values():
            active.stop(error)

    # --- what the links ask for; see `PoolCallbacks`

    def wake(self) -> None:
        """Look again at what may be sent where."""
        for active in self._active.values():
            active.wake()
        self._feeder.watch()

    def give_again(self, entries: list[Entry]) -> None:
        """Give to other workers what one did not begin."""
        self._feeder.give_again(entries)

    def kill_worker(self, link: WorkerHandle) -> None:
        """Kill a worker, and what it started."""
        self._fleet.kill(link)

    def signal_worker(self, link: WorkerHandle) -> None:
        """Send a worker SIGUSR1."""
        self._fleet.signal(link, signal.SIGUSR1)

    def retire_worker(self, link: WorkerHandle) -> None:
        """Replace a worker."""
        self._fleet.retire(link)


def _checked(workers: int) -> int:
    if not isinstance(workers, int) or workers < 1:
        raise UsageError(f"workers is a number of processes from 1 on, not {workers!r}")
    return workers
