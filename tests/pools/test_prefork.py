"""The prefork pool, apart from what all pools share: tasks and their ends, and the workers."""

from __future__ import annotations

import os
import pickle
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from processes_kit import FakeJob, most_at_once, run, run_script, server_pid
from waiting import wait_until

from greenlab.hub import eventlet
from greenlab.pools.prefork import PreforkPool
from greenlab.pools.processes.serialization import RemoteTaskError, dump_error

pytestmark = pytest.mark.usefixtures("nothing_of_processes_left", "time_limit")


@pytest.fixture
def pool(prefork_pool: PreforkPool) -> PreforkPool:
    return prefork_pool


# --- tasks and their ends ----------------------------------------------------------------------------------


def test_every_task_ends_once_with_its_own_result(pool: PreforkPool) -> None:
    job = run(pool, lambda x: x * x, range(20_000))
    assert {i: i * i for i in range(20_000)} == job.values


def test_endless_recursion_is_an_ordinary_failure(pool: PreforkPool) -> None:
    def recurse(x: Any) -> Any:
        return recurse(x)

    job = run(pool, recurse, [1])
    assert RecursionError is type(job.errors[0])


def test_an_error_that_would_not_survive_is_replaced_where_it_was_raised() -> None:
    class PickyError(Exception):
        def __init__(self, one: int, two: int) -> None:
            super().__init__(f"{one} and {two}")

    pickled, *_ = pickle.loads(dump_error(PickyError(1, 2)).parts[0])
    assert type(pickle.loads(pickled)) is RemoteTaskError


def test_two_runs_share_the_workers(pool: PreforkPool) -> None:
    first = FakeJob(lambda x: time.sleep(0.01), range(200))
    second = FakeJob(lambda x: x, range(200))
    longer = eventlet.spawn(pool.run, first)
    wait_until(lambda: first.values)
    pool.run(second)
    assert 200 == len(second.values)
    assert len(first.values) < 200
    longer.wait()
    assert 200 == len(first.values)


def test_runs_of_slow_tasks_take_turns() -> None:
    with PreforkPool(1) as pool:
        order: list[int] = []
        jobs: list[Any] = [FakeJob(lambda x: time.sleep(0.008), range(12)) for _ in range(2)]
        for name, job in enumerate(jobs):
            job.succeed = lambda *_, name=name: order.append(name)
        for thread in [eventlet.spawn(pool.run, job) for job in jobs]:
            thread.wait()
    assert 24 == len(order)
    assert max(len(list(group)) for group in _groups(order)) <= 3


def _groups(order: Any) -> Any:
    group: list[Any] = []
    for name in order:
        if group and group[-1] != name:
            yield group
            group = []
        group.append(name)
    yield group


def test_slow_tasks_are_pulled_only_as_they_start(pool: PreforkPool) -> None:
    job = run(pool, lambda x: time.sleep(0.01), range(20))
    assert job.most_waiting <= 2


def test_concurrency_bounds_the_workers_of_a_job(pool: PreforkPool) -> None:
    job = run(pool, lambda x: time.sleep(0.005), range(20), concurrency=1)
    assert 20 == len(job.values)
    assert 1 == most_at_once(job.spans.values())


def test_in_flight_counts_one_task_a_worker(pool: PreforkPool) -> None:
    job: Any = FakeJob(lambda x: None, range(5_000))
    seen = set()
    job.succeed = lambda *_: seen.add(pool.in_flight)
    pool.run(job)
    assert 2 in seen
    assert max(seen) <= 2


def test_a_pull_that_waits_holds_back_nothing_that_was_pulled(pool: PreforkPool) -> None:
    job: Any = FakeJob(lambda x: None, range(3_000))
    pull = job.pull

    def slow_pull() -> Any:
        if job.pulled > 1_000 and job.pulled % 100 == 50:
            wait_until(lambda: len(job.values) == job.pulled)
        return pull()

    job.pull = slow_pull
    pool.run(job)
    assert 3_000 == len(job.values)


def test_a_slow_task_holds_back_no_result_of_earlier_ones(tmp_path: Path) -> None:
    release = str(tmp_path / "release")

    def wait(x: Any) -> Any:
        while x == 999 and not os.path.exists(release):  # noqa: PTH110
            time.sleep(0.001)

    job = FakeJob(wait, range(1_000))
    with PreforkPool(1) as pool:
        thread = eventlet.spawn(pool.run, job)
        wait_until(lambda: len(job.values) == 999)
        Path(release).touch()
        thread.wait()
    assert 1_000 == len(job.values)


def test_what_a_job_has_to_repeat_is_pulled_when_the_rest_has_ended(pool: PreforkPool) -> None:
    again: list[Any] = []
    job: Any = FakeJob(lambda x: 1 // x, [0, 1, 2])
    pull, fail = job.pull, job.fail
    job.fail = lambda index, *args: again.append((index, 4)) if len(again) < 1 else fail(index, *args)

    def pull_again() -> Any:
        try:
            return pull()
        except StopIteration:
            if again and again[0] is not None:
                task, again[0] = again[0], None
                return task
            raise

    job.pull = pull_again
    pool.run(job)
    assert {0: 0, 1: 1, 2: 0} == job.values


# --- workers -----------------------------------------------------------------------------------------------


def test_a_worker_has_loaded_neither_eventlet_nor_the_notebook() -> None:
    loaded = run_script("""
        from greenlab.pools.prefork import PreforkPool
        def names(_):
            import sys
            return sorted(sys.modules)
        class Job:
            concurrency, timeout_s, max_tasks, max_memory, func = 1, None, None, None, staticmethod(names)
            left = [(0, None)]
            def pull(self):
                if not self.left: raise StopIteration
                return self.left.pop()
            def succeed(self, i, s, e, value): print(*value)
            def fail(self, i, s, e, error): raise error
        with PreforkPool(1) as pool:
            pool.run(Job())
    """).split()
    assert "greenlab.pools.prefork.worker" in loaded
    for name in ("eventlet", "greenlet", "asyncio", "IPython", "matplotlib", "numpy", "gevent"):
        assert name not in loaded


def test_a_worker_lets_go_of_a_job_that_has_ended(pool: PreforkPool, tmp_path: Path) -> None:
    here, log = os.getpid(), tmp_path / "log"

    class InFlight:
        def __del__(self) -> None:
            if os.getpid() != here:
                log.touch()

    held = InFlight()
    run(pool, lambda x: (x, held)[0], range(3))
    wait_until(log.exists)


def test_closing_twice_and_starting_again(pool: PreforkPool) -> None:
    pids = pool.pids
    pool.close()
    pool.close()
    assert () == pool.pids
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert 3 == len(run(pool, abs, range(3)).values)


def test_a_pool_that_was_never_started_closes() -> None:
    PreforkPool(2).close()


def test_a_broken_pool_closes(pool: PreforkPool) -> None:
    for pid in (*pool.pids, server_pid(pool)):
        os.kill(pid, signal.SIGKILL)
    pool.close()
