"""Greenlets that others made, and bridges from asyncio to blocking code: as SQLAlchemy's, as greenback's."""

from __future__ import annotations

import asyncio
import os
import queue
import signal
import socket
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

import eventlet
import greenlet
import pytest
from greenlets import (
    PLACES,
    as_greenlet,
    await_,
    in_coroutine,
    in_coroutine_of_a_task,
    in_greenlet,
    in_main,
    in_run,
    in_task,
    slept,
    soon,
    tick,
)

import greenlab
from greenlab.api.run import prepare
from greenlab.hub.trace import record

if TYPE_CHECKING:
    from collections.abc import Callable

    from greenlab.hub import GuestHub


def from_a_queue() -> Any:
    box: queue.Queue[str] = queue.Queue()
    soon(box.put, "came")
    return box.get()


def from_a_lock() -> str:
    lock = threading.Lock()
    lock.acquire()
    soon(lock.release)
    with lock:
        return "came"


def from_a_socket() -> str:
    here, there = socket.socketpair()
    with here, there:
        soon(there.sendall, b"came")
        return here.recv(100).decode()


def from_a_child() -> str:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        soon(child.stdin.write, b"came")
        soon(child.stdin.close)
        return child.stdout.read().decode()


def from_a_thread() -> str:
    found: list[str] = []

    gate = threading.Event()

    def work() -> None:
        gate.wait()
        found.append("came")

    thread = threading.Thread(target=work)
    thread.start()
    soon(gate.set)
    thread.join()
    return found[0]


def from_a_task() -> Any:
    return greenlab.spawn(slept).wait()


def from_a_run() -> Any:
    return greenlab.run(lambda _: slept(), range(3), live=False).results[2]


def from_eventlet() -> str:
    eventlet.sleep(0.001)
    return "came"


def from_another_greenlet() -> Any:
    return in_greenlet(lambda: in_greenlet(slept))


WAITS = [
    slept, from_a_queue, from_a_lock, from_a_socket, from_a_child, from_a_thread, from_a_task, from_a_run,
    from_eventlet, from_another_greenlet,
]  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_it_waits_for_what_green_threads_bring_and_ends_where_it_began(
    started: GuestHub, place: Callable[..., Any]
) -> None:
    for wait in WAITS:
        ticks: list[int] = []
        ticker = greenlab.spawn(tick, ticks)
        assert (wait, "came") == (wait, place(lambda wait=wait: in_greenlet(wait)))
        assert ticks, wait
        ticker.kill()
        assert [] == [task for task in started.tasks if task.state == "waiting"], wait


@pytest.mark.parametrize("place", [in_coroutine, in_coroutine_of_a_task])
def test_a_bridge_may_wait_on_both_sides(started: GuestHub, place: Callable[..., Any]) -> None:
    async def answer(value: int) -> int:
        await asyncio.sleep(0.001)
        one: int = await as_greenlet(lambda: slept() and await_(asyncio.sleep(0.001, 1)))
        return value + one

    def blocking() -> list[int]:
        found = []
        for value in range(3):
            time.sleep(0.001)
            found.append(await_(answer(value)))
        return found

    assert [1, 2, 3] == place(blocking)


def test_an_error_comes_out_where_the_greenlet_was_started(started: GuestHub) -> None:
    def fail() -> None:
        time.sleep(0.001)
        raise LookupError("mine")

    for place in PLACES:
        with pytest.raises((LookupError, greenlab.GreenlabError), match="mine"):
            place(lambda: in_greenlet(fail))


def test_an_interrupt_is_raised_in_the_greenlet_that_the_cell_waits_in(started: GuestHub) -> None:
    seen: list[str] = []

    def wait() -> None:
        try:
            time.sleep(30)
        finally:
            seen.append("left")

    background = greenlab.spawn(slept)
    timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        in_greenlet(wait)
    timer.join()
    assert ["left"] == seen
    assert "came" == background.wait()


# -- whose it is -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [in_main, in_task, in_run])
def test_thread_locals_are_those_of_whoever_it_runs_for(started: GuestHub, place: Callable[..., Any]) -> None:
    class Local(threading.local):
        def __init__(self, made: list[int]) -> None:
            made.append(1)
            self.x = "new"

    made: list[int] = []
    plain, own = threading.local(), Local(made)

    def work() -> Any:
        del made[:]
        plain.x = own.x = "mine"

        def inner() -> Any:
            seen = plain.x, own.x
            plain.y = "from within"
            del plain.x
            time.sleep(0.001)
            return (*seen, in_greenlet(lambda: plain.y))

        seen = in_greenlet(inner)
        return (*seen, plain.y, hasattr(plain, "x"), len(made))

    assert ("mine", "mine", "from within", "from within", False, place is not in_main) == place(work)
    assert (place is in_main) == hasattr(plain, "y")


class Holder:
    lock = threading.RLock()


