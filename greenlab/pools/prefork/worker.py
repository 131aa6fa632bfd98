"""The worker process: reads tasks, runs them one at a time, and sends each result as soon as it is there.

Guarantees:

* a result is in the kernel's hands before the next task starts, so that neither a slow task delays it nor a
  death loses it: results need no helper thread, and every task is run once and reported once;
* the shared page names the task that is running, from before its item is unpickled until it has been sent;
* a task that was recalled before it began never begins, and is answered as skipped;
* whatever a task raises, SystemExit and KeyboardInterrupt too, is the failure of that task alone;
* the pool's wish that a task end (SIGUSR1) is raised inside that task or nowhere: never in the next one, nor in
  this loop, nor while a frame is half written;
* what is printed by way of `sys.stdout` and `sys.stderr` goes to the pool line by line, before the result.
  What C code or `os.system` writes to the descriptors 1 and 2 goes where the kernel's own went;
* a hub that a task started is stopped after it.

Must not import: eventlet, asyncio, IPython. Here everything may block: nothing is patched.
"""

from __future__ import annotations

import os
import pickle
import resource
import signal
import socket
import sys
import threading
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from greenlab.errors import TaskTimeoutError
from greenlab.places import user_place
from greenlab.pools.prefork.output import Output
from greenlab.pools.processes import framing, output, serialization
from greenlab.pools.processes.environment import Arrivals, raiser
from greenlab.pools.processes.framing import HEAD, HEAD_SIZE, Bytes, Page, Parcel
from greenlab.pools.processes.ring_buffer import Ring

if TYPE_CHECKING:
    from collections.abc import Callable

_AS_IT_IS = serialization.PLAIN - {bytes, str, type(None)}
_LOADING_S: Final = 30.0  # how much longer than its limit the first task may take, to load the function
_MEMORY_EVERY_S: Final = 0.01  # a look at the memory takes 10 µs, which many tiny tasks must not pay each
_PAGE_SIZE: Final = resource.getpagesize()


