"""Runs, samples and records whose every figure is set by the test, for the tests of the live view."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest

from greenlab.live.samples import Columns
from greenlab.live.snapshot import Facts, Records, Samples
from greenlab.runs import Latency

if TYPE_CHECKING:
    from greenlab.pools.protocol import TaskSpan

NAN = float("nan")


@dataclass
class FakeRun:
    """A run whose every figure is set by the test."""

    pool: str = "green"
    label: str = "url in feeds"
    concurrency: int = 4
    total: int | None = 8
    started_s: float = 100.0
    elapsed_s: float = 0.0
    done: int = 0
    done_before: int = 0
    failed: int = 0
    in_flight: int = 0
    running: bool = True
    starts_s: list[float] = field(default_factory=list)
    ends_s: list[float] = field(default_factory=list)
    blocked: list[Any] = field(default_factory=list)
    blocked_lines: list[str] = field(default_factory=list)
    cancelled_on: list[str] = field(default_factory=list)
    error_types: dict[str, int] = field(default_factory=dict)
    first_failure: str = ""
    latency: Latency = field(default_factory=Latency)
    keeps_times: bool = True
    begun: int = 1
    cut_by: str = ""
    tasks: list[TaskSpan] = field(default_factory=list)

    def cancel(self) -> None:
        self.cancelled_on.append(threading.current_thread().name)

    def summary(self) -> str:
        return f"{self.done} tasks ended"

    def times(self) -> tuple[list[float], list[float]]:
        if not self.keeps_times:
            return [], []
        return [s + self.started_s for s in self.starts_s], [s + self.started_s for s in self.ends_s]

    @property
    def limit(self) -> int:
        return self.concurrency

    def failures(self) -> bytes:
        return b""

    def bars(self, most: int) -> list[TaskSpan]:
        return self.tasks if len(self.tasks) <= most else []

    def go_on(self, elapsed_s: float, done: int, failed: int = 0) -> None:
        self.elapsed_s, self.done, self.failed, self.in_flight = elapsed_s, done, failed, self.concurrency

    def end(self, elapsed_s: float) -> None:
        count = self.done
        self.elapsed_s, self.in_flight, self.running = elapsed_s, 0, False
        self.ends_s = [elapsed_s * (i + 1) / count for i in range(count)]
        self.starts_s = [max(end_s - elapsed_s / 4, 0.0) for end_s in self.ends_s]


def facts(**changes: Any) -> Facts:
    given = Facts(
        pool="green",
        label="url in feeds",
        concurrency=4,
        total=8,
        done=8,
        failed=0,
        elapsed_s=2.0,
        blocked=(),
        running=False,
        titled=True,
    )
    return replace(given, **changes)


def columns(*rows: tuple[float, int, int, int], limit: int = 4, p50_s: float = NAN, p99_s: float = NAN) -> Columns:
    made = Columns()
    for t_s, done, failed, in_flight in rows:
        made.t_s.append(t_s)
        made.done.append(done)
        made.failed.append(failed)
        made.in_flight.append(in_flight)
        made.limit.append(limit)
        made.p50_s.append(p50_s)
        made.p99_s.append(p99_s)
    return made


def records(count: int, elapsed_s: float, **changes: Any) -> Records:
    import numpy as np

    ends_s = np.sort(np.random.default_rng(7).uniform(0, elapsed_s, count))
    if count:
        ends_s[-1] = elapsed_s
    starts_s = np.maximum(ends_s - elapsed_s / 10, 0)
    given = facts(done=count, total=count, elapsed_s=elapsed_s, **changes)
    noted = columns((elapsed_s, count, given.failed, 0), limit=given.concurrency)
    return Records(given, 0.0, list(starts_s), list(ends_s), noted)


def samples(elapsed_s: float = 2.0, p50_s: float = NAN, p99_s: float = NAN, **changes: Any) -> Samples:
    failed = changes.get("failed", 0)
    noted = columns((elapsed_s / 2, 4, 0, 4), (elapsed_s, 8, failed, 4), p50_s=p50_s, p99_s=p99_s)
    return Samples(facts(running=True, titled=False, elapsed_s=elapsed_s, **changes), noted)


def gids(drawn: Any, panel: str) -> set[str]:
    axes = next(axes for axes in drawn.axes if axes.get_label() == panel)
    return {artist.get_gid() for artist in axes.get_children() if artist.get_gid()}


def part(axes: Any, gid: str) -> Any:
    return next(artist for artist in axes.get_children() if artist.get_gid() == gid)


def written(drawn: Any) -> list[str]:
    import matplotlib.text

    return [text.get_text() for text in drawn.findobj(matplotlib.text.Text) if text.get_text()]


def not_posted(_: object) -> None:
    pytest.fail("nothing was to be posted")


@dataclass
class Shown:
    """One call of IPython's display."""

    bundle: dict[str, Any]
    metadata: dict[str, Any]
    display_id: str | None
    update: bool
