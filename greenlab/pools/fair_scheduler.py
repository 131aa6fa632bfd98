"""The gate: green threads of all runs take turns at the hub, a slice of time at a turn.

A green thread that has had enough, or that begins, waits at the gate; each turn of the hub the gate lets through as
many as the slice has time for. So five hundred tasks that all connect at once, or a million that never wait, hold
the hub for one slice at a time, and sockets, timers and the host loop are served in between. The gate opens first in a
turn. Of hundreds of tasks that were due at once and compute for a while, those that end early are so followed by others
at once; came these last, all would compute, and then all wait while nothing computes.

Guarantees:

* runs share the hub by time, not by how many green threads they have: next is whoever has used least (start-time fair
  queuing; P. Goyal, H. Vin, H. Cheng, SIGCOMM 1996); who comes late starts where the others are, and gets no arrears;
* within a run, first come first served;
* nobody at the gate, no timer.

Must not import: greening, runs, live, magics.
"""

from __future__ import annotations

from collections import deque
from time import perf_counter
from typing import TYPE_CHECKING, Any

import greenlet

from greenlab.hub.slices import FIRST_S, SLICE_S

if TYPE_CHECKING:
    from greenlab.hub import GuestHub


class RunQueue:
    """The green threads of one run that wait at the gate.

    Attributes:
        used_s: the hub's time that was given to the run by the gate, in seconds.
    """

    def __init__(self, used_s: float) -> None:
        self.used_s = used_s
        self.waiting: deque[Any] = deque()


class FairScheduler:
    """The gate of one hub."""

    def __init__(self, hub: GuestHub) -> None:
        self._hub = hub
        self._lines: list[RunQueue] = []
        self._opening = False

    def join(self) -> RunQueue:
        """Open a line for a run."""
        line = RunQueue(min((line.used_s for line in self._lines), default=0.0))
        self._lines.append(line)
        return line

    def leave(self, line: RunQueue) -> None:
        """Close the line of a run that has ended; who still waits there is forgotten."""
        self._lines.remove(line)
        line.waiting.clear()

    def start(self, line: RunQueue, worker: Any) -> None:
        """Have a green thread that has not begun let through in its turn."""
        line.waiting.append(worker)
        self._open_soon()

    def wait(self, line: RunQueue) -> None:
        """Wait for the caller's turn."""
        me = greenlet.getcurrent()
        line.waiting.append(me)
        self._open_soon()
        try:
            self._hub.switch()
        except BaseException:
            if me in line.waiting:
                line.waiting.remove(me)
            raise

    def _open_soon(self) -> None:
        if not self._opening:
            self._opening = True
            self._hub.schedule_call_global(FIRST_S, self._open)

    def _open(self) -> None:
        """Let through what this turn has time for. The hub calls this; who is let through comes back when it waits."""
        hub, lines = self._hub, self._lines
        until_s = perf_counter() + SLICE_S
        try:
            while True:
                next_in_line = [line for line in lines if line.waiting]
                if not next_in_line:
                    return
                line = min(next_in_line, key=_used_s) if len(next_in_line) > 1 else next_in_line[0]
                begin_s = perf_counter()
                # One that begins has not passed through the hub's own `switch`, which notes who holds it.
                hub.holder = worker = line.waiting.popleft()
                hub.held_since_s = begin_s
                worker.switch()
                end_s = perf_counter()
                if end_s >= hub.look_at_s:
                    hub.look(end_s)
                line.used_s += end_s - begin_s
                if end_s > until_s:
                    return
        finally:
            self._opening = False
            if any(line.waiting for line in lines):
                self._open_soon()


def _used_s(line: RunQueue) -> float:
    return line.used_s
