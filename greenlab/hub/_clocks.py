"""What an OS thread has used, as another thread can ask: its CPU time, and how long it stood in the run queue.

Where the system does not say (macOS neither, a sandbox without /proc not the second), None is returned, and no guess.

Must not import: anything of greenlab.
"""

from __future__ import annotations

import os
import time

from greenlab import patched

_os, _thread = patched.original("os"), patched.original("_thread")
_open, _pread, _close = _os.open, _os.pread, _os.close


class ThreadClocks:
    """The clocks of the thread that makes it. Other threads may read them; `close` them when that is over."""

    def __init__(self) -> None:
        get_clock = getattr(time, "pthread_getcpuclockid", None)
        self._cpu_clock: int | None = None if get_clock is None else get_clock(_thread.get_ident())
        self._fd = -1
        try:
            self._fd = _open(f"/proc/self/task/{_thread.get_native_id()}/schedstat", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            pass  # not Linux, or a sandbox without it

    def cpu_s(self) -> float | None:
        """Seconds of processor that the thread has used so far."""
        if self._cpu_clock is None:
            return None
        try:
            return time.clock_gettime(self._cpu_clock)
        except OSError:
            return None  # the thread has ended

    def queued_s(self) -> float | None:
        """Seconds that the thread was ready to run so far, and had no processor."""
        return self.queue()[0]

    def queue(self) -> tuple[float | None, int | None]:
        """As `queued_s`, and how often the thread was given a processor so far.

        Source: the second and the third field of schedstat (Linux, Documentation/scheduler/sched-stats.rst).
        """
        if self._fd < 0:
            return None, None
        try:
            _, queued_ns, times = _pread(self._fd, 128, 0).split()
            return int(queued_ns) / 1e9, int(times)
        except (OSError, ValueError):
            return None, None

    def close(self) -> None:
        """Close the descriptor. Safe to call twice."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            _close(fd)
