"""The drawing process: reads requests from its stdin, a socket, and replies to each with a PNG.

It ignores SIGINT, which front ends send to stop a cell; has a lower priority than the tasks it draws; and ends at the
end of its stdin, which comes when the kernel closes it or dies.
Must not import: eventlet, ipywidgets; and figures only when `main` runs.
"""

from __future__ import annotations

import os
import pickle
import signal
import traceback
from importlib import import_module
from typing import TYPE_CHECKING, Any

from greenlab import messages

if TYPE_CHECKING:
    from greenlab.live.drawing.run_figure import Redrawer

NICE = 19


def main(fd: int = 0) -> None:
    """Serve one kernel until the end of its socket.

    Args:
        fd: the socket, blocking.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _preload()
    os.nice(NICE)  # only now: the first picture waits for the imports
    server = DrawingServer()
    try:
        while True:
            _write_message(fd, _reply_to(server, *messages.receive(lambda size: _read(fd, size))))
    except (EOFError, OSError):
        pass  # the kernel closed the socket, or died
    # matplotlib's own exit handlers take long.
    os._exit(0)


class DrawingServer:
    """Draws what each request asks for. Pictures of runs that go on share a figure."""

    def __init__(self) -> None:
        self._redrawers: dict[float, Redrawer] = {}

    def draw(self, source: Any, scale: float) -> tuple[Any, ...]:
        """Draw a run (`Samples` or `Records`), or a snapshot that names the module which draws it.

        Returns:
            ("png", the bytes, width and height in CSS pixels).
        """
        if hasattr(source, "drawn_by"):
            reply: tuple[Any, ...] = import_module(source.drawn_by).render(source, scale)
            return reply
        from greenlab.live.drawing import curves, run_figure, style, waterfall

        if source.has_bars:
            bars = waterfall.draw(source, scale)
            return "png", style.to_png(bars), *style.size_px(bars)
        picture = curves.picture_of(source)
        if picture.facts.running:
            if scale not in self._redrawers:
                self._redrawers[scale] = run_figure.Redrawer(scale)
            drawn = self._redrawers[scale].draw(picture)
        else:
            drawn = run_figure.draw(picture, scale)
        return "png", style.to_png(drawn), *style.size_px(drawn)


def _preload() -> None:
    try:
        from greenlab.live.drawing import waterfall  # noqa: F401  # it imports the others
    except ImportError:
        pass  # the first reply says what is missing


def _reply_to(server: DrawingServer, request: bytes, *buffers: bytes) -> bytes:
    try:
        return pickle.dumps(server.draw(*pickle.loads(request, buffers=buffers)))
    except Exception as error:
        return pickle.dumps(("error", "".join(traceback.format_exception_only(error)).strip()))


def _read(fd: int, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = os.read(fd, min(size - len(parts), 1 << 20))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)


def _write_message(fd: int, message: bytes) -> None:
    rest = memoryview(b"".join(messages.join(message)))
    while rest:
        rest = rest[os.write(fd, rest) :]
