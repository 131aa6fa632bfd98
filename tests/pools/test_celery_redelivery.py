"""Messages that a broker gives to a second worker: what a first one may have begun of them, nobody runs again.

`GREENLAB_SOAK` asks for many tasks and more trouble, and for Redis too, where a prefork worker takes no message ahead.
"""

# mypy: disable-error-code="arg-type, attr-defined"

from __future__ import annotations

import os
import signal
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import brokers
import celery_workers
import pytest
from marks import mark, times_run
from waiting import wait_until

import greenlab
from greenlab import pools
from greenlab.hub import eventlet
from greenlab.pools.celery import recovery, workers
from greenlab.runs import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import psutil

PREFORK = "-P", "prefork", "-c", "2"
SOAK = bool(os.environ.get("GREENLAB_SOAK"))
TASKS = 200 if SOAK else 10


@pytest.fixture(scope="module", params=["rabbitmq", "redis"] if SOAK else ["rabbitmq"])
def broker(request: pytest.FixtureRequest) -> Iterator[str]:
    with {"redis": brokers.redis, "rabbitmq": brokers.rabbitmq}[request.param]() as url:
        yield url


@pytest.fixture
def two(broker: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[celery_workers.Worker]]:
    """Two prefork workers on a broker of the system's."""
    network = celery_workers.network(broker)
    for name, value in network.items():
        monkeypatch.setenv(name, value)
    with celery_workers.starting(*PREFORK, **network) as one, celery_workers.starting(*PREFORK, **network) as other:
        one.wait_ready()
        other.wait_ready()
        yield [one, other]


def slow_note(folder: Path, x: int) -> int:
    time.sleep(1.5)  # longer than it takes to find a worker dead: what it had waits in the broker meanwhile
    mark(folder, x)
    return x


def family(worker: celery_workers.Worker) -> list[psutil.Process]:
    return [worker.process, *worker.process.children(recursive=True)]


def signal_all(processes: list[psutil.Process], number: int) -> None:
    for process in processes:
        process.send_signal(number)


def kill(worker: celery_workers.Worker) -> None:
    signal_all(family(worker), signal.SIGKILL)


def stop_for_long(worker: celery_workers.Worker) -> None:
    processes = family(worker)
    signal_all(processes, signal.SIGSTOP)
    eventlet.sleep(12.0)
    signal_all(processes, signal.SIGCONT)


def end_warmly(worker: celery_workers.Worker) -> None:
    worker.process.terminate()


@pytest.mark.parametrize("trouble", [end_warmly, kill, stop_for_long] if SOAK else [end_warmly])
def test_no_task_runs_twice_where_two_runs_share_workers(
    trouble: Callable[[Any], None], two: list[Any], started: Any, tmp_path: Path
) -> None:
    pool = pools.get(started, "celery")
    folders = [tmp_path / "one", tmp_path / "two"]
    ledgers, runners = [], []
    for folder in folders:
        folder.mkdir()
        ledger = Ledger(partial(slow_note, folder), range(TASKS), concurrency=4)
        pool.start(ledger)
        ledgers.append(ledger)
        runners.append(eventlet.spawn(pool.run, ledger))
    wait_until(lambda: all(ledger.done >= TASKS // 5 for ledger in ledgers), limit_s=60)
    trouble(two[0])
    for runner in runners:
        runner.wait()
    eventlet.sleep(1.0)  # what it goes on with, having been stopped, ends
    for ledger, folder in zip(ledgers, folders, strict=True):
        assert TASKS == ledger.done
        assert {greenlab.WorkerLostError} >= {type(error) for error in ledger.errors.values()}
        ran = times_run(folder)
        assert {1} == set(ran)
        assert ran[1] >= TASKS - ledger.failed
    lost = sum(ledger.failed for ledger in ledgers)
    # What its processes had, and what it took in the last moment and has not spoken of.
    assert lost <= (0 if trouble is end_warmly else 4)


def nap(seconds: float) -> None:
    time.sleep(seconds)


@pytest.mark.filterwarnings("ignore:no Celery worker is left")
def test_what_a_worker_had_not_begun_when_it_was_stopped_runs_once(
    broker: str, started: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (recovery, workers):
        monkeypatch.setattr(module, "DEAD_S", 6.0)
    network = celery_workers.network(broker)
    for name, value in network.items():
        monkeypatch.setenv(name, value)
    pool = pools.get(started, "celery")
    with celery_workers.working("-P", "prefork", "-c", "1", **network) as worker:
        first, second = Ledger(nap, [4.0], concurrency=1), Ledger(partial(slow_note, tmp_path), [0], concurrency=1)
        runners = []
        for ledger in (first, second):
            pool.start(ledger)
            runners.append(eventlet.spawn(pool.run, ledger))
            wait_until(lambda: pool.in_flight, limit_s=30)

        def holders() -> set[str | None]:
            of_second = [active for active in pool._jobs.values() if active.job is second]
            return {message.worker for active in of_second for message in active.out.values()}

        wait_until(lambda: {worker.name} == holders(), limit_s=10)
        signal_all(family(worker), signal.SIGSTOP)
        wait_until(lambda: first.done and {None} == holders(), limit_s=30)
        signal_all(family(worker), signal.SIGCONT)
        for runner in runners:
            runner.wait()
        eventlet.sleep(2.0)
    assert [greenlab.WorkerLostError] == [type(error) for error in first.errors.values()]
    assert {} == second.errors
    assert {1: 1} == times_run(tmp_path)
