"""A block: a time in which one green thread held the hub. As it is being looked at (`Hold`), and as it was (`Block`).

The question that a hold answers is not how long the hub stood still, but how long a line of code kept it. Of the
time that went by are not counted:

* the time in which the hub's thread was ready to run and had no processor: that is a busy machine;
* the time in which the hub's thread waited for the GIL, in the hands of other threads: these computed and the watchdog
  had to wait too, or the hub's thread woke up every 5 ms to ask for it, as CPython has it do (Linux).

A bound: a process that is stopped from outside (SIGSTOP, a debugger) looks like one whose hub waits natively.

Must not import: greening, pools, runs, live, magics.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from sys import getswitchinterval
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any

from greenlab.places import say_place

if TYPE_CHECKING:
    from collections.abc import Iterable

    from greenlab.hub._clocks import ThreadClocks
    from greenlab.places import Place

_LONG = 2
"""A time in the hands of others that lasts so many steps was one call's: threads in Python take turns in 5 ms."""


@dataclass(frozen=True)
class Block:
    """A time in which nothing could switch.

    Attributes:
        started_s, ended_s: `time.perf_counter()` seconds, each known to within a quarter of the watchdog's `after_s`.
        filename, lineno, function: the user's line that held the hub, as most of the samples say.
        cpu_s: how long the hub's thread computed meanwhile, seconds; None where the system does not tell.
        queued_s: how long it was ready to compute, and had no processor, seconds.
        who: who held it, such as "task 3", "Task 7 (fetch)", "the cell".
        index: the index of the task within its run, if it was one of a run's.
        waiting: green threads that could have gone on (their time had come, or their socket was ready) when the
            block was last looked at.
        worker: the process id of the worker whose hub it was; None for the hub here.
    """

    started_s: float
    ended_s: float
    filename: str
    lineno: int
    function: str
    cpu_s: float | None = None
    queued_s: float = 0.0
    who: str = ""
    index: int | None = None
    waiting: int = 0
    worker: int | None = None

    @property
    def duration_s(self) -> float:
        """How long, in seconds."""
        return self.ended_s - self.started_s

    @property
    def kind(self) -> str:
        """What the line did meanwhile: "CPU", "waiting", "CPU and waiting"; nothing where that is not known."""
        return kind_of(self.cpu_s, self.duration_s - self.queued_s)

    @property
    def place(self) -> str:
        """The line and its function, in words."""
        return say_place((self.filename, self.lineno, self.function))

    def __str__(self) -> str:
        who = self.who if self.worker is None else f"{self.who} in worker {self.worker}".lstrip()
        more = [self.kind, who, f"{self.waiting:,} waited behind it" if self.waiting else ""]
        rest = ", ".join(part for part in more if part)
        return f"{self.duration_s:.2f} s at {self.place}" + (f": {rest}" if rest else "")


def kind_of(cpu_s: float | None, duration_s: float) -> str:
    """Say in a word whether a time was spent computing."""
    if cpu_s is None or duration_s <= 0:
        return ""
    part = cpu_s / duration_s
    return "CPU" if part > 0.8 else "waiting" if part < 0.2 else "CPU and waiting"


def by_line(blocks: Iterable[Block]) -> dict[str, float]:
    """Add up how long each line held the hub, in seconds, the longest first."""
    return {group[0].place: _total_s(group) for group in _grouped(blocks)}


def folded(blocks: Iterable[Block]) -> list[str]:
    """Tell blocks a line of text each, those at one line of code together, the longest in all first."""
    return [_fold(group) for group in _grouped(blocks)]


def _grouped(blocks: Iterable[Block]) -> list[list[Block]]:
    """Put blocks at one line of code together, the longest in all first. The live view asks twice a second."""
    words: dict[Place, str] = {}
    groups: dict[str, list[Block]] = {}
    for block in blocks:
        where = block.filename, block.lineno, block.function
        place = words.get(where)
        if place is None:
            place = words[where] = say_place(where)
        groups.setdefault(place, []).append(block)
    return sorted(groups.values(), key=_total_s, reverse=True)


