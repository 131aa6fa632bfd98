"""The prefork pool: tasks in a few worker processes, driven by green threads.

Each worker has a socket and a green thread that reads it; each run feeds tasks from the green thread that
called `run`. Who works is up to `staff`, who gets which task to `feeding`; the loop inside the process is `worker`.

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
A worker that leaves when it has done its share leaves the processes alone that its tasks started.
Must not import: runs, live, magics, eventlet.green. It patches nothing, and needs nothing patched.
"""

from __future__ import annotations

import contextlib
import itertools
from time import perf_counter
from typing import TYPE_CHECKING, Final, Self

from greenlab.errors import CancelledError, GreenlabError
from greenlab.hub import eventlet
from greenlab.pools.prefork.feeding import Feeder
from greenlab.pools.prefork.job import Active
from greenlab.pools.prefork.link import Link, checked_workers
from greenlab.pools.prefork.staff import Staff
from greenlab.pools.processes.wire import Page
from greenlab.pools.protocol import Held

if TYPE_CHECKING:
    from greenlab.pools.protocol import Job

trampoline = eventlet.hubs.trampoline

_SPARED_S: Final = 0.02  # a short task of a cancelled run may end by itself, where others' wait at its worker
_ANSWER_S: Final = 0.2  # for workers to say where their tasks stand
_LOOK_S: Final = 0.002
_PAUSE_S: Final = 0.002
"""A reading costs some 50 µs, which is 5 % of a task of a millisecond: of such tasks, several are read at once."""


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
        self._staff = Staff(self, checked_workers(workers) if workers is not None else 0)
        self._active: dict[int, Active] = {}  # in the order of whose turn it is
        self._jobs = itertools.count(1)
        # Tasks are numbered over all jobs, from 1 on; 0 is none's.
        self._feeder = Feeder(self._staff, self._active, itertools.count(1))

    @property
    def workers(self) -> int:
        """How many worker processes the pool keeps."""
        return self._staff.target

    @property
    def pids(self) -> tuple[int, ...]:
        """The process ids of the workers; empty before the start."""
        return tuple(link.pid for link in self._staff.links)

    @property
    def in_flight(self) -> int:
        """Tasks being run at this moment: one a worker at the most."""
        return sum(link.is_busy for link in self._staff.links)

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
                for link in list(self._staff.links):
                    if link.given >= job.max_tasks:
                        self._staff.retire(link)
        self._staff.start()

    def resize(self, workers: int) -> None:
        """Keep another number of workers; those too many leave when they have done what they hold.

        Raises:
            UsageError: `workers` is not a number above 0.
        """
        self._staff.target = checked_workers(workers)
        if self._staff.server is not None:
            self._staff.start()

    def adjust(self, job: Job) -> None:
        """Follow `job.concurrency`, which was changed while the job runs."""
        if self._size(job):
            self._staff.adjust()
        self.wake()

    def _size(self, job: Job) -> bool:
        if not self._fixed:
            present = (active.job.concurrency for active in self._active.values())
            self._staff.target = max(1, job.concurrency, *present)
        return not self._fixed

    def run(self, job: Job) -> None:
        """Run every task of `job`; wait for the last.

        Raises:
            NotSendableError: the function, or what it uses, cannot be pickled; no task has started.
            GreenlabError: the workers cannot be kept alive, or the pool was closed.
        """
        active = Active(next(self._jobs), job)
        self.start(job)
        self._active[active.number] = active
        try:
            while self._feeder.feed(active):  # a job may have more to pull once a task has ended: a retry
                self._await_end(active)
        except BaseException:
            self._abandon(active)
            raise
        finally:
            del self._active[active.number]
            if not self._active:
                self._feeder.stop()
            for link in self._staff.links:
                link.forget(active)

    def held(self, job: Job) -> list[Held]:
        """List the tasks of a job that are being run. Waits up to 0.2 s for the workers to say where these stand."""
        found = [(link, number, index, link.page.started_s[0]) for link, number, index in self._running(job)]
        for link, *_ in found:
            link.ask()
        end_s = perf_counter() + _ANSWER_S
        while perf_counter() < end_s and any(not link.closed and link.page.is_asked for link, *_ in found):
            eventlet.sleep(_LOOK_S)
        now_s = perf_counter()
        return [
            Held(index, min(started_s, now_s), link.pid, None if link.closed else link.page.place_of(number))
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

    def _running(self, job: Job) -> list[tuple[Link, int, int]]:
        """The workers that run a task of a job, with its number and index."""
        found = ((link, link.running) for link in self._staff.links)
        return [(link, one[0], one[1][1]) for link, one in found if one is not None and one[1][0].job is job]

    def close(self) -> None:
        """End the workers and the fork server; runs that are under way raise. It may be started again."""
        self.stop(GreenlabError("the pool was closed while it ran tasks"))
        self._feeder.stop()
        self._staff.close()

    def _await_end(self, active: Active) -> None:
        while active.pending and active.error is None:
            active.wait()
        if active.error is not None:
            raise active.error

    def _abandon(self, active: Active) -> None:
        """Stop what runs of this job; what waits at a worker behind another job's task is skipped there."""
        active.stop(CancelledError("the run was cancelled"))
        concerned = [link for link in self._staff.links if link.holds(active)]
        for link in concerned:
            link.page.skip[Page.flag_of(active.number)] = 1
        shared = [link for link in concerned if link.is_shared]
        end_s = perf_counter() + _SPARED_S
        while any(link.runs(active) for link in shared) and perf_counter() < end_s:
            eventlet.sleep(_LOOK_S)
        doomed = [link for link in concerned if link.runs(active) and link.end_task(link.page.running[0])]
        self._staff.await_end(doomed)

    # --- what the staff tells

    def wake(self) -> None:
        """Look again at what may be sent where."""
        for active in self._active.values():
            active.wake()
        self._feeder.watch()

    def stop(self, error: GreenlabError) -> None:
        """End all runs."""
        for active in self._active.values():
            active.stop(error)

    def converse(self, link: Link) -> None:
        """Read what one worker sends, for as long as it lives."""
        try:
            while True:
                trampoline(link.sock, read=True)
                self._hear(link)
                if len(link.outstanding) <= link.low:
                    self.wake()
                if link.full:
                    self._staff.retire(link)
                if link.retiring and not link.outstanding:
                    link.dismiss()
                if link.busy_s >= _PAUSE_S:
                    eventlet.sleep(_PAUSE_S)
        except (EOFError, OSError):
            self._staff.kill(link)  # it has died, or lost its mind: its end is told by the fork server

    def account(self, link: Link, status: int) -> bool:
        """Say what became of a dead worker's tasks; return whether it died without a task."""
        with contextlib.suppress(EOFError, OSError):
            while self._hear(link):
                pass
        held, started_s = link.page.running[0], link.page.started_s[0]
        lost, link.outstanding = link.outstanding, {}
        idle = held not in lost
        for number, (active, index, _) in lost.items():
            if active.error is not None:
                active.pending -= 1
            elif number == held:
                active.pending -= 1
                now_s = perf_counter()
                active.job.fail(index, min(started_s, now_s), now_s, link.loss(status, number, active))
        self._feeder.give_again(entry for number, entry in lost.items() if number != held and entry[0].error is None)
        return idle

    def _hear(self, link: Link) -> bool:
        """Read once, and give to others what the worker did not begin; return whether there was something to read."""
        try:
            link.take(self._active)
        except BlockingIOError:
            return False
        finally:
            returned, link.returned = link.returned, []
            self._feeder.give_again(returned)
        self._staff.note_life(link)
        return True
