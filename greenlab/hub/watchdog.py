"""The watchdog: what holds the hub, at which line, for how long, and how much waits behind it.

The hub times every hold itself (see `holding`); `hold` judges those that lasted `after_s`: how much of that was the
line's own doing. The line is seen by a native thread, which looks at the hub every quarter of `after_s`.

Guarantees:

* it only looks: nothing is ever raised in user code, no frame and no local variable is kept;
* while the hub rests (parked or polling, with nothing to do) and no run goes on, the watchdog rests on a lock, with
  no wake-up at all, and the hub wakes it at its next turn;
* green threads that each run for a short while and end, one after the other, are no block: each of them moves the
  hub on, also if none of them ever waits;
* what has been found is reported on the hub's thread, and before a `watch` block is left.

A cell that computes while the hub is parked keeps background tasks waiting too: while a run goes on, it is looked at
as well, and its block begins when something was due. Without a run it is not: nobody would be told.

Must not import: greening, pools, runs, live, magics.
"""

from __future__ import annotations

import contextlib
import math
import sys
from collections import deque
from dataclasses import replace
from sys import getswitchinterval
from time import perf_counter
from typing import TYPE_CHECKING, Any

import greenlet

from greenlab import patched
from greenlab.errors import UsageError
from greenlab.hub._clocks import ThreadClocks
from greenlab.hub.blocks import Block
from greenlab.hub.hold import Hold, read, read_cpu
from greenlab.hub.tasks import Task
from greenlab.hub.worker_greenlet import index_of, job_of
from greenlab.places import is_own, user_place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from greenlab.hub.guest import GuestHub
    from greenlab.hub.hold import Reading
    from greenlab.places import Place

__all__ = ["AFTER_S", "Block", "Watchdog", "watchdog_of"]

AFTER_S = 0.1
"""How long the hub must have stood still to count as blocked, unless it is set otherwise."""
_LOOKS = 4
_BEGUN = 0.1
"""A hold that has lasted this part of `after_s` may become a block: its line is looked at."""
_GLANCE_S, _READ_S = 0.001, 0.005
"""So often the hub's thread reads its CPU time, and all its clocks, where the hub goes on."""
_KEPT = 1000
_NEVER_S = 3600.0
_getcurrent = greenlet.getcurrent
_thread = patched.original("_thread")
_allocate, _start_thread = _thread.allocate_lock, _thread.start_new_thread


def watchdog_of(hub: GuestHub) -> Watchdog:
    """Return the hub's watchdog, which is set on it when it is first asked for. On the hub's thread."""
    watchdog: Watchdog = hub.keep("watchdog", lambda: Watchdog(hub))
    return watchdog


