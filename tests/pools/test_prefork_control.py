"""The prefork pool under control: its size, limits of time, tasks and memory, and single tasks asked about or ended."""

from __future__ import annotations

import collections
import contextlib
import itertools
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from processes_kit import MIB, FakeJob, kill, most_at_once, run
from waiting import wait_until

from greenlab.errors import TaskTimeoutError, UsageError
from greenlab.hub import eventlet
from greenlab.pools.prefork import PreforkPool

if TYPE_CHECKING:
    from collections.abc import Iterable

pytestmark = pytest.mark.usefixtures("nothing_of_processes_left", "time_limit")


@pytest.fixture
def pool(prefork_pool: PreforkPool) -> PreforkPool:
    return prefork_pool


def compute_in_c() -> None:
    """Never return, nor look at signals."""
    collections.deque(itertools.repeat(None), maxlen=0)


# --- limits of time ----------------------------------------------------------------------------------------


def test_a_task_over_its_limit_is_told_so_inside_and_its_worker_lives_on(pool: PreforkPool, tmp_path: Path) -> None:
    before, cleaned = pool.pids, tmp_path / "cleaned"

    def task(x: Any) -> Any:
        try:
            time.sleep(600 if x == 3 else 0.001)
        finally:
            if x == 3:
                cleaned.touch()

    job = run(pool, task, range(10), timeout_s=0.2)
    assert {3: TaskTimeoutError} == {index: type(error) for index, error in job.errors.items()}
    assert "the task ran longer than its timeout of 0.2 s" == str(job.errors[3])
    assert "time.sleep(600 if x == 3" in str(job.errors[3].__cause__)
    assert 9 == len(job.values)
    assert cleaned.exists()
    assert before == pool.pids


def _swallow() -> None:
    while True:
        with contextlib.suppress(Exception):
            time.sleep(600)


def _handle_the_signal() -> None:
    signal.signal(signal.SIGUSR1, lambda *_: None)
    time.sleep(600)


def _die_of_the_signal() -> None:
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    time.sleep(600)


def _block_the_signal() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    time.sleep(600)


@pytest.mark.parametrize("refuse", [compute_in_c, _swallow, _handle_the_signal, _die_of_the_signal, _block_the_signal])
def test_a_task_that_cannot_be_told_is_ended_with_its_worker(pool: PreforkPool, refuse: Any) -> None:
    before = pool.pids
    job = run(pool, lambda x: refuse() if x == 3 else x, range(10), timeout_s=0.1)
    assert {3: TaskTimeoutError} == {index: type(error) for index, error in job.errors.items()}
    assert 9 == len(job.values)
    wait_until(lambda: len(pool.pids) == 2)
    assert 1 == len(set(before) - set(pool.pids))


def test_a_task_may_end_well_after_it_was_told(pool: PreforkPool) -> None:
    def task(_: Any) -> Any:
        try:
            time.sleep(600)
        except TaskTimeoutError:
            return "what there was"

    assert {0: "what there was"} == run(pool, task, [0], timeout_s=0.1).values


def test_a_limit_is_of_each_task_not_of_all(pool: PreforkPool) -> None:
    job = run(pool, lambda x: time.sleep(0.02), range(40), timeout_s=0.3)
    assert 40 == len(job.values)


def test_a_limit_hits_its_own_task_only_however_close_to_the_end(pool: PreforkPool) -> None:
    before = pool.pids

    def task(x: Any) -> Any:
        end_s = time.perf_counter() + 0.01 + (x % 20 - 8) * 0.0001
        while time.perf_counter() < end_s:
            pass
        if x % 3 == 0:
            raise ValueError(x)
        return x

    job = run(pool, task, range(240), timeout_s=0.01)
    assert 240 == len(job.values) + len(job.errors)
    assert {ValueError, TaskTimeoutError} == set(map(type, job.errors.values()))
    assert before == pool.pids


def test_a_limit_that_strikes_while_a_task_prints_leaves_every_frame_whole(pool: PreforkPool) -> None:
    before = pool.pids

    def flood(x: Any) -> Any:
        while True:
            print(x, "." * 60_000)

    job = run(pool, flood, range(12), timeout_s=0.05)
    assert [TaskTimeoutError] * 12 == [type(job.errors[i]) for i in range(12)]
    assert {0} == {line.count(".") % 60_000 for line in job.text().splitlines()}  # a line's end may be missing
    assert before == pool.pids


