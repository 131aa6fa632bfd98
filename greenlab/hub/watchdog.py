"""The watchdog: who holds the hub, at which line, for how long, and who waits behind it.

A native thread looks at the hub every quarter of `after_s`. If the hub turns and has not moved on since the last look,
one green thread holds it: the watchdog samples its stack until the hub moves again, and says so if it held the hub
for `after_s` (see `blocks` for what is counted).

Guarantees:

* it only looks: nothing is ever raised in user code, no frame and no local variable is kept;
* while the hub rests (parked or polling, with nothing to do) and no run goes on, the watchdog rests on a lock, with
  no wake-up at all, and the hub rouses it at its next turn;
* green threads that each run for a short while and end, one after the other, are no block: each of them moves the
  hub on, also if none of them ever waits;
* what has been found is told on the hub's thread, and before a `watch` block is left.

A cell that computes while the hub is parked keeps background tasks waiting too: while a run goes on, it is looked at
as well, and blamed if something was due meanwhile. Without a run it is not: nobody would hear of it.

Must not import: greening, pools, runs, live, magics.
"""

from __future__ import annotations

import _thread
import contextlib
import math
import sys
from collections import deque
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

import greenlet

from greenlab.errors import UsageError
from greenlab.hub._clocks import ThreadClocks
from greenlab.hub.blocks import Block, Hold, glance, read
from greenlab.hub.tasks import Task
from greenlab.places import is_own, user_place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from greenlab.hub.blocks import Reading
    from greenlab.hub.guest import GuestHub

__all__ = ["AFTER_S", "Block", "Watchdog", "watchdog_of"]

AFTER_S = 0.1
"""How long the hub must have stood still to be called blocked, unless it is set otherwise."""
_LOOKS = 4
_FULL = 10
_KEPT = 1000
_NEVER_S = 3600.0
_getcurrent = greenlet.getcurrent
_allocate = _thread.allocate_lock
_start_thread = _thread.start_new_thread


def watchdog_of(hub: GuestHub) -> Watchdog:
    """Give the hub's watchdog, which is set on it when it is first asked for. On the hub's thread."""
    dog: Watchdog = hub.keep("watchdog", lambda: Watchdog(hub))
    return dog


