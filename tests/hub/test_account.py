"""Accounts of what green threads spend, and the probe of the GIL."""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import ctypes
import hashlib
import queue
import threading
import time
from typing import Any

import greenlet
import pytest
from waiting import wait_until

import greenlab
from greenlab.advising import cost_sample
from greenlab.api.run import prepare
from greenlab.hub import eventlet
from greenlab.hub.account import Spent, accounts_of
from greenlab.hub.gil import GilProbe


@pytest.fixture(autouse=True)
def _hub(started: Any) -> Any:
    return started


def compute(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def spent_by(work: Any) -> Spent:
    """Run something in a green thread, and give what it spent."""
    here = greenlab.start()
    found: list[Spent] = []

    def counted() -> None:
        account.take()
        work()
        found.append(account.take())

    account = accounts_of(here).open(lambda green: green is thread)
    thread = eventlet.spawn(counted)
    thread.wait()
    accounts_of(here).end(account)
    (spent,) = found
    return spent


def test_computing_and_waiting_natively_hold_the_hub_and_a_cooperative_wait_does_not() -> None:
    spent = spent_by(lambda: compute(0.02))
    assert 0.02 <= spent.cpu_s < 0.03
    assert spent.held_s >= spent.cpu_s - 0.001
    spent = spent_by(lambda: ctypes.CDLL(None).usleep(20_000))
    assert spent.held_s - spent.delay_s >= 0.02 > 4 * spent.cpu_s
    spent = spent_by(lambda: time.sleep(0.02))
    assert spent.held_s < 0.01


def test_what_threads_of_its_own_compute_is_told_apart() -> None:
    def use_a_thread() -> None:
        with greenlab.native():
            helper = threading.Thread(target=hashlib.pbkdf2_hmac, args=("sha256", b"p", b"s", 100_000))
            helper.start()
            helper.join()

    spent = spent_by(use_a_thread)
    assert spent.others_s > 0.01
    assert spent.cpu_s < spent.others_s / 2
    assert spent_by(lambda: compute(0.02)).others_s < 0.01


def test_who_could_go_on_and_waits_for_the_hub_is_late() -> None:
    begin_s = time.perf_counter()
    other = eventlet.spawn_after(0.01, compute, 0.05)
    spent = spent_by(lambda: time.sleep(0.02))
    assert 0.01 < spent.late_s < time.perf_counter() - begin_s - 0.01
    other.wait()
    assert spent_by(lambda: time.sleep(0.02)).late_s < 0.01


def test_waits_for_locks_and_queues_are_told_apart() -> None:
    def wait_for(take: Any, give: Any) -> Spent:
        eventlet.spawn_after(0.02, give)
        return spent_by(take)

    lock = threading.Lock()
    lock.acquire()
    assert 0.015 < wait_for(lock.acquire, lock.release).lock_wait_s < 0.1
    items: queue.Queue[int] = queue.Queue()
    assert 0.015 < wait_for(items.get, lambda: items.put(1)).lock_wait_s < 0.1
    assert 0 == spent_by(lambda: time.sleep(0.02)).lock_wait_s


def test_accounts_are_of_those_who_count_and_several_may_be_open() -> None:
    here = greenlab.start()
    accounts = accounts_of(here)
    every = accounts.open(lambda green: green not in (here.greenlet, here.root))
    nobody = accounts.open(lambda _: False)
    eventlet.spawn(compute, 0.01).wait()
    accounts.end(nobody)
    eventlet.spawn(compute, 0.01).wait()
    accounts.end(every)
    accounts.end(every)
    assert every.cpu_s >= 0.02
    assert every.longest_s >= 0.01
    assert 0 == nobody.held_s


def test_a_former_trace_function_is_called_and_put_back() -> None:
    seen: list[str] = []

    def former(event: str, _: Any) -> None:
        seen.append(event)

    greenlet.settrace(former)
    try:
        accounts = accounts_of(greenlab.start())
        account = accounts.open(lambda _: True)
        eventlet.sleep(0)
        accounts.end(account)
        assert seen
        assert former is greenlet.gettrace()
    finally:
        greenlet.settrace(None)


def probed(work: Any) -> GilProbe:
    begin_s = time.perf_counter()
    probe = GilProbe(lambda: time.perf_counter() - begin_s)  # held all the time
    probe.start()
    work()
    probe.stop()
    return probe


def test_the_probe_tells_what_keeps_the_gil_from_what_releases_it() -> None:
    assert probed(lambda: compute(0.1)).kept_computing > 0.5
    assert probed(lambda: hashlib.pbkdf2_hmac("sha256", b"p", b"s", 200_000)).kept_computing < 0.5
    assert probed(lambda: ctypes.CDLL(None).usleep(100_000)).kept_waiting < 0.5

    def keep() -> None:
        for _ in range(4):
            ctypes.CDLL(None).usleep(1000)  # so that the probe comes to run
            ctypes.PyDLL(None).usleep(30_000)

    assert probed(keep).kept_waiting > 0.5


def test_a_stop_in_the_middle_of_a_sample_leaves_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = []
    end = cost_sample.CostSample.end
    monkeypatch.setattr(cost_sample.CostSample, "end", lambda sample: ended.append(1) or end(sample))  # type: ignore[func-returns-value]
    run = prepare(time.sleep, [30], pool="auto").start()
    wait_until(lambda: run.in_flight)
    greenlab.stop()
    assert ended
