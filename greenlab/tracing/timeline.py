"""A timeline: which green thread held the hub when, and what each waited for. Made of a recording; draws nothing.

Guarantees: the `repr` does not depend on how fast anything went, so that a lesson's output can be
compared; the file that `save` writes is in Chrome's Trace Event Format, which Perfetto and chrome://tracing open.

Must not import: live, magics.
"""

from __future__ import annotations

import contextlib
import html
import itertools
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

from greenlab.errors import UsageError
from greenlab.hub.blocks import folded
from greenlab.hub.trace import COLUMNS, GREEN_THREAD, record
from greenlab.hub.waits import KINDS
from greenlab.text.format import counted, plural, seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from greenlab.hub import GuestHub
    from greenlab.hub.blocks import Block
    from greenlab.hub.trace import Recording

_ENDED = "end"
_TASKS_NAMED = 3


class TimelineHold(NamedTuple):
    """A time in which a green thread held the hub; seconds from the timeline's start. The task is -1 for none."""

    start_s: float
    end_s: float
    task: int


class TimelineWait(NamedTuple):
    """A time in which a green thread waited, and for what; seconds from the timeline's start."""

    start_s: float
    end_s: float
    kind: str


@dataclass
class Lane:
    """One green thread.

    Attributes:
        name: what it is called: "the cell", "Task 3 (fetch)", "task 7" of a run, "tasks 7, 17, 27" if a green thread
            ran these one after another, "green thread 5".
        own: whether it is one of greenlab's own, such as a run's driver or a live view, and runs no task.
        holds: when it held the hub.
        waits: when it waited, and for what.
    """

    name: str
    own: bool = False
    holds: list[TimelineHold] = field(default_factory=list)
    waits: list[TimelineWait] = field(default_factory=list)

    @property
    def held_s(self) -> float:
        """How long it held the hub in all, seconds."""
        return sum(hold.end_s - hold.start_s for hold in self.holds)