def _total_s(group: list[Block]) -> float:
    return sum(block.duration_s for block in group)


def _fold(group: list[Block]) -> str:
    first = group[0]
    if len(group) == 1:
        return str(first)
    total_s = _total_s(group)
    cpu_s = None if any(block.cpu_s is None for block in group) else sum(block.cpu_s or 0.0 for block in group)
    more = [f"{total_s:.2f} s in all"]
    if kind := kind_of(cpu_s, total_s - sum(block.queued_s for block in group)):
        more.append(kind)
    if waiting := max(block.waiting for block in group):
        more.append(f"up to {waiting:,} waited behind it")
    return f"{len(group):,} × at {first.place}: {', '.join(more)}"


@dataclass(frozen=True)
class Reading:
    """The clocks, read by the watchdog at one moment; None where the system does not tell.

    Attributes:
        now_s: `time.perf_counter()` seconds.
        cpu_s, queued_s: what the hub's thread has computed so far, and how long it stood in the run queue.
        own_queued_s: how long the watchdog's thread stood there.
        process_s: what all threads have computed.
        turns: how often the hub's thread was given a processor so far.
    """

    now_s: float
    cpu_s: float | None
    queued_s: float | None
    own_queued_s: float | None
    process_s: float
    turns: int | None = None


def read(hub: ThreadClocks, own: ThreadClocks) -> Reading:
    """Read the clocks."""
    queued_s, turns = hub.queue()
    return Reading(perf_counter(), hub.cpu_s(), queued_s, own.queued_s(), process_time(), turns)


def glance(former: Reading, hub: ThreadClocks) -> Reading:
    """Read what costs next to nothing; how long threads stood in the run queue is taken from a former reading.

    It takes a file and a hand-over of the GIL to read that. What is compared with an older value seems longer than
    it was, so that a line of code is rather acquitted than blamed.
    """
    return Reading(perf_counter(), hub.cpu_s(), former.queued_s, former.own_queued_s, process_time(), former.turns)


def foreign_s(former: Reading, latter: Reading, step_s: float) -> float:
    """Tell for how long, between two readings, other threads kept the GIL from the hub's; in seconds.

    Args:
        former: the reading before.
        latter: the reading after.
        step_s: how far apart the two were meant to be.
    """
    if former.cpu_s is None or latter.cpu_s is None:
        return 0.0
    used_s = latter.cpu_s - former.cpu_s
    others_s = latter.process_s - former.process_s - used_s
    queued_s = _difference(former.queued_s, latter.queued_s)
    idle_s = latter.now_s - former.now_s - used_s - queued_s
    found_s = _gil_s(former, latter, step_s) - used_s - queued_s
    if max(others_s, found_s) > idle_s / 2 and _asked_for_gil(former, latter, idle_s):
        return max(0.0, idle_s)
    if others_s <= found_s / 2:
        return 0.0  # no other thread computed: it was the hub's own that held the GIL, waiting
    if found_s < _LONG * step_s:
        return max(0.0, found_s)
    # One call kept it. It may have begun to while the watchdog slept, and on a busy machine who waits for the GIL
    # stands in the run queue at each try: the time for which the other thread computed says more.
    return max(found_s, min(others_s, idle_s))


def kept_s(former: Reading, latter: Reading, step_s: float) -> float:
    """Tell for how long one call of the hub's thread kept the GIL, although the hub moved between two readings.

    Otherwise the watchdog would have looked in between. See `foreign_s` for the arguments.
    """
    if former.cpu_s is None or latter.cpu_s is None:
        return 0.0
    gil_s = _gil_s(former, latter, step_s)
    others_s = latter.process_s - former.process_s - (latter.cpu_s - former.cpu_s)
    return max(0.0, gil_s - _difference(former.queued_s, latter.queued_s)) if others_s < gil_s / 5 else 0.0


