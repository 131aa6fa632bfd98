"""A hold, as the watchdog sees it: was it the line's own doing that the hub stood still, and how long did it last?

The hub itself reads the clock at both ends of a hold (see `holding`). In between, the watchdog looks now and then: it
notes the line, and reads what the hub's thread, its own and the whole process have used. So the hold is cut into spans:

    resumed                                                                         gives the hub up
       │                                                                                    │
    ───┼──────────┬────────────────┬────────────────┬────────────────┬────────────────┬─────┼───
       │ ████████ │ ████░░░░░░████ │ ███▒▒▒▒▒▒▒▒▒▒▒ │ ▒▒▒▒▒▒▒▒▒▒████ │ .............. │ ... │
    ───┼──────────┴────────────────┴────────────────┴────────────────┴────────────────┴─────┼───
       │        look             look             look             look             look    │

       █ computes                    CPU time of the hub's thread
       ░ is ready, has no processor  the thread's time in the run queue (Linux: schedstat)
       ▒ waits for the GIL           ⎱ the rest: it sleeps
       . waits natively              ⎰

Only the last two cannot be read from a clock. A thread that waits for the GIL wakes up every switch interval (5 ms)
to ask for it, and stands in the run queue each time, on a busy machine; one that waits natively sleeps on:

    woke up every 10 ms or    others computed for most of it, or    the sleep is
    more often                the watchdog had no GIL for as long
    ------------------------  ------------------------------------  -------------------------------------------
    no                        either                                a native wait                      .
    yes                       yes                                   a wait for the GIL, and so is ░    ▒
    yes                       no                                    short native waits in a loop       .
    not known (no schedstat)  both                                  a wait for the GIL                 ▒
    not known (no schedstat)  not both                              a native wait                      .

█ and . are the line's own, ░ is the machine's, ▒ is other threads'. Then:

    by the clock, without ▒   █ and . of that           it is
    ------------------------  ------------------------  -------------------------------------------------------
    less than the limit       any                       no block: short, or another thread's
    the limit or more         next to nothing           no block: the machine stood still
    the limit or more         more than that            a block; as long as the clock says, with ░ and ▒

What is next to nothing is small: on a machine that has twenty times as much to do as it can, a line that computes has
the processor for a twentieth of the time, and holds the hub all the same.

The first span begins a millisecond before the hold at the most: so often the hub's thread reads its CPU time. The run
queue is more expensive to read, and is known from a few milliseconds before: what that adds counts against a block.

Bounds: a process that is stopped from outside (SIGSTOP, a debugger) looks like one whose hub waits natively. Where the
system does not say what a thread has used (macOS), all the time is the line's own.

Must not import: greening, pools, runs, live, magics.
"""

from __future__ import annotations

from collections import Counter
from operator import add
from sys import getswitchinterval
from time import perf_counter, process_time, thread_time
from typing import TYPE_CHECKING, Any, NamedTuple

from greenlab.hub.blocks import Block

if TYPE_CHECKING:
    from greenlab.hub._clocks import ThreadClocks
    from greenlab.places import Place

COMPUTED = 0.04
COMPUTED_OF_HOLD = 0.02
"""Computing for less than these parts of the limit, and of the time that it held the hub, is next to nothing."""
WAITED = 0.5
"""Waiting natively for less than this part of the limit is next to nothing: on a busy machine, a native wait lasts no
longer, and a thread that hands over the GIL sleeps for a moment too."""
ASKS = 0.5
"""A thread that wakes up this often, in switch intervals, asks for the GIL."""
SHORTEST_SLEEP = 2
"""Of a sleep of fewer switch intervals it cannot be told what it was; it counts as the line's own."""
MOST = 0.5
"""What computed, or missed the GIL, for more than this part of a sleep, did so for most of it."""


class Reading(NamedTuple):
    """The clocks, read at one moment; None where the system does not say.

    Attributes:
        now_s: `time.perf_counter()` seconds.
        cpu_s, queued_s: what the hub's thread has computed so far, and how long it stood in the run queue.
        turns: how often it was given a processor so far.
        process_s: what all threads have computed.
        missed_s: for how long the watchdog's thread wanted the GIL so far, and did not get it.
    """

    now_s: float
    cpu_s: float | None
    queued_s: float | None
    turns: int | None
    process_s: float
    missed_s: float


