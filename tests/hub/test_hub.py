"""The guest hub, first against the simplest host there is: a queue."""

# Doubles, lambdas and deliberate misuse: what these rules see in them is meant.
# mypy: disable-error-code="arg-type, attr-defined, func-returns-value, misc, union-attr, var-annotated"

from __future__ import annotations

import asyncio
import contextvars
import heapq
import itertools
import os
import select
import threading
import time
from typing import Any

import psutil
import pytest
from waiting import wait_until

import greenlab
from greenlab import hub
from greenlab.hub import eventlet

VALUE = contextvars.ContextVar("value", default="none")


class QueueHost:
    """A host loop in thirty lines: what is due, what is readable, and how often it was woken."""

    def __init__(self) -> None:
        self.due = []
        self.readers = {}
        self.order = itertools.count()
        self.calls = 0

    def call_soon(self, callback: Any, /) -> Any:
        return self.call_later(0, callback)

    def call_later(self, delay: Any, callback: Any, /) -> Any:
        handle = _Handle()
        heapq.heappush(self.due, (time.monotonic() + delay, next(self.order), handle, callback))
        return handle

    def add_reader(self, fd: Any, callback: Any, /) -> None:
        self.readers[fd] = callback

    def remove_reader(self, fd: Any, /) -> None:
        del self.readers[fd]

    def run_until(self, done: Any, most_s: Any = 5.0) -> None:
        """Serve callbacks until `done()` is true."""
        end = time.monotonic() + most_s
        while not done():
            assert time.monotonic() < end, "the host's time is over"
            self.step(0.5)

    def step(self, most_s: Any) -> None:
        """Rest until something is due or readable, and call back."""
        while self.due and self.due[0][2].cancelled:
            heapq.heappop(self.due)
        wait = min(most_s, max(0, self.due[0][0] - time.monotonic())) if self.due else most_s
        readable, _, _ = select.select(list(self.readers), [], [], wait)
        for fd in readable:
            self.calls += 1
            self.readers[fd]()
        if self.due and self.due[0][0] <= time.monotonic():
            _, _, handle, callback = heapq.heappop(self.due)
            if not handle.cancelled:
                self.calls += 1
                callback()


class _Handle:
    cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


@pytest.fixture
def host() -> Any:
    host = QueueHost()
    hub.start(host)
    yield host
    hub.stop()
    assert not host.readers


def test_a_task_runs_when_the_host_pumps(host: Any) -> None:
    ran = []
    eventlet.spawn(ran.append, 1)
    assert [] == ran
    host.run_until(lambda: ran)
    assert [1] == ran


def test_a_sleeping_task_is_woken_by_the_hosts_timer(host: Any) -> None:
    task = hub.spawn(hub.current(), lambda: eventlet.sleep(0.02) or "slept")
    host.run_until(lambda: task.dead)
    assert "slept" == task.wait()


def test_a_task_that_waits_for_a_descriptor_is_woken_through_the_poller(host: Any) -> None:
    read, write = os.pipe()
    got = []

    def wait() -> None:
        eventlet.hubs.trampoline(read, read=True)
        got.append(os.read(read, 10))

    eventlet.spawn(wait)
    host.run_until(lambda: hub.current().get_readers() and not host.due)
    os.write(write, b"x")
    host.run_until(lambda: got)
    assert [b"x"] == got
    os.close(read)
    os.close(write)


def test_a_parked_hub_with_nothing_to_do_wakes_nobody(host: Any) -> None:
    task = hub.spawn(hub.current(), lambda: None)
    host.run_until(lambda: task.dead)
    for _ in range(3):
        host.step(0.01)
    before = host.calls
    for _ in range(5):
        host.step(0.05)
    assert before == host.calls


def test_one_turn_a_host_callback_lets_host_and_tasks_alternate(host: Any) -> None:
    seen = []

    def task() -> None:
        for _ in range(5):
            seen.append("task")
            eventlet.sleep(0)

    def tick() -> None:
        seen.append("host")
        if seen.count("task") < 5:
            host.call_soon(tick)

    eventlet.spawn(task)
    host.call_soon(tick)
    host.run_until(lambda: seen.count("task") == 5)
    assert seen.count("host") >= 4


def test_the_main_greenlet_may_wait_while_the_host_stands_still(host: Any) -> None:
    background = []
    eventlet.spawn_after(0.01, background.append, 1)
    eventlet.sleep(0.05)
    assert [1] == background


def test_what_a_wait_interrupted_in_the_middle_of_a_turn_is_taken_up_by_the_host(host: Any) -> None:
    later = []
    eventlet.spawn_after(0.01, lambda: None)
    eventlet.spawn_after(0.0100001, later.append, 1)
    eventlet.sleep(0.01)
    host.run_until(lambda: later)
    assert [1] == later


def test_a_timer_set_by_the_host_while_the_hub_is_parked_is_kept(host: Any) -> None:
    eventlet.spawn_after(10, lambda: None)
    host.step(0.01)
    fired = []
    eventlet.spawn_after(0.02, fired.append, 1)
    host.run_until(lambda: fired)
    assert [1] == fired


