"""The client of the drawing process, which draws so that the hub never waits for matplotlib.

`greenlab.live.drawing.server` is the other end. They exchange pickles over a socket pair, one request at a time:
the request is `(Samples or Records, scale)`, the reply `("png", bytes, width, height)` or `("error", str)`. Both
are messages of `greenlab.messages`; the parts of a request are a pickle and its out-of-band buffers.

Guarantees:

* nothing is started before `start`;
* `draw` cooperates: only the green thread that calls it waits;
* the process ends with the kernel, however the kernel ends: it reads the end of its socket;
* a failure is reported by one warning, and `draw` then returns None.

Must not import: matplotlib, numpy, ipywidgets.
"""

from __future__ import annotations

import _socket  # the C socket, whose methods no monkey-patch replaces
import os
import pickle
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from greenlab import messages
from greenlab.children import undebugged

if TYPE_CHECKING:
    from types import TracebackType

    from greenlab.live.snapshot import Records, Samples

__all__ = ["Drawing", "DrawingClient"]

_CHUNK = 1 << 18
_FIRST_TAKES = 4
"""How many times as long the first answer may take: the process is nice, and on a busy machine it imports matplotlib
for ten seconds and more."""


class Drawing(NamedTuple):
    """A PNG, and its size in CSS pixels."""

    png: bytes
    width: int
    height: int


class DrawingClient:
    """The process that draws. It may serve many views, and stays warm between runs.

    For the hub's thread only; `draw` is for green threads and the main greenlet.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: _socket.socket | None = None
        self._made_lock: Any = None
        self._warned = False
        self._answered = False

    @property
    def _lock(self) -> Any:
        # Made when it is first needed: the process is started before the kernel has imported eventlet, so that its
        # import of matplotlib and the kernel's of eventlet go on at the same time.
        if self._made_lock is None:
            self._made_lock = _eventlet().semaphore.Semaphore()
        return self._made_lock

    @property
    def pid(self) -> int | None:
        """The id of the process, or None while there is none."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the process unless it runs. It imports matplotlib while other things go on."""
        if self._process is not None and self._process.poll() is None:
            return
        self.close()
        self._answered = False
        sock, child_sock = _socket.socketpair()
        try:
            self._process = _launch(child_sock.fileno())
        except OSError as error:
            sock.close()
            self._warn(str(error))
            return
        finally:
            child_sock.close()
        sock.setblocking(False)
        self._socket = sock

    def draw(self, source: Samples | Records, scale: float, timeout_s: float | None = None) -> Drawing | None:
        """Send a run to be drawn, and wait for the picture cooperatively. Requests are served in their order.

        Args:
            source: the run's columns.
            scale: device pixels a CSS pixel.
            timeout_s: how long to wait at the most, in seconds; for the first reply some times as long. A process
                that is late is ended, since its reply would be taken for that to the next request.

        Returns:
            the drawing, or None when there is none.
        """
        if timeout_s is not None and not self._answered:
            timeout_s *= _FIRST_TAKES
        deadline_s = None if timeout_s is None else time.perf_counter() + timeout_s
        if not self._lock.acquire(timeout=timeout_s):
            return None
        sock = self._socket
        try:
            return self._request(sock, source, scale, deadline_s) if sock else None
        except (OSError, EOFError) as error:
            if self._socket is sock:
                self._close_if_current(sock)
                late = isinstance(error, TimeoutError)
                self._warn("it did not answer in time" if late else "its process ended")
            return None
        except BaseException:
            # Half a reply is left in the socket.
            self._close_if_current(sock)
            raise
        finally:
            if sock is not self._socket and sock is not None:
                sock.close()
            self._lock.release()

    def close(self) -> None:
        """End the process. Safe to call twice; `start` starts another."""
        process, self._process = self._process, None
        sock, self._socket = self._socket, None
        # A green thread that waits for a reply now reads the end of the socket, and closes it: a descriptor that is
        # closed while the hub watches it never wakes its waiter.
        if sock is not None and not (self._made_lock and self._made_lock.locked()):
            sock.close()
        if process is not None:
            # It holds nothing but pixels, so there is nothing to save first.
            process.kill()
            process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _close_if_current(self, sock: _socket.socket | None) -> None:
        if self._socket is sock:
            self.close()

    def _request(
        self, sock: _socket.socket, source: Samples | Records, scale: float, deadline_s: float | None
    ) -> Drawing | None:
        buffers: list[pickle.PickleBuffer] = []
        request = pickle.dumps((source, scale), 5, buffer_callback=buffers.append)
        parts = [memoryview(request), *(buffer.raw() for buffer in buffers)]
        try:
            for piece in messages.join(*parts):
                _send(sock, piece, deadline_s)
        finally:
            for part in parts:
                part.release()
            for buffer in buffers:
                buffer.release()
        (message,) = messages.receive(lambda size: _receive(sock, size, deadline_s))
        kind, *reply = pickle.loads(message)
        self._answered = True
        if kind == "png":
            return Drawing(*reply)
        self._warn(*reply)
        return None

    def _warn(self, why: str) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"no live figure for now: the drawing process cannot draw ({why})", RuntimeWarning, stacklevel=2
            )


def _launch(fd: int) -> subprocess.Popen[bytes]:
    # -P: a `random.py` beside the notebook must not be what matplotlib imports. greenlab's own folder comes first
    # only where it is not installed: both ends must have the same code.
    root = str(Path(__file__).parents[2])
    code = f"import sys; {root!r} in sys.path or sys.path.insert(0, {root!r})"
    code += "; from greenlab.live.drawing.server import main; main()"
    # Front ends signal the kernel's whole process group. Not a session: Linux weighs sessions against each other
    # before it looks at niceness within one (sched_autogroup), and the process would draw as if it were not nice.
    with undebugged():
        return subprocess.Popen(  # noqa: S603  # our own interpreter and code
            [sys.executable, "-P", "-c", code],
            stdin=fd,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"MPLBACKEND": "agg"},
            process_group=0,
        )


def _eventlet() -> Any:
    from greenlab.hub import eventlet

    return eventlet


def _wait(sock: _socket.socket, deadline_s: float | None, **event: bool) -> None:
    _eventlet().hubs.trampoline(sock, timeout=_left_s(deadline_s), timeout_exc=TimeoutError, **event)


def _send(sock: _socket.socket, message: messages.Bytes, deadline_s: float | None) -> None:
    rest = memoryview(message)
    while rest:
        try:
            rest = rest[sock.send(rest[:_CHUNK]) :]
        except BlockingIOError:
            _wait(sock, deadline_s, write=True)


def _receive(sock: _socket.socket, size: int, deadline_s: float | None) -> bytes:
    parts = []
    while size:
        try:
            part = sock.recv(min(size, _CHUNK))
        except BlockingIOError:
            _wait(sock, deadline_s, read=True)
            continue
        if not part:
            raise EOFError
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _left_s(deadline_s: float | None) -> float | None:
    return None if deadline_s is None else max(deadline_s - time.perf_counter(), 0.0)
