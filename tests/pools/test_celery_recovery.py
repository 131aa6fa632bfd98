"""The celery pool where workers die, stop or are not heard: no run waits for what never comes, and none runs twice."""

# mypy: disable-error-code="arg-type, attr-defined"

from __future__ import annotations

import contextlib
import signal
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import celery_workers
import greenlet
import pytest
from marks import note, times_run
from waiting import wait_until

import greenlab
from greenlab import pools
from greenlab.hub import eventlet
from greenlab.pools.celery import job, messages, recovery, workers
from greenlab.pools.celery import pool as celery_pool
from greenlab.runs import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

GREEN = "-P", "eventlet", "-c", "10"


def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@pytest.fixture(scope="module")
def kept() -> Iterator[list[celery_workers.Worker]]:
    """The worker of the test before, while it lives: few tests kill it."""
    workers: list[celery_workers.Worker] = []
    yield workers
    for worker in workers:
        worker.close()


@pytest.fixture
def known(kept: list[celery_workers.Worker], monkeypatch: pytest.MonkeyPatch) -> celery_workers.Worker:
    """A worker that the kernel hears of, on a broker of its own."""
    if not kept or not kept[0].is_alive:
        for dead in kept:
            dead.close()
        kept[:] = [celery_workers.Worker(GREEN)]
        kept[0].wait_ready()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(kept[0].folder))
    return kept[0]


