"""The wake-up queue: how other OS threads and signal handlers reach the hub's thread.

Guarantees: `call_soon` may be called from any thread and from a signal handler; callbacks run on the hub's thread in
the order of their calls; a burst of calls costs one write; a callback that raises does not stop the next.

The descriptor is always watched by the hub. That also keeps eventlet 0.41's `wait()` in its poller: with no
descriptor at all it would `time.sleep` through every wake-up.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from typing import TYPE_CHECKING, Any

from greenlab import patched

if TYPE_CHECKING:
    from collections.abc import Callable

# Taken now: the greening replaces these names, and the queue must never wait for the hub that it wakes.
_os = patched.original("os")
_read, _write, _close = _os.read, _os.write, _os.close


class WakeupQueue:
    """A queue of callbacks with a descriptor that becomes readable when the queue is not empty."""

    def __init__(self) -> None:
        if hasattr(os, "eventfd"):
            self.fd = self._write_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        else:  # macOS
            self.fd, self._write_fd = os.pipe()
            os.set_blocking(self.fd, False)
            os.set_blocking(self._write_fd, False)
        self._queue: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._signalled = False

    def call_soon(self, callback: Callable[..., object], *args: Any) -> None:
        """Have `callback(*args)` run on the hub's thread, soon."""
        # Queued before the flag is read, and the other side lowers the flag before it empties the queue:
        # whichever way the two interleave, either this call writes or the other side sees the entry.
        self._queue.append((callback, args))
        self._signal()

    def call_first(self, callback: Callable[..., object], *args: Any) -> None:
        """As `call_soon`, but before all others."""
        self._queue.appendleft((callback, args))
        self._signal()

    def _signal(self) -> None:
        if not self._signalled:
            self._signalled = True
            try:
                _write(self._write_fd, b"\x01\x00\x00\x00\x00\x00\x00\x00")
            except BlockingIOError:
                pass  # full means readable, which is all that is wanted
            except OSError:
                self._signalled = False  # closed: the hub is gone, and nothing reads any more

    def drain(self, on_error: Callable[[tuple[Any, Any, Any]], object], after_each: Callable[[], object]) -> None:
        """Run what was queued. Called on the hub's thread when the descriptor is readable."""
        try:
            _read(self.fd, 4096)
        except BlockingIOError:
            pass
        self._signalled = False
        # Only what is here now: a callback that calls `call_soon` again must not keep the hub from its turn.
        for _ in range(len(self._queue)):
            callback, args = self._queue.popleft()
            try:
                callback(*args)
            except BaseException:
                on_error(sys.exc_info())
            after_each()
        if self._queue:
            self.call_soon(_nothing)

    def close(self) -> None:
        """Close the descriptors and forget what was queued."""
        self._queue.clear()
        for fd in {self.fd, self._write_fd}:
            if fd >= 0:
                _close(fd)
        self.fd = self._write_fd = -1
        self._signalled = True


def _nothing() -> None:
    pass
