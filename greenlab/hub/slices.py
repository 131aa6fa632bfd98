"""The turns of the hub: how long one lasts, and when what it resumes could have gone on.

Guarantees: of many timers that are due at once, a turn fires as many as a slice of time allows, and then polls.

Must not import: greening, pools, runs, live, magics.
"""

from __future__ import annotations

import heapq
import sys
from time import perf_counter
from typing import TYPE_CHECKING, Any

from greenlab.hub._quiet import eventlet
from greenlab.hub.holding import Holding

if TYPE_CHECKING:
    from collections.abc import Callable

_PlatformHub: Any = eventlet.hubs.get_default_hub().Hub
SLICE_S = 0.004
"""How long one turn of the hub may resume what is due; the rest comes in the next turn, after a poll."""
FIRST_S = -1e9
"""As the seconds of a timer: comes first in the next turn, and is not counted in its slice."""
_AT_ONCE_S = 0.0005


class SlicedHub(Holding, _PlatformHub):  # type: ignore[misc]  # eventlet ships no types
    """Eventlet's hub of this platform, in turns; see `GuestHub` for its attributes."""

    next_timers: list[Any]

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self._set_up()

    def _set_up(self) -> None:
        """Set what this hub has beyond eventlet's."""
        self.turn_started_s = self.ready_s = self._polled_s = perf_counter()
        self.busy = False

    def do_poll(self, seconds: float) -> Any:
        """As eventlet's poll and epoll hubs: what is found ready is served from within `wait`, as part of a turn."""
        begin_s = perf_counter()
        found = super().do_poll(seconds)
        self._note_poll(begin_s)
        self._turn()
        return found

    def _control(self, events: Any, max_events: int, timeout: float) -> Any:
        """As eventlet's kqueue hub, whose `do_poll` this is."""
        begin_s = perf_counter()
        found = super()._control(events, max_events, timeout)
        if max_events:
            self._note_poll(begin_s)
            self._turn()
        return found

    def _note_poll(self, begin_s: float) -> None:
        former_s, self._polled_s = self._polled_s, perf_counter()
        self.ready_s = (former_s + begin_s) / 2 if self._polled_s - begin_s < _AT_ONCE_S else self._polled_s

    def _turn(self) -> None:
        self.busy = True
        self.turn_started_s = self.held_since_s = perf_counter()
        if self.turn_started_s >= self.look_at_s:
            self.look(self.turn_started_s)

    def prepare_timers(self) -> None:
        """As eventlet's, but what is added meanwhile, by a finalizer or a signal handler, is kept for the next time."""
        added, self.next_timers = self.next_timers, []
        for item in added:
            if item[1].called:
                self.timers_canceled -= 1
            else:
                heapq.heappush(self.timers, item)

    def fire_timers(self, when: float) -> None:
        """As eventlet's, but for a slice of time."""
        timers = self.timers
        now_s = perf_counter()
        late_s, end_s = now_s - when, 0.0
        while timers and timers[0][0] <= when:
            due, timer = heapq.heappop(timers)
            if timer.called:
                self.timers_canceled -= 1
                continue
            if due < 0:
                self.ready_s = now_s
            else:
                self.ready_s = due + late_s
                end_s = end_s or now_s + SLICE_S
            self.held_since_s = now_s
            try:
                timer()
            except self.SYSTEM_EXCEPTIONS:
                raise  # see `adopted`; a guest hub has none
            except BaseException:
                self.squelch_timer_exception(timer, sys.exc_info())
            now_s = perf_counter()
            if now_s >= self.look_at_s:
                now_s = self.look(now_s)
            if 0 < end_s < now_s:
                return