@pytest.fixture
def unknown(known: celery_workers.Worker, pool: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A worker that the kernel does not hear of, but in what it tells of tasks: it comes too late to be asked."""
    with celery_workers.working(*GREEN, folder=known.folder) as worker:
        add = pool._workers.add
        monkeypatch.setattr(pool._workers, "add", lambda facts: facts.pid != worker.process.pid and add(facts))
        yield worker


@pytest.fixture
def pool(started: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The celery pool, with less patience."""
    for module in (recovery, workers):
        monkeypatch.setattr(module, "DEAD_S", 3.0)
    return pools.get(started, "celery")


def start(pool: Any, func: Callable[[Any], Any], items: Any, concurrency: int = 10) -> tuple[Ledger, Any]:
    ledger = Ledger(func, items, concurrency=concurrency)
    pool.start(ledger)
    return ledger, eventlet.spawn(pool.run, ledger)


def stop(runner: Any) -> None:
    runner.kill()
    with contextlib.suppress(greenlet.GreenletExit):
        runner.wait()


def test_a_worker_that_is_killed_costs_what_it_had_begun(known: Any, pool: Any) -> None:
    with celery_workers.working(*GREEN, folder=known.folder) as other:
        ledger, runner = start(pool, nap, [0.3] * 100, concurrency=20)
        wait_until(lambda: ledger.done >= 40, limit_s=30)
        other.process.kill()
        runner.wait()
    assert 100 == ledger.done
    assert {greenlab.WorkerLostError} == {type(error) for error in ledger.errors.values()}
    assert 0 < ledger.failed <= 20


def test_a_worker_that_has_not_said_what_it_is_may_be_killed_too(
    unknown: Any, pool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "DEAD_ON_HUB_S", 3.0)
    ledger, runner = start(pool, nap, [0.3] * 40)
    wait_until(lambda: any(unknown.name == m.worker for a in pool._jobs.values() for m in a.out.values()), limit_s=30)
    unknown.process.kill()
    runner.wait()
    assert 40 == ledger.done
    assert {greenlab.WorkerLostError} == {type(error) for error in ledger.errors.values()}


def test_a_worker_that_has_not_said_what_it_is_may_be_silent_for_as_long_as_any(
    unknown: Any, pool: Any, tmp_path: Path
) -> None:
    """It may be an eventlet one of another machine that computes, or is cut off for a moment."""
    ledger, runner = start(pool, partial(note, tmp_path), range(40), concurrency=20)
    wait_until(lambda: any(unknown.name == m.worker for a in pool._jobs.values() for m in a.out.values()), limit_s=30)
    unknown.process.send_signal(signal.SIGSTOP)
    eventlet.sleep(5.0)
    unknown.process.send_signal(signal.SIGCONT)
    runner.wait()
    assert {} == ledger.errors
    assert {1: 40} == times_run(tmp_path)


def test_a_worker_that_was_never_heard_takes_a_message_with_it(
    unknown: Any, pool: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "DEAD_ON_HUB_S", 3.0)
    unknown.process.send_signal(signal.SIGSTOP)  # what it has asked the broker for, it gets
    ledger, runner = start(pool, partial(note, tmp_path), range(40))
    runner.wait()
    unknown.process.kill()
    assert 40 == ledger.done
    assert 0 < ledger.failed < 40
    assert all("it took the message and has been silent since" in str(error) for error in ledger.errors.values())
    assert {1: 40 - ledger.failed} == times_run(tmp_path)


@pytest.mark.parametrize("times", [1, 100], ids=["told again", "lost for good"])
def test_a_report_that_was_lost_is_asked_for(
    times: int, known: Any, pool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "_QUIET_S", 1.0)
    hear = pool._heard_of_message
    lost: list[Any] = []

    def lose(worker: str, offset_s: float, kind: str, *about: Any) -> None:
        if kind == messages.RESULTS and 3 in about[1] and len(lost) < times:
            lost.append(about)
        else:
            hear(worker, offset_s, kind, *about)

    monkeypatch.setattr(pool, "_heard_of_message", lose)
    ledger, runner = start(pool, nap, [0.01] * 6, concurrency=1)
    runner.wait()
    assert 6 == ledger.done
    assert ({} if times == 1 else {3: greenlab.WorkerLostError}) == {i: type(e) for i, e in ledger.errors.items()}


def test_what_is_on_its_way_to_a_worker_as_its_run_ends_is_not_begun(known: Any, pool: Any, tmp_path: Path) -> None:
    start(pool, nap, [0.0])[1].wait()
    ledger = Ledger(partial(note, tmp_path), range(10), concurrency=10)
    known.process.send_signal(signal.SIGSTOP)
    runner = eventlet.spawn(pool.run, ledger)
    wait_until(lambda: sum(m.sent_s < 1e9 for a in pool._jobs.values() for m in a.out.values()) > 1)
    ledger.stopped = True
    eventlet.spawn_after(0.5, known.process.send_signal, signal.SIGCONT)
    stop(runner)
    ledger.cancel_pending()
    again = ledger.resumed()
    pool.run(again)
    assert {1: 10} == times_run(tmp_path)


@pytest.mark.filterwarnings("ignore:the broker is away")  # it ends with its last worker, a little later
def test_a_cancel_does_not_wait_for_a_worker_that_has_ended(
    known: Any, pool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(celery_pool, "_END_S", 1000.0)
    _ledger, runner = start(pool, nap, [100.0] * 10)
    wait_until(lambda: pool.in_flight == 10, limit_s=30)
    known.process.kill()
    stop(runner)


def test_a_worker_that_says_it_never_got_a_message_will_not_run_it(
    known: Any, pool: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "DEAD_ON_HUB_S", 2.0)
    start(pool, nap, [0.0])[1].wait()
    states: dict[str, Any] = {}
    monkeypatch.setattr(pool._recovery, "note_state", lambda worker, *ids: states.update({worker: ids}))
    pool._connection.ask(messages.ASK_AGAIN, pool._connection.reply_queue, ["late"])
    wait_until(lambda: states)
    assert ([], [], ["late"]) == states[known.name]

    class Late(job.Message):
        def __init__(self) -> None:
            super().__init__()
            self.id = "late"

    monkeypatch.setattr("greenlab.pools.celery.dispatch.Message", Late)
    ledger, runner = start(pool, partial(note, tmp_path), [0], concurrency=1)
    runner.wait()
    assert [greenlab.WorkerLostError] == [type(error) for error in ledger.errors.values()]
    assert {} == times_run(tmp_path)
