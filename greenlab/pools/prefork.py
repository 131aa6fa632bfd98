"""The prefork pool: tasks in a few worker processes, driven by green threads.

Each worker has a socket and a green thread that reads it; each run feeds tasks from the green thread that
called `run`. Short tasks go ahead in batches, so that a worker has a few milliseconds of work waiting; a task
that is longer than that waits here until a worker is idle, so no slow task is delayed by another. (A short
task may find itself behind an unexpectedly slow one.)

Guarantees:

* each task is run at most once and reported exactly once, also when its worker dies: the task that the worker
  held fails with `WorkerLostError`, those on their way to it go to another one, and it is replaced at once;
* jobs that run at the same time take turns at the workers;
* an idle pool wakes nobody: no timer, no polling.

Bounds: processes that a task started itself are not ended with its worker; what C code writes to the
descriptors 1 and 2 goes where the kernel's own output goes, not to `job.write`.
Must not import: runs, live, magics, eventlet.green. It patches nothing, and needs nothing patched.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
from collections import deque
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, Self

from greenlab.errors import (
    CancelledError,
    GreenlabError,
)
from greenlab.hub import eventlet
from greenlab.pools import forkserver
from greenlab.pools.forkserver import ForkServer
from greenlab.pools.protocol import Held
from greenlab.pools.wire import Bytes, Page
from greenlab.pools.worker import Active, Batch, Entry, Link, checked_workers, find_room

if TYPE_CHECKING:
    from greenlab.pools.protocol import Job

Event = eventlet.event.Event
get_hub = eventlet.hubs.get_hub
trampoline = eventlet.hubs.trampoline
Semaphore = eventlet.semaphore.Semaphore

_GRACE_S: Final = 0.02
_PATIENCE_S: Final = 2.0  # for the end of processes that were told to end


class PreforkPool:
    """Runs jobs in worker processes that come from a clean fork server.

    Args:
        workers: how many processes; None for as many as the jobs that run at a time ask for.

    Raises:
        UsageError: `workers` is not a number above 0.
    """

    name = "prefork"

    def __init__(self, workers: int | None = None) -> None:
        self._fixed = workers is not None
        self._target = checked_workers(workers) if workers is not None else 0
        self._server: ForkServer | None = None
        self._listener: Any = None
        self._asked: deque[Link] = deque()  # links whose worker is being forked
        self._links: list[Link] = []
        self._active: dict[int, Active] = {}  # in the order of whose turn it is
        self._starting = Semaphore(1)
        self._changed = Event()
        self._trouble: GreenlabError | None = None
        self._useful = False  # the server has forked
        self._stillborn = 0
        self._jobs = 0
        self._numbers = itertools.count(1)  # of tasks, over all jobs; 0 is none's

    @property
    def workers(self) -> int:
        """How many worker processes the pool keeps."""
        return self._target

    @property
    def pids(self) -> tuple[int, ...]:
        """The process ids of the workers; empty before the start."""
        return tuple(link.pid for link in self._links)

    @property
    def in_flight(self) -> int:
        """Tasks being run at this moment: one a worker at the most."""
        return sum(link.is_busy for link in self._links)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def count(self, job: Job) -> int:
        """Count the tasks of one job that are being run at this moment."""
        return sum(link.runs(active) for active in self._active.values() if active.job is job for link in self._links)

    def start(self, job: Job | None = None) -> None:
        """Make the workers ready; at once if they are.

        Args:
            job: what will run; a pool without a fixed number of workers has as many as its widest job wants.

        Raises:
            GreenlabError: no worker process could be started.
        """
        if job is not None and not self._fixed:
            self._target = max(job.concurrency, *(active.job.concurrency for active in self._active.values()), 1)
        with self._starting:
            self._trouble = None
            self._stillborn = 0
            self._adjust()
            while self._asked:
                self._changed.wait()
            if self._trouble is not None and not self._links:
                raise self._trouble

    def resize(self, workers: int) -> None:
        """Keep another number of workers; those too many leave when they have done what they hold.

        Raises:
            UsageError: `workers` is not a number above 0.
        """
        self._target = checked_workers(workers)
        if self._server is not None:
            self.start()

    def adjust(self, job: Job) -> None:
        """Follow `job.concurrency`, which was changed while the job runs."""
        if not self._fixed:
            self._target = max(job.concurrency, *(active.job.concurrency for active in self._active.values()), 1)
            self._adjust()
        self._wake_all()

    def held(self, job: Job) -> list[Held]:
        """List the tasks of a job that are being run."""
        return [
            Held(entry[1], link.page.started_s[0], link.pid)
            for link in self._links
            if (entry := link.outstanding.get(link.page.running[0])) is not None and entry[0].job is job
        ]

    def kill(self, job: Job, index: int, error: BaseException) -> bool:
        """End one task: its worker is killed and replaced, and the task fails with `error`."""
        for link in self._links:
            entry = link.outstanding.get(link.page.running[0])
            if entry is not None and entry[0].job is job and entry[1] == index:
                link.sentence = error
                self._kill(link)
                return True
        return False

    def run(self, job: Job) -> None:
        """Run every task of `job`; wait for the last.

        Raises:
            NotSendableError: the function, or what it uses, cannot be pickled; no task has started.
            GreenlabError: the workers cannot be kept alive, or the pool was closed.
        """
        self._jobs += 1
        active = Active(self._jobs, job)
        self.start(job)
        self._active[active.number] = active
        try:
            while self._feed(active):  # a job may have more to pull once a task has ended: a retry
                self._await_end(active)
        except BaseException:
            self._abandon(active)
            raise
        finally:
            del self._active[active.number]
            for link in self._links:
                link.forget(active)

    def close(self) -> None:
        """End the workers and the fork server; runs that are under way raise. It may be started again."""
        server, self._server = self._server, None
        for active in self._active.values():
            active.stop(GreenlabError("the pool was closed while it ran tasks"))
        links = [*self._links, *self._asked]
        self._links.clear()
        self._asked.clear()
        for link in links:
            link.close()
        self._note_change()
        if server is None:
            return
        server.hang_up()
        self._listener.kill()
        try:
            with contextlib.suppress(EOFError, TimeoutError):
                while True:
                    trampoline(server, read=True, timeout=_PATIENCE_S, timeout_exc=TimeoutError)
                    server.read()
        finally:
            server.close()

    # --- from jobs to workers

    def _feed(self, active: Active) -> bool:
        """Give workers tasks until the job has no more now; return whether there were any."""
        pull, fed = active.job.pull, False
        while True:
            link, room = self._await_room(active)
            batch = Batch(active, link, self._numbers, self._post)
            # If `pull` waits, the tasks that were pulled before must not wait with it.
            timer = get_hub().schedule_call_global(0, batch.post) if room > 1 else None
            try:
                while room > 0:
                    index, item = pull()
                    fed = True
                    active.pending += 1
                    if batch.stale:
                        self._place(active, index, item)
                        break
                    room -= batch.add(index, item)
                    if timer is not None and timer.called:  # `pull` did wait, and may again
                        break
            except StopIteration:
                batch.post()
                return fed
            finally:
                if timer is not None:
                    timer.cancel()
            batch.post()

    def _place(self, active: Active, index: int, item: Any) -> None:
        link, _ = self._await_room(active)
        batch = Batch(active, link, self._numbers, self._post)
        batch.add(index, item)
        batch.post()

    def _await_room(self, active: Active) -> tuple[Link, int]:
        while True:
            if active.error is not None:
                raise active.error
            link, room = find_room(self._links, active, len(self._active) > 1)
            if link is not None:
                return link, room
            active.wait()

    def _post(self, link: Link, active: Active, entries: dict[int, Entry], parts: list[Bytes]) -> None:
        """Send tasks to a worker, or to another one if this has died meanwhile."""
        if not link.open:
            eventlet.spawn(self._resend, active, list(entries.values()))
            return
        if active.number not in link.jobs:
            link.jobs.add(active.number)
            link.page.skip[Page.flag_of(active.number)] = 0
            link.outbox.put(active.opening)
        link.outstanding.update(entries)
        link.low = len(link.outstanding) // 2
        link.posts += 1
        link.outbox.put(parts)
        link.write()
        if len(self._active) > 1:  # to the end of the queue
            self._active[active.number] = self._active.pop(active.number)
        if active.job.timeout_s is not None and link.timer is None:
            link.watch(active.job.timeout_s)

    def _resend(self, active: Active, entries: list[Entry]) -> None:
        try:
            for _, index, item in entries:
                self._place(active, index, item)
        except BaseException as error:
            active.stop(error)

    def _await_end(self, active: Active) -> None:
        while active.pending and active.error is None:
            active.wait()
        if active.error is not None:
            raise active.error

    def _wake_all(self) -> None:
        for active in self._active.values():
            active.wake()

    def _abandon(self, active: Active) -> None:
        """Stop what runs of this job; what waits at a worker behind another job's task is skipped there."""
        active.stop(CancelledError("the run was cancelled"))
        concerned = [link for link in self._links if link.holds(active)]
        for link in concerned:
            link.page.skip[Page.flag_of(active.number)] = 1
        shared = [link for link in concerned if link.is_shared]
        end_s = perf_counter() + _GRACE_S  # a short task ends by itself, and spares its neighbours a death
        while any(link.runs(active) for link in shared) and perf_counter() < end_s:
            eventlet.sleep(0.002)
        doomed = [link for link in concerned if link.runs(active)]
        for link in doomed:
            self._kill(link)
        for link in doomed:
            link.gone.wait(_PATIENCE_S)

    # --- from workers to jobs

    def _read(self, link: Link) -> None:
        """Read what one worker sends, for as long as it lives."""
        try:
            while True:
                trampoline(link.sock, read=True)
                with contextlib.suppress(BlockingIOError):
                    link.take(self._active)
                if len(link.outstanding) <= link.low:
                    self._wake_all()
                if link.retiring and not link.outstanding:
                    link.dismiss()
        except (EOFError, OSError):
            self._kill(link)  # it has died, or lost its mind: its end is told by the fork server

    def _bury(self, link: Link, status: int) -> None:
        """Account for a dead worker's tasks, and put another worker in its place."""
        if link not in self._links:  # the pool was closed
            return
        with contextlib.suppress(EOFError, OSError):  # BlockingIOError too says that there is nothing more
            while True:
                link.take(self._active)
        held, started_s = link.page.running[0], link.page.started_s[0]
        lost = list(link.outstanding.items())
        link.outstanding.clear()
        self._links.remove(link)
        link.close()
        for number, (active, index, item) in lost:
            if active.error is not None:
                active.pending -= 1
            elif number == held:
                active.pending -= 1
                now_s = perf_counter()
                active.job.fail(index, min(started_s, now_s), now_s, link.loss(status, active))
            else:
                eventlet.spawn(self._resend, active, [(active, index, item)])
        if link.fresh and not any(number == held for number, _ in lost):
            self._stillborn += 1
        if self._stillborn > 2 * self._target + 3:
            self._give_up(GreenlabError("workers die as soon as they start: is there memory for them?"))
        else:
            self._adjust()
        self._wake_all()

    # --- workers

    def _adjust(self) -> None:
        """Have as many workers as wanted, soon."""
        staying = [link for link in self._links if not link.retiring]
        for link in sorted(staying, key=lambda link: len(link.outstanding))[: len(staying) - self._target]:
            link.retiring = True
            link.open = False
            if not link.outstanding:
                link.dismiss()
        try:
            for _ in range(self._target - len(staying) - len(self._asked)):
                if self._server is None:
                    self._server = ForkServer("greenlab.pools._worker")
                    self._useful = False
                    self._listener = eventlet.spawn(self._listen, self._server)
                link = Link(self._wake_all, self._kill)
                self._asked.append(link)
                link.hand_over(self._server)
        except OSError as error:
            self._give_up(GreenlabError(f"cannot start a worker process: {error}"))

    def _listen(self, server: ForkServer) -> None:
        """Hear of the births and deaths of workers."""
        try:
            while True:
                trampoline(server, read=True)
                for kind, pid, status in server.read():
                    if kind == forkserver.FORKED:
                        self._welcome(pid, status)
                    else:
                        self._expect_burial(pid, status)
        except EOFError:
            if server is not self._server:
                return
            self._server = None
            unborn, status = list(self._asked), server.close()
            self._asked.clear()
            for link in unborn:
                link.close()
            if unborn and self._useful:
                self._adjust()
            elif unborn:
                self._give_up(GreenlabError(f"the fork server ended with status {status} before it was of use"))
            for pid in self.pids:  # they end with it
                self._expect_burial(pid, signal.SIGKILL)

    def _welcome(self, pid: int, errno: int) -> None:
        link = self._asked.popleft()
        if pid:
            self._useful = True
            link.pid = pid
            link.open = True
            link.reader = eventlet.spawn(self._read, link)
            self._links.append(link)
        else:
            link.close()
            self._give_up(GreenlabError(f"cannot fork a worker process: {os.strerror(errno)}"))
        self._note_change()
        self._wake_all()

    def _expect_burial(self, pid: int, status: int) -> None:
        for link in self._links:
            if link.pid == pid and not link.dead:
                link.open = False
                link.dead = True
                eventlet.spawn(self._bury, link, status)

    def _kill(self, link: Link) -> None:
        link.open = False
        if self._server is not None:
            self._server.kill(link.pid)

    def _give_up(self, error: GreenlabError) -> None:
        """Go on with the workers that there are, if any; the next start tries again."""
        self._trouble = error
        self._note_change()
        if not self._links:
            for active in self._active.values():
                active.stop(error)

    def _note_change(self) -> None:
        changed, self._changed = self._changed, Event()
        changed.send()
