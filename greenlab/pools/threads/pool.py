"""The threads pool: tasks in OS threads of this process, with native primitives.

Each run has threads of its own, up to its concurrency: a `crew`.

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
        self._crews: list[Workers] = []

    @property
    def in_flight(self) -> int:
        """Tasks begun and not ended; those given up do not count."""
        return sum(crew.busy for crew in self._crews)

    def count(self, job: Job) -> int:
        """Count the tasks of one job that have begun and not ended."""
        return sum(crew.busy for crew in self._of(job))

    def start(self, job: Job) -> None:
        """Do nothing: threads are started as a run needs them."""

    def run(self, job: Job) -> None:
        """Run every task of `job`; wait for the last."""
        hub = current()
        if hub is None:
            raise RuntimeError("the threads pool is fed by greenlab's hub: call greenlab.start() first")
        crew = Workers(hub, job)
        self._crews.append(crew)
        try:
            crew.run()
        finally:
            self._crews.remove(crew)
            crew.end()

    def adjust(self, job: Job) -> None:
        """Start what is missing as tasks come; threads that are too many leave after their task."""
        for crew in self._of(job):
            crew.adjust()

    def held(self, job: Job) -> list[InFlight]:
        """List the tasks of a job, and where each stands."""
        return [held for crew in self._of(job) for held in crew.held()]

    def kill(self, job: Job, index: int, error: BaseException) -> bool:
        """Give up one task: it fails at once, see the bound above."""
        return any(crew.give_up(index, error) for crew in self._of(job))

    def close(self) -> None:
        """End the runs that go on; they raise."""
        for crew in list(self._crews):
            crew.stop(GreenlabError("the pool was closed while it ran tasks"))

    def _of(self, job: Job) -> list[Workers]:
        return [crew for crew in self._crews if crew.job is job]
