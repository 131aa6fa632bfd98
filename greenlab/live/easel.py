"""The process that draws: reads requests from its stdin, a socket, and answers each with a PNG.

It ignores SIGINT (a stopped cell is none of its business), gives way to the tasks it draws, and ends at the
end of its stdin, which comes when the kernel closes it or dies.
Must not import: eventlet, ipywidgets; and figures only when `main` runs.
"""

from __future__ import annotations

import os
import pickle
import signal
import struct
import traceback
from importlib import import_module
from typing import Any

NICE = 19
_LENGTH = struct.Struct("!Q")


def main(fd: int = 0) -> None:
    """Serve one kernel until the end of its socket.

    Args:
        fd: the socket, blocking.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _preload()
    os.nice(NICE)  # only now: the first picture waits for the imports
    try:
        while request := _read_message(fd):
            _write_message(fd, _answer(request))
    except OSError:
        pass  # the kernel went away in the middle of a message
    # matplotlib's own exit takes longer than ours.
    os._exit(0)


def answer(source: Any, scale: float) -> tuple[Any, ...]:
    """Draw a run in this process: `Samples` or `Records`, or whatever else names the module that draws it.

    Returns:
        ("png", the bytes, width and height in CSS pixels).
    """
    if hasattr(source, "drawn_by"):
        drawn: tuple[Any, ...] = import_module(source.drawn_by).answer(source, scale)
        return drawn
    from greenlab.live import curves, figure

    picture = curves.picture_of(source)
    return "png", figure.png(figure.draw(picture, scale)), *figure.size_px(picture)


def _preload() -> None:
    try:
        from greenlab.live import figure  # noqa: F401
    except ImportError:
        pass  # the first answer says what is missing


def _answer(request: bytes) -> bytes:
    try:
        return pickle.dumps(answer(*pickle.loads(request)))
    except Exception as error:
        return pickle.dumps(("error", "".join(traceback.format_exception_only(error)).strip()))


def _read_message(fd: int) -> bytes:
    """Read one message; nothing at the end of the socket."""
    head = _read(fd, _LENGTH.size)
    return _read(fd, _LENGTH.unpack(head)[0]) if head else b""


def _read(fd: int, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = os.read(fd, min(size - len(parts), 1 << 20))
        if not part:
            return b""
        parts += part
    return bytes(parts)


def _write_message(fd: int, message: bytes) -> None:
    rest = memoryview(_LENGTH.pack(len(message)) + message)
    while rest:
        rest = rest[os.write(fd, rest) :]
