"""The fair scheduler: green threads of several runs take turns at the hub."""

# mypy: disable-error-code="arg-type, attr-defined, func-returns-value, misc, union-attr, var-annotated"

from __future__ import annotations

import itertools
import socket
import time
from typing import Any

import greenlet
import pytest
from waiting import wait_until

from greenlab import pools
from greenlab.hub import eventlet
from greenlab.runs import Ledger


def compute(seconds: Any) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


@pytest.fixture
def pool(started: Any) -> Any:
    return pools.get(started, "green")


def test_runs_share_the_hub_by_time_however_many_green_threads_they_have(pool: Any) -> None:
    wide = Ledger(compute, [0.0002] * 1_000_000, concurrency=500)
    narrow = Ledger(compute, [0.0002] * 1_000_000, concurrency=1)
    runners = [eventlet.spawn(pool.run, ledger) for ledger in (wide, narrow)]
    while wide.done + narrow.done < 2000:
        eventlet.sleep(0)
    wide.stopped = narrow.stopped = True
    for runner in runners:
        runner.wait()
    assert 0.25 < narrow.done / wide.done < 4


def test_a_run_that_comes_late_gets_its_share_but_no_arrears(pool: Any) -> None:
    first = Ledger(compute, [0.0002] * 1_000_000, concurrency=10)
    runners = [eventlet.spawn(pool.run, first)]
    while first.done < 1000:
        eventlet.sleep(0)
    late = Ledger(compute, [0.0002] * 1_000_000, concurrency=10)
    before = first.done
    runners.append(eventlet.spawn(pool.run, late))
    while late.done < 500:
        eventlet.sleep(0)
    assert 0.25 < (first.done - before) / late.done < 4
    first.stopped = late.stopped = True
    for runner in runners:
        runner.wait()


def test_hundreds_of_tasks_that_begin_together_hold_the_hub_for_a_slice_at_a_time(pool: Any) -> None:
    turns = []

    def tick() -> None:
        while True:
            turns.append(len(begun))
            eventlet.sleep(0)

    begun = []

    def connect(i: Any) -> None:
        begun.append(i)
        compute(0.001)
        eventlet.sleep(0.2)

    ticker = eventlet.spawn(tick)
    pool.run(Ledger(connect, range(100), concurrency=100))
    ticker.kill()
    most = max(after - before for before, after in itertools.pairwise(turns))
    assert 1 <= most <= 20


def test_tasks_that_end_together_begin_the_next_ones_a_slice_at_a_time(pool: Any) -> None:
    turns = []
    begun = []
    gate = eventlet.event.Event()

    def tick() -> None:
        while True:
            turns.append(len(begun))
            eventlet.sleep(0)

    def wait_then_next(i: Any) -> None:
        begun.append(i)
        if i < 100:
            gate.wait()
        else:
            compute(0.001)

    ticker = eventlet.spawn(tick)
    runner = eventlet.spawn(pool.run, Ledger(wait_then_next, range(200), concurrency=100))
    while len(begun) < 100:
        eventlet.sleep(0)
    del turns[:]
    gate.send(None)
    runner.wait()
    ticker.kill()
    most = max(after - before for before, after in itertools.pairwise(turns))
    assert 1 <= most <= 20


def test_of_tasks_that_are_due_together_those_that_end_are_followed_before_the_others_compute(pool: Any) -> None:
    def wait_and_compute(_: Any) -> None:
        time.sleep(0.02)
        compute(0.002)

    ledger = Ledger(wait_and_compute, range(200), concurrency=100)
    pool.run(ledger)
    first_hundred_ended_s = sorted(ledger.ended_s)[99]
    early = [start_s for start_s in sorted(ledger.started_s)[100:] if start_s < first_hundred_ended_s]
    assert 80 < len(early)


def test_a_socket_is_served_while_many_timers_are_due(started: Any) -> None:
    here, there = socket.socketpair()
    ended: list[Any] = []

    def sleeper(x: int) -> None:
        time.sleep(0.03)
        compute(0.002)
        ended.append(x)
        if x == 10:
            there.send(b"x")

    def reader() -> None:
        here.recv(1)
        ended.append("read")

    with here, there:
        threads = [eventlet.spawn(reader), *(eventlet.spawn(sleeper, x) for x in range(100))]
        for thread in threads:
            thread.wait()
    assert ended.index("read") < 20
    assert list(range(100)) == [x for x in ended if x != "read"]


def test_a_green_thread_that_is_killed_while_it_waits_for_its_turn_leaves_the_queue(pool: Any) -> None:
    ledger = Ledger(compute, [0.001] * 1000, concurrency=50)
    runner = eventlet.spawn(pool.run, ledger)
    wait_until(lambda: ledger.done, pause_s=0)
    ledger.stopped = True
    runner.kill()
    with pytest.raises(greenlet.GreenletExit):
        runner.wait()
    assert [] == pool._scheduler._queues
    assert [2] == _run(pool, lambda x: x * 2, [1])


def test_an_idle_scheduler_has_no_timer(pool: Any, started: Any) -> None:
    _run(pool, lambda x: x, range(100))
    eventlet.sleep(0)
    assert not pool._scheduler._scheduled


def _run(pool: Any, func: Any, items: Any) -> Any:
    ledger = Ledger(func, items, concurrency=10)
    pool.run(ledger)
    return ledger.values
