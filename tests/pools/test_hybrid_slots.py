"""The hybrid pool's slots: none stands idle while a task for it waits elsewhere, and none costs before it is used."""

from __future__ import annotations

import contextlib
import os
import random
import signal
from typing import TYPE_CHECKING, Any

import pytest
from processes_kit import FakeJob, assert_each_once, run
from tasks import compute, note_to
from waiting import wait_until

from greenlab.errors import CancelledError
from greenlab.hub import eventlet

if TYPE_CHECKING:
    from pathlib import Path

    from greenlab.pools.hybrid import HybridPool

pytestmark = pytest.mark.usefixtures("nothing_of_processes_left", "time_limit")

SOAK = int(os.environ.get("GREENLAB_SOAK", "0"))


@pytest.fixture
def pool(hybrid_pool: HybridPool) -> HybridPool:
    return hybrid_pool


def meet_after(first: int, count: int, log: Any) -> Any:
    """Make a task that does nothing for items below `first`, and then waits until `count` of them run at once."""
    note = note_to(log)

    def task(x: int) -> int:
        import time

        if x >= first:
            note(x)
            while os.path.getsize(log) < count * 5:  # noqa: PTH202 - each has noted its four digits
                time.sleep(0.005)
        return x

    return task


def test_slow_tasks_after_tiny_ones_are_in_flight_together(pool: HybridPool, tmp_path: Path) -> None:
    job = run(pool, meet_after(1000, 100, tmp_path / "log"), range(1100), concurrency=100)
    assert list(range(1100)) == job.results


def test_what_waits_in_a_process_that_is_stopped_is_done_by_another(pool: HybridPool, tmp_path: Path) -> None:
    note = note_to(tmp_path / "log")

    def task(x: int) -> int:
        if x == 2000:
            os.kill(os.getpid(), signal.SIGSTOP)
        note(x)
        return x

    pool.start(FakeJob(abs, []))
    job = FakeJob(task, range(3000), concurrency=20)
    thread = eventlet.spawn(pool.run, job)
    # What had ended in the stopped one, and was not sent yet, is heard of when it goes on.
    wait_until(lambda: job.pulled == 3000 and len(open_file(tmp_path / "log")) == 2999)
    for pid in pool.pids:
        os.kill(pid, signal.SIGCONT)
    thread.wait()
    assert list(range(3000)) == job.results
    assert_each_once(job, tmp_path / "log", 3000)


def open_file(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


def test_tasks_are_run_once_whatever_is_recalled_killed_and_lost_meanwhile(pool: HybridPool, tmp_path: Path) -> None:
    """Tasks of very different lengths, so that much is recalled, while single tasks and processes are killed."""
    count = SOAK or 400
    rng = random.Random(16)
    lengths = [rng.choice((0, 0, 0, 0, 0, 0.01, 0.03)) for _ in range(count)]
    note = note_to(tmp_path / "log")

    def task(x: int) -> int:
        import time

        note(x)
        (time.sleep if x % 2 else compute)(lengths[x])
        return x

    job = FakeJob(task, range(count), concurrency=20, workers=3)
    pool.start(job)
    thread = eventlet.spawn(pool.run, job)
    while not thread.dead:
        eventlet.sleep(rng.uniform(0, 0.05))
        pool.kill(job, rng.randrange(max(1, job.pulled - 40), job.pulled + 1), CancelledError("this one"))
        if pool.pids and rng.random() < 0.05:
            with contextlib.suppress(ProcessLookupError):  # it may be dead without the pool knowing yet
                os.kill(rng.choice(pool.pids), signal.SIGKILL)
    thread.wait()
    cancelled = {index for index, error in job.errors.items() if isinstance(error, CancelledError)}
    for index in cancelled:
        del job.errors[index]
        job.values[index] = index
    assert_each_once(job, tmp_path / "log", count)


def test_a_limit_that_is_never_reached_costs_nothing(pool: HybridPool) -> None:
    for items in (range(1000), iter(range(1000))):
        job = run(pool, abs, items, concurrency=10**7)
        assert list(range(1000)) == job.results
