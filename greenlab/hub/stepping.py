"""A hub on a virtual clock that runs one green thread at a time, one at each `turn`.

It stands in for the real hub while a step is made (see `greenlab.greening.stepping`): sleeping, locks, queues, events
and time limits schedule their timers here. Nothing is polled and no time passes: when nothing is due, the clock is set
to the next timer.

Guarantees: green threads go on in the order in which they became ready, and those that are due at one time in the
order in which they asked; the real hub is not touched.

A bound: only the clock and other green threads can be waited for. To wait for a descriptor is a `UsageError` in the
green thread that tries it.

Must not import: greening, pools, runs, live, magics.
"""

from __future__ import annotations

import heapq
import itertools
import sys
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any

import greenlet

from greenlab import patched
from greenlab.errors import UsageError
from greenlab.hub import nested
from greenlab.hub._quiet import eventlet
from greenlab.hub.guest import GuestHub
from greenlab.hub.host import HostLink
from greenlab.hub.tasks import Task
from greenlab.hub.waits import OTHER, Wait, wait_of

if TYPE_CHECKING:
    from collections.abc import Callable

_get_ident = patched.original("_thread").get_ident
_getcurrent = greenlet.getcurrent
_getframe = sys._getframe


class StepHub(GuestHub):
    """A hub that turns only within `turn`.

    Attributes:
        now_s: the virtual time, seconds from 0.
        wait_for: what the green thread that was last resumed waits for now.
        wake_s: the latest timer that it set; None if it set none.
        on_spawn: called with each task that is spawned on it.
    """

    def __init__(self, real: GuestHub) -> None:
        # Neither poller nor wake-up queue: GuestHub's own have descriptors that would have to be closed.
        self.now_s = 0.0
        eventlet.hubs.hub.BaseHub.__init__(self, self._clock)
        self.wait_for: Wait = OTHER
        self.wake_s: float | None = None
        self.real = real
        self.thread_id, self.root, self.kept = real.thread_id, real.root, real.kept
        self.greenlet.parent = real.root
        self.hubs = {self.greenlet, *real.hubs}
        self.switches = self.turns = 0
        self.turn_started_s = 0.0
        self.busy = self.blocking = self.closed_down = False
        self.holder = None
        self.tasks = weakref.WeakSet()  # of its own: what is stepped is not listed among what runs
        self.parked = self._pumping = False
        self._link = HostLink(lambda: -1, lambda: None, self._clock)
        self._caller: Any = None
        self._heap: list[tuple[float, int, Any]] = []
        self._order = itertools.count()
        self._posted: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self.on_spawn: Callable[[Task], object] | None = None

    def _clock(self) -> float:
        return self.now_s

    # -- what the stepper calls ----------------------------------------------------------------------------

    def next_s(self) -> float | None:
        """Return the virtual time at which something is due next, or None."""
        while self._heap and self._heap[0][2].called:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def turn(self) -> Any:
        """Resume one green thread, and come back when it waits or ends.

        Returns:
            the green thread, or None if none can go on.
        """
        self._caller = _getcurrent()
        if not self.greenlet:
            self.greenlet.switch()  # to its first wait for a callback
        while True:
            while self._posted:
                callback, args = self._posted.popleft()
                self.schedule_call_global(0, callback, *args)
            if not self._heap:
                return None
            when_s, _, timer = heapq.heappop(self._heap)
            if timer.called:
                continue
            self.now_s = self.turn_started_s = max(self.now_s, when_s)
            self.holder, self.wait_for, self.wake_s = None, OTHER, None
            self.turns += 1
            error = self.greenlet.switch(timer)
            if error is not None:
                raise error
            if self.holder is not None:
                return self.holder
            # It was a callback, which resumed nobody.

    # -- what green threads call ---------------------------------------------------------------------------

    def run(self, *_args: Any, **_kwargs: Any) -> None:
        """The hub's greenlet: calls one timer for each time that it is switched to."""
        error: BaseException | None = None
        while True:
            timer = self._caller.switch(error)
            error = None
            try:
                timer()
            except (KeyboardInterrupt, SystemExit) as raised:
                error = raised
            except BaseException:
                self.squelch_timer_exception(timer, sys.exc_info())

    def switch(self) -> Any:
        """Give up the hub."""
        current = _getcurrent()
        if current is self.greenlet:
            raise RuntimeError("the hub itself cannot wait: do this in a green thread (greenlab.spawn)")
        if current is self._caller:
            raise UsageError("a stepper's tasks run in its steps only: step() or run() it, then read what they gave")
        self.switches += 1
        self.wait_for = wait_of(_getframe(1))
        try:
            return self.greenlet.switch()
        finally:
            self.holder = nested.owner_of(self, current)
            self.wait_for, self.wake_s = OTHER, None

    def schedule_call_global(self, seconds: float, cb: Any, *args: Any, **kw: Any) -> Any:
        """As the real hub; `on_spawn` is called with new tasks."""
        target = getattr(cb, "__self__", None)
        if isinstance(target, Task) and not target and not target.dead and self.on_spawn is not None:
            self.on_spawn(target)
        return super().schedule_call_global(seconds, cb, *args, **kw)

    def add_timer(self, timer: Any) -> float:
        """Schedule on the virtual clock."""
        when_s: float = self.now_s + max(0.0, timer.seconds)
        heapq.heappush(self._heap, (when_s, next(self._order), timer))
        self.wake_s = when_s
        return when_s

    def timer_canceled(self, timer: Any) -> None:
        """Do nothing: a cancelled timer is passed over when its time comes."""

    def call_soon_threadsafe(self, callback: Callable[..., object], *args: Any) -> None:
        """Run `callback(*args)` in a later step. From any thread."""
        if _get_ident() == self.thread_id:
            self.schedule_call_global(0, callback, *args)
        else:
            self._posted.append((callback, args))

    def add(self, *_args: Any) -> Any:
        """Refuse to wait for a descriptor."""
        raise UsageError(
            "a stepper's tasks cannot wait for sockets, pipes or processes: its clock is virtual, and theirs is not"
        )

    def close_with(self, closer: Callable[[], object]) -> None:
        """Leave it to the real hub, which outlives this one."""
        self.real.close_with(closer)

    def attach(self, _host: Any) -> None:
        """Do nothing: no loop pumps a virtual clock."""

    def detach(self) -> None:
        """Do nothing, as there is no host."""

    def close(self) -> None:
        """Forget what was scheduled, and end the hub's greenlet: suspended, it would keep this hub alive for ever."""
        self.closed_down = True
        self._heap.clear()
        self._posted.clear()
        if self.greenlet:
            self.greenlet.parent = _getcurrent()  # where its end comes out
            self.greenlet.throw(greenlet.GreenletExit)

    def disown(self) -> None:
        """In a forked child: as the real hub."""
        self._heap.clear()
        self.real.disown()


nested.WAITS.add(StepHub.switch.__code__)