def read(hub: ThreadClocks, missed_s: float, now_s: float | None = None) -> Reading:
    """Read the clocks of the hub's thread."""
    queued_s, turns = hub.queue()
    at_s = perf_counter() if now_s is None else now_s
    return Reading(at_s, hub.cpu_s(), queued_s, turns, process_time(), missed_s)


class Span(NamedTuple):
    """What the hub's thread did between two readings; seconds.

    Attributes:
        cpu_s: it computed.
        queued_s: it was ready to compute, and had no processor.
        waited_s: it waited natively.
        foreign_s: it waited for the GIL, or for a processor to ask for it.
    """

    cpu_s: float
    queued_s: float
    waited_s: float
    foreign_s: float


def read_cpu(former: Reading, now_s: float) -> Reading:
    """Read what costs little: the CPU time. On the hub's thread."""
    return former._replace(now_s=now_s, cpu_s=None if former.cpu_s is None else thread_time())


def span(former: Reading, latter: Reading) -> Span:
    """Return what the hub's thread did between two readings, see the tables above.

    Where the system does not say, it waited.
    """
    whole_s = latter.now_s - former.now_s
    if former.cpu_s is None or latter.cpu_s is None:
        return Span(0.0, 0.0, whole_s, 0.0)
    cpu_s = latter.cpu_s - former.cpu_s
    queued_s = _difference(former.queued_s, latter.queued_s)
    asleep_s = max(0.0, whole_s - cpu_s - queued_s)
    if _wanted_gil(former, latter, asleep_s):
        return Span(cpu_s, 0.0, 0.0, asleep_s + queued_s)
    return Span(cpu_s, queued_s, asleep_s, 0.0)


def _wanted_gil(former: Reading, latter: Reading, asleep_s: float) -> bool:
    """Return whether the hub's thread slept because others had the GIL: the first table above."""
    if asleep_s < SHORTEST_SLEEP * getswitchinterval() or former.cpu_s is None or latter.cpu_s is None:
        return False
    computed = latter.process_s - former.process_s - (latter.cpu_s - former.cpu_s) > MOST * asleep_s
    missed = latter.missed_s - former.missed_s > MOST * asleep_s
    if former.turns is None or latter.turns is None:
        return computed and missed
    return latter.turns - former.turns >= ASKS * asleep_s / getswitchinterval() and (computed or missed)


def _difference(former: float | None, latter: float | None) -> float:
    return 0.0 if former is None or latter is None else latter - former


class Hold:
    """What is known of one hold.

    Attributes:
        started_s: when it began, `time.perf_counter()` seconds.
        waiting: green threads that could go on, at the last look.
        holder: the green thread, if it is known.
        job, index: the run's job it worked for, and which task of it.
    """

    def __init__(self, started_s: float, before: Reading) -> None:
        self.started_s = started_s
        self.waiting = 0
        self.holder: Any = None
        self.job: Any = None
        self.index: int | None = None
        self._last = before
        self._known = before.cpu_s is not None
        self._used = Span(0.0, 0.0, 0.0, 0.0)
        self._places: Counter[Place] = Counter()

    @property
    def place(self) -> Place | None:
        """The line that was seen most often, if one was seen."""
        return self._places.most_common(1)[0][0] if self._places else None

    def sample(self, place: Place | None) -> None:
        """Note where the hub's thread stands."""
        if place is not None:
            self._places[place] += 1

    def look(self, reading: Reading) -> None:
        """Count what was used since the last reading. One that was made before another that is counted is dropped."""
        last = self._last
        if reading.now_s > max(last.now_s, self.started_s):
            self._last = reading
            self._used = Span(*map(add, self._used, span(last, reading)))

    def is_block(self, limit_s: float) -> bool:
        """Return whether it was, until the last reading, a block: the second table above."""
        used = self._used
        held_s = self._last.now_s - self.started_s - used.foreign_s
        computed = used.cpu_s >= max(COMPUTED * limit_s, COMPUTED_OF_HOLD * held_s)
        return held_s >= limit_s and (computed or used.waited_s >= WAITED * limit_s)

    def block(self, place: Place, who: str) -> Block:
        """Return the block that this was, until the last reading."""
        return Block(
            self.started_s, self._last.now_s, *place,
            cpu_s=self._used.cpu_s if self._known else None, queued_s=self._used.queued_s + self._used.foreign_s,
            who=who, index=self.index, waiting=self.waiting,
        )  # fmt: skip
