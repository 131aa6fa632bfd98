"""The guest hub, first against the simplest host there is: a queue."""

# Doubles, lambdas and deliberate misuse: what these rules see in them is meant.
# mypy: disable-error-code="arg-type, attr-defined, func-returns-value, misc, union-attr, var-annotated"

from __future__ import annotations

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