class Worker:
    """Serves one pool over a connected socket, until that closes."""

    def __init__(self, sock: socket.socket, page: Page, inward: Ring, outward: Ring) -> None:
        self._sock = sock
        self._inward = inward
        self._outward = outward
        # The methods of C: a task may green the socket class, and a hub must not switch in the middle of a frame.
        self._sendall, self._sendmsg = sock.sendall, sock.sendmsg
        self._page = page
        self._read = open(sock.fileno(), "rb", closefd=False)  # noqa: SIM115 - lives as long as the process
        self._lock = threading.RLock()
        self._sending = False
        self._deferred: list[list[Bytes]] = []
        self._jobs: dict[int, Bytes] = {}
        self._funcs: dict[int, Callable[[Any], Any]] = {}
        self._most_memory: dict[int, int] = {}
        self._looked_s = 0.0
        self._leaving = False
        self._job = 0
        self._inside = 0  # the number of the task whose own code runs
        self._arrivals = Arrivals()
        self._streams = (
            Output(lambda text: self._ship(framing.STDOUT, text), 1),
            Output(lambda text: self._ship(framing.STDERR, text), 2),
        )

    def serve(self) -> None:
        """Run tasks until the pool closes the connection."""
        sys.stdout, sys.stderr = self._streams
        os.register_at_fork(after_in_child=self._let_go)
        signal.signal(signal.SIGUSR1, self._on_sigusr1)
        read = self._read.read
        while len(head := read(HEAD_SIZE)) == HEAD_SIZE:
            kind, form, buffers, job, number, size, _, _ = HEAD.unpack(head)
            body: Bytes
            if buffers:  # arrays must lie in memory that may be written to
                body = bytearray(size)
                complete = self._read.readinto(body) == size
            else:
                body = read(size)
                complete = len(body) == size
            if not complete:
                return
            if form & framing.SHARED:
                form ^= framing.SHARED
                body = self._inward.take(body, writable=bool(buffers))
            if kind == framing.BATCH:
                self._run_batch(job, number, pickle.loads(body))
            elif kind == framing.TASK:
                self._run_batch(job, number, [body], lambda: self._load(form, buffers, body))  # noqa: B023
            elif kind == framing.JOB:
                self._jobs[job] = body
            else:
                for known in (self._jobs, self._funcs, self._most_memory):
                    known.pop(job, None)
            body = b""

    def _load(self, form: int, buffers: int, body: Bytes) -> Any:
        return serialization.load(form, buffers, body, self._arrivals.knows)

    def _run_batch(self, job: int, number: int, items: list[Any], load: Callable[[], Any] | None = None) -> None:
        page, clock, streams, modules = self._page, perf_counter, self._streams, sys.modules
        taken, running, started, recall, skip = page.taken, page.running, page.started_s, page.recall, page.skip
        flag = Page.flag_of(job)
        func = self._funcs.get(job)
        weighs, leaving = job in self._most_memory, self._leaving
        self._job = job
        number -= 1
        for item in items:
            number += 1
            taken[0] = number
            if number <= recall[0] or skip[flag] or leaving:
                self._send(framing.frame(framing.SKIPPED, job, number, Parcel(framing.NOTHING, [])))
                continue
            started[0] = start_s = clock()
            running[0] = number
            # Two levels: the limit may strike at any bytecode, also where an error of the task is being caught. It
            # strikes once.
            try:
                try:
                    if func is None:
                        # What the function imports is not the task's own time, and may take longer than its limit.
                        started[0] = start_s + _LOADING_S
                        func = self._open_job(job)
                        weighs = job in self._most_memory
                        started[0] = start_s = clock()
                    self._inside = number
                    value = func(item if load is None else load())
                    self._inside = 0
                except BaseException as error:
                    self._inside = 0
                    end_s = clock()
                    parts = self._failure(job, number, start_s, end_s, error)
                else:
                    end_s = clock()
                    parts = self._success(job, number, start_s, end_s, value)
                    del value
            except TaskTimeoutError as error:
                self._inside = 0
                parts = self._failure(job, number, start_s, clock(), error)
            for stream in streams:
                if stream.partial:
                    stream.flush()
            # What a task started must not stay: the next one would find the library greened.
            if (hub := modules.get("greenlab.hub")) is not None and hub.current() is not None:
                hub.stop()
            if weighs:
                self._weigh(job, clock(), parts)
                leaving = self._leaving
            self._send(parts)

    # --- what the pool says while a task runs

    def _on_sigusr1(self, _signum: int, frame: Any) -> None:
        """Handle SIGUSR1: say where the task stands, or end it."""
        page = self._page
        if page.is_asked:
            page.answer(_task_place(frame) if self._inside else None)
        number = page.stop[0]
        if number and number == self._inside and not self._sending:
            page.stop[0] = 0
            raise TaskTimeoutError.after(page.limit_s[0])

    def _weigh(self, job: int, now_s: float, parts: list[Bytes]) -> None:
        """Leave, after this result, if the process has grown above what the job allows."""
        if now_s - self._looked_s >= _MEMORY_EVERY_S and not self._leaving:
            self._looked_s = now_s
            if _resident_bytes() > self._most_memory[job]:
                self._leaving = True
                parts += framing.frame(framing.FULL, job, 0, Parcel(framing.NOTHING, []))

    # --- what a task is made of

    def _open_job(self, job: int) -> Callable[[Any], Any]:
        """Unpickle the function; done when its first task runs, so that a crash here is that task's."""
        try:
            most_memory, packed = pickle.loads(self._jobs.pop(job))
            if most_memory is not None:
                self._most_memory[job] = most_memory
            self._funcs[job] = self._arrivals.unpack(*packed)
        except BaseException as error:
            self._funcs[job] = raiser(error)
        return self._funcs[job]

    # --- what a task ends with

    def _success(self, job: int, number: int, start_s: float, end_s: float, value: Any) -> list[Bytes]:
        if value is None:
            return [HEAD.pack(framing.RESULT, framing.NOTHING, 0, job, number, 0, start_s, end_s)]
        if type(value) in _AS_IT_IS:
            body = pickle.dumps(value, 5)
            return [HEAD.pack(framing.RESULT, framing.PICKLED, 0, job, number, len(body), start_s, end_s), body]
        try:
            parcel = serialization.dump(value)
        except BaseException as cause:
            return self._failure(job, number, start_s, end_s, serialization.unsendable_result(value, cause))
        return self._outward.frame(framing.RESULT, job, number, parcel, (start_s, end_s))

    def _failure(self, job: int, number: int, start_s: float, end_s: float, error: BaseException) -> list[Bytes]:
        return framing.frame(framing.ERROR, job, number, serialization.dump_error(error), (start_s, end_s))

    def _ship(self, kind: int, text: str) -> None:
        number = self._page.running[0]
        self._send(framing.frame(kind, self._job, number, Parcel(framing.RAW, [text.encode("utf-8", "replace")])))
        if self._inside and self._page.stop[0] == self._inside:  # it was told so while the frame was written
            signal.raise_signal(signal.SIGUSR1)

    def _send(self, parts: list[Bytes]) -> None:
        with self._lock:
            if self._sending:  # a finalizer printed while a frame was half written
                self._deferred.append(parts)
                return
            self._sending = True
            self._write(parts)
            while self._deferred:
                self._write(self._deferred.pop(0))
            self._sending = False

    def _write(self, parts: list[Bytes]) -> None:
        try:
            if sum(map(len, parts)) < framing.SMALL:
                self._sendall(b"".join(parts))
                return
            sent = self._sendmsg(parts)
            for part in parts:
                if sent < len(part):
                    self._sendall(memoryview(part)[sent:])
                sent = max(0, sent - len(part))
        except OSError:  # the pool is gone, or a task closed our descriptors: nothing is left to work for
            os._exit(1)

    def _let_go(self) -> None:
        """In a process that a task forks: it shares neither the connection nor the captured output."""
        self._sock.close()
        self._inside = 0
        output.let_go()


def _task_place(frame: Any) -> tuple[str, int, str] | None:
    """Where the task stands, or None while it has no frame of Python of its own."""
    place = user_place(frame)
    return None if place is None or place[0] == __file__ else place


def _resident_bytes() -> int:
    """How much memory the process has now; on macOS, which does not tell cheaply, the most that it ever had."""
    try:
        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123
            return int(file.read().split()[1]) * _PAGE_SIZE
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main(sock_fd: int, page_fd: int) -> None:
    """Run a worker on these descriptors until the pool closes them; then leave the process."""
    page = Page(page_fd)
    rings = Ring(page_fd, 0, page.read_there), Ring(page_fd, 1, page.read_here)
    os.close(page_fd)
    status = 1
    try:
        with socket.socket(fileno=sock_fd) as sock:
            Worker(sock, page, *rings).serve()
        status = 0
    finally:
        os._exit(status)
