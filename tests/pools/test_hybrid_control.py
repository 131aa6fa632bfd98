"""The hybrid pool under control: limits of time, single tasks asked about or ended, and runs that are cancelled."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest
from processes_kit import FakeJob, kill, run
from tasks import compute, nap, note_to
from waiting import wait_until

from greenlab.errors import TaskTimeoutError
from greenlab.hub import eventlet

if TYPE_CHECKING:
    from pathlib import Path

    from greenlab.pools.hybrid import HybridPool

pytestmark = pytest.mark.usefixtures("nothing_of_processes_left", "time_limit")


@pytest.fixture
def pool(hybrid_pool: HybridPool) -> HybridPool:
    return hybrid_pool


# --- limits, kills and questions ---------------------------------------------------------------------------


def test_a_task_that_computes_is_stopped_at_its_limit_and_no_other(pool: HybridPool) -> None:
    pool.start(FakeJob(abs, []))
    before = pool.pids

    def task(x: Any) -> Any:
        compute(60) if x == 3 else nap(0.5)
        return x

    job = run(pool, task, range(8), timeout_s=1.0)
    assert {3: TaskTimeoutError} == {i: type(error) for i, error in job.errors.items()}
    assert "longer than its timeout of 1 s" in str(job.errors[3])
    assert [0, 1, 2, None, 4, 5, 6, 7] == job.results
    assert before == pool.pids


def test_a_limit_is_of_each_task_and_not_of_the_jobs_beside_it(pool: HybridPool) -> None:
    unlimited = eventlet.spawn(run, pool, compute, [0.4] * 4, concurrency=2)
    assert {} == run(pool, nap, [0.02] * 40, timeout_s=5.0).errors
    limited = run(pool, compute, [60, 60], timeout_s=0.1, concurrency=2)
    assert [TaskTimeoutError] * 2 == [type(limited.errors[i]) for i in range(2)]
    assert {} == unlimited.wait().errors


def test_of_a_process_that_does_not_answer_is_told_what_it_holds(pool: HybridPool) -> None:
    job = FakeJob(nap, [60] * 4, concurrency=4)
    thread = eventlet.spawn(pool.run, job)
    wait_until(lambda: pool.count(job) == 4)
    stopped = pool.pids[0]
    os.kill(stopped, signal.SIGSTOP)
    ticks = []

    def tick() -> None:
        while True:
            ticks.append(1)
            eventlet.sleep(0.01)

    ticker = eventlet.spawn(tick)
    held = pool.held(job)
    ticker.kill()
    os.kill(stopped, signal.SIGCONT)
    kill(thread)
    assert [None, None] == [one.where for one in held if one.worker == stopped]
    assert all(one.where for one in held if one.worker != stopped)
    assert [0, 1, 2, 3] == sorted(one.index for one in held)
    assert len(ticks) > 3


# --- cancelling --------------------------------------------------------------------------------------------


def test_a_cancelled_run_stops_its_tasks_and_spares_the_processes(pool: HybridPool, tmp_path: Path) -> None:
    def tell(x: Any) -> None:
        try:
            time.sleep(60)
        finally:
            (tmp_path / str(x)).touch()

    job = FakeJob(tell, range(100))
    thread = eventlet.spawn(pool.run, job)
    wait_until(lambda: pool.count(job) == 8)
    before = pool.pids
    kill(thread)
    assert 8 == len(list(tmp_path.iterdir()))
    assert 0 == pool.in_flight
    assert before == pool.pids
    assert [1, 2] == run(pool, abs, [-1, -2]).results
    assert 0 == pool.in_flight


def test_a_process_that_computes_is_replaced_when_its_run_is_cancelled(pool: HybridPool) -> None:
    job = FakeJob(lambda x: compute(60) if x == 0 else nap(60), range(4), concurrency=4)
    thread = eventlet.spawn(pool.run, job)
    wait_until(lambda: pool.count(job) == 3)  # behind the one that computes nothing begins
    before = pool.pids
    kill(thread)
    assert 1 == len(set(before) - set(pool.pids))
    assert [1, 2] == run(pool, abs, [-1, -2]).results
    assert 0 == pool.in_flight
    wait_until(lambda: len(pool.pids) == 2)


def test_a_process_with_tasks_of_others_is_given_longer(pool: HybridPool) -> None:
    other = FakeJob(nap, [0.05] * 44, concurrency=2)
    runner = eventlet.spawn(pool.run, other)
    wait_until(lambda: other.done)
    before = pool.pids
    job = FakeJob(compute, [0.8] * 2, concurrency=2)  # longer than the grace of a process of its own
    thread = eventlet.spawn(pool.run, job)
    wait_until(lambda: pool.count(job) == 2)
    kill(thread)
    runner.wait()
    assert ({}, 44) == (other.errors, other.done)
    assert before == pool.pids


def test_tasks_that_refuse_to_die_end_with_their_process(pool: HybridPool) -> None:
    def stay(_: Any) -> None:
        while True:
            with contextlib.suppress(BaseException):
                time.sleep(60)

    job = FakeJob(stay, range(2), concurrency=2)
    thread = eventlet.spawn(pool.run, job)
    wait_until(lambda: pool.count(job) == 2)
    before = pool.pids
    kill(thread)
    assert not set(before) & set(pool.pids)
    assert [1] == run(pool, abs, [-1]).results


def test_a_run_may_be_killed_at_any_moment_and_nothing_of_it_goes_on(pool: HybridPool, tmp_path: Path) -> None:
    log = tmp_path / "log"
    rng = random.Random(11)
    pool.start(FakeJob(abs, []))
    for _ in range(50):
        job = FakeJob(note_to(log, 0.003), range(100_000), concurrency=20)
        thread = eventlet.spawn(pool.run, job)
        eventlet.sleep(rng.uniform(0, 0.06))
        kill(thread)
        assert 0 == pool.in_flight
        size = log.stat().st_size if log.exists() else 0
        assert {} == job.errors
    eventlet.sleep(0.05)
    assert size == log.stat().st_size
    assert list(range(50)) == run(pool, abs, range(50)).results
    assert 2 == len(pool.pids)
