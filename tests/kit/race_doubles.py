"""Races that have ended as a test says, without running anything."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from greenlab.comparing.race import Race
from greenlab.comparing.race_analysis import RaceRun
from greenlab.runs import Latency
from greenlab.runs.resource_usage import Usage


@dataclass
class FakeRun:
    """A run that has ended as the test says."""

    pool: str
    throughput: float
    concurrency: int = 10
    tasks: int = 100
    failed: int = 0
    p50_s: float = 0.1
    blocked: list[Any] = field(default_factory=list)
    started_s: float = 50.0
    startup_s: float = 0.0
    running: bool = False

    @property
    def done(self) -> int:
        return self.tasks

    @property
    def elapsed_s(self) -> float:
        return self.tasks / self.throughput

    @property
    def latency(self) -> Latency:
        return Latency(self.p50_s, self.p50_s, 2 * self.p50_s, 2 * self.p50_s)

    @property
    def counts(self) -> dict[str, int]:
        return {"succeeded": self.tasks - self.failed}

    @property
    def error_types(self) -> dict[str, int]:
        return {"OSError": self.failed} if self.failed else {}

    def times(self) -> tuple[list[float], list[float]]:
        ends_s = [50.0 + self.elapsed_s * (i + 1) / self.tasks for i in range(self.tasks)]
        return [end - self.p50_s for end in ends_s], ends_s


def usage(cpu_s: float = 0.1, busy: float = 0.2, workers: float = 0.0, elapsed_s: float = 1.0) -> Usage:
    return Usage(cpu_s, workers, 2**20, busy, 2, elapsed_s)


def raced(rates: dict[str, list[float]], used: Usage | None = None, **run: Any) -> Race:
    """A race that has ended with these throughputs."""
    race = Race(
        [1] * 100, pools=list(rates), repeat=max(map(len, rates.values())), label="x in y", make_run=pytest.fail
    )
    for pool, each in rates.items():
        for at, rate in enumerate(each, 1):
            fake: Any = FakeRun(pool, rate, **run)
            race.all_runs.append(RaceRun(pool, at, fake, used or usage()))
    race.ended = True
    return race
