"""Runs that share a Celery eventlet worker: no more tasks run there at once than its `-c`, and each gets its turn."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import celery_workers
import pytest
from waiting import wait_until

from greenlab import pools
from greenlab.hub import eventlet
from greenlab.runs import Ledger

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=[1, 12])
def room(request: pytest.FixtureRequest, started: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """How many tasks the worker runs at a time."""
    with celery_workers.working("-P", "eventlet", "-c", str(request.param)) as worker:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(worker.folder))
        yield request.param


def nap(seconds: float) -> None:
    time.sleep(seconds)


def spin(seconds: float) -> None:
    end_s = time.perf_counter() + seconds
    while time.perf_counter() < end_s:
        pass


def run_together(hub: Any, *ledgers: Ledger) -> None:
    pool = pools.get(hub, "celery")
    for green in [eventlet.spawn(pool.run, ledger) for ledger in ledgers]:
        green.wait()


def most_at_once(*ledgers: Ledger) -> int:
    times = [pair for one in ledgers for pair in zip(one.started_s, one.ended_s, strict=True)]
    held, most = 0, 0
    for _, change in sorted(edge for start_s, end_s in times for edge in ((start_s, 1), (end_s, -1))):
        held += change
        most = max(most, held)
    return most


def test_runs_at_once_have_the_room_of_a_worker_together_and_take_turns(room: int, started: Any) -> None:
    ledgers = [Ledger(nap, [0.05] * 10 * room, concurrency=100) for _ in range(3)]
    run_together(started, *ledgers)
    assert room == most_at_once(*ledgers)
    assert [10 * room] * 3 == [ledger.done for ledger in ledgers]
    # Each is half through before any other has ended.
    halves = [sorted(ledger.ended_s)[5 * room] for ledger in ledgers]
    assert max(halves) < min(max(ledger.ended_s) for ledger in ledgers)


def test_brief_tasks_leave_their_room_to_a_run_that_waits(room: int, started: Any) -> None:
    many, few = Ledger(spin, [0.0005] * 4000, concurrency=100), Ledger(nap, [0.001] * 5, concurrency=5)
    run_together(started, many, few)
    assert (4000, 5) == (many.done, few.done)
    assert max(few.ended_s) < max(many.ended_s)


def test_a_run_alone_has_all_of_the_room(room: int, started: Any) -> None:
    ledger = Ledger(nap, [0.05] * 4 * room, concurrency=100)
    run_together(started, ledger)
    assert room == most_at_once(ledger)


def test_two_launchers_on_a_machine_name_their_workers_apart(
    started: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with (
        celery_workers.launched(tmp_path, eventlet=2) as (one, ones_lines),
        celery_workers.launched(tmp_path, eventlet=2) as (other, others_lines),
    ):
        try:
            for lines in (ones_lines, others_lines):
                next(line for line in lines if " ready." in line)
            pool: Any = pools.get(started, "celery")
            wait_until(lambda: len(pool.find_workers()) == 2, limit_s=10)
            names = {worker.facts.name.partition("@")[0] for worker in pool.find_workers()}
            assert {f"io-{one.pid}", f"io-{other.pid}"} == names
        finally:
            for process, lines in ((one, ones_lines), (other, others_lines)):
                process.terminate()
                next(line for line in lines if line.startswith("ending"))  # two signals at once may be one
                process.terminate()
                for _ in lines:
                    pass
