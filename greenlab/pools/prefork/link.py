"""A worker process, as the prefork pool sees it.

Guarantees: nothing here waits; sending never blocks.
Must not import: runs, live, magics, eventlet.green. The loop inside the process is `worker`.
"""

from __future__ import annotations

import os
import socket
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, Protocol

from greenlab.errors import NotSendableError, TaskTimeoutError, UsageError, WorkerLostError
from greenlab.hub import eventlet
from greenlab.pools.prefork.job import OVERHEAD_S, Active, Entry, Printed
from greenlab.pools.processes import sending, wire
from greenlab.pools.processes.ring import Ring
from greenlab.pools.processes.wire import Inbox, Outbox, Page, Parcel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from greenlab.pools.processes.forkserver import ForkServer

Event = eventlet.event.Event
get_hub = eventlet.hubs.get_hub
trampoline = eventlet.hubs.trampoline

_GRACE_S: Final = 1.0
"""How long a task that was told to end may take to clean up before its worker is killed: a `finally` that closes
connections or removes files needs less, and nobody should wait long for a task that cannot be told."""
_STREAMS: Final = {wire.STDOUT: "stdout", wire.STDERR: "stderr"}


class Server(Protocol):
    """What a link asks of the fork server, by way of the pool."""

    def kill(self, link: Link) -> None:
        """Kill the worker, and what it started."""

    def signal(self, link: Link) -> None:
        """Send it SIGUSR1."""

    def wake(self) -> None:
        """Look again at what may be sent: an outbox has been emptied."""