class Timeline:
    """Which green thread held the hub when. Made by `%%greentrace` and `run.timeline()`.

    Attributes:
        lanes: one a green thread, in the order in which they were first seen.
        blocks: what blocked the hub meanwhile, as in `run.blocked`.
        duration_s: how long was recorded, seconds.
        blocked: start and end of each of these; seconds from the timeline's start.
        dropped: how many switches at the beginning were not kept, because there were too many.
    """

    def __init__(self, recording: Recording, figure: Callable[..., Any] | None = None) -> None:
        self.blocks: list[Block] = recording.blocks
        self.dropped = recording.dropped
        self.started_s = recording.started_s
        self.duration_s = recording.ended_s - recording.started_s
        self.lanes = _lanes(recording)
        self.blocked = [self._span(block) for block in self.blocks]
        self._figure = figure

    @property
    def switches(self) -> int:
        """How often a green thread gave up the hub."""
        return sum(len(lane.holds) for lane in self.lanes)

    @property
    def waited_s(self) -> dict[str, float]:
        """How long green threads waited, by kind ("socket", "sleep", "lock", "queue", "other"), all together."""
        sums = dict.fromkeys(KINDS[:-1], 0.0)
        for lane in self.lanes:
            for wait in lane.waits:
                sums[wait.kind] += wait.end_s - wait.start_s
        return {kind: sum_s for kind, sum_s in sums.items() if sum_s}

    def _span(self, block: Block) -> tuple[float, float]:
        """Return start and end of a block: exactly, if the hold was recorded, or as the watchdog saw it."""
        start_s = max(0.0, block.started_s - self.started_s)
        end_s = min(block.ended_s - self.started_s, self.duration_s)

        def common_s(hold: TimelineHold) -> float:
            return min(hold.end_s, end_s) - max(hold.start_s, start_s)

        longest = max((hold for lane in self.lanes for hold in lane.holds), key=common_s, default=None)
        if longest is not None and common_s(longest) > (end_s - start_s) / 2:
            return longest.start_s, longest.end_s
        return start_s, end_s

    # -- display -------------------------------------------------------------------------------------------

    def plot(self, *, own: bool = False) -> Any:
        """Return a matplotlib Figure with a lane for each green thread: when it held the hub, and what it waited for.

        Args:
            own: whether to draw greenlab's own too, such as a run's driver; one that blocked the hub always is.

        Raises:
            UsageError: the timeline was not made by greenlab.
        """
        if self._figure is None:
            raise UsageError("this timeline has no figure: make it with %%greentrace or run.timeline()")
        return self._figure(self, own=own)

    def summary(self) -> str:
        """Return a few lines of plain text: what held the hub, and what was waited for."""
        held_s = sum(lane.held_s for lane in self.lanes)
        part = held_s / self.duration_s if self.duration_s else 0.0
        theirs = [lane for lane in self.lanes if not lane.own]
        own = f" and {len(self.lanes) - len(theirs)} of greenlab's own" if len(theirs) < len(self.lanes) else ""
        counts = f"{counted(len(theirs), 'green thread')}{own}, {counted(self.switches, 'switch')}"
        lines = [repr(self), f"  {counts} in {seconds(self.duration_s)}, the hub was held for {part:.0%} of it"]
        busiest = sorted(self.lanes, key=lambda lane: -lane.held_s)[:3]
        lines += [f"  held by {lane.name}: {seconds(lane.held_s)}" for lane in busiest]
        lines += [f"  waited for {kind}: {seconds(sum_s)} in all" for kind, sum_s in self.waited_s.items()]
        lines += [f"  blocked: {line}" for line in folded(self.blocks)[:3]]
        if self.dropped:
            lines.append(f"  the first {self.dropped:,} switches were too many to keep")
        return "\n".join(lines)

    def __repr__(self) -> str:
        kinds = ", ".join(kind for kind in self.waited_s if kind != "other") or "nothing in particular"
        blocked = "the hub was blocked" if self.blocks else "nothing blocked the hub"
        return f"timeline: green threads waited for {kinds}; {blocked}"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Any:  # noqa: ARG002
        plain = {"text/plain": repr(self)}
        figure = None if self._figure is None or not self.lanes else self._figure(self)
        if figure is None:
            return plain | {"text/html": f"<pre>{html.escape(repr(self))}</pre>"}
        data, about = figure._repr_mimebundle_()
        return data | plain, about

    # -- export --------------------------------------------------------------------------------------------

    def to_chrome(self) -> dict[str, Any]:
        """Return the timeline in Chrome's Trace Event Format.

        Source: "Trace Event Format" (Google, 2016): complete events (`ph` X, times in µs), metadata events (M) that
        name threads. A lane is a thread; what it waited for is a slice of the category "wait" in it.
        """
        pid = os.getpid()
        events: list[dict[str, Any]] = [_named("process_name", pid, 0, "greenlab")]
        if self.blocks:
            events.append(_named("thread_name", pid, 0, "blocked"))
        for (start_s, end_s), block in zip(self.blocked, self.blocks, strict=True):
            span = _slice(pid, 0, f"blocked: {block.place}", "blocked", start_s, end_s)
            events.append({**span, "cname": "terrible", "args": {"block": str(block)}})
        for number, lane in enumerate(self.lanes, 1):
            events.append(_named("thread_name", pid, number, lane.name))
            events.append({**_named("thread_sort_index", pid, number, ""), "args": {"sort_index": number}})
            events += [_slice(pid, number, _words(hold), "held", hold.start_s, hold.end_s) for hold in lane.holds]
            events += [_slice(pid, number, wait.kind, "wait", wait.start_s, wait.end_s) for wait in lane.waits]
        return {"traceEvents": events, "displayTimeUnit": "ms", "otherData": {"dropped switches": self.dropped}}

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the timeline to a JSON file that https://ui.perfetto.dev and chrome://tracing open.

        Returns:
            the path.
        """
        there = Path(path)
        there.write_text(json.dumps(self.to_chrome()), encoding="utf-8")
        return there


def _words(hold: TimelineHold) -> str:
    return "holds the hub" if hold.task < 0 else f"task {hold.task}"


def _named(what: str, pid: int, tid: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": what, "pid": pid, "tid": tid, "ts": 0, "args": {"name": name}}


def _slice(pid: int, tid: int, name: str, category: str, start_s: float, end_s: float) -> dict[str, Any]:
    return {
        "ph": "X", "name": name, "cat": category, "pid": pid, "tid": tid,
        "ts": start_s * 1e6, "dur": max(0.0, end_s - start_s) * 1e6,
    }  # fmt: skip


def _lanes(recording: Recording) -> list[Lane]:
    """Sort the holds into lanes; between two holds, a lane waits."""
    zero_s, end_s = recording.started_s, recording.ended_s
    lanes: dict[int, Lane] = {}
    waiting: dict[int, tuple[float, str]] = {}
    rows = iter(recording.holds)
    for start, end, number, kind, task in zip(*[rows] * COLUMNS, strict=True):
        lane = lanes.get(int(number))
        if lane is None:
            name = recording.names.get(int(number), GREEN_THREAD)
            lane = lanes[int(number)] = Lane(name, int(number) in recording.own)
        start_s, stop_s = max(0.0, start - zero_s), end - zero_s
        if int(number) in waiting:
            since_s, what = waiting.pop(int(number))
            lane.waits.append(TimelineWait(since_s, start_s, what))
        lane.own = lane.own and task < 0
        lane.holds.append(TimelineHold(start_s, stop_s, int(task)))
        if KINDS[int(kind)] != _ENDED:
            waiting[int(number)] = stop_s, KINDS[int(kind)]
    for number, (since_s, what) in waiting.items():
        # A green thread that held the hub until the end is cut off there; it did not begin a wait.
        if since_s < end_s - zero_s - 1e-4:
            lanes[number].waits.append(TimelineWait(since_s, end_s - zero_s, what))
    _name(lanes.values())
    return list(lanes.values())


def _name(lanes: Iterable[Lane]) -> None:
    """Name the green threads that have no name: by the tasks that they ran, or by a number."""
    numbers = itertools.count(1)
    for lane in lanes:
        if lane.name == GREEN_THREAD:
            lane.name = _words_of(lane) or f"{GREEN_THREAD} {next(numbers)}"


def _words_of(lane: Lane) -> str:
    tasks = list(dict.fromkeys(hold.task for hold in lane.holds if hold.task >= 0))
    if len(tasks) > _TASKS_NAMED:
        return f"tasks {tasks[0]}, {tasks[1]} … {tasks[-1]}"
    return f"{plural('task', len(tasks))} {', '.join(map(str, tasks))}" if tasks else ""


class TracedRun(Protocol):
    """A run, as its recorder sees it: when it began, `time.perf_counter()` seconds, and how long it took."""

    @property
    def started_s(self) -> float: ...  # noqa: D102
    @property
    def elapsed_s(self) -> float: ...  # noqa: D102


class Tracing:
    """Records a timeline: of a run, as its observer, or of a `with` block.

    Attributes:
        figure: what draws the timeline.
    """

    def __init__(self, hub: GuestHub, figure: Callable[..., Any] | None = None) -> None:
        self.figure = figure
        self._hub = hub
        self._timeline: Timeline | None = None
        self._open = contextlib.ExitStack()
        self._recording: Recording | None = None

    def __enter__(self) -> Self:
        self._recording = self._open.enter_context(record(self._hub))
        return self

    def __exit__(self, *_exc: object) -> None:
        self._open.close()
        if self._recording is not None:
            self._timeline, self._recording = Timeline(self._recording, self.figure), None

    def run_started(self, _run: object) -> None:
        """Begin to record, as an observer of a run."""
        self.__enter__()

    def run_ended(self, run: TracedRun) -> None:
        """End, as an observer of a run: what came after its last task, such as its last picture, is left out."""
        if self._recording is not None:
            self._open.close()
            self._recording.cut(run.started_s, run.started_s + run.elapsed_s)
            self.__exit__()

    @property
    def timeline(self) -> Timeline:
        """The timeline.

        Raises:
            UsageError: the recording has not ended.
        """
        if self._timeline is None:
            raise UsageError("there is no timeline yet: it is made when what is traced has ended")
        return self._timeline
