"""Whether the GIL is kept while the hub is held: a native thread wants to run every few milliseconds, and is late.

Python code that computes gives the GIL up every 5 ms, and only then; a C call that releases it lets others run all
the while, and one that keeps it lets none run until it returns.

Must not import: greening, pools, runs, live, magics.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

from greenlab import patched
from greenlab.hub._clocks import ThreadClocks

if TYPE_CHECKING:
    from collections.abc import Callable

TICK_S = 0.002
LATE_S = 0.0005
"""A native thread that runs later than this after it woke had to wait for the GIL."""
_thread = patched.original("_thread")
_allocate, _start_thread = _thread.allocate_lock, _thread.start_new_thread


def had_to_wait(slept_s: float, delayed_s: float) -> bool:
    """Return whether a thread that slept for `TICK_S` came back late because it had to wait for the GIL.

    Args:
        slept_s: how long it was away.
        delayed_s: how long of that it waited for a processor. A thread that waits for the GIL wakes up every 5 ms to
            ask for it, and on a busy machine waits for a processor each time.
    """
    return slept_s - TICK_S - delayed_s > LATE_S


class GilProbe:
    """Ticks beside the hub's thread, from `start` to `stop`.

    Args:
        held: returns how long the hub has been held so far, seconds; called from the probe's own thread.

    Attributes:
        computing: while it was held by what computes, for how long the probe tried to run, and how much of that it
            could not; seconds.
        waiting: the same while it was held by what waits natively.
    """

    def __init__(self, held: Callable[[], float]) -> None:
        self.computing = [0.0, 0.0]
        self.waiting = [0.0, 0.0]
        self._held = held
        self._hub = ThreadClocks()
        self._stopping = False
        self._wake_lock = _allocate()
        self._wake_lock.acquire()
        self._ended = _allocate()
        self._ended.acquire()

    def start(self) -> None:
        """Begin to tick."""
        _start_thread(self._tick, ())

    def stop(self) -> None:
        """End the thread."""
        self._stopping = True
        self._wake_lock.release()
        self._ended.acquire()
        self._hub.close()

    @property
    def kept_computing(self) -> float:
        """Part of the computing in which the GIL was kept, 0 to 1; 1 where nothing was seen: most code is Python."""
        watched_s, missed_s = self.computing
        return min(1.0, missed_s / watched_s) if watched_s else 1.0

    @property
    def kept_waiting(self) -> float:
        """Part of the native waits in which the GIL was kept, 0 to 1; 0 where nothing was seen: it seldom is."""
        watched_s, missed_s = self.waiting
        return min(1.0, missed_s / watched_s) if watched_s else 0.0

    def _tick(self) -> None:
        own = ThreadClocks()
        try:
            while not self._stopping:
                self._look(own)
        finally:
            own.close()
            self._ended.release()

    def _look(self, own: ThreadClocks) -> None:
        begin_s, delay_s, cpu_s, held_s = perf_counter(), own.queued_s() or 0.0, self._hub.cpu_s(), self._held()
        self._wake_lock.acquire(True, TICK_S)
        slept_s = perf_counter() - begin_s
        if slept_s < TICK_S or self._held() - held_s < slept_s / 2:
            return  # it was stopped, or the hub was free
        used_s = (self._hub.cpu_s() or 0.0) - (cpu_s or 0.0)
        seen = self.computing if cpu_s is None or used_s > slept_s / 2 else self.waiting
        seen[0] += slept_s
        if had_to_wait(slept_s, max(0.0, (own.queued_s() or 0.0) - delay_s)):
            seen[1] += slept_s
