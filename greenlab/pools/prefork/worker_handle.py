"""A worker process, as the prefork pool sees it.

Guarantees: nothing here waits; sending never blocks.
Must not import: runs, live, magics, eventlet.green. The loop inside the process is `worker`.
"""

from __future__ import annotations

import signal
from time import perf_counter
from typing import TYPE_CHECKING, Final

from greenlab.pools.prefork.job import OVERHEAD_S, ActiveJob, Entry, frames_of
from greenlab.pools.prefork.time_limit import TimeLimit
from greenlab.pools.processes import framing, serialization
from greenlab.pools.processes.framing import Page
from greenlab.pools.processes.job import STREAMS, Printed
from greenlab.pools.processes.process import ProcessHandle
from greenlab.pools.processes.ring_buffer import Ring
from greenlab.pools.protocol import InFlight

if TYPE_CHECKING:
    from greenlab.pools.processes.dispatch import Batch, Dispatcher
    from greenlab.pools.processes.round_robin import RoundRobin
    from greenlab.pools.processes.supervisor import Supervisor

_PAUSE_S: Final = 0.002
"""A reading costs some 50 µs, which is 5 % of a task of a millisecond: of such tasks, several are read at once."""


class WorkerHandle(ProcessHandle):
    """The pool's end of one worker process. Its tasks are numbered in the order in which they are sent, from 1 on.

    Args:
        jobs: those that run.
        supervisor: what kills, signals and replaces the worker.
        dispatcher: what sends tasks here.
    """

    def __init__(
        self, jobs: RoundRobin[ActiveJob], supervisor: Supervisor[WorkerHandle], dispatcher: Dispatcher[ActiveJob]
    ) -> None:
        super().__init__()
        self._jobs = jobs
        self._supervisor = supervisor
        self._dispatcher = dispatcher
        self._page = Page(self.page_fd)
        self._outward = Ring(self.page_fd, 0, self._page.read_there)
        self._inward = Ring(self.page_fd, 1, self._page.read_here)
        self._number = 0  # that of the task that was sent last
        self.given = 0  # how many tasks it was to run, ever
        self.outstanding: dict[int, Entry] = {}  # numbers rise
        self._returned: list[Entry] = []  # tasks that it did not begin, and that still have to run
        self._opened: set[int] = set()  # the jobs that it knows
        self._recalled = False  # tasks were recalled from it, and it has said nothing since
        self._low = 0  # asks for more when no more tasks than this are outstanding
        self._progress = (0, 0, 0)  # how far it had come when that was last looked at
        self._kill_error: tuple[int, BaseException | None] = (0, None)  # a task that is killed, and its error
        self._limit = TimeLimit(self, self._page, lambda signum: supervisor.signal(self, signum))

    @property
    def load(self) -> int:
        """How many tasks were sent and have not ended."""
        return len(self.outstanding)

    @property
    def at_work(self) -> bool:
        """Whether a task runs there."""
        return self.running is not None

    def holds(self, active: ActiveJob) -> bool:
        """Whether tasks of this job are at the worker."""
        return any(entry[0] is active for entry in self.outstanding.values())

    @property
    def is_busy(self) -> bool:
        """Whether it has tasks that are still wanted."""
        return any(entry[0].error is None for entry in self.outstanding.values())

    @property
    def is_shared(self) -> bool:
        """Whether tasks of several jobs are at the worker."""
        return len({entry[0].number for entry in self.outstanding.values()}) > 1

    @property
    def running(self) -> tuple[int, Entry] | None:
        """The task that runs now, and its number; one whose result is on its way counts."""
        if not self.outstanding or self.is_closed:
            return None
        number = self._page.running[0]
        entry = self.outstanding.get(number)
        return None if entry is None else (number, entry)

    @property
    def began_s(self) -> float:
        """When the task began that runs now; while its function is loaded, what the worker notes lies ahead."""
        return min(self._page.started_s[0], perf_counter())

    def runs(self, active: ActiveJob) -> bool:
        """Whether the task that runs now is of this job."""
        return (running := self.running) is not None and running[1][0] is active

    @property
    def last_waiting(self) -> ActiveJob | None:
        """The job of the last task that the worker has not turned to; None also where tasks are being recalled."""
        if self._recalled or not self.outstanding:
            return None
        number = next(reversed(self.outstanding))
        return self.outstanding[number][0] if number > self._page.taken[0] else None

    def stands_still(self) -> bool:
        """Whether nothing has moved here since this was asked last."""
        before, self._progress = self._progress, (self._page.taken[0], self.outbox.sent, self.posts)
        return before == self._progress

    @property
    def pause_s(self) -> float:
        """For how long not to read: there are several short tasks to do before it asks for more."""
        count = len(self.outstanding) - self._low
        if count <= 1 or count * self.outstanding[next(reversed(self.outstanding))][0].task_s < _PAUSE_S:
            return 0.0
        return _PAUSE_S

    def room(self, active: ActiveJob, shared: bool) -> int:
        """Return how many tasks of a job may be sent now; 0 also when so few may that it is better to wait."""
        limit, count = active.ahead, len(self.outstanding)
        if active.job.max_tasks is not None:
            limit = min(limit, active.job.max_tasks - self.given + count)
        if self._recalled:
            return 0
        if not count:
            return limit
        if shared:
            waiting_s = sum(max(entry[0].task_s, 0.0) + OVERHEAD_S for entry in self.outstanding.values())
            count = max(count, round(waiting_s / (max(active.task_s, 0.0) + OVERHEAD_S)))
        return limit - count if 2 * count <= limit else 0

    # --- to the worker

    def accepts(self, batch: Batch[ActiveJob]) -> bool:
        """Whether these tasks may be sent, which was found out a while ago."""
        most = batch.active.job.max_tasks
        return self.takes_tasks and (most is None or self.given + len(batch) <= most)

    def post(self, batch: Batch[ActiveJob]) -> None:
        """Send tasks. They are outstanding from now on."""
        active = batch.active
        if active.number not in self._opened:
            self._opened.add(active.number)
            self._page.skip[Page.flag_of(active.number)] = 0
            self.outbox.put(active.opening)
        first = self._number + 1
        self._number += len(batch)
        self.outbox.put(frames_of(active, first, batch.tasks, self._outward))
        for number, (index, item, _) in enumerate(batch.tasks, first):
            self.outstanding[number] = (active, index, item)
        self._low = len(self.outstanding) // 2
        self.posts += 1
        self.given += len(batch)
        self.write()
        self._limit.watch(active.job)
        self._retire_if_spent()

    def _retire_if_spent(self) -> None:
        """Leave if the worker was given as many tasks as a present job allows; the next is forked meanwhile."""
        limits = [most for one in self._jobs if (most := one.job.max_tasks) is not None]
        if limits and self.given >= min(limits):
            self._supervisor.retire(self)

    def forget(self, active: ActiveJob) -> None:
        """Have the worker drop the function of a job that has ended."""
        if active.number in self._opened:
            self._opened.discard(active.number)
            self.send(framing.frame(framing.FORGET, active.number, 0, framing.NO_BODY))

    def skip(self, active: ActiveJob) -> None:
        """Forbid the worker to begin tasks of a job."""
        self._page.skip[Page.flag_of(active.number)] = 1

    def written(self) -> None:
        """There is room again."""
        self._dispatcher.wake()

    # --- from the worker

    def take(self) -> None:
        """Read once, tell jobs how their tasks ended, and ask for more; see `ProcessHandle.take`."""
        try:
            full = self._take()
        finally:
            if self._returned:
                returned, self._returned = self._returned, []
                self._dispatcher.give_again(returned)
        self.proven = True
        if len(self.outstanding) <= self._low:
            self._dispatcher.wake()
        if full:
            self._supervisor.retire(self)

    def _take(self) -> bool:
        """Read once; return whether the worker says that it has more memory than it may."""
        jobs, full = self._jobs, False
        broken: BaseException | None = None
        printed = Printed()
        for kind, form, buffers, number_of_job, number, _, start_s, end_s, body in self.inbox.read():
            if kind in STREAMS:
                writer = jobs.get(number_of_job)
                if writer is not None:
                    entry = self.outstanding.get(number)
                    printed.add(writer, STREAMS[kind], None if entry is None else entry[1], body)
                continue
            if kind == framing.FULL:
                full = True
                continue
            printed.flush()
            whole = self._inward.take(body, writable=bool(buffers)) if form & framing.SHARED else body
            entry = self.outstanding.pop(number, None)
            if entry is None:  # it was taken back
                continue
            active, index, _ = entry
            if kind == framing.SKIPPED and active.error is None:
                self.given -= 1
                self._returned.append(entry)
                continue
            if active.error is not None:
                active.pending -= 1
                continue
            active.learn(end_s - start_s)
            if form == framing.NOTHING:  # the most frequent of short ends
                active.tell(index, start_s, end_s, None)
                continue
            try:
                value, error = serialization.load_end(index, kind, form & ~framing.SHARED, buffers, whole)
            except BaseException as fault:  # its task has been run, and so have those whose ends were read with it
                broken, value, error = fault, None, serialization.unreadable(index, fault)
            active.tell(index, start_s, end_s, value, error)
        printed.flush()
        self._recalled = False
        if broken is not None:
            raise broken
        return full

    # --- what is not begun

    def recall(self) -> None:
        """Forbid the worker to begin what it has not begun. What it turns to from now on is answered as skipped."""
        if self.outstanding:
            self._page.recall[0] = max(self._page.recall[0], next(reversed(self.outstanding)))
            self._recalled = True

    def take_back(self) -> list[Entry]:
        """Take the tasks that the worker will never begin; called a moment (a millisecond will do) after `recall`.

        The worker writes the number of each task to `taken` before it looks at `recall`. So whatever lies above the
        number that is read here meets the recall, however late that is: also when the worker is stopped for ever.
        """
        taken, recall = self._page.taken[0], self._page.recall[0]  # above `recall` is what was sent since
        numbers = [number for number in self.outstanding if taken < number <= recall]
        self.given -= len(numbers)
        return [self.outstanding.pop(number) for number in numbers]

    # --- tasks that are ended

    def end_task(self, number: int, error: BaseException | None = None) -> bool:
        """Kill the worker, if this is the task that it runs: no other task is hit.

        Args:
            number: the number of the task.
            error: what it fails with; None for a `WorkerLostError`, or what its limit asks for.

        Returns:
            whether it runs.
        """
        self.recall()
        if self.running is None or self._page.running[0] != number:
            return False
        # It may have turned to the next one, and have seen no recall, before it notes that that runs: see `take_back`.
        if self._page.taken[0] != number:
            return False
        if error is not None:
            self._kill_error = number, error
        self._supervisor.kill(self)
        return True

    def end_task_of(self, active: ActiveJob, forced: bool) -> bool:
        """Kill the worker if it runs a task of this job; return whether it does.

        Args:
            active: the job, whose tasks are to be skipped already.
            forced: also kill it if it has turned to such a task, and does not say whether it begins it.
        """
        if self.runs(active) and self.end_task(self._page.running[0]):
            return True
        if not forced:
            return False
        self.recall()  # first, so that it begins no task of another job: see `take_back`
        if stuck := self._has_turned_to(active):
            self._supervisor.kill(self)
        return stuck

    def is_at(self, active: ActiveJob) -> bool:
        """Whether a task of this job runs, has an end that was not read yet, or may be about to begin.

        A worker looks whether to skip a task, and then notes that it runs: in between, only `taken` tells.
        """
        return self.runs(active) or self._has_turned_to(active)

    def _has_turned_to(self, active: ActiveJob) -> bool:
        if self.is_closed or (entry := self.outstanding.get(self._page.taken[0])) is None:
            return False
        return entry[0] is active

    # --- where it stands

    def ask(self) -> tuple[int, int, float] | None:
        """Ask where the running task stands; the answer appears on the page, if it comes.

        Returns:
            the task's number, its index, and when it began; None if none runs.
        """
        running = self.running
        if running is None:
            return None
        started_s = self._page.started_s[0]
        self._page.asked[0] += 1
        self._supervisor.signal(self, signal.SIGUSR1)
        return running[0], running[1][1], started_s

    @property
    def is_asked(self) -> bool:
        """Whether an answer is still to come."""
        return not self.is_closed and self._page.is_asked

    def answer(self, number: int, index: int, started_s: float) -> InFlight:
        """Return what is known of the task that was asked about."""
        place = None if self.is_closed else self._page.place_of(number)
        return InFlight(index, min(started_s, perf_counter()), self.pid, place)

    # --- its death

    def account_for_loss(self, status: int) -> list[Entry]:
        """Report to jobs the task that ran as the worker died.

        Returns:
            the tasks that it had not begun, and that still have to run.
        """
        held, started_s = self._page.running[0], self._page.started_s[0]
        lost, self.outstanding = self.outstanding, {}
        for number, (active, index, _) in lost.items():
            if active.error is not None:
                active.pending -= 1
            elif number == held:
                now_s = perf_counter()
                active.tell(index, min(started_s, now_s), now_s, None, self._loss_of(number, active, status))
        return [entry for number, entry in lost.items() if number != held and entry[0].error is None]

    def _loss_of(self, number: int, active: ActiveJob, status: int) -> BaseException:
        if self._kill_error[0] == number and self._kill_error[1] is not None:
            return self._kill_error[1]
        return self._limit.loss(number, active.job) or self.loss(status)

    def close(self) -> None:
        """As ProcessHandle; and no limit is watched any longer."""
        self._limit.close()
        super().close()
        self._outward.close()
        self._inward.close()
        self._page.close()