def test_loading_the_function_is_not_the_tasks_time(pool: PreforkPool) -> None:
    class Heavy:
        def __reduce__(self) -> Any:
            return time.sleep, (0.5,)

    heavy = Heavy()
    job = run(pool, lambda x: (heavy, x)[1], range(4), timeout_s=0.2)
    assert ({i: i for i in range(4)}, {}) == (job.values, job.errors)


# --- recycling ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("most", "count"), [(1, 12), (7, 100), (100, 2_000)])
def test_a_worker_runs_no_more_tasks_than_it_may_and_nothing_is_lost(pool: PreforkPool, most: int, count: int) -> None:
    job = run(pool, lambda x: (x, os.getpid()), range(count), max_tasks=most)
    assert [*range(count)] == sorted(x for x, _ in job.values.values())
    each = collections.Counter(pid for _, pid in job.values.values())
    assert most == max(each.values())
    assert len(each) >= count / most


def test_tasks_of_earlier_runs_count_as_well(pool: PreforkPool) -> None:
    first = run(pool, lambda x: os.getpid(), range(100))
    job = run(pool, lambda x: os.getpid(), range(100), max_tasks=60)
    each = collections.Counter([*first.values.values(), *job.values.values()])
    assert len(each) > 2
    assert 60 >= max(each[pid] for pid in job.values.values())


def test_replacements_do_not_widen_the_pool(pool: PreforkPool) -> None:
    job = run(pool, lambda x: time.sleep(0.01), range(30), max_tasks=1)
    assert 30 == len(job.values)
    assert 2 == most_at_once(job.spans.values())


def test_a_worker_above_its_memory_is_replaced_and_nothing_is_lost(pool: PreforkPool) -> None:
    kept: list[bytes] = []

    def grow(x: Any) -> Any:
        if x < 12:
            kept.append(b"x" * (40 * MIB))
            time.sleep(0.01)
        return os.getpid()

    job = run(pool, grow, range(500), max_memory=100 * MIB)
    assert 500 == len(job.values)
    assert 3 >= max(collections.Counter(job.values[i] for i in range(12)).values())
    assert len({job.values[i] for i in range(12)}) > 2


def test_memory_below_the_limit_costs_no_worker(pool: PreforkPool) -> None:
    before = pool.pids
    run(pool, abs, range(100), max_memory=1_000 * MIB)
    assert before == pool.pids


# --- size --------------------------------------------------------------------------------------------------


def test_resizing_adds_workers_and_lets_idle_ones_go(pool: PreforkPool) -> None:
    pool.resize(4)
    assert (4, 4) == (pool.workers, len(pool.pids))
    pool.resize(1)
    wait_until(lambda: len(pool.pids) == 1)
    assert 50 == len(run(pool, abs, range(50)).values)


def test_a_worker_that_dies_makes_no_other_leave() -> None:
    with PreforkPool(4) as pool:
        before = pool.pids
        os.kill(before[0], signal.SIGKILL)
        wait_until(lambda: before[0] not in pool.pids and len(pool.pids) == 4)
        assert set(before[1:]) < set(pool.pids)
        eventlet.sleep(0.05)
        assert set(before[1:]) < set(pool.pids)


def test_a_worker_that_must_leave_finishes_what_it_holds(pool: PreforkPool) -> None:
    job = FakeJob(lambda x: time.sleep(0.002), range(200))
    thread = eventlet.spawn(pool.run, job)
    wait_until(lambda: len(job.values) > 20)
    pool.resize(1)
    thread.wait()
    assert 200 == len(job.values)
    wait_until(lambda: len(pool.pids) == 1)


@pytest.mark.parametrize("workers", [0, -1, 1.5, "2"])
def test_a_number_of_workers_that_is_none_is_refused(workers: Any) -> None:
    with pytest.raises(UsageError, match="workers"):
        PreforkPool(workers)


def test_a_pool_without_a_size_has_what_the_present_jobs_want() -> None:
    with contextlib.closing(PreforkPool()) as pool:
        wide = FakeJob(lambda x: time.sleep(0.002), iter(int, 1), concurrency=3)
        thread = eventlet.spawn(pool.run, wide)
        wait_until(lambda: pool.count(wide) == 3)
        narrow = run_beside(pool, FakeJob(lambda x: time.sleep(0.01), range(20), concurrency=1))
        assert (3, 1) == (len(pool.pids), narrow)
        kill(thread)
        pool.start(FakeJob(abs, [], concurrency=2))
        wait_until(lambda: len(pool.pids) == 2)


