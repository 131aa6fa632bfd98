"""The prefork pool: what dies, and what that costs."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from processes_kit import FakeJob, assert_each_once, count_turns, kill, run, run_script, server_pid
from tasks import note_to
from waiting import wait_until

from greenlab.errors import (
    GreenlabError,
    WorkerLostError,
)
from greenlab.hub import eventlet
from greenlab.pools.prefork import PreforkPool
from greenlab.pools.prefork import pool as prefork_module

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.usefixtures("nothing_of_processes_left", "time_limit")


@pytest.fixture
def pool(prefork_pool: PreforkPool) -> PreforkPool:
    return prefork_pool


def test_a_worker_that_exits_loses_the_task_it_held_and_no_other(pool: PreforkPool) -> None:
    before = pool.pids
    job = run(pool, lambda x: os._exit(7) if x == 500 else x, range(1_000))
    assert [500] == list(job.errors)
    assert WorkerLostError is type(job.errors[500])
    assert (7, None) == (job.errors[500].exitcode, job.errors[500].signal)
    assert job.errors[500].pid in before
    assert job.errors[500].pid not in pool.pids
    assert 999 == len(job.values)


@pytest.mark.parametrize(("count", "task_s"), [(1_000, 0.002), (20_000, 0.0)])
def test_each_task_ends_once_while_workers_are_killed_at_random(
    pool: PreforkPool, tmp_path: Path, count: int, task_s: float
) -> None:
    log = tmp_path / "log"
    job = FakeJob(note_to(log, task_s), range(count))
    thread = eventlet.spawn(pool.run, job)
    rng = random.Random(5)
    killed = 0
    while not thread.dead and killed < 40:
        eventlet.sleep(rng.uniform(0.001, 0.02))
        if pool.pids and not thread.dead:
            killed += send(signal.SIGKILL, rng.choice(pool.pids))
    thread.wait()
    assert killed > 2
    assert len(job.errors) <= killed
    assert_each_once(job, log, count)
    wait_until(lambda: len(pool.pids) == 2)


def send(signum: int, pid: int) -> bool:
    """Send a signal to a worker, which may be dead without the pool knowing yet."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signum)
        return True
    return False


def test_ten_thousand_tasks_end_once_while_workers_are_killed_and_stopped_at_random(tmp_path: Path) -> None:
    log = tmp_path / "log"
    rng = random.Random(7)
    job = FakeJob(note_to(log, 0.0003), range(10_000))
    stopped: set[int] = set()
    told = {signal.SIGKILL: 0, signal.SIGSTOP: 0, signal.SIGCONT: 0}
    with PreforkPool(4) as pool:
        thread = eventlet.spawn(pool.run, job)
        while not thread.dead:
            eventlet.sleep(rng.uniform(0.001, 0.03))
            stopped &= set(pool.pids)
            # One always goes on, so that there is somebody to do the work.
            free = [pid for pid in pool.pids if pid not in stopped][1:]
            what = rng.choice([signal.SIGKILL, signal.SIGSTOP, signal.SIGSTOP, signal.SIGCONT, signal.SIGCONT])
            if what == signal.SIGCONT or len(job.values) + len(job.errors) >= 9_900:
                for pid in stopped if what != signal.SIGCONT else list(stopped)[:1]:
                    told[signal.SIGCONT] += send(signal.SIGCONT, pid)
                    stopped = stopped - {pid}
            elif free:
                pid = rng.choice(free)
                told[what] += send(what, pid)
                if what == signal.SIGSTOP:
                    stopped.add(pid)
        thread.wait()
        assert min(told.values()) > 5
        assert len(job.errors) <= told[signal.SIGKILL]
        assert_each_once(job, log, 10_000)


# --- slow and stopped --------------------------------------------------------------------------------------


def test_tiny_tasks_do_not_wait_behind_one_that_turns_out_slow(pool: PreforkPool, tmp_path: Path) -> None:
    release = str(tmp_path / "release")

    def task(x: Any) -> Any:
        while x == 1_000 and not os.path.exists(release):  # noqa: PTH110
            time.sleep(0.001)
        return x

    job = FakeJob(task, range(3_000))
    thread = eventlet.spawn(pool.run, job)
    wait_until(lambda: len(job.values) == 2_999)
    assert 1_000 not in job.values
    Path(release).touch()
    thread.wait()
    assert 3_000 == len(job.values)


def test_a_stopped_worker_holds_the_one_task_that_it_runs(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with PreforkPool(3) as pool:
        job = FakeJob(note_to(log), range(20_000))
        thread = eventlet.spawn(pool.run, job)
        wait_until(lambda: len(job.values) > 2_000)
        halted = pool.pids[:2]
        for pid in halted:
            os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: len(job.values) >= 20_000 - 2)
        for pid in halted:
            os.kill(pid, signal.SIGCONT)
        thread.wait()
        assert (20_000, {}) == (len(job.values), job.errors)
        assert_each_once(job, log, 20_000)
        assert 100 == len(run(pool, abs, range(100)).values)


