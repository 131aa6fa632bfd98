"""A process of the hybrid pool: a hub, a greened standard library, and the green pool, which runs what is sent.

The main greenlet only waits; a green thread reads what the kernel says. Results are sent together: those of one
turn of the hub, or of a millisecond or two, in one go.

Guarantees:

* results do not wait for a task that computes, or waits natively: they are sent 20 to 40 ms later at the latest,
  unless it computes in one call, and then when that returns;
* a task that computes past its time limit gets `TaskTimeoutError` by a signal, raised in its own green thread and
  in the user's own frames, never in another's;
* tasks that print faster than the kernel reads wait for it, cooperatively;
* the process ignores SIGINT, and ends with its connection.

The fork server imports this module, with all that a process needs; the hub is made, and the library greened, in
each process.

Must not import: runs, live, magics.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import pickle
import signal
import socket
import sys
from collections import deque
from math import inf
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, NoReturn

import greenlet

from greenlab import greening, places
from greenlab import hub as hubs
from greenlab.errors import TaskTimeoutError
from greenlab.hub import eventlet
from greenlab.hub.watchdog import watchdog_of
from greenlab.hub.worker_greenlet import WorkerGreenlet
from greenlab.pools import green, registry
from greenlab.pools.hybrid import frames
from greenlab.pools.hybrid.frames import OF_NO_TASK, Marks
from greenlab.pools.hybrid.output import Output, Task
from greenlab.pools.hybrid.remote import RemoteJob
from greenlab.pools.processes import framing, output
from greenlab.pools.processes.environment import Arrivals
from greenlab.pools.processes.framing import Bytes, Inbox, Outbox, Parcel
from greenlab.pools.processes.remote_task import Killed, Packed

if TYPE_CHECKING:
    from greenlab.hub import GuestHub

trampoline = eventlet.hubs.trampoline

_TOGETHER_S: Final = 0.001  # results that end within this are sent together …
_TOGETHER_AHEAD_S: Final = 0.002  # … and within this, where more tasks are at hand
_LOOK_S: Final = 0.02  # how often to look whether a task holds the hub
_NOTHING: Final = Parcel(framing.NOTHING, [])
# Frames that an exception must not hit: they keep the hub's books.
_NOT_HERE: Final = (
    places.PACKAGE,
    *(os.path.dirname(str(module.__file__)) + os.sep for module in (eventlet, greenlet)),  # noqa: PTH120
)
# Taken now: the greening replaces these names.
_allocate, _start_thread, _get_ident = _thread.allocate_lock, _thread.start_new_thread, _thread.get_ident


class Worker:
    """Serves one pool over a connected socket, until that closes."""

    def __init__(self, sock: socket.socket, marks: Marks) -> None:
        self.hub: GuestHub = hubs.start()
        self.forked = False
        self.arrivals = Arrivals()
        greening.green(self.hub)
        self._pool: Any = registry.get(self.hub, green.GreenPool.name)  # runs inside a task use it too
        self._sock = sock
        self._marks = marks
        self._inbox, self._outbox = Inbox(sock), Outbox(sock)
        self._jobs: dict[int, RemoteJob] = {}
        self._runners: dict[int, Any] = {}
        self.unsent: dict[int, RemoteJob] = {}  # with results that wait
        self._posted_s = 0.0
        self._timer: Any = None
        self._writer: Any = None
        self._written = eventlet.event.Event()
        self._said: deque[tuple[int, Task | None, str]] = deque()  # by other threads
        self._warden = Warden(self)
        self._streams = (
            Output(lambda task, text: self._ship(framing.STDOUT, task, text), 1),
            Output(lambda task, text: self._ship(framing.STDERR, task, text), 2),
        )

    def serve(self) -> None:
        """Run tasks until the pool closes the connection."""
        sys.stdout, sys.stderr = self._streams
        os.register_at_fork(after_in_child=self._let_go)
        self.send(framing.frame(frames.READY, 0, 0, _NOTHING))
        self._write()
        try:
            eventlet.spawn(self._read).wait()
        except BaseException as error:
            self.give_up(error)

    # --- from the kernel

    def _read(self) -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                trampoline(self._sock, read=True)
                with contextlib.suppress(BlockingIOError):
                    for kind, form, buffers, number, what, _, _, _, body in self._inbox.read():
                        if kind == framing.JOB:
                            self._open(number, *pickle.loads(body))
                        elif number in self._jobs:
                            self._handle_frame(self._jobs[number], kind, what, form, buffers, body)

    def _handle_frame(self, job: RemoteJob, kind: int, what: int, form: int, buffers: int, body: Bytes) -> None:
        if kind == framing.BATCH:
            job.add(list(zip(*pickle.loads(body), strict=True)))
        elif kind == framing.TASK:
            job.add([(what, Packed(form, buffers, body))])
        elif kind == frames.SHARE:
            job.concurrency = what
            self._pool.adjust(job)
            job.wake()
        elif kind == frames.KILL:
            if job.kill_waiting(what) or self._pool.kill(job, what, Killed()):
                self.post_soon(job, perf_counter())
        elif kind == frames.HELD:
            held = [(one.index, one.started_s, one.where) for one in self._pool.held(job)]
            parcel = Parcel(framing.PICKLED, [pickle.dumps(held, 5)])
            self.send(framing.frame(frames.HOLDS, job.number, what, parcel))
            self._write()
        elif kind == frames.END:
            self._end(job)

    def _open(
        self, number: int, slot: int, share: int, timeout_s: float | None, blocked_after_s: float, body: bytes
    ) -> None:
        watchdog_of(self.hub).after_s = blocked_after_s
        job = RemoteJob(self, number, self._marks, slot, share, timeout_s, body)
        self._jobs[number] = job
        self._warden.watch(job)
        self._runners[number] = eventlet.spawn(self._run, job)

    def _run(self, job: RemoteJob) -> None:
        try:
            with watchdog_of(self.hub).watch(job.note_block, job):
                self._pool.run(job)
        except greenlet.GreenletExit:
            pass
        except BaseException as error:  # then nothing can be said of its tasks: the pool counts them as lost
            sys.excepthook(*sys.exc_info())
            self.give_up(error)
        finally:
            del self._runners[job.number]
            self._leave(job)

    def _end(self, job: RemoteJob) -> None:
        """Stop what runs of a job."""
        job.stop()
        del self._jobs[job.number]
        self.unsent.pop(job.number, None)
        job.when_empty = lambda: self._leave(job)
        runner = self._runners[job.number]
        runner.kill()
        if runner.dead:  # also if it had not begun
            self._runners.pop(job.number, None)
        self._leave(job)

    def _leave(self, job: RemoteJob) -> None:
        """Send that a job has ended, once the last of its tasks has left and nothing more is to be sent of it."""
        if job.when_empty is None or job.inside or job.number in self._runners:
            return
        job.when_empty = None
        self._warden.forget(job)
        self.send(framing.frame(frames.ENDED, job.number, 0, _NOTHING))
        self._write()

    def give_up(self, error: BaseException) -> NoReturn:
        """Send why this process can serve no longer, and end it."""
        why = f"{type(error).__name__}: {error}"
        self.send(framing.frame(frames.BROKEN, 0, 0, Parcel(framing.RAW, [why.encode("utf-8", "replace")])))
        self.post()
        os._exit(1)

    # --- to the kernel

    def send(self, parts: list[Bytes]) -> None:
        """Have a frame sent with the next post."""
        self._outbox.put(parts)

    def post_soon(self, job: RemoteJob, now_s: float) -> None:
        """Send what there is: now, or if that was only just done, in the hub's next turn."""
        self.unsent[job.number] = job
        past_s = now_s - self._posted_s
        if past_s > (_TOGETHER_AHEAD_S if job.has_more else _TOGETHER_S):
            self.post()
        elif self._timer is None:
            self._timer = self.hub.schedule_call_global(_TOGETHER_AHEAD_S - past_s if job.has_more else 0, self.post)

    def post(self) -> None:
        """Send what there is. On the hub's thread, also in the middle of a task."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._posted_s = perf_counter()
        while self.unsent:
            self._outbox.put(self.unsent.popitem()[1].take_results())
        self._write()

    def _write(self) -> None:
        try:
            if not self._outbox.write() and self._writer is None:
                self._writer = eventlet.spawn(self._write_rest)
        except OSError:  # the pool is gone, or a task closed our descriptors: nothing is left to work for
            os._exit(1)

    def _write_rest(self) -> None:
        try:
            while not self._outbox.write():
                trampoline(self._sock, write=True)
        except OSError:
            os._exit(1)
        self._writer = None
        written, self._written = self._written, eventlet.event.Event()
        written.send()

    def end_output(self, task: Task) -> None:
        """Send what a task has printed and not ended with a line end, and what threads that it joined have."""
        self._say()
        for stream in self._streams:
            if stream.partial:
                stream.end(task)

    def _ship(self, kind: int, task: Task | None, text: str) -> None:
        if self.forked:
            return
        if _get_ident() != self.hub.thread_id:
            self._said.append((kind, task, text))
            self.hub.call_soon_threadsafe(self._say)
            return
        self._say()  # it was printed before
        self._send_text(kind, task, text)

    def _say(self) -> None:
        while self._said:
            self._send_text(*self._said.popleft())

    def _send_text(self, kind: int, task: Task | None, text: str) -> None:
        job = task[0].number if task is not None else max(self._jobs, default=0)
        index = task[1] if task is not None else OF_NO_TASK
        self.send(framing.frame(kind, job, index, Parcel(framing.RAW, [text.encode("utf-8", "replace")])))
        self._write()  # at once: the task may compute for long before the hub turns again
        if self._writer is not None and greenlet.getcurrent() not in (self.hub.greenlet, self.hub.root):
            self._written.wait()

    def _let_go(self) -> None:
        """In a process that a task forks: it shares neither the connection nor the captured output."""
        self.forked = True
        self._sock.close()
        for job in self._jobs.values():
            job.stop()
            job.ended = False  # so that a worker that comes back for another task leaves the process
        output.let_go()


class Warden:
    """Sees to time limits and to results where a task computes: the hub cannot, for it does not get its turn.

    A native thread looks, while there are jobs, whether the hub stands still; if so, and if there is something to
    see to, it signals the main thread, whose handler sends what waits, and looks whether the task that is interrupted
    is past its own limit.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._hub = worker.hub
        self._jobs: set[RemoteJob] = set()
        self._limited = 0
        self._stop: Any = None
        signal.signal(signal.SIGVTALRM, self._on_signal)

    def watch(self, job: RemoteJob) -> None:
        """Look from now on, for this job too."""
        self._jobs.add(job)
        self._limited += job.timeout_s is not None
        if self._stop is None:
            self._stop = _allocate()
            self._stop.acquire()
            _start_thread(self._look, (self._stop,))

    def forget(self, job: RemoteJob) -> None:
        """The job has ended."""
        self._jobs.discard(job)
        self._limited -= job.timeout_s is not None
        if not self._jobs and self._stop is not None:
            self._stop.release()
            self._stop = None

    def _look(self, stop: Any) -> None:
        hub = self._hub
        seen = -1
        while not stop.acquire(True, _LOOK_S):
            if hub.busy and hub.switches == seen and (self._limited or self._worker.unsent):
                signal.pthread_kill(hub.thread_id, signal.SIGVTALRM)
            seen = hub.switches

    def _on_signal(self, _signum: int, frame: Any) -> None:
        """Runs in whichever green thread computes."""
        if frame is None or frame.f_code.co_filename.startswith(_NOT_HERE):
            return  # the next signal finds it elsewhere
        if self._worker.unsent and not self._worker.forked:
            self._worker.post()
        me = self._hub.owner()
        if isinstance(me, WorkerGreenlet) and perf_counter() >= me.until_s:
            me.until_s = inf
            raise TaskTimeoutError.after(me.job.timeout_s)


def main(sock_fd: int, page_fd: int) -> None:
    """Run a process of the pool on these descriptors until the pool closes them; then leave."""
    marks = Marks(page_fd)
    os.close(page_fd)
    status = 1
    try:
        sock = socket.socket(fileno=sock_fd)
        sock.setblocking(False)
        Worker(sock, marks).serve()
        status = 0
    finally:
        os._exit(status)
