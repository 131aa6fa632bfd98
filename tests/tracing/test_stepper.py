"""Step mode: green tasks on a virtual clock, the same log every time."""

from __future__ import annotations

import queue
import socket
import threading
import time
from typing import Any

import eventlet
import pytest

import greenlab
from greenlab import UsageError

pytestmark = pytest.mark.usefixtures("started")


def logged(*calls: Any) -> list[str]:
    """Make every step; give what the log says, without its numbers."""
    with greenlab.stepper(*calls) as stepper:
        return [f"{step.time_s:g} {step.name}: {step.then}" for step in stepper]


def nap(*naps: float) -> None:
    for each in naps:
        time.sleep(each)


def test_sleepers_go_on_in_the_order_of_their_times_and_no_time_goes_by() -> None:
    began = time.perf_counter()
    log = logged((nap, 3000, 1000), (nap, 1000), nap)
    assert [
        "0 nap 1: sleeps until 3000 s",
        "0 nap 2: sleeps until 1000 s",
        "0 nap 3: ends",
        "1000 nap 2: ends",
        "3000 nap 1: sleeps until 4000 s",
        "4000 nap 1: ends",
    ] == log
    assert time.perf_counter() - began < 60


def test_those_that_are_due_at_one_time_go_on_in_the_order_in_which_they_asked() -> None:
    def task(name: str) -> str:
        time.sleep(1)
        time.sleep(0)
        return name

    log = logged(*((task, (name,)) for name in "abcdefghij"))
    assert [f"1 task {n}: lets the others run" for n in range(1, 11)] == log[10:20]
    assert [f"1 task {n}: returns {name!r}" for n, name in enumerate("abcdefghij", 1)] == log[20:]


def test_producer_and_consumer_over_a_queue_are_told_step_by_step(capsys: Any) -> None:
    items = queue.Queue[int](maxsize=1)

    def produce() -> None:
        for item in range(2):
            items.put(item)
            print("  put", item)

    def consume() -> list[int]:
        return [items.get() for _ in range(2)]

    stepper = greenlab.stepper(produce, consume)
    stepper.run()
    assert (
        "  put 0\n"
        "  1  at 0 s  produce runs, then waits for room in a queue\n"
        "  2  at 0 s  consume runs, then waits for an item of a queue\n"
        "  put 1\n"
        "  3  at 0 s  produce runs, then ends\n"
        "  4  at 0 s  consume runs, then returns [0, 1]\n"
        "     all tasks have ended\n"
    ) == capsys.readouterr().out


def test_locks_events_conditions_semaphores_and_barriers_work_and_are_named() -> None:
    lock, event, condition = threading.Lock(), threading.Event(), threading.Condition()
    semaphore, barrier = threading.Semaphore(0), threading.Barrier(2)

    def first() -> None:
        with lock:
            time.sleep(1)
        event.set()
        time.sleep(1)
        with condition:
            condition.notify()
        time.sleep(1)
        semaphore.release()
        time.sleep(1)
        barrier.wait()

    def second() -> None:
        with lock:
            pass
        event.wait()
        with condition:
            condition.wait()
        semaphore.acquire()
        barrier.wait()

    waits = [line for line in logged(first, second) if "second" in line]
    assert [
        "0 second: waits for a lock",
        "1 second: waits for a condition",
        "2 second: waits for a semaphore",
        "3 second: waits for a barrier",
        "4 second: ends",
    ] == waits


def test_time_limits_run_out_on_the_virtual_clock() -> None:
    lock, items, event = threading.Lock(), queue.Queue[int](), threading.Event()
    got: list[Any] = []

    def task() -> None:
        lock.acquire()
        got.append((lock.acquire(timeout=5), time.monotonic()))
        got.append((event.wait(10), time.perf_counter()))
        try:
            items.get(timeout=20)
        except queue.Empty:
            got.append(("empty", time.time()))
        with eventlet.Timeout(40, False):
            time.sleep(1000)
        got.append(("limit", time.monotonic_ns()))

    logged(task)
    assert [(False, 5.0), (False, 15.0), ("empty", 35.0), ("limit", 75 * 10**9)] == got


