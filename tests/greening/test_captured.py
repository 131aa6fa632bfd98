"""What was captured before greening: defaults, classes, partials, factories, objects, and arguments of locals."""

from __future__ import annotations

import collections
import dataclasses
import functools
import multiprocessing
import sched
import threading
import time
from typing import Any

import pytest

import greenlab
from greenlab.greening.locks import Lock

pytestmark = pytest.mark.whole_heap

NAP_S = 0.01


class Waits:
    """Keeps natives as attributes."""

    nap: Any = time.sleep
    still: Any = staticmethod(time.sleep)

    def __init__(self) -> None:
        self.own = time.sleep


class Slotted:
    """Keeps one in a slot."""

    __slots__ = ("nap",)

    def __init__(self) -> None:
        self.nap = time.sleep


class Needy(threading.local):
    """Has arguments that must be given."""

    __slots__ = ("shared",)

    def __init__(self, first: Any, *, more: Any = None) -> None:
        self.given = (first, more)


@dataclasses.dataclass
class Locked:
    """Makes a lock for each of its objects."""

    lock: Any = dataclasses.field(default_factory=threading.Lock)


def by_default(nap: Any = time.sleep) -> None:
    """Wait by a default argument."""
    nap(NAP_S)


def by_keyword(*, nap: Any = time.sleep) -> None:
    """Wait by a default of a keyword."""
    nap(NAP_S)


def vars_of_keywords(function: Any) -> Any:
    """Give the defaults of a function's keywords."""
    return function.__kwdefaults__


def by_scheduler() -> None:
    """Wait by the standard library's default argument."""
    scheduler = sched.scheduler()
    scheduler.enter(NAP_S, 1, int)
    scheduler.run()


WAITS, SLOTTED = Waits(), Slotted()
PARTIAL = functools.partial(time.sleep, NAP_S)
ARGUMENT = functools.partial(by_default, time.sleep)
LOCKS: Any = collections.defaultdict(threading.Lock)
NEEDY = Needy(1, more=2)
NEEDY.shared = ("a tuple", {"of": "others"})
CAPTURED: dict[str, Any] = {
    "a default": by_default,
    "a keyword's default": by_keyword,
    "a class": lambda: WAITS.nap(NAP_S),
    "a staticmethod": lambda: WAITS.still(NAP_S),
    "an object": lambda: WAITS.own(NAP_S),
    "a slot": lambda: SLOTTED.nap(NAP_S),
    "a partial": PARTIAL,
    "a partial's argument": ARGUMENT,
    "the standard library": by_scheduler,
}


@pytest.mark.usefixtures("started")
def test_what_was_captured_before_cooperates() -> None:
    def task(name: str, where: str, order: list[Any]) -> None:
        order.append(name)
        CAPTURED[where]()
        order.append(name)

    for where in CAPTURED:
        order: list[Any] = []
        for each in [greenlab.spawn(task, name, where, order) for name in "ab"]:
            each.wait()
        assert (where, ["a", "b"]) == (where, order[:2])  # the second began while the first waited


@pytest.mark.usefixtures("started")
def test_factories_that_were_given_before_make_green_locks() -> None:
    assert (Lock, Lock) == (type(Locked().lock), type(LOCKS["a"]))


def test_what_was_captured_is_put_back_as_it_was() -> None:
    def state() -> list[Any]:
        return [
            by_default.__defaults__, vars_of_keywords(by_keyword)["nap"], vars(Waits)["nap"], vars(Waits)["still"],
            vars(WAITS)["own"], SLOTTED.nap, PARTIAL.func, ARGUMENT.args[0], LOCKS.default_factory,
            sched.scheduler.__init__.__defaults__,
        ]  # fmt: skip

    before = state()
    greenlab.start()

    def late(nap: Any = time.sleep) -> Any:
        return nap

    assert not any(map(isinstance, state(), [type(PARTIAL.func)]))
    greenlab.stop()
    assert all(old is new for old, new in zip(before, state(), strict=True))
    assert time.sleep is late()


@pytest.mark.usefixtures("started")
def test_a_local_that_was_made_before_has_its_arguments_in_tasks() -> None:
    assert (1, 2) == greenlab.spawn(lambda: NEEDY.given).wait()


@pytest.mark.usefixtures("started")
def test_a_connection_is_received_from_in_one_task_while_another_sends() -> None:
    receiving, sending = multiprocessing.Pipe()
    with receiving, sending:
        task = greenlab.spawn(receiving.recv)
        greenlab.spawn(sending.send, "hello")
        assert "hello" == task.wait()


def test_a_lock_of_multiprocessing_is_native_again_after_a_stop() -> None:
    context = multiprocessing.get_context("spawn")
    before = context.Lock()
    greenlab.start()
    after = context.Lock()
    greenlab.stop()
    assert type(before.acquire).__name__ == "builtin_function_or_method"
    for lock in (before, after):
        with lock:
            assert not lock.acquire(block=False)
        assert lock.acquire()
        lock.release()


def test_a_managers_queue_is_waited_for_in_one_task_and_filled_by_another() -> None:
    with multiprocessing.get_context("spawn").Manager() as manager:
        items = manager.Queue()
        greenlab.start()
        try:
            task = greenlab.spawn(items.get)
            time.sleep(0)
            greenlab.spawn(items.put, "hello")
            assert "hello" == task.wait()
        finally:
            greenlab.stop()
