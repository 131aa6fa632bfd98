"""The hybrid pool: a few processes, each with its own hub, that together hold `concurrency` tasks in flight.

In each process the tasks of a job are green threads of the very same green pool that the kernel uses, so that time
limits, slices and contexts are alike; the standard library cooperates there too. Each process may have its share
in flight (`concurrency` divided by the processes), and is sent one more task as one ends: a slow process does not
hold back what another could do. Some go ahead, as many as it ends in 25 ms at its pace of late, and are recalled
where they would wait for long while slots stand idle elsewhere.
Who works is up to `Supervisor`, who gets which task to `feeding`; what runs in a process is `worker`.

Guarantees:

* each task is run at most once and reported exactly once, also when its process dies: those that had begun there
  fail with `WorkerLostError`, those that had not go to another process, and it is replaced at once;
* what holds the hub of a process is told the job, as it is told of the hub here;
* a time limit, too, stops a task that computes: the process raises `TaskTimeoutError` in it, and in no other;
* jobs that run at the same time share the processes; an idle pool wakes nobody.

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
from typing import TYPE_CHECKING, Any, Final, Self

from greenlab.errors import CancelledError, GreenlabError
from greenlab.hub import eventlet
from greenlab.hub.watchdog import AFTER_S
from greenlab.pools.hybrid.dispatch import Feeder
from greenlab.pools.hybrid.job import ActiveJob
from greenlab.pools.hybrid.worker_handle import WorkerHandle
from greenlab.pools.processes.supervisor import Supervisor
from greenlab.pools.protocol import InFlight

if TYPE_CHECKING:
    from collections.abc import Callable

    from greenlab.pools.protocol import Job

_GRACE_S: Final = 0.5  # for the processes of a cancelled run to end its tasks …
_SHARED_GRACE_S: Final = 5.0  # … where tasks of other runs would be lost with them
_ANSWER_S: Final = 0.2


class HybridPool:
    """Runs jobs in processes that each have a hub.

    Args:
        blocked_after: says for how long a task may hold the hub of its process before that is called a block, seconds.
    """

    name = "hybrid"

    def __init__(self, blocked_after: Callable[[], float] = lambda: AFTER_S) -> None:
        self._blocked_after = blocked_after
        self._active: dict[int, ActiveJob] = {}
        self._feeder = Feeder(self._active)
        self._jobs = itertools.count(1)
        self._questions = itertools.count(1)
        self._fleet: Supervisor[WorkerHandle] = Supervisor("greenlab.pools.hybrid.worker", self._make_link, self)

    def _make_link(self) -> WorkerHandle:
        return WorkerHandle(self._active, self)

    @property
    def pids(self) -> tuple[int, ...]:
        """The process ids of the processes; empty before the start."""
        return tuple(link.pid for link in self._fleet.processes)

    @property
    def in_flight(self) -> int:
        """Tasks begun and not ended."""
        return sum(self._count(active) for active in self._active.values())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def count(self, job: Job) -> int:
        """Count the tasks of one job that have begun and not ended."""
        return sum(self._count(active) for active in self._active.values() if active.job is job)

    def _count(self, active: ActiveJob) -> int:
        return sum(link.count(active) for link in self._fleet.processes)

    def start(self, job: Job) -> None:
        """Have as many processes ready as the widest job wants; at once if they are.

        Raises:
            GreenlabError: no process could be started.
        """
        self._fleet.target = self._wanted(job)
        self._fleet.start()

    def _wanted(self, job: Job) -> int:
        widths = [active.width for active in self._active.values()]
        return max(1, min(job.workers, job.concurrency), *widths)

    def run(self, job: Job) -> None:
        """Run every task of `job`; wait for the last.

        Raises:
            NotSendableError: the function, or what it uses, cannot be pickled; no task has started.
            GreenlabError: the processes cannot be kept alive, or the pool was closed.
        """
        active = ActiveJob(next(self._jobs), job, self._blocked_after())
        begin_s = perf_counter()
        self._active[active.number] = active  # a narrower job that starts meanwhile takes no process from it
        try:
            self.start(job)
            self._staff(active)
            while self._feeder.feed(active):  # a job may have more to pull once a task has ended: a retry
                active.await_end()
            if perf_counter() - begin_s >= active.blocked_after_s:
                self._hear_out(active)
        except BaseException:
            self._abandon(active)
            raise
        finally:
            del self._active[active.number]
            if not self._active:
                self._feeder.stop()
            for link in self._fleet.processes:
                link.end(active)

    def adjust(self, job: Job) -> None:
        """Follow `job.concurrency`, which was changed while the job runs: the shares follow."""
        self._fleet.target = self._wanted(job)
        self._fleet.adjust()
        for active in self._active.values():
            if active.job is job:
                self._staff(active)
        self.wake_all()

    def held(self, job: Job) -> list[InFlight]:
        """List the tasks of a job that are being run; waits for the processes to answer, 0.2 s at the most."""
        asked = []
        for active in self._active.values():
            if active.job is job:
                for link in self._fleet.processes:
                    if link.held(active):
                        question = next(self._questions)
                        asked.append((link, active, question, link.ask(active, question)))
        found: list[InFlight] = []
        end_s = perf_counter() + _ANSWER_S
        for link, active, question, event in asked:
            with eventlet.Timeout(max(0.0, end_s - perf_counter()), False):
                found += event.wait()
                continue
            link.dont_answer(question)
            if not link.dead:
                found += [InFlight(index, sent_s, link.pid) for index, sent_s in link.begun(active)]
        return found

    def kill(self, job: Job, index: int, error: BaseException) -> bool:
        """End one task, where it waits: it fails with `error`."""
        for active in self._active.values():
            if active.job is job:
                for link in self._fleet.processes:
                    stint = link.stints.get(active.number)
                    if stint is not None and index in stint.outstanding:
                        active.sentences[index] = error
                        link.kill(active, index)
                        return True
        return False

    def close(self) -> None:
        """End the processes; runs that are under way raise. The pool may be started again."""
        for active in self._active.values():
            active.stop(GreenlabError("the pool was closed while it ran tasks"))
        self._feeder.stop()
        self._fleet.close()

    def _hear_out(self, active: ActiveJob) -> None:
        """End a job at its processes, and wait for what their watchdogs still have to say; not for long."""
        stints = [stint for link in self._fleet.processes if (stint := link.end(active)) is not None]
        with eventlet.Timeout(_ANSWER_S, False):
            for stint in stints:
                stint.ended.wait()

    def _abandon(self, active: ActiveJob) -> None:
        """Stop what runs of this job, by force where a process does not answer."""
        active.stop(CancelledError("the run was cancelled"))
        begin_s = perf_counter()
        ending = [(link, stint) for link in self._fleet.processes if (stint := link.end(active)) is not None]
        to_kill: list[WorkerHandle] = []
        for link, stint in ending:
            grace_s = _SHARED_GRACE_S if any(link.held(other) for other in self._active.values()) else _GRACE_S
            with eventlet.Timeout(max(0.0, begin_s + grace_s - perf_counter()), False):
                stint.ended.wait()
                continue
            to_kill.append(link)
            self._fleet.kill(link)
        self._fleet.await_end(to_kill)

    # --- processes that come and go

    def _staff(self, active: ActiveJob) -> None:
        """Give a job its processes: those it has, if it may keep them, and those with the fewest jobs."""
        at_hand = [link for link in self._fleet.processes if link.open]
        crew = [link for link in active.crew if link in at_hand][: active.width]
        others = sorted((link for link in at_hand if link not in crew), key=lambda link: (len(link.stints), link.load))
        crew += others[: active.width - len(crew)]
        missing = min(active.width, self._fleet.target) - len(crew)  # they are being forked
        active.crew = [*crew, *([None] * missing)]
        for place, link in enumerate(active.crew):
            if link is not None:
                link.tell_share(active, active.share(place))
        for link in at_hand:
            if link not in crew:
                link.tell_share(active, max(1, link.held(active)))

    def changed(self) -> None:
        """Follow the fleet; see `PoolCallbacks`."""
        for active in self._active.values():
            self._staff(active)
        self.wake_all()

    def lost(self, link: WorkerHandle, status: int) -> None:
        """Account for a dead process's tasks; see `PoolCallbacks`."""
        now_s = perf_counter()
        for stint in link.stints.values():
            active, begun = stint.active, link.marks.begun[stint.slot]
            unbegun = []
            for index, (nth, sent_s, item) in stint.outstanding.items():
                if nth > begun and index not in active.sentences:
                    unbegun.append((index, item))
                    continue
                error = active.sentences.pop(index, None) or link.loss(status)
                active.tell(index, sent_s, now_s, None, error)
            if unbegun:
                self.give_again(active, unbegun)

    def failed(self, error: GreenlabError) -> None:
        """End the runs; see `PoolCallbacks`."""
        for active in self._active.values():
            active.stop(error)

    # --- what the links ask for; see `PoolCallbacks`

    def welcome(self, link: WorkerHandle) -> None:
        """Take a process into service."""
        self._fleet.welcome(link)

    def wake_all(self) -> None:
        """Let every job look for room again."""
        for active in self._active.values():
            active.wake()
        self.watch()

    def watch(self) -> None:
        """See to what waits at a process while another one could take it."""
        self._feeder.watch()

    def give_again(self, active: ActiveJob, tasks: list[tuple[int, Any]]) -> None:
        """Give to other processes what one did not begin."""
        self._feeder.give_again(active, tasks)
