"""The clock of holds: what holds the hub is timed by the hub itself, where it goes on from one thing to the next.

A green thread holds the hub from when it is resumed to when it gives the hub up or ends; a callback of the hub while it
runs. Both ends are read where they happen, so that a long hold is known exactly, however seldom a watchdog looks.

Guarantees: a switch costs two readings of the clock and two comparisons more, and `on_look` is called a thousand times
a second at the most. That is done on the hub's thread, when a hold has ended, and before anything else
is resumed.

Must not import: anything of greenlab.
"""

from __future__ import annotations

from math import inf
from time import perf_counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Holding:
    """What a hub knows of the hold that goes on. A base of `GuestHub`.

    Attributes:
        held_since_s: since when what runs now has held the hub, `time.perf_counter()` seconds; inf while the hub polls
            or is parked. No two holds have the same one, so that it also names a hold.
        look_at_s: `on_look` is called where the hub next goes on, from this time on; inf for never. What is called
            sets it anew, not later than the shortest hold that is of interest.
        on_look: called as `on_look(started_s, ended_s)`, with the hold that has just ended; at the beginning of a turn
            these are the same.
    """

    held_since_s: float = inf
    look_at_s: float = inf
    on_look: Callable[[float, float], object] | None = None

    def moved_on(self) -> None:
        """Note that the hub goes on from one thing to the next: the hold ends, and another one begins."""
        now_s = perf_counter()
        if now_s >= self.look_at_s:
            now_s = self.look(now_s)
        self.held_since_s = now_s

    def look(self, now_s: float) -> float:
        """Call `on_look` for the hold that has ended.

        Returns:
            the time after it: to look takes long where the GIL is lost by it, and is no part of the next hold.
        """
        started_s, self.held_since_s = self.held_since_s, inf
        if self.on_look is not None:
            self.on_look(started_s, now_s)
        self.held_since_s = later_s = perf_counter()
        return later_s
