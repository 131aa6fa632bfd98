"""A job, a worker process and a batch of tasks, as the prefork pool sees them.

Guarantees: nothing here waits, but `Active.wait`; sending a batch never blocks.
Must not import: runs, live, magics, eventlet.green. The loop inside the process is `_worker`.
"""

from __future__ import annotations

import os
import pickle
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from greenlab.errors import NotSendableError, TaskTimeoutError, UsageError, WorkerLostError
from greenlab.hub import eventlet
from greenlab.pools import sending, wire
from greenlab.pools.wire import Bytes, Inbox, Outbox, Page, Parcel

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from greenlab.pools.forkserver import ForkServer
    from greenlab.pools.protocol import Job

Event = eventlet.event.Event
get_hub = eventlet.hubs.get_hub
trampoline = eventlet.hubs.trampoline

_AHEAD_S: Final = 0.005  # how much work a worker may have waiting
_OVERHEAD_S: Final = 5e-6  # what a task costs a worker besides its own time
_MOST_AHEAD: Final = 256
_STREAMS: Final = {wire.STDOUT: "stdout", wire.STDERR: "stderr"}
_HINT: Final = "make it inside the task, or use -p green"


class Active:
    """A job that runs now."""

    def __init__(self, number: int, job: Job) -> None:
        setting = (str(Path.cwd()), [p for p in sys.path if isinstance(p, str)], dict(os.environ))
        body = pickle.dumps((setting, sending.dump_function(job.func)), 5)
        self.number = number
        self.job = job
        self.opening = wire.frame(wire.JOB, number, 0, Parcel(wire.PICKLED, [body]))
        self.pending = 0  # tasks that have been pulled and have not ended
        self.task_s = -1.0  # how long a task takes, as far as is known
        self.error: BaseException | None = None
        self._event: Any = None

    def learn(self, duration_s: float) -> None:
        """Follow rises fast and falls slowly, for it is slow tasks that must not queue."""
        before = self.task_s
        step = 0.5 if duration_s > before else 0.25
        self.task_s = duration_s if before < 0 else before + step * (duration_s - before)

    @property
    def ahead(self) -> int:
        """How many tasks one worker may be given at a time."""
        if self.task_s < 0:
            return 1
        return max(1, min(_MOST_AHEAD, int(_AHEAD_S / (self.task_s + _OVERHEAD_S))))

    def wait(self) -> None:
        """Wait for a change: room at a worker, an ended task, an error."""
        if self._event is None:
            self._event = Event()
        self._event.wait()

    def wake(self) -> None:
        """End the wait."""
        if self._event is not None:
            event, self._event = self._event, None
            event.send()

    def stop(self, error: BaseException) -> None:
        """Make `run` raise; what still comes for this job is dropped."""
        if self.error is None:
            self.error = error
        self.wake()


Entry = tuple[Active, int, Any]


class Link:
    """The pool's end of one worker process."""

    def __init__(self, written: Callable[[], None], kill: Callable[[Link], None]) -> None:
        self._written = written  # called when the outbox has been emptied after a wait
        self._kill = kill
        self.sock, self._theirs = socket.socketpair()
        self.sock.setblocking(False)
        self._page_fd = Page.open_fd()
        self.page = Page(self._page_fd)
        self.inbox = Inbox(self.sock)
        self.outbox = Outbox(self.sock)
        self.pid = 0
        self.open = False  # takes tasks
        self.fresh = True  # has not answered yet
        self.retiring = False
        self.dead = False
        self.low = 0  # asks for more when no more tasks than this are outstanding
        self.posts = 0
        self.outstanding: dict[int, Entry] = {}
        self.jobs: set[int] = set()
        self.overdue = False
        self.sentence: BaseException | None = None  # what the task that is killed fails with
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

    def runs(self, active: Active) -> bool:
        """Whether the task that runs now is of this job."""
        entry = self.outstanding.get(self.page.running[0]) if self.outstanding else None
        return entry is not None and entry[0] is active

    def room(self, active: Active, shared: bool) -> int:
        """How many tasks of a job may be sent now; 0 also when so few may that it is better to wait."""
        limit, count = active.ahead, len(self.outstanding)
        if not count:
            return limit
        if shared:
            waiting_s = sum(max(entry[0].task_s, 0.0) + _OVERHEAD_S for entry in self.outstanding.values())
            count = max(count, round(waiting_s / (max(active.task_s, 0.0) + _OVERHEAD_S)))
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
        self._written()

    def take(self, actives: Mapping[int, Active]) -> None:
        """Read once, and tell jobs how their tasks ended.

        Raises:
            BlockingIOError: there is nothing to read now.
            EOFError, OSError: nor will there be.
        """
        printed = _Printed()
        for kind, form, buffers, number_of_job, number, _, start_s, end_s, body in self.inbox.read():
            if kind in _STREAMS:
                writer = actives.get(number_of_job)
                if writer is not None and writer.error is None:
                    printed.add(writer.job, _STREAMS[kind], body)
                continue
            printed.flush()
            active, index, _ = self.outstanding.pop(number)
            active.pending -= 1
            if active.error is not None or kind == wire.SKIPPED:
                continue
            active.learn(end_s - start_s)
            error = value = None
            try:
                if kind == wire.ERROR:
                    error = sending.load_error(body)
                else:
                    value = sending.load(form, buffers, body, sending.has_class)
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
        self.fresh = False

    def watch(self, left_s: float) -> None:
        """See to it that the task that runs in `left_s` seconds is not over its limit."""
        self.timer = get_hub().schedule_call_global(left_s, self._check_time)

    def _check_time(self) -> None:
        """The hub calls this, so it must not wait."""
        self.timer = None
        left_s = self._time_left()
        if left_s is not None and self.open:
            if left_s > 0:
                self.watch(left_s)
            else:
                self.overdue = True
                self._kill(self)

    def _time_left(self) -> float | None:
        """Seconds until the running task reaches its limit, at the soonest; None if no limit is near."""
        limits = [active.job.timeout_s for active, _, _ in self.outstanding.values()]
        soonest = min((limit for limit in limits if limit is not None), default=None)
        running, started_s = self.page.running[0], self.page.started_s[0]
        entry = self.outstanding.get(running)
        if entry is None or entry[0].job.timeout_s is None or running != self.page.running[0]:
            return soonest
        return started_s + entry[0].job.timeout_s - perf_counter()

    def loss(self, status: int, active: Active) -> BaseException:
        """Say what became of the task that this worker held as it died."""
        if self.sentence is not None:
            return self.sentence
        if self.overdue:
            limit = f"{active.job.timeout_s:g} s"
            return TaskTimeoutError(f"the task ran longer than {limit}; its worker was replaced")
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
        if self.timer is not None:
            self.timer.cancel()
        for thread in (self.reader, self.writer):
            if thread is not None and thread is not eventlet.getcurrent():
                thread.kill()
        self.sock.close()
        self.page.close()
        if not self.gone.ready():
            self.gone.send()


