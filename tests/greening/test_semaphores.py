"""The locks of multiprocessing, between green threads of one OS thread, OS threads and processes."""

from __future__ import annotations

import multiprocessing
import threading
import time
from typing import TYPE_CHECKING, Any

import billiard
import pytest

import greenlab

if TYPE_CHECKING:
    from collections.abc import Callable

# multiprocessing captured `os.read` long before
pytestmark = [pytest.mark.usefixtures("started_once"), pytest.mark.whole_heap]

CONTEXT = multiprocessing.get_context("spawn")
# Made before greenlab is started, and so with C's own methods in their attributes.
MADE_BEFORE: dict[str, Any] = {
    "Lock": CONTEXT.Lock(),
    "RLock": CONTEXT.RLock(),
    "Condition": CONTEXT.Condition(),
    "Value": CONTEXT.Value("i", 0),
}


def make(name: str) -> Any:
    return CONTEXT.Value("i", 0) if name == "Value" else getattr(CONTEXT, name)()


@pytest.mark.parametrize("how", ["made before", "made after", "by hand"])
@pytest.mark.parametrize("name", MADE_BEFORE)
def test_of_two_green_tasks_one_has_a_lock_and_the_other_waits(name: str, how: str) -> None:
    lock = make(name) if how == "made after" else MADE_BEFORE[name]
    inside: list[int] = []

    def hold(_: int) -> int:
        if how == "by hand":
            lock.acquire()
        else:
            lock.__enter__()
        try:
            inside.append(1)
            most = len(inside)
            time.sleep(0.002)
            inside.pop()
        finally:
            lock.release()
        return most

    assert [1] * 10 == greenlab.run(hold, range(10), timeout=20).results


def test_billiards_locks_cooperate_too() -> None:
    lock = billiard.Lock()

    def hold(i: int) -> int:
        with lock:
            time.sleep(0.002)
        return i

    assert [0, 1, 2] == greenlab.run(hold, range(3), timeout=20).results


def test_an_rlock_belongs_to_a_green_task_and_is_taken_twice_by_it() -> None:
    lock = CONTEXT.RLock()

    def other() -> tuple[bool, str]:
        taken = lock.acquire(block=False)
        try:
            lock.release()
        except AssertionError as error:
            return taken, str(error)
        return taken, ""

    with lock, lock:
        assert (False, "attempt to release recursive lock not owned by thread") == greenlab.spawn(other).wait()
    assert (True, "") == greenlab.spawn(other).wait()


def test_a_timeout_ends_the_wait_and_the_lock_is_free_afterwards() -> None:
    lock = CONTEXT.Lock()
    lock.acquire()
    assert not lock.acquire(timeout=0.01)
    assert not lock.acquire(timeout=-1)
    waiting = greenlab.spawn(lock.acquire)
    time.sleep(0.005)
    waiting.kill()
    lock.release()
    assert lock.acquire(block=False)


def wait_for(made: Any, kind: str) -> object:
    if kind == "Condition":
        with made:
            return made.wait(20)
    found: object = getattr(made, WAITS[kind])()
    return found


WAITS = {"Event": "wait", "Semaphore": "acquire", "Queue": "get", "SimpleQueue": "get"}
ACTS: dict[str, Callable[[Any], object]] = {
    "Event": lambda event: event.set(),
    "Semaphore": lambda semaphore: semaphore.release(),
    "Queue": lambda queue: queue.put(True),
    "SimpleQueue": lambda queue: queue.put(True),
}


@pytest.mark.parametrize("kind", ["Condition", *WAITS])
def test_one_green_task_waits_for_what_another_one_does(kind: str) -> None:
    made: Any = CONTEXT.Semaphore(0) if kind == "Semaphore" else getattr(CONTEXT, kind)()

    def act() -> None:
        if kind == "Condition":
            with made:
                made.notify()
        else:
            ACTS[kind](made)

    first = greenlab.spawn(wait_for, made, kind)
    time.sleep(0.01)
    second = greenlab.spawn(act)
    assert first.wait() is True
    second.wait()
    if kind == "Queue":
        made.close()
        made.join_thread()


def test_an_os_thread_and_a_green_task_exclude_each_other() -> None:
    lock, held = CONTEXT.Lock(), threading.Event()
    order: list[str] = []

    def hold() -> None:
        with lock:
            held.set()
            while not order:
                time.sleep(0.001)
            order.append("thread")

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()

    def take() -> None:
        lock.acquire()
        order.append("green")

    green = greenlab.spawn(take)
    time.sleep(0.005)
    order.append("begin")
    green.wait()
    thread.join()
    assert ["begin", "thread", "green"] == order


def hold_until(lock: Any, held: Any, go: Any) -> None:
    with lock:
        held.set()
        go.wait(60)


def test_a_release_in_another_process_is_noticed_while_others_run() -> None:
    lock, held, go = CONTEXT.Lock(), CONTEXT.Event(), CONTEXT.Event()
    process = CONTEXT.Process(target=hold_until, args=(lock, held, go))
    process.start()
    assert held.wait(60)
    waiting = greenlab.spawn(lock.acquire)
    ticks = greenlab.run(lambda _: time.sleep(0.001), range(20), concurrency=1).counts["succeeded"]
    assert not waiting.dead
    go.set()
    assert waiting.wait()
    assert 20 == ticks
    process.join()
