"""How many tasks of a Celery job travel, and in how large messages; how a job ends in a worker. None is needed here."""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace
from typing import Any

import pytest
from processes_kit import FakeJob

from greenlab.hub import eventlet
from greenlab.pools.celery import green_batches, messages
from greenlab.pools.celery.dispatch import Dispatcher
from greenlab.pools.celery.green_batches import GreenBatches
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


def test_a_job_that_ends_in_a_worker_lets_go_of_every_message_that_waits_there() -> None:
    reports: Any = None
    batches, waits, is_through = GreenBatches(reports, lambda: 1), eventlet.event.Event(), eventlet.event.Event()
    is_through.send()
    queue = deque(
        (SimpleNamespace(through=event), index, None) for index, event in enumerate((waits, waits, is_through))
    )
    job: Any = SimpleNamespace(queue=queue, running={}, ended=False, watching=SimpleNamespace(close=queue.clear))
    batches._jobs["job"] = job
    batches.end("job")
    assert (True, True, True) == (job.ended, waits.ready(), is_through.ready())
    batches.end("job")  # it is not here any more


def test_a_message_that_arrives_in_a_worker_as_the_others_of_its_job_end_is_run(
    started: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(green_batches, "Printing", lambda _: SimpleNamespace(end=lambda _: None))
    monkeypatch.setattr(green_batches, "_call", lambda _batch, _owner, call: call())
    may_end, is_told = eventlet.event.Event(), eventlet.event.Event()
    ran: list[str] = []

    def tell(_queue: str, kind: str, message: str, *_: Any, size: int = 0) -> None:
        if (kind, message) == (messages.BEGUN, "late"):
            is_told.wait()  # as where the thread that sends has the lock

    reports: Any = SimpleNamespace(worker="w", tell=tell)
    batches = GreenBatches(reports, lambda: 1)

    def run(message: str, call: Any) -> Any:
        batch = messages.Batch("queue", "job", b"", (), None, 1, 10.0, ([0], [call]), [])
        return eventlet.spawn(batches.run, message, batch)

    early = run("early", may_end.wait)
    eventlet.sleep(0.01)
    late = run("late", lambda: ran.append("late"))
    eventlet.sleep(0.01)
    may_end.send()
    early.wait()
    is_told.send()
    with eventlet.Timeout(5):
        late.wait()
    assert ["late"] == ran
    assert {} == batches._jobs