def test_a_job_of_long_tasks_has_its_turns_beside_one_of_short_tasks_that_never_ends() -> None:
    with contextlib.closing(PreforkPool(2)) as pool:
        short = FakeJob(lambda x: time.sleep(0.001), iter(int, 1))
        thread = eventlet.spawn(pool.run, short)
        wait_until(lambda: len(short.values) > 100)
        before = len(short.values)
        long = run(pool, lambda x: time.sleep(0.02), range(20))
        # Two workers that take turns do as much of one job as of the other: some twenty times as many short tasks.
        beside = list(short.spans.values())[before:]
        assert 1 / 4 < time_in(beside) / time_in(long.spans.values()) < 5
        kill(thread)


def time_in(spans: Iterable[tuple[float, float]]) -> float:
    return sum(end_s - start_s for start_s, end_s in spans)


def run_beside(pool: PreforkPool, job: FakeJob) -> int:
    """Run a job; return how many of its tasks were seen in flight at the most."""
    thread, most = eventlet.spawn(pool.run, job), 0
    while not thread.dead:
        most = max(most, pool.count(job))
        eventlet.sleep(0.001)
    return most


def test_the_concurrency_of_a_job_can_be_changed_while_it_runs() -> None:
    with contextlib.closing(PreforkPool()) as pool:
        job = FakeJob(lambda x: time.sleep(0.005), iter(int, 1), concurrency=1)
        thread = eventlet.spawn(pool.run, job)
        for concurrency in (1, 4, 2):
            job.concurrency = concurrency
            pool.adjust(job)
            wait_until(lambda: len(pool.pids) == concurrency == pool.count(job))  # noqa: B023
        kill(thread)


# --- one task ----------------------------------------------------------------------------------------------


def test_held_goes_on_without_an_answer(pool: PreforkPool) -> None:
    job = FakeJob(lambda x: compute_in_c() if x else os.kill(os.getpid(), signal.SIGSTOP), range(2))
    thread = eventlet.spawn(pool.run, job)
    wait_until(lambda: pool.count(job) == 2)
    began_s = time.perf_counter()
    assert {(0, None), (1, None)} == {(task.index, task.where) for task in pool.held(job)}
    assert time.perf_counter() - began_s < 5
    kill(thread)


def test_killing_one_task_costs_no_other(pool: PreforkPool, tmp_path: Path) -> None:
    release = str(tmp_path / "release")

    def task(x: Any) -> Any:
        while x in (100, 200) and not os.path.exists(release):  # noqa: PTH110
            time.sleep(0.001)
        return x

    job = FakeJob(task, range(1_000))
    thread = eventlet.spawn(pool.run, job)
    wait_until(lambda: {100, 200} == {task.index for task in pool.held(job)})
    assert not pool.kill(job, 999, LookupError("not begun"))
    assert pool.kill(job, 100, LookupError("enough"))
    wait_until(lambda: 100 in job.errors)
    wait_until(lambda: len(job.values) == 998)
    Path(release).touch()
    thread.wait()
    assert {100: "enough"} == {index: str(error) for index, error in job.errors.items()}
    assert LookupError is type(job.errors[100])
    assert 999 == len(job.values)


def test_a_worker_that_has_turned_to_the_next_task_is_not_killed_for_the_one_before(pool: PreforkPool) -> None:
    job = FakeJob(time.sleep, [60.0])
    thread = eventlet.spawn(pool.run, job)
    wait_until(lambda: pool.held(job))
    (handle,) = [one for one in pool._supervisor.processes if one.running]
    number = handle._page.taken[0]
    handle._page.taken[0] = number + 1  # as the worker writes before it looks whether the next one was recalled
    assert not pool.kill(job, 0, LookupError("enough"))
    handle._page.taken[0] = number
    assert pool.kill(job, 0, LookupError("enough"))
    thread.wait()
    assert {0: "enough"} == {index: str(error) for index, error in job.errors.items()}


def test_killing_tasks_that_just_end_hits_no_other_task(pool: PreforkPool) -> None:
    job = FakeJob(lambda x: time.sleep(0.0005), range(1_000))
    thread = eventlet.spawn(pool.run, job)
    told = set()
    while not thread.dead:
        for task in (one for link in pool._supervisor.processes if (one := link.running)):
            index = task[1][1]
            if pool.kill(job, index, LookupError(index)):
                told.add(index)
        eventlet.sleep(0.01)
    thread.wait()
    assert 1_000 == len(job.values) + len(job.errors)
    assert {LookupError} == set(map(type, job.errors.values()))
    assert told >= set(job.errors)
