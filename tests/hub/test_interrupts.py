"""SIGINT while the hub turns: who gets it, and who does not; in this process, and in scripts of their own."""

from __future__ import annotations

import _thread
import asyncio
import os
import select
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import eventlet
import pytest

import greenlab
from greenlab import hub
from greenlab.hub import _interrupts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# However busy the machine is, this is far from a minute, which is how long the waits below last.
SOON_S = 20.0


class StopError(Exception):
    pass


@pytest.fixture
def sigint() -> Iterator[Callable[[Any], Any]]:
    """Sets the handler, and puts the former one back."""
    former = signal.getsignal(signal.SIGINT)
    yield lambda handler: signal.signal(signal.SIGINT, handler)
    assert former is signal.default_int_handler
    signal.signal(signal.SIGINT, former)


def interrupt_in(seconds: float) -> None:
    """Signal this process from a thread, as a front end does it from outside."""

    def shoot() -> None:
        time.sleep(seconds)
        os.kill(os.getpid(), signal.SIGINT)

    _thread.start_new_thread(shoot, ())  # Thread.start would wait, and the hub turn


def stuck() -> None:
    """Wait in C, in a call that goes on after a signal."""
    with greenlab.native():
        select.poll().poll(60_000)


def test_a_task_that_is_stuck_in_c_is_interrupted_and_so_is_who_waits(started: Any, sigint: Any) -> None:
    task = greenlab.spawn(stuck)
    interrupt_in(0.1)
    begin_s = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        eventlet.sleep(60)
    with pytest.raises(KeyboardInterrupt):
        task.wait()
    assert time.monotonic() - begin_s < SOON_S


@pytest.mark.parametrize("woken_by", ["timer", "descriptor", "thread"])
def test_one_interrupt_is_enough_however_many_tasks_would_get_stuck(started: Any, sigint: Any, woken_by: str) -> None:
    got_stuck: list[int] = []
    over: list[int] = []
    read, write = os.pipe()
    event = threading.Event()

    def task() -> None:
        if woken_by == "descriptor":
            started_hub_wait(read)
        elif woken_by == "thread":
            event.wait()
        got_stuck.append(1)
        if not over:
            stuck()

    tasks = [greenlab.spawn(task) for _ in range(12)]
    if woken_by != "timer":
        eventlet.sleep(0.01)
    with greenlab.native():
        os.write(write, b"x")
        if woken_by == "thread":
            thread = threading.Thread(target=event.set)
            thread.start()
            thread.join()
    interrupt_in(0.2)
    with pytest.raises(KeyboardInterrupt):
        eventlet.sleep(60)
    over.append(len(got_stuck))
    for each in tasks:
        each.kill()
    assert over[0] <= 2
    os.close(read)
    os.close(write)


def started_hub_wait(fd: int) -> None:
    eventlet.hubs.trampoline(fd, read=True)


def test_a_stuck_callback_of_the_hub_is_interrupted_and_the_hub_lives_on(started: Any, sigint: Any) -> None:
    started.call_soon_threadsafe(lambda: select.poll().poll(60_000))
    started.schedule_call_global(0, lambda: select.poll().poll(60_000))
    interrupt_in(0.1)
    with pytest.raises(KeyboardInterrupt):
        eventlet.sleep(60)
    interrupt_in(0.1)
    with pytest.raises(KeyboardInterrupt):
        eventlet.sleep(60)
    assert 4 == greenlab.spawn(lambda: 2 + 2).wait()


def test_what_a_handler_raises_is_raised_in_the_main_greenlet_at_its_wait(started: Any, sigint: Any) -> None:
    def raise_stop(signum: int, frame: Any) -> None:
        raise StopError(signum)

    sigint(raise_stop)
    ticks = []

    def tick() -> None:
        while True:
            ticks.append(1)
            eventlet.sleep(0)

    ticker = greenlab.spawn(tick)
    for _ in range(20):
        interrupt_in(0.01)
        with pytest.raises(StopError, match="2"):
            eventlet.sleep(60)
        assert signal.getsignal(signal.SIGINT) is raise_stop
    assert not ticker.dead
    ticker.kill()


def test_a_handler_that_returns_is_called_once_and_the_wait_goes_on(started: Any, sigint: Any) -> None:
    calls: list[int] = []
    sigint(lambda *_: calls.append(len(calls)))
    interrupt_in(0.05)
    begin_s = time.monotonic()
    eventlet.sleep(0.3)
    assert [0] == calls
    assert time.monotonic() - begin_s >= 0.3