def test_a_deadlock_ends_with_who_waits_for_what(capsys: Any) -> None:
    one, other = threading.Lock(), threading.Lock()

    def left() -> None:
        with one:
            time.sleep(1)
            with other:
                pass

    def right() -> None:
        with other:
            time.sleep(1)
            with one:
                pass

    with greenlab.stepper(left, right) as stepper:
        stepper.run()
        last = capsys.readouterr().out.splitlines()[-1]
        assert "     nothing can go on: left waits for a lock, right waits for a lock" == last
        assert not stepper.ended
    assert ["is killed", "is killed"] == [stepper._waits[task] for task in stepper.tasks]
    assert stepper.ended
    assert not one.locked()


def test_a_failure_is_in_the_log_and_the_others_go_on(capsys: Any) -> None:
    log = logged(lambda: 1 / 0, (nap, 1))
    assert ["0 <lambda>: fails: ZeroDivisionError: division by zero"] == log[:1]
    assert "1 nap: ends" == log[-1]
    assert "" == capsys.readouterr().err


def test_an_interrupt_is_raised_where_the_step_was_made() -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    stepper = greenlab.stepper(interrupted)
    with pytest.raises(KeyboardInterrupt):
        stepper.step()
    assert ["fails: KeyboardInterrupt"] == [step.then for step in stepper.log]


def test_tasks_that_are_spawned_in_a_step_are_stepped_too() -> None:
    def parent() -> Any:
        children = [greenlab.spawn(nap, n) for n in (2, 1)]
        eventlet.spawn(nap, 3).wait()
        return [child.wait() for child in children]

    assert [
        "0 parent: waits for another task",
        "0 nap: sleeps until 2 s",
        "0 nap 2: sleeps until 1 s",
        "0 green thread 1: sleeps until 3 s",
        "1 nap 2: ends",
        "2 nap: ends",
        "3 green thread 1: ends",
        "3 parent: returns [None, None]",
    ] == logged(parent)


def test_a_socket_is_refused_in_one_line() -> None:
    def wait_for_a_socket() -> None:
        here, there = socket.socketpair()
        with here, there:
            here.recv(1)

    (line,) = logged(wait_for_a_socket)
    assert "fails: UsageError: a stepper's tasks cannot wait for sockets" in line
    assert "\n" not in line


def test_run_stops_at_a_time_or_after_a_number_of_steps(capsys: Any) -> None:
    def tick() -> None:
        while True:
            time.sleep(0.1)

    with greenlab.stepper(tick) as stepper:
        stepper.run(until_s=0.35)
        out = capsys.readouterr().out.splitlines()
        assert "  4  at 0.3 s  tick runs, then sleeps until 0.4 s" == out[-2]
        assert "     the next step is at 0.4 s" == out[-1]
        stepper.run(steps=2)
        assert "     stopped after 2 steps, and there are more" == capsys.readouterr().out.splitlines()[-1]
        stepper.step(2)
        assert 8 == len(stepper.log)
        assert "stepper at 0.7 s, after 8 steps\n  tick sleeps until 0.8 s" == repr(stepper)


def test_results_are_read_from_the_tasks() -> None:
    stepper = greenlab.stepper((pow, 2, 5), (pow, (3, 2)))
    list(stepper)
    assert [32, 9] == [task.wait() for task in stepper.tasks]


@pytest.mark.parametrize(
    ("calls", "says"),
    [((), "say what to step through"), ((3,), "not 3"), (((),), "write stepper"), (((1, 2),), "write stepper")],
)
def test_what_cannot_be_stepped_is_a_mistake_of_the_user(calls: Any, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        greenlab.stepper(*calls)
