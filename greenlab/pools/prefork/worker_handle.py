"""A worker process, as the prefork pool sees it.

Guarantees: nothing here waits; sending never blocks.
Must not import: runs, live, magics, eventlet.green. The loop inside the process is `worker`.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, Protocol

from greenlab.errors import TaskTimeoutError
from greenlab.hub import eventlet
from greenlab.pools.prefork.job import OVERHEAD_S, ActiveJob, Entry
from greenlab.pools.processes import framing, serialization
from greenlab.pools.processes.framing import Page, Parcel
from greenlab.pools.processes.job import Printed
from greenlab.pools.processes.process import Process
from greenlab.pools.processes.ring_buffer import Ring

if TYPE_CHECKING:
    from collections.abc import Mapping

get_hub = eventlet.hubs.get_hub

_GRACE_S: Final = 1.0
"""How long a task that was told to end may take to clean up before its worker is killed: a `finally` that closes
connections or removes files needs less, and nobody should wait long for a task that cannot be told."""
_PAUSE_S: Final = 0.002
"""A reading costs some 50 µs, which is 5 % of a task of a millisecond: of such tasks, several are read at once."""
_STREAMS: Final = {framing.STDOUT: "stdout", framing.STDERR: "stderr"}


class PoolCallbacks(Protocol):
    """What a link asks of the pool."""

    def kill_worker(self, link: WorkerHandle) -> None:
        """Kill the worker, and what it started."""

    def signal_worker(self, link: WorkerHandle) -> None:
        """Send it SIGUSR1."""

    def retire_worker(self, link: WorkerHandle) -> None:
        """Let it leave: it has more memory than it may."""

    def wake(self) -> None:
        """Look again at what may be sent: there is room at a worker."""

    def give_again(self, entries: list[Entry]) -> None:
        """Give to other workers what this one did not begin."""


class WorkerHandle(Process):
    """The pool's end of one worker process.

    Args:
        actives: the jobs that run, by number.
        office: the pool.
    """

    def __init__(self, actives: Mapping[int, ActiveJob], office: PoolCallbacks) -> None:
        super().__init__()
        self._actives = actives
        self._office = office
        self.page = Page(self.page_fd)
        self.outward = Ring(self.page_fd, 0, self.page.read_there)
        self._inward = Ring(self.page_fd, 1, self.page.read_here)
        self.silent = False  # tasks were recalled from it, and it has said nothing since
        self.closed = False
        self.low = 0  # asks for more when no more tasks than this are outstanding
        self.posts = 0
        self.mark = (0, 0, 0)  # how far it had come when somebody looked
        self.given = 0  # how many tasks it was to run, ever
        self.outstanding: dict[int, Entry] = {}  # numbers rise
        self._returned: list[Entry] = []  # tasks that it did not begin, and that still have to run
        self.jobs: set[int] = set()
        self.overdue = 0  # the task that was told to end, having outlasted its limit
        self.sentence: tuple[int, BaseException | None] = (0, None)  # a task that is killed, and what it fails with
        self.timer: Any = None

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
        """Whether it has tasks that somebody still wants."""
        return any(entry[0].error is None for entry in self.outstanding.values())

    @property
    def is_shared(self) -> bool:
        """Whether tasks of several jobs are at the worker."""
        return len({entry[0].number for entry in self.outstanding.values()}) > 1

    @property
    def running(self) -> tuple[int, Entry] | None:
        """The task that runs now, and its number; one whose result is on its way counts."""
        if self.closed or not self.outstanding:
            return None
        number = self.page.running[0]
        entry = self.outstanding.get(number)
        return None if entry is None else (number, entry)

    def runs(self, active: ActiveJob) -> bool:
        """Whether the task that runs now is of this job."""
        return (running := self.running) is not None and running[1][0] is active

    @property
    def has_queue(self) -> bool:
        """Whether it has tasks that it has not turned to yet."""
        return bool(self.outstanding) and next(reversed(self.outstanding)) > self.page.taken[0]

    @property
    def pause_s(self) -> float:
        """For how long not to read: there are several short tasks to do before it asks for more."""
        count = len(self.outstanding) - self.low
        if count <= 1 or count * self.outstanding[next(reversed(self.outstanding))][0].task_s < _PAUSE_S:
            return 0.0
        return _PAUSE_S

    def room(self, active: ActiveJob, shared: bool) -> int:
        """How many tasks of a job may be sent now; 0 also when so few may that it is better to wait."""
        limit, count = active.ahead, len(self.outstanding)
        if active.job.max_tasks is not None:
            limit = min(limit, active.job.max_tasks - self.given + count)
        if self.silent:
            return 0
        if not count:
            return limit
        if shared:
            waiting_s = sum(max(entry[0].task_s, 0.0) + OVERHEAD_S for entry in self.outstanding.values())
            count = max(count, round(waiting_s / (max(active.task_s, 0.0) + OVERHEAD_S)))
        return limit - count if 2 * count <= limit else 0

    def written(self) -> None:
        """There is room again."""
        self._office.wake()

    # --- what it says

    def take(self) -> None:
        """Read once, tell jobs how their tasks ended, and ask for more; see `Process.take`."""
        try:
            full = self._take()
        finally:
            if self._returned:
                returned, self._returned = self._returned, []
                self._office.give_again(returned)
        if len(self.outstanding) <= self.low:
            self._office.wake()
        if full:
            self._office.retire_worker(self)

    def _take(self) -> bool:
        """Read once; return whether the worker says that it has more memory than it may."""
        actives, full = self._actives, False
        broken: BaseException | None = None
        printed = Printed()
        for kind, form, buffers, number_of_job, number, _, start_s, end_s, body in self.inbox.read():
            if kind in _STREAMS:
                writer = actives.get(number_of_job)
                if writer is not None:
                    entry = self.outstanding.get(number)
                    printed.add(writer, _STREAMS[kind], None if entry is None else entry[1], body)
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
        self.silent = False
        if broken is not None:
            raise broken
        return full

    # --- what is not begun

    def recall(self) -> None:
        """Forbid the worker to begin what it has not begun. What it turns to from now on is answered as skipped."""
        if self.outstanding:
            self.page.recall[0] = max(self.page.recall[0], next(reversed(self.outstanding)))
            self.silent = True

    def take_back(self) -> list[Entry]:
        """Give the tasks that the worker will never begin; called a moment (a millisecond will do) after `recall`.

        The worker writes the number of each task to `taken` before it looks at `recall`. So whatever lies above the
        number that is read here meets the recall, however late that is: also when the worker is stopped for ever.
        """
        taken, recall = self.page.taken[0], self.page.recall[0]  # above `recall` is what was sent since
        numbers = [number for number in self.outstanding if taken < number <= recall]
        self.given -= len(numbers)
        return [self.outstanding.pop(number) for number in numbers]

    def end_task(self, number: int, error: BaseException | None = None) -> bool:
        """Kill the worker, if this is the task that it runs: no other task is hit.

        Args:
            number: the number of the task.
            error: what it fails with; None for a `WorkerLostError`, or what its limit asks for.

        Returns:
            whether it runs.
        """
        self.recall()
        if self.running is None or self.page.running[0] != number:
            return False
        if error is not None:
            self.sentence = number, error
        self._office.kill_worker(self)
        return True

    # --- limits

    def watch(self, left_s: float) -> None:
        """See to it that the task that runs in `left_s` seconds is not over its limit."""
        self.timer = get_hub().schedule_call_global(left_s, self._check_time)

    def _check_time(self) -> None:
        """The hub calls this, so it must not wait."""
        self.timer = None
        left_s = self._time_left()
        if left_s is None or self.dead:
            return
        number, running = self.page.running[0], self.running
        if left_s <= 0 and running is not None:
            limit_s = running[1][0].job.timeout_s or 0.0
            if self.overdue == number:
                self.end_task(number)
            else:
                self.overdue = number
                self.page.limit_s[0] = limit_s
                self.page.stop[0] = number
                self._office.signal_worker(self)
            left_s = min(limit_s, _GRACE_S)
        self.watch(max(left_s, 0.001))

    def _time_left(self) -> float | None:
        """Seconds until the running task reaches its limit, at the soonest; None if no limit is near."""
        limits = [active.job.timeout_s for active, _, _ in self.outstanding.values()]
        soonest = min((limit for limit in limits if limit is not None), default=None)
        started_s, running = self.page.started_s[0], self.running
        if running is None or running[1][0].job.timeout_s is None or running[0] != self.page.running[0]:
            return soonest
        limit_s = running[1][0].job.timeout_s
        left_s = started_s + limit_s - perf_counter()
        if running[0] == self.overdue:
            return left_s + _GRACE_S
        return min(left_s, limit_s)  # while the function is loaded, `started_s` lies ahead

    # --- where it stands

    def ask(self) -> None:
        """Ask where the running task stands; the answer appears on the page, if it comes."""
        self.page.asked[0] += 1
        self._office.signal_worker(self)

    # --- its end

    def loss_of(self, number: int, active: ActiveJob, status: int) -> BaseException:
        """Say what became of the task that ran here as the worker died."""
        if self.sentence[0] == number and self.sentence[1] is not None:
            return self.sentence[1]
        if self.overdue == number:
            return TaskTimeoutError(
                f"the task ran longer than its timeout of {active.job.timeout_s:g} s, did not end "
                f"within {_GRACE_S:g} s of being told to, and its worker was replaced"
            )
        return self.loss(status)

    def forget(self, active: ActiveJob) -> None:
        """Let the worker drop the function of a job that has ended."""
        if active.number in self.jobs:
            self.jobs.discard(active.number)
            self.send(framing.frame(framing.FORGET, active.number, 0, Parcel(framing.NOTHING, [])))

    def close(self) -> None:
        """As Process; and no limit is watched any longer."""
        self.closed = True
        if self.timer is not None:
            self.timer.cancel()
        super().close()
        self.outward.close()
        self._inward.close()
        self.page.close()