def test_a_handler_is_called_while_a_task_computes_for_what_it_says(started: Any, sigint: Any) -> None:
    stop = threading.Event()
    sigint(lambda *_: stop.set())

    def compute() -> str:
        end_s = time.monotonic() + SOON_S
        while not stop.is_set() and time.monotonic() < end_s:
            pass
        return "stopped" if stop.is_set() else "not stopped"

    interrupt_in(0.1)
    assert "stopped" == greenlab.spawn(compute).wait()


def test_what_is_ignored_stays_ignored_and_children_inherit_it(started: Any, sigint: Any) -> None:
    sigint(signal.SIG_IGN)
    ask = "import signal; print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)"

    def compute(i: int) -> int:
        end_s = time.monotonic() + 0.5
        while time.monotonic() < end_s:
            pass
        return i

    for wait_s in (0.1, 0.5, 0.7):
        interrupt_in(wait_s)
    child = greenlab.spawn(subprocess.run, [sys.executable, "-c", ask], capture_output=True, text=True)
    assert [0, 1] == greenlab.run(compute, range(2)).results
    assert "True\n" == child.wait().stdout
    assert signal.SIG_IGN == signal.getsignal(signal.SIGINT)


def test_a_handler_that_a_task_sets_stays(started: Any, sigint: Any) -> None:
    greenlab.spawn(signal.signal, signal.SIGINT, signal.SIG_IGN).wait()
    assert signal.SIG_IGN == signal.getsignal(signal.SIGINT)
    sigint(signal.default_int_handler)
    former = greenlab.spawn(signal.signal, signal.SIGINT, signal.SIG_IGN).wait()
    signal.signal(signal.SIGINT, former)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_neither_signal_has_another_handler_after_an_interrupted_wait(started: Any, sigint: Any) -> None:
    test_a_task_that_is_stuck_in_c_is_interrupted_and_so_is_who_waits(started, sigint)
    assert signal.default_int_handler is signal.getsignal(signal.SIGINT)
    assert signal.SIG_DFL == signal.getsignal(signal.SIGURG)


def test_a_forked_child_of_a_task_can_be_interrupted(started: Any, sigint: Any) -> None:
    def fork() -> int:
        pid = os.fork()
        if pid == 0:
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:
                os._exit(7)
            os._exit(1)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    assert 7 == greenlab.spawn(fork).wait()


def run_in_loop() -> None:
    """Interrupt a coroutine while the hub has hardly any time to rest."""

    async def main() -> None:
        greenlab.start()
        busy = [greenlab.spawn(_work) for _ in range(10)]
        interrupt_in(0.2)
        try:
            await asyncio.sleep(60)
        finally:
            for task in busy:
                task.kill()
            greenlab.stop()

    asyncio.run(main())


def _work() -> None:
    while True:
        end_s = time.monotonic() + 0.002
        while time.monotonic() < end_s:
            pass
        eventlet.sleep(0)


def test_asyncios_own_handling_of_an_interrupt_is_as_before(sigint: Any) -> None:
    begin_s = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_in_loop()
    assert time.monotonic() - begin_s < SOON_S
    assert hub.current() is None


def test_a_loop_that_leaves_interrupts_to_python_is_ended_by_one(sigint: Any) -> None:
    loop = asyncio.new_event_loop()

    async def main() -> None:
        greenlab.start()
        for _ in range(10):
            greenlab.spawn(_work)

    try:
        loop.run_until_complete(main())
        interrupt_in(0.2)
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(asyncio.sleep(60))
        greenlab.stop()
    finally:
        loop.close()


def test_a_loops_signal_handler_is_called_while_a_coroutine_waits_green(sigint: Any) -> None:
    async def main() -> bool:
        greenlab.start()
        heard = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, heard.set)
        busy = [greenlab.spawn(_work) for _ in range(3)]
        interrupt_in(0.05)
        eventlet.sleep(0.2)
        interrupt_in(0.05)
        await asyncio.wait_for(heard.wait(), SOON_S)
        for task in busy:
            task.kill()
        greenlab.stop()
        asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)
        return heard.is_set()

    assert asyncio.run(main())


@pytest.mark.parametrize(
    ("file", "function", "expected"),
    [
        ("IPython/core/interactiveshell.py", "run_code", True),
        ("IPython/core/interactiveshell.py", "run_cell", False),
        ("IPython/terminal/interactiveshell.py", "mainloop", False),
        ("mine.py", "run_code", False),
    ],
)
def test_what_the_shells_run_code_calls_is_in_a_cell_and_nothing_else(file: str, function: str, expected: bool) -> None:
    space: dict[str, Any] = {}
    exec(compile(f"def {function}(call): return call()", f"/site-packages/{file}", "exec"), space)
    assert expected is space[function](lambda: _interrupts._is_in_cell(sys._getframe()))