class Watchdog:
    """Watches one hub until `close`."""

    def __init__(self, hub: GuestHub, after_s: float = AFTER_S) -> None:
        self._after_s = after_s
        self._blocks: deque[Block] = deque(maxlen=_KEPT)
        self._hub = hub
        self._clocks = ThreadClocks()
        self._own = self._clocks  # until the thread has made its own
        self._watchers: list[tuple[Callable[[Block], object], Any, float]] = []
        self._found: deque[tuple[Block, Any]] = deque()
        # None or one. The hub's thread and the watchdog's both may end it.
        self._holds: list[Hold] = []
        self._flushed: object = None
        self._closed = False
        self._ending = _allocate()
        self._bell = _allocate()
        self._bell.acquire()
        self._ended = _allocate()
        self._ended.acquire()
        _start_thread(self._watch, ())

    @property
    def after_s(self) -> float:
        """How long the hub must have stood still to be called blocked, in seconds; `math.inf` for never.

        It may be set at any time.
        """
        return self._after_s

    @after_s.setter
    def after_s(self, value: float) -> None:
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not value > 0:
            raise UsageError(f"the hub is blocked after a number of seconds greater than 0, not {value!r}")
        self._after_s = value
        self._rouse()

    @property
    def blocks(self) -> list[Block]:
        """The last thousand blocks, whoever held the hub. On the hub's thread."""
        self._flush()
        return list(self._blocks)

    def close(self) -> None:
        """End the thread. Called when the hub stops."""
        self._closed = True
        self._hub.on_turn = None
        self._rouse()
        self._ended.acquire()
        self._clocks.close()

    @contextlib.contextmanager
    def watch(self, report: Callable[[Block], object], job: Any = None) -> Iterator[None]:
        """Have `report(block)` called on the hub's thread for each block, while this `with` block runs.

        Args:
            report: called soon after the block has ended.
            job: whose tasks are named by their index alone.
        """
        watcher = report, job, perf_counter()
        self._watchers.append(watcher)
        try:
            yield
        finally:
            self._flush()
            self._watchers.remove(watcher)

    # -- the thread ----------------------------------------------------------------------------------------

    def _watch(self) -> None:
        self._own = own = ThreadClocks()
        try:
            progress, last, looks = None, read(self._clocks, own), 0
            while not self._closed:
                self._bell.acquire(True, self._step_s)
                former, progress = progress, self._progress()
                late = perf_counter() - last.now_s - self._step_s > self._after_s / 2
                if (progress == former or late) and self._is_held():
                    last = self._look(progress, last, moved=progress != former)
                    continue
                self._end_hold()
                if self._after_s == math.inf:
                    self._bell.acquire()
                    progress = self._progress()
                elif progress == former:
                    self._rest(progress)
                    progress = self._progress()
                looks += 1
                last = glance(last, self._clocks) if looks % _FULL else read(self._clocks, own)
        finally:
            own.close()
            self._ended.release()

    @property
    def _step_s(self) -> float:
        return min(self._after_s / _LOOKS, _NEVER_S)

    def _progress(self) -> object:
        """Give what changes whenever the hub calls anything back.

        A green thread that gives up the hub is counted. One that ends without having waited once is not; but it was
        started from a timer, which is gone from the heap, or by a descriptor that is not listened to any more, or
        by a knock that has been answered.
        """
        hub = self._hub
        listeners = hub.listeners
        return (
            hub.switches, hub.turns, hub._door.answered, len(hub.timers), len(listeners[hub.READ]),
            len(listeners[hub.WRITE]),
        )  # fmt: skip

    def _is_held(self) -> bool:
        """Tell whether something keeps the hub from going on: a green thread, or a cell while the hub is parked."""
        hub = self._hub
        return hub.busy or (hub.parked and bool(self._watchers) and self._count_waiting() > 0)

    def _rest(self, progress: object) -> None:
        """Wait for the hub's next turn; while somebody watches a parked hub, look again soon."""
        hub = self._hub
        if hub.parked and self._watchers:
            return
        hub.on_turn = self._rouse
        if hub.busy or self._closed or self._progress() != progress:
            hub.on_turn = None  # it turned just now, and may have looked before it was asked
            return
        self._bell.acquire()

    def _rouse(self) -> None:
        try:
            self._bell.release()
        except RuntimeError:
            pass  # it rings already

    def _look(self, progress: object, former: Reading, *, moved: bool) -> Reading:
        # Until the clocks are read, the GIL is not let go: the hub stands where it was found.
        if moved:
            self._end_hold()
        hold = self._holds[0] if self._holds else None
        if hold is None:
            if self._flushed == progress:
                # The hub's thread has ended it since this one last asked.
                return read(self._clocks, self._own)
            hold = Hold(progress, former, self._step_s, moved=moved)
            self._holds.append(hold)
        if perf_counter() - hold.started_s >= self._after_s / 2:
            hold.sample(user_place(sys._current_frames().get(self._hub.thread_id)))
            if hold.holder is None:
                self._name(hold)
        reading = read(self._clocks, self._own)
        hold.look(reading)
        if hold.held_s() >= self._after_s:
            hold.waiting = max(hold.waiting, self._count_waiting())
        return reading

    def _name(self, hold: Hold) -> None:
        if self._hub.parked:
            hold.holder = self._hub.root
            return
        holder = self._hub.holder
        if holder is None or holder.dead:
            return
        hold.holder = holder
        hold.job = getattr(holder, "greenlab_job", None)
        hold.index = getattr(holder, "greenlab_index", None)

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
        return due + len(ready - {hub._door.fd})

    def _end_hold(self) -> None:
        """End the hold that there is, if any: the hub has moved on. From either thread.

        Whoever comes second waits for the first: what it finds must have been found before a `watch` block is left.
        """
        with self._ending:
            try:
                hold = self._holds.pop()
            except IndexError:
                return
            if not hold.sampled or hold.held_s() < self._after_s:
                return
            end = read(self._clocks, self._own)
            if hold.held_s(end) >= self._after_s:
                block = hold.block(end)
                self._found.append((replace(block, who=self._who(hold, block)), hold.job))
                self._hub.call_soon_threadsafe(self._tell)

    def _who(self, hold: Hold, block: Block) -> str:
        if hold.index is not None:
            return f"task {hold.index}"
        if isinstance(hold.holder, Task):
            return f"Task {hold.holder.id} ({hold.holder.name})"
        if hold.holder is self._hub.root:
            return "the cell" if is_own(block.filename) else "the host loop"
        return "" if hold.holder is None else "a green thread"

    # -- on the hub's thread -------------------------------------------------------------------------------

    def _flush(self) -> None:
        """Tell what has been found; also of a hold whose end the watchdog has not seen yet, or is just noting."""
        if self._hub.closed_down:
            return  # also in a process that was forked, where nobody would end what the watchdog's thread had begun
        for hold in list(self._holds):
            if hold.progress != self._progress():
                self._flushed = hold.progress
                if not hold.looked:
                    hold.look(read(self._clocks, self._own))
                self._end_hold()
        with self._ending:
            pass
        self._tell()

    def _tell(self) -> None:
        while self._found:
            block, whose = self._found.popleft()
            self._blocks.append(block)
            for report, job, since_s in list(self._watchers):
                if block.ended_s - since_s < min(self._after_s, block.duration_s / 2):
                    continue  # it was over, or nearly, when this watcher came
                foreign = block.index is not None and job is not None and whose is not job
                report(replace(block, who=f"{block.who} of another run") if foreign else block)