class Link:
    """The pool's end of one worker process."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.sock, self._theirs = socket.socketpair()
        self.sock.setblocking(False)
        self._page_fd = Page.open_fd()
        self.page = Page(self._page_fd)
        self.outward = Ring(self._page_fd, 0, self.page.read_there)
        self._inward = Ring(self._page_fd, 1, self.page.read_here)
        self.inbox = Inbox(self.sock)
        self.outbox = Outbox(self.sock)
        self.pid = 0
        self.open = False  # takes tasks
        self.fresh = True  # has not answered yet
        self.retiring = False
        self.silent = False  # tasks were recalled from it, and it has said nothing since
        self.full = False  # says that it has more memory than it may
        self.dead = False
        self.closed = False
        self.low = 0  # asks for more when no more tasks than this are outstanding
        self.posts = 0
        self.mark = (0, 0, 0)  # how far it had come when somebody looked
        self.given = 0  # how many tasks it was to run, ever
        self.outstanding: dict[int, Entry] = {}  # numbers rise
        self.returned: list[Entry] = []  # tasks that it did not begin, and that still have to run
        self.jobs: set[int] = set()
        self.overdue = 0  # the task that was told to end, having outlasted its limit
        self.sentence: tuple[int, BaseException | None] = (0, None)  # a task that is killed, and what it fails with
        self.timer: Any = None
        self.reader: Any = None
        self.writer: Any = None
        self.gone = Event()

    def hand_over(self, server: ForkServer) -> None:
        """Have a worker forked at the other end."""
        try:
            server.fork(self._theirs, self._page_fd)
        except ConnectionError:  # it has died, which whoever listens to it will notice
            pass
        finally:
            self._theirs.close()
            os.close(self._page_fd)

    def holds(self, active: Active) -> bool:
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
        number = self.page.running[0]
        entry = self.outstanding.get(number) if self.outstanding else None
        return None if entry is None else (number, entry)

    def runs(self, active: Active) -> bool:
        """Whether the task that runs now is of this job."""
        return (running := self.running) is not None and running[1][0] is active

    @property
    def has_queue(self) -> bool:
        """Whether it has tasks that it has not turned to yet."""
        return bool(self.outstanding) and next(reversed(self.outstanding)) > self.page.taken[0]

    @property
    def busy_s(self) -> float:
        """How long, about, it has several tasks to do before it asks for more; 0 if it has not."""
        count = len(self.outstanding) - self.low
        return count * self.outstanding[next(reversed(self.outstanding))][0].task_s if count > 1 else 0.0

    def room(self, active: Active, shared: bool) -> int:
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

    def write(self) -> None:
        """Send what waits in the outbox; a green thread of its own sends what must wait for the socket."""
        try:
            if not self.outbox.write() and self.writer is None:
                self.writer = eventlet.spawn(self._write_rest)
        except OSError:  # the worker has died, which the fork server tells
            pass

    def _write_rest(self) -> None:
        try:
            while not self.outbox.write():
                trampoline(self.sock, write=True)
        except OSError:
            return
        finally:
            self.writer = None
        self._server.wake()

    def take(self, actives: Mapping[int, Active]) -> None:
        """Read once, and tell jobs how their tasks ended.

        Raises:
            BlockingIOError: there is nothing to read now.
            EOFError, OSError: nor will there be.
        """
        printed = Printed()
        for kind, form, buffers, number_of_job, number, _, start_s, end_s, body in self.inbox.read():
            if kind in _STREAMS:
                writer = actives.get(number_of_job)
                if writer is not None and writer.error is None:
                    entry = self.outstanding.get(number)
                    printed.add(writer.job, _STREAMS[kind], None if entry is None else entry[1], body)
                continue
            if kind == wire.FULL:
                self.full = True
                continue
            printed.flush()
            whole = self._inward.take(body, writable=bool(buffers)) if form & wire.SHARED else body
            entry = self.outstanding.pop(number, None)
            if entry is None:  # it was taken back
                continue
            active, index, _ = entry
            if kind == wire.SKIPPED and active.error is None:
                self.given -= 1
                self.returned.append(entry)
                continue
            active.pending -= 1
            if active.error is not None:
                continue
            active.learn(end_s - start_s)
            error = value = None
            try:
                if kind == wire.ERROR:
                    error = sending.load_error(whole)
                else:
                    value = sending.load(form & ~wire.SHARED, buffers, whole, sending.has_class)
            except Exception as cause:
                error = NotSendableError(f"the result of task {index} cannot be read here: {cause}")
                error.__cause__ = cause
            try:
                if error is None:
                    active.job.succeed(index, start_s, end_s, value)
                else:
                    active.job.fail(index, start_s, end_s, error)
            except Exception as broken:  # the job itself, whose run must not wait for ever
                active.stop(broken)
        printed.flush()
        self.silent = False

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
        self._server.kill(self)
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
                self._server.signal(self)
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
        self._server.signal(self)

    # --- its end

    def loss(self, status: int, number: int, active: Active) -> BaseException:
        """Say what became of the task that this worker held as it died."""
        if self.sentence[0] == number and self.sentence[1] is not None:
            return self.sentence[1]
        if self.overdue == number:
            return TaskTimeoutError(
                f"the task ran longer than its timeout of {active.job.timeout_s:g} s, did not end "
                f"within {_GRACE_S:g} s of being told to, and its worker was replaced"
            )
        code = os.waitstatus_to_exitcode(status)
        if code < 0:
            return WorkerLostError(self.pid, signal=-code)
        return WorkerLostError(self.pid, exitcode=code)

    def forget(self, active: Active) -> None:
        """Let the worker drop the function of a job that has ended."""
        if active.number in self.jobs:
            self.jobs.discard(active.number)
            self.outbox.put(wire.frame(wire.FORGET, active.number, 0, Parcel(wire.NOTHING, [])))
            self.write()

    def dismiss(self) -> None:
        """Let the worker leave, which it does when it finds nothing more to read."""
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Let go of everything, also if no worker was ever at the other end."""
        self.open = False
        self.closed = True
        if self.timer is not None:
            self.timer.cancel()
        for thread in (self.reader, self.writer):
            if thread is not None and thread is not eventlet.getcurrent():
                thread.kill()
        self.sock.close()
        self.outward.close()
        self._inward.close()
        self.page.close()
        if not self.gone.ready():
            self.gone.send()


def checked_workers(workers: int) -> int:
    """Return a number of workers, or raise UsageError if it is none."""
    if not isinstance(workers, int) or workers < 1:
        raise UsageError(f"workers is a number of processes from 1 on, not {workers!r}")
    return workers
