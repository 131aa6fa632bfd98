"""The supervisor, which keeps the worker processes of both pools that have some: starts that fail, and ends."""

from __future__ import annotations

import errno
import os
import select
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest
from processes_kit import FakeJob
from waiting import wait_until

from greenlab.errors import GreenlabError
from greenlab.hub import eventlet
from greenlab.pools.hybrid import HybridPool
from greenlab.pools.prefork import PreforkPool
from greenlab.pools.processes.forkserver import ForkServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("nothing_of_processes_left", "time_limit")


@pytest.fixture(params=[PreforkPool, HybridPool])
def pool(request: Any) -> Iterator[Any]:
    pool = request.param()
    yield pool
    pool.close()


def refuse_to_fork(monkeypatch: pytest.MonkeyPatch, *, after: int) -> None:
    """Let the fork server be asked so many times; after that the system has no room for descriptors on their way."""
    fork, asked = ForkServer.fork, iter(range(after))

    def refuse(self: ForkServer, *args: Any) -> None:
        if next(asked, None) is None:
            raise OSError(errno.ETOOMANYREFS, os.strerror(errno.ETOOMANYREFS))
        fork(self, *args)

    monkeypatch.setattr(ForkServer, "fork", refuse)


def test_a_start_whose_forks_cannot_be_asked_for_says_so(pool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_to_fork(monkeypatch, after=0)
    with pytest.raises(GreenlabError, match=r"cannot start a worker process: .*Too many references"):
        pool.start(FakeJob(abs, [], concurrency=2))
    monkeypatch.undo()
    job = FakeJob(abs, range(3), concurrency=2)
    pool.run(job)
    assert 3 == len(job.values)


def test_a_run_goes_on_with_the_processes_that_could_be_asked_for(pool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_to_fork(monkeypatch, after=1)
    job = FakeJob(abs, range(3), concurrency=2)
    pool.run(job)
    assert (3, 1) == (len(job.values), len(pool.pids))


def test_a_run_that_waits_for_its_processes_ends_when_the_pool_is_closed(pool: Any) -> None:
    pool.start(FakeJob(abs, [], concurrency=1))
    os.kill(pool._supervisor.server_pid, signal.SIGSTOP)
    run = eventlet.spawn(pool.run, FakeJob(abs, range(3), concurrency=2))
    wait_until(lambda: pool._supervisor.asked)
    os.kill(pool._supervisor.server_pid, signal.SIGCONT)
    pool.close()
    with pytest.raises(GreenlabError, match="the pool was closed"):
        run.wait()


def test_a_run_that_starts_keeps_its_workers_when_a_narrower_one_starts_meanwhile(pool: Any, tmp_path: Path) -> None:
    release = tmp_path / "release"

    def wait(x: int) -> int:
        while not release.exists():
            time.sleep(0.001)
        return x

    wide = eventlet.spawn(pool.run, FakeJob(wait, range(2), concurrency=3, workers=3))
    eventlet.spawn(pool.run, FakeJob(abs, range(3), concurrency=1, workers=1)).wait()
    kept = len(pool.pids)
    release.touch()
    wide.wait()
    assert (3, 3) == (kept, len(pool.pids))


def test_a_kill_and_a_signal_that_come_after_the_fork_servers_death_do_nothing() -> None:
    server = ForkServer("greenlab.pools.prefork.worker")
    os.kill(server.pid, signal.SIGKILL)
    wait_until(lambda: select.select([server], [], [], 0)[0])
    for _ in range(2):
        server.kill(server.pid)
        server.signal(server.pid, signal.SIGTERM)
    server.hang_up()
    assert -signal.SIGKILL == server.close()


def test_what_a_task_started_ends_with_the_pool(pool: Any) -> None:
    def start_child(_: Any) -> int:
        import subprocess

        return subprocess.Popen(["sleep", "600"]).pid

    job = FakeJob(start_child, [0], concurrency=1)
    pool.run(job)
    child = job.values[0]
    pool.close()
    wait_until(lambda: not is_alive(child))


def is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123 - it may end up as nobody's zombie
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
