"""The switch recorder: which green thread held the hub from when to when, and what it waited for then.

greenlet's own trace hook is called at every switch, also at the first and the last of a green thread; a function
in front of the hub's `switch` looks at what the green thread is about to wait for, while its frames can be seen.

Guarantees:

* nothing is paid while nothing is recorded: both hooks are gone then, and a former trace function is back in place;
* memory is bounded: of a long recording the latest `CAPACITY` holds are kept, or half as many, and the number of
  those that were dropped is known;
* no green thread, frame or value is kept alive: a green thread is known by a number that it carries.

Must not import: greening, pools, runs, live, magics.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
from array import array
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any

import greenlet

from greenlab.hub.nested import owner_of
from greenlab.hub.tasks import Task
from greenlab.hub.waits import KINDS, wait_of
from greenlab.hub.watchdog import watchdog_of
from greenlab.hub.worker_greenlet import index_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from greenlab.hub.blocks import Block
    from greenlab.hub.guest import GuestHub

CAPACITY = 200_000
"""Holds kept of a recording, 40 bytes each."""
GREEN_THREAD = "green thread"
"""The name of a green thread that has none of its own."""
COLUMNS = 5
"""Numbers a hold: start and end (`time.perf_counter()` seconds), lane, kind of the wait after it, index of the task."""

_NUMBER = {kind: float(number) for number, kind in enumerate(KINDS)}
_OTHER, _END = _NUMBER["other"], _NUMBER["end"]
_lanes = itertools.count(1)
_getframe = sys._getframe


_STARTERS = ("eventlet.", "greenlab.hub.", "greenlab.greening.")
_FOR_USERS = ("greenlab.magics.", "greenlab.examples.")
"""Modules that start the functions of others in green threads, and those whose functions are a user's."""


@dataclass
class Recording:
    """What was recorded.

    Attributes:
        started_s, ended_s: from when to when, `time.perf_counter()` seconds.
        holds: a row of `COLUMNS` numbers a hold, oldest first; the task is -1 where there is none.
        names: of lanes, by number.
        own: the lanes, by number, in which greenlab runs something of its own: a run's driver, a view, a connection.
        dropped: how many holds there were before those that are kept.
        blocks: what blocked the hub meanwhile.
    """

    started_s: float
    ended_s: float = 0.0
    holds: array[float] = field(default_factory=lambda: array("d"))
    names: dict[int, str] = field(default_factory=dict)
    own: set[int] = field(default_factory=set)
    dropped: int = 0
    blocks: list[Block] = field(default_factory=list)

    def cut(self, started_s: float, ended_s: float) -> None:
        """Leave out what was before and after; in `time.perf_counter()` seconds."""
        rows = iter(self.holds)
        kept = array("d")
        for start_s, end_s, *rest in zip(*[rows] * COLUMNS, strict=True):
            if start_s < ended_s and end_s > started_s:
                kept.extend((max(start_s, started_s), min(end_s, ended_s), *rest))
        self.holds = kept
        self.blocks = [block for block in self.blocks if block.started_s < ended_s and block.ended_s > started_s]
        self.started_s, self.ended_s = started_s, ended_s


@contextlib.contextmanager
def record(hub: GuestHub, capacity: int = CAPACITY) -> Iterator[Recording]:
    """Record the switches of `hub` while the block runs. On the hub's thread; several may record at once.

    Yields:
        the recording, which is filled when the block is left.
    """
    recorder: Recorder = hub.keep("recorder", lambda: Recorder(hub))
    recording = Recording(perf_counter())
    with watchdog_of(hub).watch(recording.blocks.append):
        recorder.start(capacity)
        try:
            yield recording
        finally:
            recorder.stop(recording)


