"""The hybrid pool: what dies, and what that costs."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest
from processes_kit import FakeJob, assert_each_once, run
from tasks import compute, nap, note_to
from waiting import wait_until

from greenlab.errors import WorkerLostError
from greenlab.hub import eventlet
from greenlab.runs import Ledger

if TYPE_CHECKING:
    from pathlib import Path

    from greenlab.pools.hybrid import HybridPool

pytestmark = pytest.mark.usefixtures("nothing_of_processes_left", "time_limit")


@pytest.fixture
def pool(hybrid_pool: HybridPool) -> HybridPool:
    return hybrid_pool


def test_a_process_that_dies_costs_the_tasks_it_had_begun_and_no_other(pool: HybridPool) -> None:
    def task(x: Any) -> Any:
        time.sleep(0.05)
        if x == 60:
            os._exit(7)
        return x

    job = Ledger(task, range(200), concurrency=20, workers=2)
    pool.run(job)
    assert 0 == pool.count(job) == pool.in_flight
    assert 60 in job.errors
    lost: list[Any] = list(job.errors.values())
    assert {WorkerLostError} == set(map(type, lost))
    assert {(7, None)} == {(error.exitcode, error.signal) for error in lost}
    assert 1 == len({error.pid for error in lost})
    assert 1 <= len(lost) <= 20  # ten, and those that ended in the same turn of its hub
    assert 200 == job.done
    assert 2 == len(pool.pids)
    again = job.resumed()
    again.func = lambda x: x
    pool.run(again)
    assert list(range(200)) == again.values


def test_what_ended_before_a_task_that_computes_until_its_process_dies_is_not_lost(pool: HybridPool) -> None:
    def task(x: Any) -> Any:
        if x == 250:
            compute(0.5)
            os._exit(7)
        return x

    job = run(pool, task, range(300), concurrency=10, workers=1)
    assert {250: WorkerLostError} == {index: type(error) for index, error in job.errors.items()}
    assert [*range(250), *range(251, 300)] == [value for value in job.results if value is not None]


def test_a_task_that_closes_all_descriptors_loses_its_process(pool: HybridPool) -> None:
    job = run(pool, lambda x: os.closerange(3, 4096) if x == 20 else nap(0.01), range(40), concurrency=4)
    assert 20 in job.errors
    assert {WorkerLostError} == {type(error) for error in job.errors.values()}
    assert 40 == job.done
    assert [1] == run(pool, abs, [-1]).results


@pytest.mark.parametrize(("count", "task_s"), [(3_000, 0.002), (30_000, 0.0)])
def test_each_task_ends_once_while_processes_are_killed_and_stopped_at_random(
    pool: HybridPool, tmp_path: Path, count: int, task_s: float
) -> None:
    log = tmp_path / "log"
    job = FakeJob(note_to(log, task_s), range(count), concurrency=10)
    thread = eventlet.spawn(pool.run, job)
    rng = random.Random(5)
    killed = 0
    while not thread.dead and killed < 30:
        eventlet.sleep(rng.uniform(0.01, 0.08))
        if pool.pids and not thread.dead:
            with contextlib.suppress(ProcessLookupError):  # dead, and the pool does not know yet
                pid = rng.choice(pool.pids)
                os.kill(pid, signal.SIGSTOP)
                eventlet.sleep(rng.uniform(0, 0.02))
                os.kill(pid, rng.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGCONT]))
                os.kill(pid, signal.SIGCONT)
                killed += 1
    thread.wait()
    assert killed > 2
    assert count == job.done == job.pulled
    assert_each_once(job, log, count)
    if task_s:
        assert len(job.errors) <= killed * 10
    wait_until(lambda: len(pool.pids) == 2)