class Watchdog:
    """Watches one hub until `close`."""

    def __init__(self, hub: GuestHub, after_s: float = AFTER_S) -> None:
        self._after_s = after_s
        self._blocks: deque[Block] = deque(maxlen=_KEPT)
        self._hub = hub
        self._clocks = ThreadClocks()
        self._own = self._clocks  # until the thread has made its own
        self._slept_from_s, self._own_queued_s, self._missed_s = perf_counter(), 0.0, 0.0
        self._last = read(self._clocks, 0.0)
        self._read_s = self._last.now_s
        self._watchers: list[tuple[Callable[[Block], object], Any, float]] = []
        self._found: deque[tuple[Block, Any]] = deque()
        self._holds: dict[float, Hold] = {}
        self._parked: Hold | None = None
        self._closed = False
        self._wake_lock = _allocate()
        self._wake_lock.acquire()
        self._ended = _allocate()
        self._ended.acquire()
        self._resting = False
        hub.on_look = self._hub_went_on
        hub.look_at_s = 0.0
        _start_thread(self._watch, ())

    @property
    def after_s(self) -> float:
        """How long the hub must have stood still to count as blocked, in seconds; `math.inf` for never.

        It may be set at any time.
        """
        return self._after_s

    @after_s.setter
    def after_s(self, value: float) -> None:
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not value > 0:
            raise UsageError(f"the hub is blocked after a number of seconds greater than 0, not {value!r}")
        self._after_s = value
        self._hub.look_at_s = 0.0
        self._wake()

    @property
    def blocks(self) -> list[Block]:
        """The last thousand blocks, of all that runs on the hub. On the hub's thread."""
        self.flush()
        return list(self._blocks)

    def close(self) -> None:
        """End the thread. Called when the hub stops."""
        self._closed = True
        hub = self._hub
        hub.on_look, hub.look_at_s = None, math.inf
        self._wake()
        self._ended.acquire()
        self._clocks.close()

    @contextlib.contextmanager
    def watch(self, report: Callable[[Block], object], job: Any = None) -> Iterator[None]:
        """Have `report(block)` called on the hub's thread for each block, while this `with` block runs.

        Args:
            report: called soon after the block has ended.
            job: the job of which tasks are named by their index alone.
        """
        watcher = report, job, perf_counter()
        self._watchers.append(watcher)
        try:
            yield
        finally:
            self.flush()
            self._watchers.remove(watcher)

    # -- the thread ----------------------------------------------------------------------------------------

    def _watch(self) -> None:
        self._own = own = ThreadClocks()
        hub, turns = self._hub, -1
        try:
            while not self._closed:
                if self._after_s == math.inf:
                    self._wake_lock.acquire()
                    continue
                self._sleep()
                former, turns = turns, hub.turns
                since_s = hub.held_since_s
                if since_s != math.inf:
                    self._look(since_s)
                elif hub.parked and self._watchers:
                    self._look_behind()
                elif turns == former and not hub.busy:
                    self._rest()
        finally:
            own.close()
            self._ended.release()

    @property
    def _step_s(self) -> float:
        return min(self._after_s / _LOOKS, _NEVER_S)

    def _sleep(self) -> None:
        """Sleep for a step, and note for how long this thread then had to wait for the GIL."""
        self._slept_from_s = perf_counter()
        self._wake_lock.acquire(True, self._step_s)
        self._missed_s, self._own_queued_s = self._missed_so_far_s(), self._own.queued_s() or 0.0
        self._slept_from_s = math.inf

    def _missed_so_far_s(self) -> float:
        """From either thread: this one may want the GIL at this moment."""
        late_s = perf_counter() - self._slept_from_s - self._step_s
        if late_s < getswitchinterval():
            return self._missed_s
        return self._missed_s + max(0.0, late_s - (self._own.queued_s() or 0.0) + self._own_queued_s)

    def _read(self, now_s: float | None = None) -> Reading:
        return read(self._clocks, self._missed_so_far_s(), now_s)

    def _rest(self) -> None:
        """Wait for the hub's next turn."""
        hub = self._hub
        self._resting = True
        hub.look_at_s = 0.0
        if hub.busy or self._closed:
            self._resting = False  # it turned just now, and may have looked before it was asked
            return
        self._wake_lock.acquire()

    def _wake(self) -> None:
        try:
            self._wake_lock.release()
        except RuntimeError:
            pass  # it is awake, or about to be

    def _look(self, since_s: float) -> None:
        """Look at the hold that began at `since_s`."""
        held_s = perf_counter() - since_s
        if held_s < _BEGUN * self._after_s:
            return
        hold = self._holds.get(since_s) or Hold(since_s, self._last)
        place = user_place(sys._current_frames().get(self._hub.thread_id))
        if hold.holder is None:
            self._name(hold)
        if self._hub.held_since_s != since_s:
            return  # the GIL was lost meanwhile, and the hub has moved on: what was seen may be another one's
        hold.sample(place)
        self._holds[since_s] = hold
        hold.look(self._read())
        if held_s >= self._after_s / 2:
            hold.waiting = max(hold.waiting, self._count_waiting())

    def _look_behind(self) -> None:
        """Look at the cell, or whatever else the host runs, while the hub is parked: is something due meanwhile?"""
        hub = self._hub
        waiting = self._count_waiting()
        if not waiting:
            return
        hold = self._parked
        if hold is None:
            due_s = [when for when, timer in (*hub.timers, *hub.next_timers) if not timer.called]
            late_s = hub.clock() - min(due_s, default=math.inf)
            now_s = perf_counter()
            # A descriptor became ready at some time since the last look.
            hold = Hold(now_s - (late_s if late_s > 0 else self._step_s / 2), self._last)
            hold.holder = hub.root
            hub.look_at_s = 0.0
        hold.sample(user_place(sys._current_frames().get(hub.thread_id)))
        hold.look(self._read())
        hold.waiting = max(hold.waiting, waiting)
        self._parked = hold
        if not hub.parked:
            self._parked = None  # it turned just now

    def _name(self, hold: Hold) -> None:
        holder = self._hub.holder
        if holder is None or holder.dead:
            return
        hold.holder = holder
        hold.job = job_of(holder)
        hold.index = index_of(holder)

    def _count_waiting(self) -> int:
        """Count the green threads that could go on now: their timer is due, or their descriptor is ready."""
        hub = self._hub
        now = hub.clock()
        due = 0
        for when, timer in (*hub.timers, *hub.next_timers):
            if when <= now and not timer.called:
                callback: Any = getattr(timer, "tpl", (None,))[0]
                # What is thrown is a time limit: its green thread waits for something else.
                if getattr(callback, "__self__", None) is not None and callback.__name__ not in {"throw", "_throw"}:
                    due += 1
        poller: Any = getattr(hub, "kqueue", None)
        if poller is not None:
            ready = {event.ident for event in poller.control(None, _KEPT, 0)}
        else:
            ready = {fd for fd, _ in hub.poll.poll(0)}
        return due + len(ready - {hub._wakeups.fd})

    def _who(self, hold: Hold, place: Place) -> str:
        if hold.index is not None:
            return f"task {hold.index}"
        if isinstance(hold.holder, Task):
            return f"Task {hold.holder.id} ({hold.holder.name})"
        if hold.holder is self._hub.root:
            return "the cell" if is_own(place[0]) else "the host loop"
        return "" if hold.holder is None else "a green thread"

    # -- on the hub's thread -------------------------------------------------------------------------------

    def _hub_went_on(self, started_s: float, ended_s: float) -> None:
        """A hold has ended, or a turn begins: what comes next begins with fresh clocks. Called as `on_look`."""
        before = self._last
        if ended_s - self._read_s >= _READ_S:
            self._last, self._read_s = self._read(ended_s), ended_s
        else:
            self._last = read_cpu(before, ended_s)
        self._hub.look_at_s = math.inf if self._after_s == math.inf else ended_s + min(_GLANCE_S, self._after_s)
        if ended_s - started_s >= self._after_s:
            hold = self._holds.pop(started_s, None) or Hold(started_s, before)
            if hold.holder is None:
                self._name(hold)
            self._judge(hold)
        self._holds.clear()  # the watchdog's thread finds none that goes on, until this is over
        parked, self._parked = self._parked, None
        if parked is not None and ended_s - parked.started_s >= self._after_s:
            self._judge(parked)
        if self._resting:
            self._resting = False
            self._wake()

    def _judge(self, hold: Hold) -> None:
        hold.look(self._last)
        place = hold.place or _place_here()
        if place is not None and hold.is_block(self._after_s):
            self._found.append((hold.block(place, self._who(hold, place)), hold.job))
            self._hub.call_soon_threadsafe(self._report)

    def flush(self) -> None:
        """Report what has been found, and the caller's own hold, if it is long. On the hub's thread."""
        hub = self._hub
        if hub.closed_down:
            return  # also in a process that was forked
        if perf_counter() - hub.held_since_s >= self._after_s:
            hub.moved_on()
        self._report()

    def _report(self) -> None:
        while self._found:
            block, block_job = self._found.popleft()
            self._blocks.append(block)
            for report, job, since_s in list(self._watchers):
                if block.ended_s - since_s < min(self._after_s, block.duration_s / 2):
                    continue  # it was over, or nearly, when this watcher came
                foreign = block.index is not None and job is not None and block_job is not job
                report(replace(block, who=f"{block.who} of another run") if foreign else block)


def _place_here() -> Place | None:
    """Where the hub's thread goes on, if that is the user's own code: the best guess, where no line was seen."""
    place = user_place(sys._getframe(1))
    return place if place is not None and is_own(place[0]) else None
