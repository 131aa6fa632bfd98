"""Runs, a race, a sweep and a timeline whose every figure is worked out instead of measured.

Pictures of them are the same on every machine. Runs are simulated without a clock: tasks take the next free place, and
what they do there is given. What is drawn of them, and the words beside it, are greenlab's own.
"""

from __future__ import annotations

import heapq
import math
import random
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from sweep_doubles import closed_loop

from greenlab.comparing.race import Race
from greenlab.comparing.race_analysis import RaceRun
from greenlab.comparing.sweep import Sweep
from greenlab.live.samples import Columns
from greenlab.pools.protocol import TaskSpan
from greenlab.runs.latency import Latency, latency_of
from greenlab.runs.resource_usage import Usage
from greenlab.tracing.timeline import Lane, TimelineHold, TimelineWait

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SAMPLE_S = 0.25
"""How often a live view takes a sample; of a long run there are forty here."""


@dataclass(frozen=True)
class FixedRun:
    """A run as its views see it (`greenlab.live.watched.Watched`), at one moment.

    Attributes:
        starts_s, ends_s: when each task starts and ends, in seconds from the run's start, in the order of their starts.
        until_s: the moment; infinite for the end.
        stopped: whether the run was stopped at that moment, instead of going on.
        fails: what tasks fail with, by index.
        blocks: start, end and place of each time in which the hub was blocked.
        names: what tasks are called, where each is drawn by itself.
        limits: from when on how many tasks may be in flight, where that changes.
        refused: why it could not begin, if it could not.
    """

    starts_s: Sequence[float]
    ends_s: Sequence[float]
    pool: str = "green"
    label: str = "fetch"
    concurrency: int = 100
    total: int | None = None
    until_s: float = math.inf
    stopped: bool = False
    fails: Mapping[int, str] = field(default_factory=dict)
    blocks: Sequence[tuple[float, float, str]] = ()
    names: Sequence[str] = ()
    limits: Sequence[tuple[float, int]] = ()
    started_s: float = 0.0
    startup_s: float = 0.0
    done_before: int = 0
    first_failure: str = ""
    refused: str = ""

    def at(self, until_s: float, *, stopped: bool = False) -> FixedRun:
        """Return the run at another moment of it."""
        return replace(self, until_s=until_s, stopped=stopped)

    @property
    def running(self) -> bool:
        return self.until_s < math.inf and not self.stopped

    @property
    def elapsed_s(self) -> float:
        return self.until_s if self.until_s < math.inf else max(self.ends_s, default=0.0)

    @property
    def done(self) -> int:
        return sum(end_s <= self.until_s for end_s in self.ends_s)

    @property
    def begun(self) -> int:
        return sum(start_s < self.until_s for start_s in self.starts_s)

    @property
    def cut_by(self) -> str:
        return self.refused or ("it was stopped" if self.stopped else "")

    @property
    def failed(self) -> int:
        return sum(self.error_types.values())

    @property
    def in_flight(self) -> int:
        if not self.running:
            return 0
        return sum(start_s < self.until_s < end_s for start_s, end_s in zip(self.starts_s, self.ends_s, strict=True))

    @property
    def limit(self) -> int:
        return next((limit for since_s, limit in reversed(self.limits) if since_s < self.until_s), self.concurrency)

    @property
    def blocked(self) -> list[Any]:
        seen = [(start_s, end_s) for start_s, end_s, _ in self.blocks if end_s <= self.until_s]
        return [
            SimpleNamespace(started_s=start_s, ended_s=end_s, duration_s=end_s - start_s, worker=None)
            for start_s, end_s in seen
        ]

    @property
    def blocked_lines(self) -> list[str]:
        return [f"{end_s - start_s:.2f} s at {place}" for start_s, end_s, place in self.blocks if end_s <= self.until_s]

    @property
    def error_types(self) -> dict[str, int]:
        kinds = [name for index, name in self.fails.items() if self.ends_s[index] <= self.until_s]
        return {kind: kinds.count(kind) for kind in sorted(set(kinds), key=lambda kind: (-kinds.count(kind), kind))}

    @property
    def counts(self) -> dict[str, int]:
        return {"succeeded": self.done - self.failed}

    @property
    def throughput(self) -> float:
        return self.done / self.elapsed_s if self.elapsed_s else 0.0

    @property
    def latency(self) -> Latency:
        starts_s, ends_s = self.times()
        return latency_of(starts_s, ends_s)

    def times(self) -> tuple[Sequence[float], Sequence[float]]:
        begun = [span for span in zip(self.starts_s, self.ends_s, strict=True) if span[0] < self.until_s]
        ended = [span if span[1] <= self.until_s else (math.nan, math.nan) for span in begun]
        return [start_s for start_s, _ in ended], [end_s for _, end_s in ended]

    def failures(self) -> bytes:
        return bytes(index in self.fails for index in range(len(self.times()[0])))

    def bars(self, most: int) -> list[TaskSpan]:
        _, ends_s = self.times()
        if not 0 < len(ends_s) <= most:
            return []
        cut = "running" if self.running else "cancelled"
        names = self.names or [f"task {index}" for index in range(len(ends_s))]
        bars = []
        for index, (start_s, end_s) in enumerate(zip(self.starts_s, ends_s, strict=False)):
            outcome = cut if math.isnan(end_s) else "failed" if index in self.fails else "succeeded"
            bars.append(TaskSpan(names[index], start_s, self.until_s if math.isnan(end_s) else end_s, outcome))
        return bars

    def columns(self) -> Columns:
        """Return the samples that a live view has taken until the moment."""
        columns, end_s = Columns(), self.elapsed_s
        every_s = max(SAMPLE_S, end_s / 40)
        for number in range(1, math.ceil(end_s / every_s)):
            columns.add_sample(self.at(number * every_s))  # type: ignore[arg-type]  # a view sets its concurrency
        columns.add_sample(self)  # type: ignore[arg-type]
        return columns

    def cancel(self) -> None:
        """Do nothing: it does not go on."""

    def summary(self) -> str:
        return f"{self.pool} run of {self.label}"