def test_a_worker_that_is_stopped_while_idle_holds_nothing(pool: PreforkPool) -> None:
    stopped = pool.pids[0]
    os.kill(stopped, signal.SIGSTOP)
    job = run(pool, lambda x: os.getpid(), range(5_000))
    assert 5_000 == len(job.values)
    assert {pool.pids[1]} == set(job.values.values())
    os.kill(stopped, signal.SIGCONT)
    wait_until(lambda: stopped in run(pool, lambda x: os.getpid(), range(500)).values.values())


def test_a_lone_slow_task_wakes_nobody(pool: PreforkPool) -> None:
    job = FakeJob(lambda x: time.sleep(0.6), range(2))
    thread = eventlet.spawn(pool.run, job)
    wait_until(lambda: pool.in_flight == 2)
    eventlet.sleep(0.1)
    turns = count_turns(0.3)
    thread.wait()
    assert turns < 10  # a poll every 50 ms would be 12


# --- what tasks do to their process ------------------------------------------------------------------------


def test_a_task_that_closes_all_descriptors_fails_alone(pool: PreforkPool) -> None:
    job = run(pool, lambda x: os.closerange(3, 10_000) if x == 3 else x, range(10))
    assert {3: WorkerLostError} == {index: type(error) for index, error in job.errors.items()}
    assert 9 == len(job.values)
    wait_until(lambda: len(pool.pids) == 2)
    assert 10 == len(run(pool, abs, range(10)).values)


def test_a_task_that_floods_the_real_stdout_harms_nobody() -> None:
    run_script("""
        import os
        from processes_kit import FakeJob
        from greenlab.pools.prefork import PreforkPool
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, 1)
        with PreforkPool(2) as pool:
            job = FakeJob(lambda x: os.write(1, b"x" * 3_000_000), range(4))
            pool.run(job)
        assert {3_000_000} == set(job.values.values()), job.errors
    """)


# --- deaths of others --------------------------------------------------------------------------------------


def test_workers_that_a_dying_fork_server_was_asked_for_come_from_the_next(pool: PreforkPool) -> None:
    os.kill(server_pid(pool), signal.SIGSTOP)
    growing = eventlet.spawn(pool.resize, 4)
    wait_until(lambda: pool._supervisor.asked)
    os.kill(server_pid(pool), signal.SIGKILL)
    growing.wait()
    wait_until(lambda: len(pool.pids) == 4)
    assert len(run(pool, abs, range(9)).values) == 9


def test_workers_that_cannot_live_end_the_run(pool: PreforkPool, monkeypatch: pytest.MonkeyPatch) -> None:
    job = FakeJob(lambda x: time.sleep(0.05), range(1_000))
    thread = eventlet.spawn(pool.run, job)
    wait_until(lambda: job.values)
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    os.kill(server_pid(pool), signal.SIGKILL)
    with pytest.raises(GreenlabError, match="worker process"):
        thread.wait()
    with pytest.raises(GreenlabError, match="worker process"):
        pool.run(FakeJob(abs, [1]))
    monkeypatch.undo()
    assert 1 == len(run(pool, abs, [1]).values)


def test_a_killed_run_stops_its_tasks_and_leaves_the_pool_usable(pool: PreforkPool, tmp_path: Path) -> None:
    log = tmp_path / "log"

    def beat(_: Any, log: str = str(log)) -> Any:
        while True:
            with open(log, "a") as file:  # noqa: PTH123
                file.write("x")
            time.sleep(0.001)

    thread = eventlet.spawn(pool.run, FakeJob(beat, range(10)))
    wait_until(log.exists)
    kill(thread)
    size = log.stat().st_size
    assert 3 == len(run(pool, abs, range(3)).values)
    eventlet.sleep(0.05)
    assert size == log.stat().st_size


def test_any_exception_thrown_into_a_run_comes_out(pool: PreforkPool) -> None:
    with pytest.raises(eventlet.Timeout), eventlet.Timeout(0.1):
        pool.run(FakeJob(lambda x: time.sleep(600), range(10)))
    assert 3 == len(run(pool, abs, range(3)).values)


def test_killing_one_run_does_no_harm_to_another() -> None:
    with PreforkPool(1) as pool:
        doomed = FakeJob(lambda x: None, iter(int, 1))
        other = FakeJob(lambda x: x, range(20_000))
        threads = [eventlet.spawn(pool.run, job) for job in (doomed, other)]
        wait_until(lambda: doomed.values and other.values)
        kill(threads[0])
        threads[1].wait()
    assert 20_000 == len(other.values) + len(other.errors)
    assert {} == other.errors


