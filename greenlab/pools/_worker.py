"""The worker process: reads tasks, runs them one at a time, and sends each result as soon as it is there.

Guarantees:

* a result is in the kernel's hands before the next task starts, so that neither a slow task delays it nor a
  death loses it: results need no helper thread, and every task is run once and reported once;
* the shared page names the task that is running, from before its item is unpickled until it has been sent;
* whatever a task raises, SystemExit and KeyboardInterrupt too, is the failure of that task alone;
* what is printed by way of `sys.stdout` and `sys.stderr` goes to the pool line by line, before the result.
  What C code or `os.system` writes to the descriptors 1 and 2 goes where the kernel's own went.

Must not import: eventlet, asyncio, IPython. Here everything may block: nothing is patched.
"""

from __future__ import annotations

import io
import os
import pickle
import socket
import sys
import threading
from time import perf_counter
from typing import TYPE_CHECKING, Any

from greenlab.errors import NotSendableError
from greenlab.pools import sending, wire
from greenlab.pools.wire import HEAD, HEAD_SIZE, Bytes, Page, Parcel

if TYPE_CHECKING:
    from collections.abc import Callable

_AS_IT_IS = sending.PLAIN - {bytes, str, type(None)}
_LONGEST_PARTIAL = 8192
_LOADING_S = 30.0  # how much longer than its limit the first task may take, to load the function


