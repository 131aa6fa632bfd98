"""Primitives that were made before greenlab was started: green tasks exclude each other, and nobody deadlocks.

Run in a process of its own where it matters that they are made before.
"""

from __future__ import annotations

import _thread
import logging
import queue
import threading
import time
import types
from typing import TYPE_CHECKING, Any

import pytest

import greenlab

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.whole_heap


class Holder:
    """Holds primitives in all the ways that are looked into."""

    of_class = threading.Lock()

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.rlock = threading.RLock()
        self.condition = threading.Condition()
        self.event = threading.Event()
        self.semaphore = threading.Semaphore()
        self.queue: queue.Queue[Any] = queue.Queue()
        self.simple: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.local = threading.local()


class Slotted:
    __slots__ = ("lock",)

    def __init__(self) -> None:
        self.lock = threading.Lock()


GLOBAL = threading.Lock()
IN_DICT = {"lock": threading.Lock()}
IN_LIST = [threading.RLock()]
HOLDER = Holder()
SLOTTED = Slotted()
HANDLER: Any = logging.NullHandler()
HANDLER.createLock = types.MethodType(logging.Handler.createLock, HANDLER)  # a NullHandler has no lock of its own
HANDLER.createLock()
MODULE = globals()

# In a list: from Python 3.13 on the type is threading.Lock, and the name of a module would be greened.
NATIVE_LOCK = [type(_thread.allocate_lock())]

FOUND: dict[str, Callable[[], Any]] = {
    "a module's": lambda: MODULE["GLOBAL"],
    "in a module's dict": lambda: IN_DICT["lock"],
    "in a module's list": lambda: IN_LIST[0],
    "an object's": lambda: HOLDER.lock,
    "an object's RLock": lambda: HOLDER.rlock,
    "in a slot": lambda: SLOTTED.lock,
    "a class's": lambda: Holder.of_class,
    "a condition": lambda: HOLDER.condition,
    "a semaphore": lambda: HOLDER.semaphore,
    "a queue's": lambda: HOLDER.queue.mutex,
    "a logging handler's": lambda: HANDLER.lock,
    "logging's own": lambda: vars(logging)["_lock"],
}


@pytest.fixture
def natives() -> Iterator[dict[str, Any]]:
    """What stood there before, and stands there again afterwards."""
    before = {name: get() for name, get in FOUND.items()}
    greenlab.start()
    yield before
    greenlab.stop()
    assert all(before[name] is get() for name, get in FOUND.items())


@pytest.mark.parametrize("name", FOUND)
def test_a_lock_made_before_is_exclusive_among_tasks_and_holds_nobody_else_up(natives: Any, name: Any) -> None:
    lock, order = FOUND[name](), []

    def task(i: Any) -> Any:
        with lock:
            order.append(i)
            time.sleep(0.001)
            order.append(i)

    def other() -> Any:
        for _ in range(5):
            time.sleep(0)
        order.append("other")

    tasks = [greenlab.spawn(task, i) for i in range(3)] + [greenlab.spawn(other)]
    for each in tasks:
        each.wait()
    order.remove("other")
    assert [0, 0, 1, 1, 2, 2] == order


@pytest.mark.parametrize("name", ["a module's", "an object's RLock"])
def test_holders_of_the_native_object_and_of_the_wrapper_exclude_each_other(natives: Any, name: Any) -> None:
    native, adopted, order = natives[name], FOUND[name](), []
    assert native is not adopted
    held, go = threading.Event(), threading.Event()

    def thread() -> Any:
        with native:
            held.set()
            go.wait(10)
            order.append("thread")

    started = threading.Thread(target=thread)
    started.start()
    assert held.wait(10)
    assert not adopted.acquire(blocking=False)
    assert not adopted.acquire(timeout=0.01)

    def task() -> Any:
        with adopted:
            order.append("task")

    waiting = greenlab.spawn(task)
    time.sleep(0.005)
    go.set()
    waiting.wait()
    started.join()
    assert ["thread", "task"] == order


def test_a_thread_waits_natively_for_a_task_that_holds_an_adopted_lock(natives: Any) -> None:
    order = []

    def body() -> None:
        with GLOBAL:
            order.append("thread")

    thread = threading.Thread(target=body)
    with GLOBAL:
        thread.start()
        time.sleep(0.01)
        order.append("task")
    thread.join()
    assert ["task", "thread"] == order


def test_queues_events_and_conditions_made_before_wake_tasks(natives: Any) -> None:
    def consume(source: Any) -> Any:
        return source.get()

    for source in (HOLDER.queue, HOLDER.simple):
        waiting = greenlab.spawn(consume, source)
        time.sleep(0.001)
        source.put("from a task")
        assert "from a task" == waiting.wait()
        waiting = greenlab.spawn(consume, source)
        thread = threading.Timer(0.01, source.put, ["from a thread"])
        thread.start()
        assert "from a thread" == waiting.wait()
        thread.join()
    with pytest.raises(queue.Empty):
        HOLDER.simple.get(timeout=0.01)

    waiting = greenlab.spawn(HOLDER.event.wait, 10)
    time.sleep(0.001)
    HOLDER.event.set()
    assert waiting.wait()
    HOLDER.event.clear()

    def notified() -> Any:
        with HOLDER.condition:
            return HOLDER.condition.wait(10)

    waiting = greenlab.spawn(notified)
    time.sleep(0.001)
    with HOLDER.condition:
        HOLDER.condition.notify()
    assert waiting.wait()


def test_a_plain_local_made_before_is_a_tasks_own(natives: Any) -> None:
    HOLDER.local.x = "main"

    def task() -> Any:
        before = hasattr(HOLDER.local, "x")
        HOLDER.local.x = "task"
        return before, HOLDER.local.x

    assert (False, "task") == greenlab.spawn(task).wait()
    assert "main" == HOLDER.local.x


class Subclass(threading.local):
    def __init__(self) -> None:
        self.values: list[Any] = []


SUBCLASS = Subclass()


def test_a_subclass_of_local_made_before_is_a_tasks_own(natives: Any) -> None:
    SUBCLASS.values.append("main")
    assert [] == greenlab.spawn(lambda: SUBCLASS.values).wait()
    assert ["main"] == SUBCLASS.values


def test_a_local_keeps_what_the_main_greenlet_gave_it_after_the_end() -> None:
    greenlab.start()
    HOLDER.local.y = "kept"
    greenlab.stop()
    assert "kept" == HOLDER.local.y
    del HOLDER.local.y


def test_an_rlock_that_is_held_at_that_moment_is_left_as_it_is() -> None:
    before = HOLDER.rlock
    with HOLDER.rlock:
        greenlab.start()
        assert before is HOLDER.rlock
    greenlab.stop()


def test_a_killed_waiter_leaves_an_adopted_lock_usable(natives: Any) -> None:
    with GLOBAL:
        waiting = greenlab.spawn(GLOBAL.acquire)
        time.sleep(0.001)
        waiting.kill()
    assert GLOBAL.acquire(timeout=1)
    GLOBAL.release()


def test_what_the_machinery_holds_is_left_alone() -> None:
    import asyncio.events

    greenlab.start()
    try:
        assert NATIVE_LOCK == [type(vars(asyncio.events)["_lock"])]
        assert not type(vars(threading)["_active_limbo_lock"]).__module__.startswith("greenlab")
    finally:
        greenlab.stop()