class Recorder:
    """Records for one hub, as long as a recording goes on."""

    def __init__(self, hub: GuestHub) -> None:
        self._hub = hub
        self._real_switch: Any = None
        self._former: Any = None
        self._hook: Any = None
        self._users = 0
        self._half = CAPACITY * COLUMNS // 2
        self._clear()

    def _clear(self) -> None:
        self._old: array[float] = array("d")
        self._new: array[float] = array("d")
        self._dropped = 0
        self._names: dict[int, str] = {}
        self._own: set[int] = set()
        self._since_s = perf_counter()
        self._next = _OTHER
        self._hosted = False

    def start(self, capacity: int) -> None:
        """Begin to record, or go on for one more recording."""
        self._users += 1
        if self._users > 1:
            return
        self._half = max(1, capacity // 2) * COLUMNS
        self._clear()
        self._real_switch = self._hub.switch
        # In the hub's own attributes, which go before its class's.
        self._hub.__dict__["switch"] = self._switch
        self._former = greenlet.gettrace()
        self._hook = self._make_hook(self._former)
        greenlet.settrace(self._hook)

    def stop(self, recording: Recording) -> None:
        """Fill a recording; stop when it was the last one."""
        current = self._hub.owner()
        if current is not self._hub.greenlet:
            self._note(current, perf_counter())
            self._since_s = perf_counter()
        self._fill(recording)
        self._users -= 1
        if not self._users:
            self.close()

    def close(self) -> None:
        """Remove both hooks."""
        self._users = 0
        self._hub.__dict__.pop("switch", None)
        if self._hook is not None and greenlet.gettrace() is self._hook:
            greenlet.settrace(self._former)
        # Otherwise another trace function was set on top, and goes on calling a hook that only calls the former one.
        self._hook = self._former = None
        self._clear()

    # -- the hooks -----------------------------------------------------------------------------------------

    def _switch(self) -> Any:
        frame = _getframe(1)
        self._next = _NUMBER[wait_of(frame).kind]
        holder = self._hub.owner()
        if not hasattr(holder, "greenlab_own"):
            # Here, since the frames of a greenlet that is suspended cannot be walked.
            holder.greenlab_own = holder.about is not None if isinstance(holder, Task) else _is_own(frame)
        return self._real_switch()

    def _make_hook(self, former: Any) -> Any:
        """Make the trace function. A new one each time: one that was set on top may still call the old one."""
        hub = self._hub

        def on_switch(event: str, args: Any) -> None:
            if self._hook is on_switch:
                now_s = perf_counter()
                origin, target = owner_of(hub, args[0]), owner_of(hub, args[1])
                if origin is not target and origin is not hub.greenlet and not self._hosted:
                    self._note(origin, now_s)
                if origin is not target and target is not hub.greenlet:
                    self._since_s = now_s
                    # The main greenlet goes on as the host loop, and not as the cell.
                    self._hosted = target is hub.root and not hub.blocking
            if former is not None:
                former(event, args)

        return on_switch

    def _note(self, holder: Any, now_s: float) -> None:
        try:
            lane = holder.greenlab_lane
        except AttributeError:
            lane = holder.greenlab_lane = next(_lanes)
        if lane not in self._names:
            self._names[lane] = self._name(holder)
            if getattr(holder, "greenlab_own", False):
                self._own.add(lane)
        index = index_of(holder)
        end = _END if holder.dead else self._next
        self._next = _OTHER
        self._new.extend((self._since_s, now_s, lane, end, -1.0 if index is None else index))
        if len(self._new) >= self._half:
            self._turn_over()

    def _turn_over(self) -> None:
        """Drop the older half, and the names of lanes that are in neither half."""
        self._dropped += len(self._old) // COLUMNS
        self._old, self._new = self._new, array("d")
        seen = {int(lane) for lane in self._old[2::COLUMNS]}
        self._names = {lane: name for lane, name in self._names.items() if lane in seen}

    def _name(self, holder: Any) -> str:
        if holder is self._hub.root:
            return "the cell"
        if isinstance(holder, Task):
            return f"Task {holder.id} ({holder.name})"
        return GREEN_THREAD

    def _fill(self, recording: Recording) -> None:
        kept = self._old + self._new
        # Others may have begun before: theirs are the holds that ended before this recording began.
        skip = next((at for at in range(0, len(kept), COLUMNS) if kept[at + 1] > recording.started_s), len(kept))
        recording.holds = kept[skip:]
        recording.dropped = self._dropped if skip == 0 else 0
        recording.names = dict(self._names)
        recording.own = set(self._own)
        recording.ended_s = perf_counter()


def _is_own(frame: Any) -> bool:
    """Return whether a green thread runs a function of greenlab's for itself, by the frame in which it waits.

    That of a pool that runs a user's tasks is one too; it is known by its tasks.
    """
    own = False
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if not name.startswith(_STARTERS):
            own = name.startswith("greenlab.") and not name.startswith(_FOR_USERS)
        frame = frame.f_back
    return own
