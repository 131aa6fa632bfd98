"""What the pools with worker processes share: how a run goes, and how they begin and end.

Each of them says what a worker's handle is, how many workers a job wants, and how the tasks of one are stopped.

Guarantees: those that `greenlab.pools.protocol` asks of every pool; a job that runs loses no worker to one that starts
meanwhile; a pool that was closed may be started again.

Must not import: runs, live, magics, eventlet.green; a concrete pool.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from greenlab.errors import GreenlabError
from greenlab.pools.processes.job import ActiveJob
from greenlab.pools.processes.process import ProcessHandle
from greenlab.pools.processes.round_robin import RoundRobin
from greenlab.pools.processes.supervisor import Supervisor

if TYPE_CHECKING:
    from greenlab.pools.processes.dispatch import Dispatcher
    from greenlab.pools.protocol import Job

A = TypeVar("A", bound=ActiveJob)
H = TypeVar("H", bound=ProcessHandle)


class ProcessPool(Generic[A, H]):
    """Runs jobs in worker processes.

    Args:
        module: whose `main` they run, see `ForkServer`.
    """

    _dispatcher: Dispatcher[A]

    def __init__(self, module: str) -> None:
        self._jobs: RoundRobin[A] = RoundRobin()
        self._numbers = itertools.count(1)
        self._supervisor: Supervisor[H] = Supervisor(module, self._make_handle, self)

    # --- what each pool knows better

    def _make_handle(self) -> H:
        """Make the handle of a worker that is about to be forked."""
        raise NotImplementedError

    def _make_active(self, number: int, job: Job) -> A:
        """Make ready what workers need of a job.

        Raises:
            NotSendableError: the function, or what it uses, cannot be pickled.
        """
        raise NotImplementedError

    def _wanted(self, job: Job) -> int:
        """Return how many workers there shall be while this job runs, beside those that run already."""
        raise NotImplementedError

    def _begin(self, active: A) -> None:
        """Do what a job needs when the workers are there."""

    def _finish(self, active: A) -> None:
        """Do what is to be done when all tasks of a job have ended."""

    def _abandon(self, active: A) -> None:
        """Stop what runs of a job, and return when it has stopped."""
        raise NotImplementedError

    def _forget(self, handle: H, active: A) -> None:
        """Have a worker forget a job."""
        raise NotImplementedError

    def lost(self, handle: H, status: int) -> None:
        """Account for a dead worker's tasks; see `PoolCallbacks`."""
        raise NotImplementedError

    # --- what all of them do

    @property
    def pids(self) -> tuple[int, ...]:
        """The process ids of the workers; empty before the start."""
        return tuple(handle.pid for handle in self._supervisor.processes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, job: Job) -> None:
        """Run every task of `job`; wait for the last.

        Raises:
            NotSendableError: the function, or what it uses, cannot be pickled; no task has started.
            GreenlabError: the workers cannot be kept alive, or the pool was closed.
        """
        active = self._make_active(next(self._numbers), job)
        self._jobs.add(active)  # a narrower job that starts meanwhile takes no worker from it
        try:
            self.start(job)
            self._begin(active)
            while self._dispatcher.feed(active):  # a job may have more to pull once a task has ended: a retry
                active.await_end()
            self._finish(active)
        except BaseException:
            self._abandon(active)
            raise
        finally:
            self._jobs.remove(active)
            if not self._jobs:
                self._dispatcher.stop()
            for handle in self._supervisor.processes:
                self._forget(handle, active)

    def start(self, job: Job) -> None:
        """Have as many workers ready as the widest of the present jobs wants; at once if they are.

        Raises:
            GreenlabError: no worker process could be started.
        """
        self._supervisor.target = self._wanted(job)
        self._supervisor.start()

    def adjust(self, job: Job) -> None:
        """Follow `job.concurrency`, which was changed while the job runs."""
        self._supervisor.target = self._wanted(job)
        self._supervisor.adjust()
        self.changed()

    def close(self) -> None:
        """End the workers and the fork server; runs that are under way raise. It may be started again."""
        self.failed(GreenlabError("the pool was closed while it ran tasks"))
        self._dispatcher.stop()
        self._supervisor.close()

    def changed(self) -> None:
        """There are other workers: look again at what may be sent; see `PoolCallbacks`."""
        self._dispatcher.wake()

    def failed(self, error: GreenlabError) -> None:
        """End all runs; see `PoolCallbacks`."""
        for active in self._jobs:
            active.stop(error)

    def _of(self, job: Job) -> list[A]:
        """Return the present runs of a job."""
        return [active for active in self._jobs if active.job is job]