def _gil_s(former: Reading, latter: Reading, step_s: float) -> float:
    """The watchdog was late, and not for want of a processor: then for the GIL, which somebody held all the time."""
    return latter.now_s - former.now_s - step_s - _difference(former.own_queued_s, latter.own_queued_s)


def _asked_for_gil(former: Reading, latter: Reading, idle_s: float) -> bool:
    """Tell whether the hub's thread, when it did not compute, woke up as often as who waits for the GIL does.

    Among hundreds of threads that want it, the watchdog may get it soon and the hub's thread late; and who has it may
    wait for the system, to start a thread, say, so that nobody computes.
    """
    wake_s = getswitchinterval()
    turns = _difference(former.turns, latter.turns)
    return idle_s > 2 * wake_s and turns >= idle_s / (2 * wake_s)


def _difference(former: float | None, latter: float | None) -> float:
    return 0.0 if former is None or latter is None else latter - former


class Hold:
    """What the watchdog knows of a hold that goes on.

    Attributes:
        progress: the hub's progress, which has not moved since.
        started_s: when it began, `time.perf_counter()` seconds.
        waiting: green threads that could go on, at the last look.
        holder: the green thread, if it is known.
        job, index: the run's job it worked for, and which task of it.
    """

    def __init__(self, progress: object, first: Reading, step_s: float, *, moved: bool) -> None:
        self.progress = progress
        self._moved = moved
        self.waiting = 0
        self.holder: Any = None
        self.job: Any = None
        self.index: int | None = None
        self._step_s = step_s
        self._first = self._last = first
        self.started_s = first.now_s
        self._queued_from_s = first.queued_s
        self._before_s = 0.0
        self._watched_from_s = first.now_s
        self._foreign_s = 0.0
        self._places: Counter[Place] = Counter()

    @property
    def looked(self) -> bool:
        """Whether the clocks have been read since it began."""
        return self._last is not self._first

    def held_s(self, end: Reading | None = None) -> float:
        """Tell for how long a line of code held the hub, to the last look; in seconds.

        Args:
            end: the clocks when it was over. A thread that stands in the run queue is counted when it leaves it, so
                without them a hold may seem longer than it is.
        """
        watched_s = self._last.now_s - self._watched_from_s
        queued_s = _difference(self._queued_from_s, (end or self._last).queued_s)
        return self._before_s + watched_s - queued_s - self._foreign_s

    @property
    def sampled(self) -> bool:
        """Whether a line was seen."""
        return bool(self._places)

    def look(self, reading: Reading) -> None:
        """Count the time since the last reading."""
        if self.looked:
            self._foreign_s += foreign_s(self._last, reading, self._step_s)
        else:
            self._before_s = self._first_look(reading)
            self._watched_from_s, self._queued_from_s = reading.now_s, reading.queued_s
        self._last = reading

    def _first_look(self, reading: Reading) -> float:
        first = self._first
        if self._moved:
            known_s = kept_s(first, reading, self._step_s)
            self.started_s = reading.now_s - known_s
            return known_s
        passed_s = reading.now_s - first.now_s
        stood_s = min(passed_s, _difference(first.queued_s, reading.queued_s))
        return max(0.0, passed_s - stood_s - foreign_s(first, reading, self._step_s))

    def sample(self, place: Place | None) -> None:
        """Note where the hub's thread stands."""
        if place is not None:
            self._places[place] += 1

    def block(self, end: Reading) -> Block:
        """Give the block that this was.

        Args:
            end: the clocks, when the hub was seen to move.
        """
        place = self._places.most_common(1)[0][0]
        first = self._first
        used_s = None if end.cpu_s is None or first.cpu_s is None else end.cpu_s - first.cpu_s
        return Block(
            self.started_s, end.now_s, *place,
            cpu_s=used_s, queued_s=_difference(self._queued_from_s, end.queued_s),
            index=self.index, waiting=self.waiting,
        )  # fmt: skip
