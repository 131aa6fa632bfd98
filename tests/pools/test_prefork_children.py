"""The prefork pool: what tasks start themselves, processes or greenlab, and what becomes of it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from processes_kit import FakeJob, kill, run
from waiting import wait_until

from greenlab.errors import TaskTimeoutError, UsageError, WorkerLostError
from greenlab.hub import eventlet
from greenlab.pools.prefork import PreforkPool

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("nothing_of_processes_left", "time_limit")


@pytest.fixture
def pool(prefork_pool: PreforkPool) -> PreforkPool:
    return prefork_pool


# --- processes that tasks start ----------------------------------------------------------------------------


def test_a_worker_leads_a_group_of_its_own(pool: PreforkPool) -> None:
    assert list(pool.pids) == [os.getpgid(pid) for pid in pool.pids]


def _start_a_child(path: str) -> int:
    with open(path, "w") as file:  # noqa: PTH123
        child = subprocess.Popen(["sleep", "600"])
        file.write(f"{child.pid}\n")
    return child.pid


@pytest.mark.parametrize("how", ["limit", "kill", "crash", "close"])
def test_what_a_killed_task_started_ends_with_it(tmp_path: Path, how: str) -> None:
    path = tmp_path / "pid"

    def task(_: Any, path: str = str(path)) -> None:
        _start_a_child(path)
        if how == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
        time.sleep(600)

    pool = PreforkPool(1)
    job = FakeJob(task, [0], timeout_s=0.1 if how == "limit" else None)
    thread = eventlet.spawn(pool.run, job)
    wait_until(lambda: path.exists() and path.read_text().endswith("\n"))
    child = psutil.Process(int(path.read_text()))
    if how == "kill":
        pool.kill(job, 0, LookupError())
    if how != "close":
        thread.wait()
        assert {0: {"limit": TaskTimeoutError, "kill": LookupError, "crash": WorkerLostError}[how]} == {
            index: type(error) for index, error in job.errors.items()
        }
    pool.close()
    _, alive = psutil.wait_procs([child], timeout=5)
    assert [] == alive
    with contextlib.suppress(Exception):  # what it has raised was seen above
        kill(thread)


def test_a_worker_that_leaves_leaves_alone_what_its_tasks_started(tmp_path: Path) -> None:
    with PreforkPool(2) as pool:
        path = str(tmp_path / "pid")
        job = run(pool, lambda x: _start_a_child(path), [0])
        pid = job.values[0]
        pool.resize(1)
        pool.resize(2)
        pool.resize(1)
        wait_until(lambda: len(pool.pids) == 1)
        run(pool, abs, range(9), max_tasks=1)
        assert psutil.Process(pid).is_running()
        os.kill(pid, signal.SIGKILL)


def test_a_task_that_reads_the_terminal_gets_an_error_and_is_not_stopped(pool: PreforkPool) -> None:
    ignored = run(pool, lambda x: [signal.getsignal(s) for s in (signal.SIGTTIN, signal.SIGTTOU)], [0]).values[0]
    assert [signal.SIG_IGN] * 2 == ignored


# --- greenlab inside a task --------------------------------------------------------------------------------


def test_a_task_may_run_green_tasks_and_leaves_the_worker_as_it_was() -> None:
    def outer(x: Any) -> Any:
        import greenlab
        import greenlab.greening

        before = greenlab.greening.is_green()

        def inner(y: Any) -> Any:
            time.sleep(0.01)
            print("inner", y)
            return x * y

        done = greenlab.run(inner, range(3), pool="green", live=False)
        return before, done.results, greenlab.greening.is_green(), os.getpid()

    with PreforkPool(1) as pool:
        job = run(pool, outer, range(3))
        assert {} == job.errors
        assert [(False, [0, x, 2 * x], True, pool.pids[0]) for x in range(3)] == [job.values[x] for x in range(3)]
        assert 9 == job.text().count("inner")
        clean = run(pool, lambda x: sys.modules["greenlab.greening"].is_green(), [0])
        assert {0: False} == clean.values


def test_a_task_may_not_start_workers_of_its_own(pool: PreforkPool) -> None:
    def outer(x: Any) -> Any:
        import greenlab

        return greenlab.run(abs, [1], pool="prefork", live=False).results

    job = run(pool, outer, [0])
    assert UsageError is type(job.errors[0])
    assert "a task in a worker process cannot start worker processes" in str(job.errors[0])
    assert "\n" not in str(job.errors[0])