@pytest.mark.whole_heap
@pytest.mark.parametrize("place", [in_main, in_task, in_run])
@pytest.mark.parametrize("adopted", [False, True])
def test_it_holds_the_locks_of_whoever_it_runs_for_and_others_wait(place: Callable[..., Any], adopted: bool) -> None:
    greenlab.start()
    lock = Holder.lock if adopted else threading.RLock()
    inside: list[str] = []

    def other() -> None:
        with lock:
            inside.append("other")

    def inner() -> None:
        with lock:
            greenlab.spawn(other)
            time.sleep(0.005)
            inside.append("inner")
        lock.acquire()  # to be released by whom it runs for

    def work() -> None:
        with lock:
            in_greenlet(inner)
            lock.release()
            time.sleep(0.005)
            inside.append("outer")

    place(work)
    time.sleep(0.06)
    assert ["inner", "outer", "other"] == inside
    greenlab.stop()


@pytest.mark.parametrize("place", [in_main, in_task])
def test_in_a_native_block_it_waits_natively(started: GuestHub, place: Callable[..., Any]) -> None:
    ticks: list[int] = []
    ticker = greenlab.spawn(tick, ticks)

    def work() -> Any:
        with greenlab.native():
            before = len(ticks)
            in_greenlet(time.sleep, 0.05)
            return len(ticks) - before

    assert 0 == place(work)
    ticker.kill()


def test_a_task_that_waits_for_itself_in_another_greenlet_is_told(started: GuestHub) -> None:
    def work() -> Any:
        return in_greenlet(lambda: (task.state, task.wait()))

    task = greenlab.spawn(work)
    with pytest.raises(greenlab.UsageError, match="waits for itself"):
        task.wait()


def test_a_recording_shows_it_in_the_lane_of_its_task(started: GuestHub) -> None:
    with record(started) as recording:
        greenlab.spawn(lambda: in_greenlet(slept)).wait()
    assert {"the cell", "Task"} == {name.partition(" (")[0].rstrip(" 0123456789") for name in recording.names.values()}


# -- kills and time limits ---------------------------------------------------------------------------------


def nested(seen: list[str]) -> None:
    def inner() -> None:
        seen.append("began")
        try:
            time.sleep(30)
            seen.append("went on")
        finally:
            seen.append("inner")

    try:
        in_greenlet(inner)
        seen.append("went on")
    finally:
        seen.append("outer")


def test_a_time_limit_ends_both(started: GuestHub) -> None:
    seen: list[str] = []
    with pytest.raises(greenlab.RunError) as caught:
        greenlab.run(lambda _: nested(seen), [1], timeout=0.05, live=False)
    run: Any = caught.value.run
    assert "TaskTimeoutError" == type(run.errors[0]).__name__
    assert ["began", "inner", "outer"] == seen


def test_a_kill_ends_both_from_wherever_it_comes(started: GuestHub) -> None:
    killers: list[Callable[[Any], Any]] = [
        lambda task: task.kill(),
        lambda task: greenlab.kill(task.id),
        lambda task: greenlab.spawn(task.kill).wait(),
        lambda task: task.kill(LookupError("mine")),
    ]
    for kill in killers:
        seen: list[str] = []
        task = greenlab.spawn(nested, seen)
        task.link(lambda _: None)  # somebody knows of its end
        time.sleep(0.001)
        kill(task)
        time.sleep(0.001)
        assert ["began", "inner", "outer"] == seen
        assert task.dead


def test_a_task_of_a_run_is_killed_in_both(started: GuestHub) -> None:
    seen: list[str] = []
    ends: list[Callable[[Any], object]] = [lambda run: run.kill(0), lambda run: run.cancel()]
    for end in ends:
        run = prepare(lambda _: nested(seen), [1], live=False).start()
        while "began" not in seen:
            time.sleep(0.001)
        end(run)
        run.wait()
        assert ["began", "inner", "outer"] == seen
        del seen[:]


def test_one_that_nobody_waits_for_any_more_does_not_wake_its_maker_elsewhere(started: GuestHub) -> None:
    ended: list[str] = []

    def inner() -> str:
        time.sleep(0.02)
        ended.append("inner")
        return "too late"

    def work() -> Any:
        try:
            in_greenlet(inner)
        except LookupError:
            return eventlet.event.Event().wait(timeout=0.1)
        return "not thrown"

    thread = eventlet.spawn(work)
    eventlet.sleep(0.001)
    eventlet.kill(thread, LookupError())  # past greenlab, which would have ended the inner one
    assert None is thread.wait()
    assert ["inner"] == ended


def test_what_the_hub_is_asked_to_start_is_a_green_thread(started: GuestHub) -> None:
    made: list[Any] = []
    one: Any = greenlet.greenlet(lambda: made.append((slept(), started.owner() is one)))
    started.schedule_call_global(0, one.switch)
    time.sleep(0.05)
    assert [("came", True)] == made


def test_a_loop_that_runs_in_a_greenlet_turns_the_hub() -> None:
    """As playwright has it: its loop in a greenlet, its users in the main one."""

    async def main() -> Any:
        greenlab.start()
        task = greenlab.spawn(slept)
        await asyncio.sleep(0.05)
        return task.state, await task, await as_greenlet(slept)

    assert ("done", "came", "came") == in_greenlet(asyncio.run, main())
    greenlab.stop()
