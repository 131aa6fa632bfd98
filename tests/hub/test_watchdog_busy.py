"""No block that did not happen, and each that did, where the machine is busy or somebody keeps the GIL."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import eventlet
import pytest
from holding import compute, hold_once, wait_natively

import greenlab
from greenlab.hub.watchdog import watchdog_of

if TYPE_CHECKING:
    from collections.abc import Iterator


pytestmark = pytest.mark.usefixtures("stopped")


def compute_briefly(took: list[float]) -> None:
    """Compute for 10 ms, and note how long that took by the clock, which on a busy machine is more."""
    begin_s = time.perf_counter()
    compute(0.01)
    took.append(time.perf_counter() - begin_s)


def longer_than_any(took: list[float]) -> list[str]:
    """The blocks that none of these can have been alone; all of them together are longer than that."""
    longest_s = max(took) + 0.05
    return [str(block) for block in watchdog_of(greenlab.start()).blocks if block.duration_s > longest_s]


def test_short_tasks_one_after_the_other_that_never_wait_are_no_block() -> None:
    took: list[float] = []
    greenlab.start()
    for _ in range(40):
        eventlet.spawn_n(compute_briefly, took)
    greenlab.spawn(abs, 1).wait()
    greenlab.run(lambda _: compute_briefly(took), range(40), concurrency=40)
    assert 80 == len(took)
    assert [] == longer_than_any(took)


def test_a_burst_of_callbacks_from_other_threads_is_no_block() -> None:
    took: list[float] = []
    here = greenlab.start()
    for _ in range(40):
        here.call_soon_threadsafe(compute_briefly, took)
    time.sleep(0.01)
    assert 40 == len(took)
    assert [] == longer_than_any(took)


def test_a_thread_that_keeps_the_gil_is_not_blamed_on_the_hubs_line() -> None:
    libc = ctypes.PyDLL(None)
    numbers = (ctypes.c_int * 8_000_000)(*range(8_000_000, 0, -1))

    def sort() -> float:
        """C's own sort with C's own comparison, called without letting the GIL go."""
        began = time.perf_counter()
        libc.qsort(numbers, len(numbers), 4, ctypes.cast(libc.strcmp, ctypes.c_void_p))
        return time.perf_counter() - began

    def ticking(_: int) -> None:
        for _ in range(5):
            compute(0.015)
            time.sleep(0.0001)

    greenlab.start()
    alone = sort()
    took: list[float] = []
    thread = __import__("threading").Thread(target=lambda: took.append(sort()))
    thread.start()
    run = greenlab.run(ticking, range(10), concurrency=10)
    thread.join()
    assert 0.15 < alone, "the sort is too short for the test"
    # On a busy machine a task may hold the hub for long by the clock, but not for as long as the sort.
    assert [] == [str(block) for block in run.blocked if block.duration_s > took[0] / 2]


def test_a_line_that_computes_in_one_call_and_keeps_the_gil_is_found() -> None:
    run = greenlab.run(hold_once(lambda: sum(range(40_000_000))), range(3))
    assert ["CPU"] == [block.kind for block in run.blocked]
    assert 0.2 < run.blocked[0].duration_s


def test_a_line_that_waits_with_the_gil_in_its_hands_is_found() -> None:
    usleep = ctypes.PyDLL(None).usleep
    run = greenlab.run(hold_once(lambda: usleep(400_000)), range(3))
    assert ["waiting"] == [block.kind for block in run.blocked]


@contextlib.contextmanager
def hogs() -> Iterator[None]:
    """Two processes for each core that compute for as long as the block runs."""
    code = "while True: sum(range(10000))"
    running = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2 * (os.cpu_count() or 1))]
    try:
        time.sleep(0.5)  # until they have started to compute
        yield
    finally:
        for each in running:
            each.send_signal(signal.SIGKILL)
            each.wait()


def test_a_healthy_run_on_a_busy_machine_reports_no_block_and_a_sick_one_its_own() -> None:
    def fetch(x: int) -> bytes:
        here, there = socket.socketpair()
        with here, there:
            time.sleep(0.05 + x % 7 * 0.01)
            there.send(b"x" * 100)
            return here.recv(100)

    def sick(x: int) -> None:
        fetch(x)
        if x == 500:
            compute(0.3)

    with hogs():
        healthy = greenlab.run(fetch, range(2000), concurrency=400)
        ill = greenlab.run(sick, range(1000), concurrency=400)
    assert [] == [str(block) for block in healthy.blocked if block.function == "fetch"]
    assert ["compute"] == [block.function for block in ill.blocked if block.function in {"fetch", "compute"}]


def test_what_blocked_the_hub_is_what_the_clock_says_on_a_busy_machine() -> None:
    def spin() -> None:
        end = time.perf_counter() + 0.12
        while time.perf_counter() < end:
            sum(range(100))

    def task(x: int) -> None:
        time.sleep(0.002)
        begin_s, used_s = time.perf_counter(), time.thread_time()
        (spin, lambda: wait_natively(0.12), lambda: None)[x % 3]()
        took[x] = time.perf_counter() - begin_s
        # On a machine so busy that it could compute next to nothing, it was the machine that stood still.
        starved[x] = x % 3 == 0 and time.thread_time() - used_s < max(0.008, 0.04 * took[x])
        time.sleep(0.002)

    took: dict[int, float] = {}
    starved: dict[int, bool] = {}
    with hogs():
        run = greenlab.run(task, range(12), concurrency=6)
    assert pytest.approx(sum(seconds for x, seconds in took.items() if x % 3 < 2 and not starved[x]), rel=0.1) == sum(
        block.duration_s for block in run.blocked if block.index is not None and not starved.get(block.index, False)
    )
