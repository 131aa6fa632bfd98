"""The watchdog: who holds the hub, at which line, for how long.

While a run goes on, a native thread looks at the hub's count of switches. If it has not moved for `AFTER_S` while
the hub was turning, a green thread holds the hub; the thread samples its stack until the count moves again. It
never raises in user code, and it rests on a lock when no run goes on.

Must not import: greening, pools, runs, live, magics.
"""

from __future__ import annotations

import _thread
import sys
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Self

from greenlab.places import say_place, user_place

if TYPE_CHECKING:
    from collections.abc import Callable

    from greenlab.hub.guest import GuestHub

AFTER_S = 0.1
"""How long the hub must have stood still to be called blocked."""
_STEP_S = 0.02
_allocate = _thread.allocate_lock
_start_thread = _thread.start_new_thread


@dataclass(frozen=True)
class Block:
    """A time in which nothing could switch.

    Attributes:
        started_s, ended_s: `time.perf_counter()` seconds; the start is known to within 20 ms.
        filename, lineno, function: the user's line that held the hub, as last sampled.
    """

    started_s: float
    ended_s: float
    filename: str
    lineno: int
    function: str

    @property
    def duration_s(self) -> float:
        """How long, in seconds."""
        return self.ended_s - self.started_s

    def __str__(self) -> str:
        return f"{self.duration_s:.2f} s at {say_place((self.filename, self.lineno, self.function))}"


class Watchdog:
    """Watches a hub while its `with` block runs; calls `report(block)` on the hub's thread for each block."""

    def __init__(self, hub: GuestHub, report: Callable[[Block], object]) -> None:
        self._hub = hub
        self._report = report
        self._stop = _allocate()
        self._stop.acquire()

    def __enter__(self) -> Self:
        _start_thread(self._watch, ())
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stop.release()

    def _watch(self) -> None:
        hub = self._hub
        seen, since = hub.switches, perf_counter()
        where: tuple[str, int, str] | None = None
        while not self._stop.acquire(True, _STEP_S):
            now = perf_counter()
            if hub.busy and hub.switches == seen:
                if now - since >= AFTER_S:
                    where = user_place(sys._current_frames().get(hub.thread_id)) or where
                continue
            self._tell(where, since, now)
            seen, since, where = hub.switches, now, None
        self._tell(where, since, perf_counter())

    def _tell(self, where: tuple[str, int, str] | None, since: float, now: float) -> None:
        if where is not None:
            self._hub.call_soon_threadsafe(self._report, Block(since, now, *where))
