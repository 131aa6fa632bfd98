"""The prefork pool: what dies, and what that costs."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import prefork_kit
import psutil
import pytest
from prefork_kit import FakeJob, held, kill, run, server_pid, until

from greenlab.errors import (
    GreenlabError,
    WorkerLostError,
)
from greenlab.hub import eventlet
from greenlab.pools.forkserver import ForkServer
from greenlab.pools.prefork import PreforkPool

# Fixtures, the last two for every test.
pool, time_limit, nothing_of_processes_left = (
    prefork_kit.pool,
    prefork_kit.time_limit,
    prefork_kit.nothing_of_processes_left,
)


def test_a_worker_that_exits_loses_the_task_it_held_and_no_other(pool: PreforkPool) -> None:
    before = pool.pids
    job = run(pool, lambda x: os._exit(7) if x == 500 else x, range(1_000))
    assert [500] == list(job.errors)
    assert WorkerLostError is type(job.errors[500])
    assert (7, None) == (job.errors[500].exitcode, job.errors[500].signal)
    assert job.errors[500].pid in before
    assert job.errors[500].pid not in pool.pids
    assert 999 == len(job.values)


def test_a_worker_that_crashes_tells_the_signal(pool: PreforkPool) -> None:
    job = run(pool, lambda x: os.kill(os.getpid(), signal.SIGSEGV), [1])
    assert signal.SIGSEGV == job.errors[0].signal


def test_an_item_that_crashes_the_worker_as_it_is_unpickled_fails_alone(pool: PreforkPool) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return os._exit, (9,)

    job = run(pool, lambda x: x, [1, Bomb(), 2])
    assert {0: 1, 2: 2} == job.values
    assert 9 == job.errors[1].exitcode


@pytest.mark.parametrize(("count", "task_s"), [(1_000, 0.002), (20_000, 0.0)])
def test_each_task_ends_once_while_workers_are_killed_at_random(
    pool: PreforkPool, tmp_path: Path, count: int, task_s: float
) -> None:
    log = str(tmp_path / "log")

    def note(x: Any) -> Any:
        with open(log, "a") as file:  # noqa: PTH123
            file.write(f"{x}\n")
        if task_s:
            time.sleep(task_s)
        return x

    job = FakeJob(note, range(count))
    thread = eventlet.spawn(pool.run, job)
    rng = random.Random(5)
    killed = 0
    while not thread.dead and killed < 40:
        eventlet.sleep(rng.uniform(0.001, 0.02))
        if pool.pids and not thread.dead:
            with contextlib.suppress(ProcessLookupError):  # dead, and the pool does not know yet
                os.kill(rng.choice(pool.pids), signal.SIGKILL)
                killed += 1
    thread.wait()
    ran = [int(line) for line in Path(log).read_text().split()]
    assert killed > 2
    assert len(ran) == len(set(ran))
    assert set(range(count)) == set(job.values) | set(job.errors)
    assert {WorkerLostError} >= set(map(type, job.errors.values()))
    assert len(job.errors) <= killed
    until(lambda: len(pool.pids) == 2)


def test_a_task_of_an_idle_worker_that_was_killed_is_not_lost(pool: PreforkPool) -> None:
    for _ in range(20):
        os.kill(pool.pids[0], signal.SIGKILL)
        assert 4 == len(run(pool, lambda x: x, range(4)).values)
        until(lambda: len(pool.pids) == 2)


def test_the_pool_outlives_its_fork_server(pool: PreforkPool) -> None:
    job = FakeJob(lambda x: time.sleep(0.002), range(300))
    thread = eventlet.spawn(pool.run, job)
    until(lambda: job.values)
    os.kill(server_pid(pool), signal.SIGKILL)
    thread.wait()
    assert 300 == len(job.values) + len(job.errors)
    assert len(job.errors) <= 2
    assert 3 == len(run(pool, abs, range(3)).values)


def test_workers_that_a_dying_fork_server_was_asked_for_come_from_the_next(pool: PreforkPool) -> None:
    os.kill(server_pid(pool), signal.SIGSTOP)
    growing = eventlet.spawn(pool.resize, 4)
    until(lambda: pool._staff.asked)
    os.kill(server_pid(pool), signal.SIGKILL)
    growing.wait()
    until(lambda: len(pool.pids) == 4)
    assert len(run(pool, abs, range(9)).values) == 9


def test_workers_that_cannot_live_end_the_run(pool: PreforkPool, monkeypatch: pytest.MonkeyPatch) -> None:
    job = FakeJob(lambda x: time.sleep(0.05), range(1_000))
    thread = eventlet.spawn(pool.run, job)
    until(lambda: job.values)
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    os.kill(server_pid(pool), signal.SIGKILL)
    with pytest.raises(GreenlabError, match="worker process"):
        thread.wait()
    with pytest.raises(GreenlabError, match="worker process"):
        pool.run(FakeJob(abs, [1]))
    monkeypatch.undo()
    assert 1 == len(run(pool, abs, [1]).values)


def test_workers_that_die_as_they_start_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    fork = ForkServer.fork

    def fork_for_nobody(server: ForkServer, _: socket.socket, page_fd: int) -> None:
        ours, theirs = socket.socketpair()
        ours.close()
        with theirs:
            fork(server, theirs, page_fd)

    monkeypatch.setattr(ForkServer, "fork", fork_for_nobody)
    with PreforkPool(2) as pool, pytest.raises(GreenlabError, match="as soon as they start"):
        pool.run(FakeJob(lambda x: time.sleep(600), range(5)))


def test_a_killed_run_stops_its_tasks_and_leaves_the_pool_usable(pool: PreforkPool, tmp_path: Path) -> None:
    log = tmp_path / "log"

    def beat(_: Any, log: str = str(log)) -> Any:
        while True:
            with open(log, "a") as file:  # noqa: PTH123
                file.write("x")
            time.sleep(0.001)

    thread = eventlet.spawn(pool.run, FakeJob(beat, range(10)))
    until(log.exists)
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
        until(lambda: doomed.values and other.values)
        kill(threads[0])
        threads[1].wait()
    assert 20_000 == len(other.values) + len(other.errors)
    assert {} == other.errors


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
        until(lambda: Path(blocked).exists() and any(e[0].job is doomed for e in held(pool)))
        kill(threads[0])
        size = Path(log).stat().st_size
        assert any(entry[0].job is doomed for entry in held(pool))
        Path(release).touch()
        threads[1].wait()
        until(lambda: not list(held(pool)))
    assert size == Path(log).stat().st_size
    assert (100, {}) == (len(other.values), other.errors)


def test_no_process_outlives_a_pool_whose_own_process_is_killed() -> None:
    script = """
        from greenlab.pools.prefork import PreforkPool
        pool = PreforkPool(3)
        pool.start()
        print(pool._staff.server.pid, *pool.pids, flush=True)
        class Job:
            concurrency, timeout_s, max_tasks, max_memory = 3, None, None, None
            func = staticmethod(lambda x: __import__("time").sleep(600))
            def pull(self): return 1, 1
        pool.run(Job())
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        processes = [psutil.Process(pid) for pid in pids]
        parent.kill()
    assert 4 == len(processes)
    _, alive = psutil.wait_procs(processes, timeout=20)
    assert [] == alive