def queued(
    took_s: Sequence[float],
    concurrency: int,
    *,
    blocks: Sequence[tuple[float, float, str]] = (),
    more: tuple[float, int] | None = None,
    **about: Any,
) -> FixedRun:
    """Return a run of tasks that take the next free place, and stay there for as long as is given.

    Args:
        took_s: how long each task takes.
        concurrency: how many places there are.
        blocks: times in which the hub is blocked: what would end then ends after it.
        more: a time at which there are more places, and how many there are then.
        about: further attributes of the run.
    """
    free_s = [0.0] * concurrency + ([more[0]] * (more[1] - concurrency) if more else [])
    starts_s, ends_s = [], []
    for took in took_s:
        start_s = heapq.heappop(free_s)
        end_s = start_s + took
        for block_s, over_s, _ in blocks:
            if block_s <= end_s < over_s:
                end_s = over_s + 0.04 * (end_s - block_s)
        heapq.heappush(free_s, end_s)
        starts_s.append(start_s)
        ends_s.append(end_s)
    limits = ((0.0, concurrency), more) if more else ()
    total = about.pop("total", len(took_s))
    return FixedRun(
        starts_s,
        ends_s,
        concurrency=more[1] if more else concurrency,
        blocks=blocks,
        total=total,
        limits=limits,
        **about,
    )


def latencies(count: int, median_s: float, seed: int, spread: float = 0.6) -> list[float]:
    """Return log-normal latencies, in seconds."""
    rng = random.Random(seed)
    return [median_s * math.exp(spread * rng.normalvariate()) for _ in range(count)]


def waits_and_blocks(
    count: int, places: int, hubs: int, wait_s: float, hold_s: float, *, seed: int, **about: Any
) -> FixedRun:
    """Return a run of tasks that wait, and then hold what only one task of each hub can have.

    Args:
        count: how many tasks there are.
        places: how many are in flight.
        hubs: how many hubs serve them.
        wait_s: how long a task waits.
        hold_s: how long it holds its hub.
        seed: of what differs from task to task.
        about: further attributes of the run.
    """
    rng = random.Random(seed)
    ready = [(0.0, place) for place in range(places)]
    free_s = [0.0] * hubs
    spans = []
    for _ in range(count):
        start_s, place = heapq.heappop(ready)
        hub = place % hubs
        held_s = max(start_s + wait_s * rng.uniform(0.98, 1.06), free_s[hub])
        free_s[hub] = end_s = held_s + hold_s * rng.uniform(0.99, 1.08)
        heapq.heappush(ready, (end_s, place))
        spans.append((start_s, end_s))
    spans.sort()
    starts_s, ends_s = zip(*spans, strict=True)
    return FixedRun(starts_s, ends_s, total=count, concurrency=places, **about)


def race(
    runs: Mapping[str, Sequence[FixedRun]], *, label: str, failures: Mapping[str, str] | None = None, ended: bool = True
) -> Race:
    """Return a race of these runs, an equal number of each pool, on a machine that does nothing else."""
    count = max(1, *(len(each) for each in runs.values()))
    items = range(max((run.total or 0 for each in runs.values() for run in each), default=40))
    made = Race(items, pools=list(runs), repeat=count, label=label, make_run=_never)
    for pool, each in runs.items():
        for number, run in enumerate(each, 1):
            usage = Usage(0.1, 0.0, 2**20, 0.3, 2, run.elapsed_s)
            made.all_runs.append(RaceRun(pool, number, run, usage))  # type: ignore[arg-type]  # it has what is read
    made.failures.update(failures or {})
    made.ended = ended
    return made


def sweep(
    concurrencies: Sequence[int], tried: int, *, servers: int, seconds: float, label: str, service_s: float = 0.05
) -> Sweep:
    """Return a sweep over a server that has a number of places and a fair queue.

    Args:
        concurrencies: those to try.
        tried: how many of them have been tried.
        servers: the server's places.
        seconds: for how long each was tried.
        label: what the sweep goes over.
        service_s: how long the server takes, seconds.
    """
    made = Sweep(range(500), pool="green", concurrencies=concurrencies, seconds=seconds, label=label, make_run=_never)
    made.points += [
        closed_loop(clients, servers, service_s, seconds, spread=0.1) for clients in made.concurrencies[:tried]
    ]
    made.ended = tried == len(made.concurrencies)
    return made


def _never(*_args: Any, **_options: Any) -> Any:
    raise NotImplementedError("nothing is run")


class FixedTimeline:
    """A timeline, as its picture sees it."""

    def __init__(self, lanes: Sequence[Lane], duration_s: float, blocked: Sequence[tuple[float, float]] = ()) -> None:
        self.lanes = lanes
        self.duration_s = duration_s
        self.blocked = blocked
        self.dropped = 0


def lane(name: str, *spans: tuple[float, str]) -> Lane:
    """Return a lane of spans one after another: how long each is, and "held" or what is waited for."""
    made, at_s = Lane(name), 0.0
    for length_s, what in spans:
        if what == "held":
            made.holds.append(TimelineHold(at_s, at_s + length_s, -1))
        elif what:
            made.waits.append(TimelineWait(at_s, at_s + length_s, what))
        at_s += length_s
    return made