def test_a_worker_kept_for_a_run_that_is_killed_goes_to_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that the worker has ends while the killed run is still being wound up: nothing more will wake the other."""
    hold, late = tmp_path / "hold", eventlet.event.Event()
    hold.touch()

    def wait(x: Any) -> Any:
        while os.path.exists(hold):  # noqa: PTH110
            time.sleep(0.001)
        return x

    def items() -> Iterator[int]:
        yield late.wait()

    with PreforkPool(1) as pool:
        doomed, other = FakeJob(wait, items()), FakeJob(wait, range(100))
        threads = [eventlet.spawn(pool.run, doomed)]
        eventlet.sleep(0)
        threads.append(eventlet.spawn(pool.run, other))
        wait_until(lambda: pool.in_flight)
        late.send(0)
        wait_until(lambda: next(iter(pool._jobs)).hungry)  # it was first, and has an item that finds no room
        monkeypatch.setattr(pool._supervisor, "await_end", lambda _: wait_until(lambda: other.values))
        killer = eventlet.spawn(kill, threads[0])
        eventlet.sleep(0)
        hold.unlink()
        killer.wait()
        threads[1].wait()
    assert (0, 100, {}) == (doomed.done, len(other.values), other.errors)


@pytest.mark.parametrize("goes_on", [True, False], ids=["goes on", "stands still"])
def test_a_task_that_was_about_to_begin_as_its_run_was_cancelled_does_not_outlive_it(
    tmp_path: Path, goes_on: bool
) -> None:
    there, go, began = tmp_path / "there", tmp_path / "go", tmp_path / "began"

    def stand_before_the_next_task(_: int) -> None:
        worker: Any = sys.modules["greenlab.pools.prefork.worker"]
        clock: Callable[[], float] = worker.perf_counter

        def stand() -> float:  # the worker looks at the clock after it looked whether to skip a task
            if not there.exists():
                there.touch()
                while not go.exists():
                    time.sleep(0.001)
            return clock()

        worker.perf_counter = stand

    def task(_: int) -> None:
        began.touch()
        time.sleep(600)

    with PreforkPool(1) as pool:
        run(pool, stand_before_the_next_task, range(1))
        (link,) = pool._supervisor.processes
        job = FakeJob(task, range(1))
        thread = eventlet.spawn(pool.run, job)
        wait_until(there.exists)
        killer = eventlet.spawn(kill, thread)
        wait_until(lambda: any(link._page.skip))
        if goes_on:
            go.touch()
        killer.wait()
        assert link.is_dead
        assert 0 == pool.count(job)
        go.touch()
        assert [0, 1] == list(run(pool, abs, range(2)).values.values())
        assert goes_on or not began.exists()


@pytest.mark.parametrize("closed", [False, True], ids=["worker dies", "pool is closed"])
def test_a_run_that_is_being_cancelled_bears_the_end_of_its_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: bool
) -> None:
    monkeypatch.setattr(prefork_module, "_SPARED_S", 10.0)
    hold = tmp_path / "hold"
    hold.touch()

    def wait(x: Any) -> Any:
        while os.path.exists(hold):  # noqa: PTH110
            time.sleep(0.001)
        return x

    with PreforkPool(1) as pool:
        doomed, other = FakeJob(wait, range(1)), FakeJob(wait, range(100))
        threads = [eventlet.spawn(pool.run, doomed)]
        wait_until(lambda: pool.in_flight)
        threads.append(eventlet.spawn(pool.run, other))
        wait_until(lambda: len(pool._jobs) == 2)
        for active in pool._jobs:
            active.task_s = 0.001  # so short a task may wait behind another
        pool._dispatcher.wake()
        (link,) = pool._supervisor.processes
        wait_until(lambda: link.is_shared)
        killer = eventlet.spawn(kill, threads[0])
        eventlet.sleep(0)  # for a moment the task may still end by itself, for the sake of those behind it
        if closed:
            pool.close()
        else:
            hold.unlink()
            os.kill(link.pid, signal.SIGKILL)
        killer.wait()
        with pytest.raises(GreenlabError, match="closed") if closed else contextlib.nullcontext():
            threads[1].wait()
    assert (0 if closed else 100, {}) == (len(other.values), other.errors)


def held(pool: PreforkPool) -> Iterator[Any]:
    return itertools.chain.from_iterable(link.outstanding.values() for link in pool._supervisor.processes)


def test_tasks_of_a_killed_run_that_wait_behind_another_run_are_skipped(tmp_path: Path) -> None:
    log, blocked, release = (str(tmp_path / name) for name in ("log", "blocked", "release"))

    def note(_: Any) -> Any:
        with open(log, "a") as file:  # noqa: PTH123
            file.write("x")

    def block(x: Any) -> Any:
        if x == 99:
            Path(blocked).touch()
            while not os.path.exists(release):  # noqa: PTH110
                time.sleep(0.001)

    with PreforkPool(1) as pool:
        doomed, other = FakeJob(note, iter(int, 1)), FakeJob(block, range(100))
        threads = [eventlet.spawn(pool.run, job) for job in (doomed, other)]
        wait_until(lambda: Path(blocked).exists() and any(e[0].job is doomed for e in held(pool)))
        kill(threads[0])
        size = Path(log).stat().st_size
        assert any(entry[0].job is doomed for entry in held(pool))
        Path(release).touch()
        threads[1].wait()
        wait_until(lambda: not list(held(pool)))
    assert size == Path(log).stat().st_size
    assert (100, {}) == (len(other.values), other.errors)
