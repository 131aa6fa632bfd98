"""A process that draws, so that the hub never waits for matplotlib: the kernel's side of it.

`greenlab.live.drawing.server` is the other side. They speak pickles over a socket pair, one request at a time:
`(Samples or Records, scale)` there, `("png", bytes, width, height)` or `("error", str)` back. There, the number of
parts comes first (the pickle and its out-of-band buffers), then their lengths, then they; back, the length.

Guarantees:

* nothing is started before `start`;
* `draw` cooperates: only the green thread that calls it waits;
* the process ends with the kernel, however the kernel ends: it reads the end of its socket;
* what goes wrong is told by one warning, and `draw` then returns None.

Must not import: matplotlib, numpy, ipywidgets.
"""

from __future__ import annotations

import _socket  # the C socket, whose methods no monkey-patch replaces
import os
import pickle
import struct
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from greenlab.children import undebugged

if TYPE_CHECKING:
    from types import TracebackType

    from greenlab.live.snapshot import Records, Samples

__all__ = ["Drawing", "DrawingClient"]

LENGTH = struct.Struct("!Q")
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
        self._waiting: Any = None
        self._warned = False
        self._answered = False

    @property
    def _turn(self) -> Any:
        # Made when it is first needed: the process is started before the kernel has imported eventlet, so that the
        # two imports, this one's of matplotlib and that one, take their time at once.
        if self._waiting is None:
            self._waiting = _eventlet().semaphore.Semaphore()
        return self._waiting

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
        ours, theirs = _socket.socketpair()
        try:
            self._process = _launch(theirs.fileno())
        except OSError as error:
            ours.close()
            self._warn(str(error))
            return
        finally:
            theirs.close()
        ours.setblocking(False)
        self._socket = ours

    def draw(self, source: Samples | Records, scale: float, timeout_s: float | None = None) -> Drawing | None:
        """Have a run drawn, and wait for it cooperatively. Those who asked earlier have their turn first.

        Args:
            source: the run's columns.
            scale: device pixels a CSS pixel.
            timeout_s: how long to wait at the most, in seconds; for the first answer some times as long. A process
                that is late is ended, or its answer would be taken for that to the next request.

        Returns:
            the drawing, or None when there is none.
        """
        if timeout_s is not None and not self._answered:
            timeout_s *= _FIRST_TAKES
        deadline_s = None if timeout_s is None else time.perf_counter() + timeout_s
        if not self._turn.acquire(timeout=timeout_s):
            return None
        ours = self._socket
        try:
            return self._exchange(ours, source, scale, deadline_s) if ours else None
        except (OSError, EOFError) as error:
            if self._socket is ours:
                self._drop(ours)
                late = isinstance(error, TimeoutError)
                self._warn("it did not answer in time" if late else "its process ended")
            return None
        except BaseException:
            # Half an answer is left in the socket.
            self._drop(ours)
            raise
        finally:
            if ours is not self._socket and ours is not None:
                ours.close()
            self._turn.release()

    def close(self) -> None:
        """End the process. Safe to call twice; `start` starts another."""
        process, self._process = self._process, None
        ours, self._socket = self._socket, None
        # Whoever waits for an answer now finds the end of the socket, and closes it: a descriptor that is
        # closed while the hub watches it for someone never wakes them.
        if ours is not None and not (self._waiting and self._waiting.locked()):
            ours.close()
        if process is not None:
            # It holds nothing but pixels, so there is nothing to ask it first.
            process.kill()
            process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _drop(self, ours: _socket.socket | None) -> None:
        if self._socket is ours:
            self.close()

    def _exchange(
        self, ours: _socket.socket, source: Samples | Records, scale: float, deadline_s: float | None
    ) -> Drawing | None:
        buffers: list[pickle.PickleBuffer] = []
        request = pickle.dumps((source, scale), 5, buffer_callback=buffers.append)
        parts = [memoryview(request), *(buffer.raw() for buffer in buffers)]
        try:
            _send(ours, LENGTH.pack(len(parts)) + b"".join(LENGTH.pack(part.nbytes) for part in parts), deadline_s)
            for part in parts:
                _send(ours, part, deadline_s)
        finally:
            for part in parts:
                part.release()
            for buffer in buffers:
                buffer.release()
        (size,) = LENGTH.unpack(_receive(ours, LENGTH.size, deadline_s))
        kind, *answer = pickle.loads(_receive(ours, size, deadline_s))
        self._answered = True
        if kind == "png":
            return Drawing(*answer)
        self._warn(*answer)
        return None

    def _warn(self, why: str) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(f"no live figure for now: the artist cannot draw ({why})", RuntimeWarning, stacklevel=2)


def _launch(fd: int) -> subprocess.Popen[bytes]:
    # -P: a `random.py` beside the notebook must not be what matplotlib imports. Our own folder comes first
    # only where it is not installed: the process must draw with the code that asks it.
    root = str(Path(__file__).parents[2])
    code = f"import sys; {root!r} in sys.path or sys.path.insert(0, {root!r})"
    code += "; from greenlab.live.drawing.server import main; main()"
    # Front ends signal the kernel's whole process group. Not a session: Linux weighs sessions against each other
    # before it looks at niceness within one (sched_autogroup), and the artist would draw as if it were not nice.
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


def _wait(ours: _socket.socket, deadline_s: float | None, **event: bool) -> None:
    _eventlet().hubs.trampoline(ours, timeout=_left_s(deadline_s), timeout_exc=TimeoutError, **event)


def _send(ours: _socket.socket, message: bytes | memoryview, deadline_s: float | None) -> None:
    rest = memoryview(message)
    while rest:
        try:
            rest = rest[ours.send(rest[:_CHUNK]) :]
        except BlockingIOError:
            _wait(ours, deadline_s, write=True)


def _receive(ours: _socket.socket, size: int, deadline_s: float | None) -> bytes:
    parts = []
    while size:
        try:
            part = ours.recv(min(size, _CHUNK))
        except BlockingIOError:
            _wait(ours, deadline_s, read=True)
            continue
        if not part:
            raise EOFError
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _left_s(deadline_s: float | None) -> float | None:
    return None if deadline_s is None else max(deadline_s - time.perf_counter(), 0.0)