def find_room(links: Sequence[Link], active: Active, shared: bool) -> tuple[Link | None, int]:
    """Find the worker that has most room for a job, and how many tasks it may be sent.

    Args:
        links: the workers.
        active: the job, which is given no more workers than its concurrency.
        shared: whether the workers hold tasks of other jobs too.
    """
    best, most = None, 0
    concurrency = active.job.concurrency
    full = concurrency < len(links) and sum(link.holds(active) for link in links) >= concurrency
    for link in links:
        if link.open and not link.outbox and not (full and not link.holds(active)):
            room = link.room(active, shared)
            if room > most:
                best, most = link, room
    return best, most


class _Printed:
    """What tasks have printed, joined while it is of one stream."""

    def __init__(self) -> None:
        self._to: tuple[Job, str] | None = None
        self._texts: list[str] = []

    def add(self, job: Job, stream: str, body: Bytes) -> None:
        if self._to != (job, stream):
            self.flush()
            self._to = job, stream
        self._texts.append(str(body, "utf-8", "replace"))

    def flush(self) -> None:
        if self._to is not None:
            job, stream = self._to
            self._to = None
            texts, self._texts = self._texts, []
            job.write(stream, "".join(texts))


Post = Callable[[Link, Active, dict[int, Entry], list[Bytes]], None]


class Batch:
    """Tasks of one job on their way to one worker."""

    def __init__(self, active: Active, link: Link, numbers: Iterator[int], post: Post) -> None:
        self._numbers = numbers
        self._send = post
        self._active = active
        self._link = link
        self._posts = link.posts
        self._entries: dict[int, Entry] = {}
        self._parts: list[Bytes] = []
        self._plain: list[Any] = []
        self._first = 0

    @property
    def stale(self) -> bool:
        """Whether the worker died, or got tasks from elsewhere, since this batch was given its room."""
        return not self._link.open or self._link.posts != self._posts

    def add(self, index: int, item: Any) -> int:
        """Add a task; return how much room it took."""
        number = next(self._numbers)
        if sending.is_plain(item):
            if number != self._first + len(self._plain):
                self._close_plain()
                self._first = number
            self._plain.append(item)
            self._entries[number] = (self._active, index, item)
            return 1
        try:
            parcel = sending.dump(item)
        except Exception as cause:
            what = f"item {index} ({sending.type_name(item)})"
            error = NotSendableError(f"cannot send {what} to a worker process: {_HINT}")
            error.__cause__ = cause
            now_s = perf_counter()
            self._active.pending -= 1
            self._active.job.fail(index, now_s, now_s, error)
            return 0
        self._close_plain()
        self._parts += wire.frame(wire.TASK, self._active.number, number, parcel)
        self._entries[number] = (self._active, index, item)
        return 1 + parcel.size // 4096

    def post(self) -> None:
        """Send what is there. Never blocks: it is also what the hub calls while `pull` waits for an item."""
        self._close_plain()
        entries, self._entries = self._entries, {}
        parts, self._parts = self._parts, []
        if entries:
            self._send(self._link, self._active, entries, parts)
            self._posts = self._link.posts

    def _close_plain(self) -> None:
        if self._plain:
            parcel = Parcel(wire.PICKLED, [pickle.dumps(self._plain, 5)])
            self._parts += wire.frame(wire.BATCH, self._active.number, self._first, parcel)
            self._plain = []
            self._first = 0


def checked_workers(workers: int) -> int:
    """Return a number of workers, or raise UsageError if it is none."""
    if not isinstance(workers, int) or workers < 1:
        raise UsageError(f"workers is a number of processes from 1 on, not {workers!r}")
    return workers