class _Output(io.TextIOBase):
    """A `sys.stdout` that ships whole lines."""

    encoding = "utf-8"
    errors = "replace"

    def __init__(self, ship: Callable[[str], None], fd: int) -> None:
        self._ship = ship
        self._fd = fd
        self._lock = threading.RLock()
        self._size = 0
        self.partial: list[str] = []

    @property
    def buffer(self) -> _Binary:
        """Takes bytes, as that of the real one does."""
        return _Binary(self)

    def write(self, text: str, /) -> int:
        """Take text, and ship it up to its last line end."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        count = len(text)
        with self._lock:
            self._size += count
            if "\n" in text or self._size > _LONGEST_PARTIAL:
                whole, end, rest = text.rpartition("\n")
                if not end:
                    whole, rest = text, ""
                self.partial.append(whole + end)
                self.flush()
                text, self._size = rest, len(rest)
            if text:
                self.partial.append(text)
        return count

    def flush(self) -> None:
        """Ship what there is."""
        with self._lock:
            text = "".join(self.partial)
            self.partial.clear()
            self._size = 0
            if text:
                self._ship(text)

    def fileno(self) -> int:
        """Return the real descriptor, which is not captured."""
        return self._fd

    def writable(self) -> bool:
        """Say yes."""
        return True


class _Binary(io.BufferedIOBase):
    def __init__(self, text: _Output) -> None:
        self._text = text

    def write(self, data: Any, /) -> int:
        self._text.write(bytes(data).decode("utf-8", "replace"))
        return len(data)

    def flush(self) -> None:
        self._text.flush()

    def writable(self) -> bool:
        return True


class Worker:
    """Serves one pool over a connected socket, until that closes."""

    def __init__(self, sock: socket.socket, page: Page) -> None:
        self._sock = sock
        self._page = page
        self._read = open(sock.fileno(), "rb", closefd=False)  # noqa: SIM115 - lives as long as the process
        self._lock = threading.RLock()
        self._sending = False
        self._deferred: list[list[Bytes]] = []
        self._jobs: dict[int, Bytes] = {}
        self._funcs: dict[int, Callable[[Any], Any]] = {}
        self._job = 0
        self._classes: set[str] = set()
        self._streams = (
            _Output(lambda text: self._ship(wire.STDOUT, text), 1),
            _Output(lambda text: self._ship(wire.STDERR, text), 2),
        )

    def serve(self) -> None:
        """Run tasks until the pool closes the connection."""
        sys.stdout, sys.stderr = self._streams
        os.register_at_fork(after_in_child=self._let_go)
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
            if kind == wire.BATCH:
                self._run_batch(job, number, pickle.loads(body))
            elif kind == wire.TASK:
                self._run_batch(job, number, [body], lambda: sending.load(form, buffers, body, self._knows))  # noqa: B023
            elif kind == wire.JOB:
                self._jobs[job] = body
            else:
                self._jobs.pop(job, None)
                self._funcs.pop(job, None)
            body = b""

    def _run_batch(self, job: int, number: int, items: list[Any], load: Callable[[], Any] | None = None) -> None:
        running, started, skip = self._page.running, self._page.started_s, self._page.skip
        flag, clock, streams = Page.flag_of(job), perf_counter, self._streams
        func = self._funcs.get(job)
        self._job = job
        for item in items:
            start_s = clock()
            started[0] = start_s
            running[0] = number
            if skip[flag]:
                self._send(wire.frame(wire.SKIPPED, job, number, Parcel(wire.NOTHING, [])))
                number += 1
                continue
            try:
                if func is None:
                    # What the function imports is not the task's own time, and may take longer than its limit.
                    started[0] = start_s + _LOADING_S
                    func = self._open_job(job)
                    started[0] = start_s = clock()
                value = func(item if load is None else load())
            except BaseException as error:
                end_s = clock()
                parts = self._failure(job, number, start_s, end_s, error)
            else:
                end_s = clock()
                parts = self._success(job, number, start_s, end_s, value)
                del value
            for stream in streams:
                if stream.partial:
                    stream.flush()
            self._send(parts)
            number += 1

    # --- what a task is made of

    def _open_job(self, job: int) -> Callable[[Any], Any]:
        """Unpickle the function; done when its first task runs, so that a crash here is that task's."""
        try:
            setting, func = pickle.loads(self._jobs.pop(job))
            self._classes.clear()
            _move_to(*setting)
            self._funcs[job] = sending.load_function(func)
        except BaseException as error:
            self._funcs[job] = _raiser(error)
        return self._funcs[job]

    def _knows(self, tracker_id: str) -> bool:
        """Whether a class came with this job before; if not, its state is set anew: it may have changed."""
        if tracker_id in self._classes:
            return True
        self._classes.add(tracker_id)
        return False

    # --- what a task ends with

    def _success(self, job: int, number: int, start_s: float, end_s: float, value: Any) -> list[Bytes]:
        if value is None:
            return [HEAD.pack(wire.RESULT, wire.NOTHING, 0, job, number, 0, start_s, end_s)]
        if type(value) in _AS_IT_IS:
            body = pickle.dumps(value, 5)
            return [HEAD.pack(wire.RESULT, wire.PICKLED, 0, job, number, len(body), start_s, end_s), body]
        try:
            parcel = sending.dump(value)
        except Exception as cause:
            what = f"the task's result (a {sending.type_name(value)}) cannot be sent back from a worker"
            error = NotSendableError(f"{what}: return plain data, or use -p green")
            error.__cause__ = cause
            return self._failure(job, number, start_s, end_s, error)
        return wire.frame(wire.RESULT, job, number, parcel, (start_s, end_s))

    def _failure(self, job: int, number: int, start_s: float, end_s: float, error: BaseException) -> list[Bytes]:
        return wire.frame(wire.ERROR, job, number, sending.dump_error(error), (start_s, end_s))

    def _ship(self, kind: int, text: str) -> None:
        self._send(wire.frame(kind, self._job, 0, Parcel(wire.RAW, [text.encode("utf-8", "replace")])))

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
            if sum(map(len, parts)) < wire.SMALL:
                self._sock.sendall(b"".join(parts))
                return
            sent = self._sock.sendmsg(parts)
            for part in parts:
                if sent < len(part):
                    self._sock.sendall(memoryview(part)[sent:])
                sent = max(0, sent - len(part))
        except OSError:  # the pool is gone, or a task closed our descriptors: nothing is left to work for
            os._exit(1)

    def _let_go(self) -> None:
        """In a process that a task forks: it shares neither the connection nor the captured output."""
        self._sock.close()
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115


def _move_to(cwd: str, path: list[str], environ: dict[str, str]) -> None:
    """Take on the pool's working directory, import path and environment."""
    try:
        os.chdir(cwd)
    except OSError:  # it is gone for the pool too
        pass
    sys.path[:] = path
    if os.environ != environ:
        os.environ.clear()
        os.environ.update(environ)


def _raiser(error: BaseException) -> Callable[[Any], Any]:
    def fail(_: Any) -> Any:
        raise error

    return fail


def main(sock_fd: int, page_fd: int) -> None:
    """Be a worker on these descriptors until the pool lets go; then leave the process."""
    page = Page(page_fd)
    os.close(page_fd)
    status = 1
    try:
        with socket.socket(fileno=sock_fd) as sock:
            Worker(sock, page).serve()
        status = 0
    finally:
        os._exit(status)