def test_another_thread_reaches_a_parked_hub(host: Any) -> None:
    got = []
    thread = threading.Thread(target=hub.current().call_soon_threadsafe, args=(got.append, 1))
    thread.start()
    host.run_until(lambda: got)
    thread.join()
    assert [1] == got


def test_a_thousand_wakeups_all_arrive_in_order(host: Any) -> None:
    here, got = hub.current(), []
    thread = threading.Thread(target=lambda: [here.call_soon_threadsafe(got.append, i) for i in range(1000)])
    thread.start()
    host.run_until(lambda: len(got) == 1000)
    thread.join()
    assert list(range(1000)) == got


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt, BaseException])
def test_nothing_that_a_task_raises_ends_the_hub(host: Any, error: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def bad() -> None:
        raise error

    eventlet.spawn_n(bad)
    eventlet.spawn(bad)
    hub.current().call_soon_threadsafe(bad)
    hub.current().schedule_call_global(0, bad)
    ran = []
    eventlet.spawn_after(0.01, ran.append, 1)
    host.run_until(lambda: ran)
    assert error.__name__ in capsys.readouterr().err
    assert not hub.current().greenlet.dead


def test_a_green_thread_starts_with_its_spawners_context(host: Any) -> None:
    got = []
    token = VALUE.set("mine")
    eventlet.spawn_n(lambda: got.append(VALUE.get()))
    eventlet.spawn(lambda: got.append(VALUE.get()))
    hub.spawn(hub.current(), lambda: got.append(VALUE.get()))
    VALUE.reset(token)
    host.run_until(lambda: len(got) == 3)
    assert ["mine"] * 3 == got


def test_what_a_green_thread_sets_in_its_context_stays_there(guest: Any) -> None:
    def change() -> Any:
        VALUE.set("changed")
        eventlet.sleep(0)
        return VALUE.get()

    task = hub.spawn(guest, change)
    assert "changed" == task.wait()
    assert "none" == VALUE.get()


def test_several_green_threads_may_wait_for_one_descriptor(guest: Any) -> None:
    read, write = os.pipe()
    got = []

    def wait() -> None:
        eventlet.hubs.trampoline(read, read=True)
        got.append(os.read(read, 1))

    tasks = [hub.spawn(guest, wait) for _ in range(3)]
    eventlet.sleep(0.01)
    for _ in range(3):
        os.write(write, b"x")
    for task in tasks:
        task.wait()
    assert [b"x"] * 3 == got
    os.close(read)
    os.close(write)


def test_stop_closes_every_descriptor() -> None:
    before = psutil.Process().num_fds()
    for _ in range(20):
        hub.start()
        eventlet.spawn(eventlet.sleep, 60)
        eventlet.sleep(0)
        hub.stop()
    assert before == psutil.Process().num_fds()


def test_stop_from_a_cell_that_was_woken_inside_a_callback_ends_the_hub() -> None:
    here = hub.start()
    timer = threading.Timer(0.01, here.call_soon_threadsafe, [here.root.switch])
    timer.start()
    here.switch()
    hub.stop()
    timer.join()
    assert here.greenlet.dead
    assert hub.current() is None


def test_eventlets_own_hub_is_back_after_stop() -> None:
    before = getattr(eventlet.hubs._threadlocal, "hub", None)
    hub.start()
    hub.stop()
    assert before is getattr(eventlet.hubs._threadlocal, "hub", None)


# -- tasks -------------------------------------------------------------------------------------------------


def test_a_task_can_be_awaited_in_the_host_loop() -> None:
    async def main() -> Any:
        here = hub.start()
        try:
            return await hub.spawn(here, lambda x: eventlet.sleep(0.01) or x * 2, 21)
        finally:
            hub.stop()

    assert 42 == asyncio.run(main())


def test_an_awaited_task_raises_what_it_raised(capsys: pytest.CaptureFixture[str]) -> None:
    async def main() -> None:
        here = hub.start()
        try:
            with pytest.raises(ZeroDivisionError):
                await hub.spawn(here, lambda: 1 / 0)
        finally:
            hub.stop()

    asyncio.run(main())
    assert "" == capsys.readouterr().err


def test_cancelling_an_await_kills_the_task() -> None:
    async def main() -> Any:
        here = hub.start()
        try:
            task = hub.spawn(here, eventlet.sleep, 60)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(task, 0.02)
            await asyncio.sleep(0.02)
            return task.state
        finally:
            hub.stop()

    assert "killed" == asyncio.run(main())


def test_an_awaited_task_that_is_killed_cancels_what_awaits_it() -> None:
    async def wait_for(task: hub.Task) -> None:
        await task

    async def main() -> None:
        here = hub.start()
        try:
            task = hub.spawn(here, eventlet.sleep, 60)
            waiting = asyncio.ensure_future(wait_for(task))
            asyncio.get_running_loop().call_later(0.01, task.kill)
            await asyncio.wait([waiting], timeout=30)
            assert ("killed", True) == (task.state, waiting.cancelled())
        finally:
            hub.stop()

    asyncio.run(main())


def test_a_task_can_be_awaited_from_a_loop_in_another_thread(guest: Any) -> None:
    task = hub.spawn(guest, lambda: eventlet.sleep(0.02) or "done")
    got = []

    async def wait() -> Any:
        return await task

    thread = threading.Thread(target=lambda: got.append(asyncio.run(wait())))
    thread.start()
    wait_until(lambda: got)
    thread.join()
    assert ["done"] == got


def test_an_awaited_task_that_raises_stop_iteration_says_so_and_does_not_hang() -> None:
    def stop() -> None:
        raise StopIteration

    async def main() -> None:
        here = hub.start()
        try:
            with pytest.raises(RuntimeError, match="StopIteration"):
                await hub.spawn(here, stop)
        finally:
            hub.stop()

    asyncio.run(main())


def test_a_failure_that_nobody_waits_for_is_printed_once(guest: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def named() -> None:
        raise ValueError("lost")

    hub.spawn(guest, named)
    eventlet.sleep(0.01)
    err = capsys.readouterr().err
    assert 1 == err.count("ValueError: lost")
    assert "(named) failed" in err
    assert "eventlet" not in err


def test_a_failure_that_somebody_waits_for_is_not_printed(guest: Any, capsys: pytest.CaptureFixture[str]) -> None:
    task = hub.spawn(guest, lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        task.wait()
    assert "" == capsys.readouterr().err


def test_a_killed_task_is_killed_quietly(guest: Any, capsys: pytest.CaptureFixture[str]) -> None:
    task = hub.spawn(guest, eventlet.sleep, 60)
    eventlet.sleep(0)
    assert "waiting" == task.state
    task.kill()
    assert ("killed", "") == (task.state, capsys.readouterr().err)


def test_spawn_from_another_thread_is_refused_in_one_line(guest: Any) -> None:
    errors = []

    def other() -> None:
        try:
            hub.spawn(guest, print)
        except greenlab.UsageError as error:
            errors.append(str(error))

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert "call_soon_threadsafe" in errors[0]


def test_spawn_of_what_is_no_function_says_what_to_write(guest: Any) -> None:
    with pytest.raises(greenlab.UsageError, match=r"spawn\(f, x\)"):
        hub.spawn(guest, 42)


def test_a_wait_inside_the_hub_itself_is_refused(guest: Any, capsys: pytest.CaptureFixture[str]) -> None:
    guest.schedule_call_global(0, guest.switch)
    eventlet.sleep(0.01)
    assert "the hub itself cannot wait" in capsys.readouterr().err


# -- asyncio from green tasks ------------------------------------------------------------------------------


def in_loop(main: Any) -> Any:
    """Run a coroutine function with the hub as a guest of its loop."""

    async def wrapped() -> Any:
        here = hub.start()
        try:
            return await main(here)
        finally:
            hub.stop()

    return asyncio.run(wrapped())


async def double(x: int) -> int:
    await asyncio.sleep(0.01)
    return 2 * x


def test_a_green_task_waits_for_a_coroutine_of_the_host_loop() -> None:
    async def main(here: Any) -> Any:
        return await hub.spawn(here, lambda: hub.wait_async(here, double(21)))

    assert 42 == in_loop(main)


def test_what_the_coroutine_raises_is_raised_in_the_green_task() -> None:
    async def bad() -> None:
        raise ZeroDivisionError

    async def main(here: Any) -> Any:
        with pytest.raises(ZeroDivisionError):
            await hub.spawn(here, lambda: hub.wait_async(here, bad()))

    in_loop(main)


def test_killing_the_green_task_cancels_the_coroutine() -> None:
    ended = []

    async def long() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async def main(here: Any) -> Any:
        task = hub.spawn(here, lambda: hub.wait_async(here, long()))
        await asyncio.sleep(0.02)
        task.kill()
        await asyncio.sleep(0.02)

    in_loop(main)
    assert ["cancelled"] == ended


def test_a_task_that_needs_the_loop_while_a_cell_stops_it_gets_an_error_and_does_not_hang() -> None:
    async def main(here: Any) -> Any:
        task = hub.spawn(here, lambda: hub.wait_async(here, double(1)))
        with pytest.raises(greenlab.UsageError, match="while a cell waits"):
            task.wait()
        running = hub.spawn(here, lambda: hub.wait_async(here, asyncio.sleep(60)))
        await asyncio.sleep(0.02)
        with pytest.raises(greenlab.UsageError, match="write await task"):
            running.wait()
        running.kill()

    in_loop(main)


def test_a_cell_is_told_to_use_await_and_a_script_that_there_is_no_loop(guest: Any) -> None:
    with pytest.raises(greenlab.UsageError, match="with await"):
        hub.wait_async(guest, double(1))
    with pytest.raises(greenlab.UsageError, match="no running event loop"):
        hub.spawn(guest, lambda: hub.wait_async(guest, double(1))).wait()


def test_a_loop_that_waits_on_the_hub_is_woken_by_the_task_it_awaits(started: Any) -> None:
    async def main() -> Any:
        return await greenlab.spawn(lambda: eventlet.sleep(0.02) or "done")

    assert "done" == asyncio.run(asyncio.wait_for(main(), 5))
