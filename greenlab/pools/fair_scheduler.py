"""The fair scheduler: green threads of all runs take turns at the hub, a slice of time at a turn.

A green thread that has had enough, or that begins, waits for its turn; each turn of the hub the scheduler lets through
as many as the slice has time for. So five hundred tasks that all connect at once, or a million that never wait, hold
the hub for one slice at a time, and sockets, timers and the host loop are served in between. The scheduler comes first
in a turn: of hundreds of tasks that were due at once and compute for a while, those that end early are so followed by
others at once; if these came last, all would compute, and then all wait while nothing computes.

Guarantees:

* runs share the hub by time, not by how many green threads they have: next is the run that has used least (start-time
  fair queuing; P. Goyal, H. Vin, H. Cheng, SIGCOMM 1996); one that comes late starts where the others are, and gets no
  arrears;
* within a run, first come first served;
* while no green thread waits for its turn, there is no timer.

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
    """The green threads of one run that wait for their turn.

    Attributes:
        used_s: the hub's time that was given to the run, in seconds.
    """

    def __init__(self, used_s: float) -> None:
        self.used_s = used_s
        self.waiting: deque[Any] = deque()


class FairScheduler:
    """Shares out the time of one hub."""

    def __init__(self, hub: GuestHub) -> None:
        self._hub = hub
        self._queues: list[RunQueue] = []
        self._scheduled = False

    def join(self) -> RunQueue:
        """Open a queue for a run."""
        queue = RunQueue(min((queue.used_s for queue in self._queues), default=0.0))
        self._queues.append(queue)
        return queue

    def leave(self, queue: RunQueue) -> None:
        """Close the queue of a run that has ended; what still waits there is forgotten."""
        self._queues.remove(queue)
        queue.waiting.clear()

    def start(self, queue: RunQueue, worker: Any) -> None:
        """Have a green thread begin when it is its turn."""
        queue.waiting.append(worker)
        self._run_soon()

    def wait(self, queue: RunQueue) -> None:
        """Wait for the caller's turn."""
        me = greenlet.getcurrent()
        queue.waiting.append(me)
        self._run_soon()
        try:
            self._hub.switch()
        except BaseException:
            if me in queue.waiting:
                queue.waiting.remove(me)
            raise

    def _run_soon(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._hub.schedule_call_global(FIRST_S, self._run)

    def _run(self) -> None:
        """Let through what this turn has time for. The hub calls this; what is let through comes back when it waits."""
        hub, queues = self._hub, self._queues
        until_s = perf_counter() + SLICE_S
        try:
            while True:
                ready = [queue for queue in queues if queue.waiting]
                if not ready:
                    return
                queue = min(ready, key=_used_s) if len(ready) > 1 else ready[0]
                begin_s = perf_counter()
                # One that begins has not passed through the hub's own `switch`, which notes what holds it.
                hub.holder = worker = queue.waiting.popleft()
                hub.held_since_s = begin_s
                worker.switch()
                end_s = perf_counter()
                if end_s >= hub.look_at_s:
                    hub.look(end_s)
                queue.used_s += end_s - begin_s
                if end_s > until_s:
                    return
        finally:
            self._scheduled = False
            if any(queue.waiting for queue in queues):
                self._run_soon()


def _used_s(queue: RunQueue) -> float:
    return queue.used_s
