"""The celery pool: what dies, is silent or is not there, worker or broker, what that costs and what is said of it."""

# mypy: disable-error-code="attr-defined"

from __future__ import annotations

import math
import os
import platform
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import celery_workers
import pytest
from waiting import wait_until

import greenlab
from greenlab import pools
from greenlab.api.run import prepare
from greenlab.hub import eventlet
from greenlab.pools.celery import connection, messages, workers
from greenlab.runs import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def run(func: Callable[[Any], Any], items: Any, **options: Any) -> Any:
    return greenlab.run(func, items, pool="celery", live=False, **options)


def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def spin(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def test_a_process_that_dies_costs_its_task_alone(started: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    celery_workers.use("prefork", monkeypatch)

    def die_on_two(x: int) -> int:
        if x == 2:
            time.sleep(0.2)
            os.kill(os.getpid(), signal.SIGKILL)
        return x

    made = run(die_on_two, range(6))
    assert {2: greenlab.WorkerLostError} == {index: type(error) for index, error in made.errors.items()}
    assert signal.SIGKILL == made.errors[2].signal
    assert [0, 1, 3, 4, 5] == [one for one in made.outcomes if isinstance(one, int)]


def hold(until: Path, index: int) -> int:
    while index == 0 and not until.exists():
        time.sleep(0.02)
    return index


def test_no_task_waits_behind_a_long_one_while_another_worker_is_idle(
    started: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    options = "-P", "prefork", "-c", "1"
    with celery_workers.working(*options) as one, celery_workers.working(*options, folder=one.folder):
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(one.folder))
        made = prepare(partial(hold, tmp_path / "go on"), range(13), pool="celery", concurrency=100, live=False)
        made.start()
        wait_until(lambda: made.done == 12, limit_s=20)
        (tmp_path / "go on").touch()
        assert [*range(13)] == made.wait().results


def test_a_worker_that_lives_but_cannot_speak_is_waited_for(
    green_worker: celery_workers.Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "DEAD_S", 1.0)
    made = run(spin, [0.3] * 10, concurrency=10)  # its hub turns between them, and has no time for anything else
    assert {} == made.errors


def test_how_long_a_worker_may_be_silent_goes_by_what_is_known_of_it() -> None:
    def silence(**known: Any) -> tuple[float, str]:
        facts = messages.WorkerFacts("w@there", "eventlet", 4, ("greenlab.io.py311",), "3", "0", pid, 0, **known)
        return workers.Worker(facts).silence_s()

    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        pid, here = process.pid, platform.node()
        assert (8.0, "has been silent for 8 s") == silence(on_hub=False, host="elsewhere")
        assert (30.0, "has been silent for 30 s") == silence(on_hub=True, host="elsewhere")
        assert (math.inf, "") == silence(on_hub=True, host=here)
        assert (8.0, "has been silent for 8 s") == silence(on_hub=False, host=here)
        process.send_signal(signal.SIGSTOP)
        wait_until(lambda: silence(on_hub=True, host=here) == (8.0, "is stopped"), natively=True)
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait()
        assert (1.0, "has ended") == silence(on_hub=True, host=here)


def test_a_queue_that_has_lost_its_last_worker_is_named_and_waited_for(
    green_worker: celery_workers.Worker, started: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, pool = Ledger(greenlab.task(pool="prefork")(nap), [1.0] * 3, concurrency=1), pools.get(started, "celery")
    processes = "-P", "prefork", "-c", "1"
    with celery_workers.working(*processes, folder=green_worker.folder) as lost:
        pool.start(ledger)
        runner = eventlet.spawn(pool.run, ledger)
        wait_until(lambda: ledger.done == 1 and pool.in_flight, limit_s=30)
        for process in [lost.process, *lost.process.children()]:
            process.kill()

        def go_on() -> None:
            wait_until(lambda: ledger.failed, limit_s=30)
            with celery_workers.working(*processes, folder=green_worker.folder):
                runner.wait()

        with pytest.warns(RuntimeWarning, match="no Celery worker that takes from greenlab.cpu.* is left"):
            go_on()
    assert (3, 1) == (ledger.done, ledger.failed)


def test_a_warning_that_is_an_error_ends_the_run_that_it_is_of(
    green_worker: celery_workers.Worker, started: Any
) -> None:
    ledger, pool = Ledger(greenlab.task(pool="prefork")(nap), [1.0] * 3, concurrency=1), pools.get(started, "celery")
    with celery_workers.working("-P", "prefork", "-c", "1", folder=green_worker.folder) as lost:
        pool.start(ledger)
        runner = eventlet.spawn(pool.run, ledger)
        wait_until(lambda: pool.in_flight, limit_s=30)
        for process in [lost.process, *lost.process.children()]:
            process.kill()
        with pytest.raises(RuntimeWarning, match=r"no Celery worker that takes from greenlab\.cpu.* is left"):
            runner.wait()


def test_what_ends_a_run_is_told_although_the_broker_has_gone_too(
    green_worker: celery_workers.Worker, started: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, pool = Ledger(nap, [1.0], concurrency=1), pools.get(started, "celery")
    pool.start(ledger)
    runner = eventlet.spawn(pool.run, ledger)
    wait_until(lambda: pool.in_flight, limit_s=30)

    def gone() -> None:
        raise greenlab.UsageError("the broker is away")

    monkeypatch.setattr(pool, "_open", gone)
    pool.fail(ValueError("of the machinery"))
    with pytest.raises(ValueError, match="of the machinery"):
        runner.wait()
    assert not pool.busy


def test_no_worker_is_one_line_that_says_what_to_do(
    started: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with pytest.raises(greenlab.UsageError, match="greenlab worker") as caught:
        run(nap, [0])
    assert "\n" not in str(caught.value)


def test_a_broker_that_is_away_is_one_line(started: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GREENLAB_BROKER", "redis://127.0.0.1:1")
    monkeypatch.setenv("GREENLAB_SECRET", "x" * 32)
    with pytest.raises(greenlab.UsageError, match="cannot be reached") as caught:
        run(nap, [0])
    assert "\n" not in str(caught.value)


def test_a_broker_that_takes_connections_and_does_not_answer_is_one_line(
    started: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_ANSWER_S", 0.3)
    monkeypatch.setenv("GREENLAB_SECRET", "x" * 32)
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("GREENLAB_BROKER", f"redis://127.0.0.1:{server.getsockname()[1]}/0")
        with pytest.raises(greenlab.UsageError, match=r"the broker redis://.* cannot be reached: ") as caught:
            run(len, ["x"])
    assert "\n" not in str(caught.value)
