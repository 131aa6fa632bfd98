"""The threads pool: tasks in OS threads of this process, with native primitives.

Each run has threads of its own, up to its concurrency: see `workers`.

Guarantees:

* a task runs in an OS thread that is not the hub's, so nothing in it is green: locks, sockets and sleeps are native;
* each task ends exactly once.

Bound: the system cannot stop a thread. A task that is over its limit, or is killed, fails at once and its place is
taken by a new thread; in its own thread an exception is raised, which comes when the call that it is in returns to
Python (a `time.sleep`, a read or a C call ends first). Until then that thread lives on, and its outcome is dropped.

Must not import: runs, live, magics.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from greenlab.errors import GreenlabError
from greenlab.hub import current
from greenlab.pools.threads.workers import Workers

if TYPE_CHECKING:
    from greenlab.pools.protocol import InFlight, Job


class ThreadsPool:
    """Runs tasks in OS threads. It keeps none between runs."""

    name = "threads"
    pids: tuple[int, ...] = ()

    def __init__(self) -> None:
        self._running: list[Workers] = []  # of each job

    @property
    def in_flight(self) -> int:
        """Tasks begun and not ended; those given up do not count."""
        return sum(workers.busy for workers in self._running)

    def count(self, job: Job) -> int:
        """Count the tasks of one job that have begun and not ended."""
        return sum(workers.busy for workers in self._of(job))

    def start(self, job: Job) -> None:
        """Do nothing: threads are started as a run needs them."""

    def run(self, job: Job) -> None:
        """Run every task of `job`; wait for the last."""
        hub = current()
        if hub is None:
            raise RuntimeError("the threads pool is fed by greenlab's hub: call greenlab.start() first")
        workers = Workers(hub, job)
        self._running.append(workers)
        try:
            workers.run()
        finally:
            self._running.remove(workers)
            workers.end()

    def adjust(self, job: Job) -> None:
        """Start what is missing as tasks come; threads that are too many leave after their task."""
        for workers in self._of(job):
            workers.adjust()

    def begun(self, job: Job) -> list[tuple[int, float]]:
        """List the tasks of a job, and when each began."""
        return [begun for workers in self._of(job) for begun in workers.begun()]

    def held(self, job: Job) -> list[InFlight]:
        """List the tasks of a job, and where each stands."""
        return [held for workers in self._of(job) for held in workers.held()]

    def kill(self, job: Job, index: int, error: BaseException) -> bool:
        """Give up one task: it fails at once, see the bound above."""
        return any(workers.give_up(index, error) for workers in self._of(job))

    def close(self) -> None:
        """End the runs that go on; they raise."""
        for workers in list(self._running):
            workers.stop(GreenlabError("the pool was closed while it ran tasks"))

    def _of(self, job: Job) -> list[Workers]:
        return [workers for workers in self._running if workers.job is job]
