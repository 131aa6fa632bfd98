"""One call elsewhere, waited for in a green task."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any

import greenlet
import pytest

import greenlab
from greenlab.hub import eventlet

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _hub(started: Any) -> Any:
    return started


def divide(a: int, b: int) -> float:
    return a / b


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_the_value_comes_back(pool: str) -> None:
    assert 2.5 == greenlab.offload(divide, 5, 2, pool=pool)


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_the_exception_comes_back_with_the_line_that_raised_it(pool: str) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        greenlab.offload(divide, 1, 0, pool=pool)
    told = "".join(traceback.format_exception(caught.value))
    assert "return a / b" in told


def test_a_process_is_another_one_and_a_thread_another_thread() -> None:
    assert os.getpid() != greenlab.offload(os.getpid)
    assert threading.get_ident() != greenlab.offload(threading.get_ident, pool="threads")


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_other_green_tasks_run_meanwhile(pool: str) -> None:
    ticks = []

    def tick() -> None:
        while True:
            ticks.append(1)
            eventlet.sleep(0.001)

    release = threading.Event()
    ticker = greenlab.spawn(tick)
    if pool == "threads":
        task = greenlab.spawn(greenlab.offload, release.wait, 30, pool=pool)
        eventlet.sleep(0.05)
        release.set()
    else:
        task = greenlab.spawn(greenlab.offload, time.sleep, 0.05)
    task.wait()
    ticker.kill()
    assert len(ticks) > 10


def test_what_blocks_natively_overlaps_in_threads() -> None:
    barrier = threading.Barrier(20)  # passes only if all twenty wait at once
    waits = greenlab.run(
        lambda _: greenlab.offload(barrier.wait, 20, pool="threads") >= 0, range(20), concurrency=20, live=False
    )
    assert [True] * 20 == waits.results


def test_a_database_file_is_read_in_a_thread(tmp_path: Path) -> None:
    def query(n: int) -> Any:
        db = sqlite3.connect(tmp_path / "numbers.db")
        try:
            return db.execute("select ? * 2", (n,)).fetchone()[0]
        finally:
            db.close()

    run = greenlab.run(lambda n: greenlab.offload(query, n, pool="threads"), range(10), live=False)
    assert [2 * n for n in range(10)] == run.results


def test_many_green_tasks_share_the_workers() -> None:
    run = greenlab.run(lambda x: greenlab.offload(divide, x, 2), range(50), concurrency=25, live=False)
    assert [x / 2 for x in range(50)] == run.results


def test_killing_the_caller_ends_its_wait_and_the_pool_lives_on() -> None:
    task = greenlab.spawn(greenlab.offload, time.sleep, 60)
    eventlet.sleep(0.2)
    task.kill()
    with pytest.raises(greenlet.GreenletExit):
        task.wait()
    assert 1.0 == greenlab.offload(divide, 1, 1)


def test_a_capture_that_cannot_travel_is_named() -> None:
    guard = threading.Lock()
    with pytest.raises(greenlab.NotSendableError, match="'guard'"):
        greenlab.offload(lambda: guard)


def test_mistakes_say_what_to_write() -> None:
    with pytest.raises(greenlab.UsageError, match=r"offload\(f, x\)"):
        greenlab.offload(42)  # type: ignore[arg-type]  # the mistake is the point
    with pytest.raises(greenlab.UsageError, match="prefork or threads"):
        greenlab.offload(divide, 1, 2, pool="green")
