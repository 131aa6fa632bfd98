"""How many tasks of a Celery job travel, and in how large messages, by what is known of them. No worker is needed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from processes_kit import FakeJob

from greenlab.pools.celery.dispatch import Dispatcher
from greenlab.pools.celery.job import ActiveJob


@pytest.fixture
def active(monkeypatch: pytest.MonkeyPatch) -> ActiveJob:
    """A job for which no time passes."""
    monkeypatch.setattr("greenlab.pools.processes.pace.perf_counter", lambda: 0.0)
    return ActiveJob(FakeJob(abs, [], concurrency=8), "cpu")


def dispatcher(*, one_by_one: bool) -> Dispatcher:
    """Send to two workers that run four tasks each."""
    workers: Any = SimpleNamespace(
        one_by_one=lambda _: one_by_one, serving=lambda _: ["one", "two"], capacity=lambda _: 8
    )
    connect: Any = None
    return Dispatcher(workers, connect, lambda: 0.1)


def test_more_tasks_are_on_their_way_the_faster_they_end(active: ActiveJob) -> None:
    assert 0 == active.ahead
    active.note_ends(1000, 2.0)
    slow = active.ahead
    assert slow > 0
    active.note_ends(10_000, 2.0)
    assert active.ahead > slow


def test_how_long_a_task_takes_is_what_the_last_ones_took(active: ActiveJob) -> None:
    assert active.task_s is None
    active.note_ends(10, 1.0)
    assert 0.1 == active.task_s
    for _ in range(30):
        active.note_ends(10, 2.0)
    assert pytest.approx(0.2, rel=1e-3) == active.task_s


@pytest.mark.parametrize(
    ("one_by_one", "task_s", "size"),
    [(True, None, 1), (True, 1.0, 1), (True, 0.001, 20), (False, None, 1), (False, 1.0, 1), (False, 0.001, 20)],
)
def test_brief_tasks_travel_together(active: ActiveJob, one_by_one: bool, task_s: float | None, size: int) -> None:
    if task_s is not None:
        active.note_ends(1, task_s)
    assert size == dispatcher(one_by_one=one_by_one)._batch_size(active)
