"""What holds of both pools with worker processes, prefork and hybrid, apart from what all pools share."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from processes_kit import FakeJob, ProcessPool, count_turns, kill, run, script_env, server_pid
from tasks import nap
from waiting import wait_until

from greenlab.errors import GreenlabError, WorkerLostError
from greenlab.hub import eventlet
from greenlab.pools.processes.forkserver import ForkServer
from greenlab.pools.processes.serialization import RemoteTraceback

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.usefixtures("nothing_of_processes_left", "time_limit")


@pytest.fixture
def pool(both_pools: ProcessPool) -> ProcessPool:
    return both_pools


AT_ONCE = {"prefork": 2, "hybrid": 8}
"""How many tasks of a `FakeJob` are in flight at the most, and so how many a pool may lose with its processes."""


# --- tasks and what they end with --------------------------------------------------------------------------


def test_a_failure_is_of_one_task_and_its_traceback_begins_in_it(pool: ProcessPool) -> None:
    def divide(x: Any) -> Any:
        return 6 // x

    for timeout_s in (None, 9.0):
        job = run(pool, divide, [1, 0, 2], timeout_s=timeout_s)
        assert {0: 6, 2: 3} == job.values
        assert ZeroDivisionError is type(job.errors[1])
        assert isinstance(job.errors[1].__cause__, RemoteTraceback)
        assert "return 6 // x" in str(job.errors[1].__cause__)
        assert "greenlab/pools" not in str(job.errors[1].__cause__)
        assert "_worker" not in str(job.errors[1].__cause__)


def test_no_exception_ends_a_process(pool: ProcessPool) -> None:
    before = pool.pids

    def fail(kind: Any) -> None:
        time.sleep(0)
        raise kind("x")

    kinds = [SystemExit, KeyboardInterrupt, GeneratorExit, RecursionError, MemoryError]
    for kind in kinds:  # each alone, and then all at once
        job = run(pool, fail, [kind] * 5)
        assert [kind] * 5 == [type(job.errors[i]) for i in range(5)]
        assert before == pool.pids
    job = run(pool, fail, kinds * 5)
    assert kinds * 5 == [type(job.errors[i]) for i in range(25)]
    assert before == pool.pids


def test_tiny_tasks_are_pulled_ahead_but_not_without_bound(pool: ProcessPool) -> None:
    least, most = {"prefork": (3, 1_024), "hybrid": (6, 2_000)}[pool.name]
    job = run(pool, abs, iter(range(30_000)), concurrency=4)
    assert list(range(30_000)) == job.results
    assert least <= job.most_waiting <= most


def test_a_broken_job_makes_run_raise(pool: ProcessPool) -> None:
    job: Any = FakeJob(lambda x: x, range(1_000))

    def succeed(*_: Any) -> None:
        raise LookupError("broken")

    job.succeed = succeed
    with pytest.raises(LookupError, match="broken"):
        pool.run(job)
    assert [1, 2, 3] == run(pool, abs, [-1, -2, -3]).results


# --- inside a process --------------------------------------------------------------------------------------


def test_processes_see_path_directory_and_environment_of_the_parent(
    pool: ProcessPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "beside_the_notebook.py").write_text("ANSWER = 42\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("GREENLAB_TEST", "here")

    def look(_: Any) -> Any:
        answer = importlib.import_module("beside_the_notebook").ANSWER
        return answer, os.getcwd(), sys.path[0], os.environ["GREENLAB_TEST"], sys.stdin.read()  # noqa: PTH109

    assert [(42, str(tmp_path), str(tmp_path), "here", "")] == run(pool, look, [0]).results


def test_processes_ignore_sigint(pool: ProcessPool) -> None:
    before = (*pool.pids, server_pid(pool))
    job = FakeJob(nap, [0.002] * 200)
    thread = eventlet.spawn(pool.run, job)
    while not thread.dead:
        for pid in before:
            os.kill(pid, signal.SIGINT)
        eventlet.sleep(0.01)
    thread.wait()
    assert ({}, 200) == (job.errors, job.done)
    assert before == (*pool.pids, server_pid(pool))


def test_a_task_may_fork(pool: ProcessPool) -> None:
    def fork(x: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pid = os.fork()
        if not pid:
            print("to nobody")
            if x % 2:
                raise SystemExit
            return None
        return x, os.waitpid(pid, 0)[0] == pid

    job = run(pool, fork, range(10), concurrency=4)
    assert [(x, True) for x in range(10)] == job.results
    assert "" == job.text()


# --- while nothing is to do, and at the end ----------------------------------------------------------------


def test_an_idle_pool_wakes_nobody(pool: ProcessPool) -> None:
    run(pool, abs, range(100), timeout_s=60.0)
    everyone = [psutil.Process(pid) for pid in (*pool.pids, server_pid(pool))]
    eventlet.sleep(0.2)
    before = [process.num_ctx_switches().voluntary for process in everyone]
    turns = count_turns(0.3)
    assert before == [process.num_ctx_switches().voluntary for process in everyone]
    assert turns < 10  # a poll every 50 ms would be 12


def test_closing_a_busy_pool_ends_its_run_and_it_may_start_again(pool: ProcessPool) -> None:
    thread = eventlet.spawn(pool.run, FakeJob(nap, [600] * 9))
    wait_until(lambda: pool.in_flight == AT_ONCE[pool.name])
    pids = pool.pids
    pool.close()
    with pytest.raises(GreenlabError, match="closed"):
        thread.wait()
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert [1] == run(pool, abs, [-1]).results


# --- single tasks ------------------------------------------------------------------------------------------


def test_held_tells_process_start_and_line_of_each_task(pool: ProcessPool, tmp_path: Path) -> None:
    folder = str(tmp_path)

    def stand(x: Any) -> Any:
        # One line: it stands there as soon as there is its file.
        return Path(folder, str(x)).touch(), time.sleep(600)  # type: ignore[func-returns-value]

    job = FakeJob(stand, range(6), concurrency=4)
    count = min(4, AT_ONCE[pool.name])
    thread = eventlet.spawn(pool.run, job)
    wait_until(lambda: pool.count(job) == count == len(list(tmp_path.iterdir())))
    tasks = sorted(pool.held(job), key=lambda task: task.index)
    assert [*range(count)] == [task.index for task in tasks]
    assert set(pool.pids) == {task.worker for task in tasks}
    line = stand.__code__.co_firstlineno + 2
    assert [(__file__, line, "stand")] * count == [task.where for task in tasks]
    assert all(0 < time.perf_counter() - task.started_s < 10 for task in tasks)
    assert [] == pool.held(FakeJob(stand, []))
    kill(thread)
    assert [] == pool.held(job)


def test_a_task_that_is_killed_fails_with_the_error_and_the_others_go_on(pool: ProcessPool) -> None:
    job = FakeJob(nap, [60, 0.001, 0.001, 60], concurrency=4)
    thread = eventlet.spawn(pool.run, job)
    wait_until(lambda: job.done == pool.count(job) == 2)
    assert not pool.kill(job, 1, ValueError("enough"))
    assert not pool.kill(job, 17, ValueError("enough"))
    for index in (0, 3):
        assert pool.kill(job, index, ValueError(f"enough of {index}"))
    thread.wait()
    assert {0: "enough of 0", 3: "enough of 3"} == {i: str(error) for i, error in job.errors.items()}
    assert {ValueError} == set(map(type, job.errors.values()))


# --- prints ------------------------------------------------------------------------------------------------


def test_a_print_is_seen_while_its_task_still_runs(pool: ProcessPool, tmp_path: Path) -> None:
    for computes in (False, True):
        release = str(tmp_path / f"release {computes}")

        def say(_: Any, release: str = release, computes: bool = computes) -> Any:
            print("running")
            print("on")  # so soon after the other that it might be kept for company
            while not os.path.exists(release):  # noqa: PTH110
                if not computes:
                    time.sleep(0.001)

        job = FakeJob(say, [0])
        thread = eventlet.spawn(pool.run, job)
        wait_until(lambda job=job: job.text() == "running\non\n")
        assert 0 == job.done
        Path(release).touch()
        thread.wait()
        assert {("stdout", 0)} == {(stream, index) for stream, _, index in job.printed}


def test_warnings_of_a_task_go_to_its_stderr(pool: ProcessPool) -> None:
    job = run(pool, lambda _: warnings.warn("mind the gap", stacklevel=1), [7])
    assert "mind the gap" in job.text("stderr", 0)


def test_a_flood_of_prints_arrives_whole_and_does_not_stall_the_hub(pool: ProcessPool) -> None:
    def flood(x: Any) -> Any:
        for i in range(20_000):
            print(x, i, "." * 50)
        sys.stdout.write("no end of line " * 100_000)

    ticks = []

    def tick() -> None:
        while True:
            ticks.append(1)
            eventlet.sleep(0)

    ticker = eventlet.spawn(tick)
    job = run(pool, flood, range(4))
    ticker.kill()
    assert 80_000 == job.text().count("\n")
    assert 400_000 == job.text().count("no end of line ")
    assert [f"0 {i} {'.' * 50}" for i in range(20_000)] == job.text(index=0).split("\n")[:-1]
    assert len(ticks) > 20  # 11 MB, of which a turn takes a quarter of one at the most


# --- deaths ------------------------------------------------------------------------------------------------


def test_a_crash_tells_the_signal(pool: ProcessPool) -> None:
    job = run(pool, lambda _: os.kill(os.getpid(), signal.SIGSEGV), [1])
    assert signal.SIGSEGV == job.errors[0].signal


class Bomb:
    def __reduce__(self) -> Any:
        return os._exit, (9,)

    def __call__(self, _: Any) -> None:
        pass


def test_an_item_that_crashes_its_process_as_it_is_unpickled_fails_alone(pool: ProcessPool) -> None:
    # A process of the hybrid pool loses all that it has begun, so there it must have nothing else.
    job = run(pool, lambda x: x, [1, Bomb(), 2], concurrency=1 if pool.name == "hybrid" else 8)
    assert {0: 1, 2: 2} == job.values
    assert 9 == job.errors[1].exitcode


def test_a_function_that_crashes_each_process_as_it_is_unpickled_costs_tasks_not_the_run(pool: ProcessPool) -> None:
    job = run(pool, Bomb(), range(3))
    assert [WorkerLostError] * 3 == [type(job.errors[i]) for i in range(3)]


def test_the_tasks_of_an_idle_process_that_was_killed_are_not_lost(pool: ProcessPool) -> None:
    for _ in range(20):
        victim = pool.pids[0]
        os.kill(victim, signal.SIGKILL)
        assert [0, 1, 2, 3] == run(pool, abs, range(4)).results
        wait_until(lambda victim=victim: victim not in pool.pids and len(pool.pids) == 2)


def test_the_pool_outlives_its_fork_server(pool: ProcessPool) -> None:
    job = FakeJob(nap, [0.1] * 60)
    thread = eventlet.spawn(pool.run, job)
    wait_until(lambda: job.values)
    # In the middle of tasks: a process may also take results along that had not been sent yet.
    eventlet.sleep(0.05)
    os.kill(server_pid(pool), signal.SIGKILL)
    thread.wait()
    assert 60 == job.done
    assert len(job.errors) <= AT_ONCE[pool.name]
    assert [0, 1, 2] == run(pool, abs, range(3)).results


def test_processes_that_die_as_they_start_end_the_run(
    unstarted: Callable[[], ProcessPool], monkeypatch: pytest.MonkeyPatch
) -> None:
    fork = ForkServer.fork

    def fork_for_nobody(server: ForkServer, _: socket.socket, page_fd: int) -> None:
        ours, theirs = socket.socketpair()
        ours.close()
        with theirs:
            fork(server, theirs, page_fd)

    monkeypatch.setattr(ForkServer, "fork", fork_for_nobody)
    with contextlib.closing(unstarted()) as pool, pytest.raises(GreenlabError, match="as soon as they start"):
        pool.run(FakeJob(nap, [60] * 5))


@pytest.mark.parametrize(
    ("make", "processes"),
    [
        ("prefork.PreforkPool(3), hybrid.HybridPool()", (1 + 3) + (1 + 2)),
        ("(get(hub := greenlab.start(), 'prefork'), get(hub, 'hybrid'))", (1 + 4) + (1 + 2)),
    ],
    ids=["script", "kernel"],
)
def test_no_process_of_any_pool_outlives_a_parent_that_is_killed(make: str, processes: int) -> None:
    script = f"""
        import greenlab, time
        from greenlab.hub import eventlet
        from greenlab.pools import get, hybrid, prefork
        from greenlab.runs import Ledger
        pools = {make}
        pids = []
        for pool in pools:
            task = lambda x: [0 for _ in iter(int, 1)] if x else time.sleep(600)
            job = Ledger(task, range(4), concurrency=4, workers=2)
            runner = eventlet.spawn(pool.run, job)
            while pool.count(job) < 3: eventlet.sleep(0.01)
            pids += [pool._supervisor.server_pid, *pool.pids]
        print(*pids, flush=True)
        runner.wait()
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, env=script_env()
    ) as parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        orphans = [psutil.Process(pid) for pid in pids]
        parent.kill()
    assert processes == len(orphans)
    _, alive = psutil.wait_procs(orphans, timeout=20)
    assert [] == alive
