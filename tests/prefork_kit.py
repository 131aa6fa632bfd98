"""What the tests of the prefork pool share: a job that keeps what it is told, and a check that nothing is left."""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import subprocess
import sys
import textwrap
import time
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from greenlab.hub import eventlet
from greenlab.pools.prefork import PreforkPool

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1 << 20


class FakeJob:
    """A job over an iterable, which keeps what it is told."""

    def __init__(self, func: Any, items: Any, *, concurrency: Any = 100, timeout_s: Any = None, **limits: Any) -> None:
        self.func = func
        self.concurrency = self.workers = concurrency
        self.timeout_s = timeout_s
        self.max_tasks: int | None = limits.get("max_tasks")
        self.max_memory: int | None = limits.get("max_memory")
        self.values: dict[int, Any] = {}
        self.errors: dict[int, Any] = {}
        self.pulled = 0
        self.most_waiting = 0
        self.printed: list[tuple[str, str]] = []
        self.printers: list[int | None] = []
        self._items = enumerate(items)

    def pull(self) -> tuple[int, Any]:
        task = next(self._items)
        self.pulled += 1
        self.most_waiting = max(self.most_waiting, self.pulled - len(self.values) - len(self.errors))
        return task

    def succeed(self, index: Any, started_s: Any, ended_s: Any, value: Any) -> None:
        self._end(index, started_s, ended_s)
        self.values[index] = value

    def fail(self, index: Any, started_s: Any, ended_s: Any, error: Any) -> None:
        self._end(index, started_s, ended_s)
        self.errors[index] = error

    def _end(self, index: Any, started_s: Any, ended_s: Any) -> None:
        assert index not in self.values
        assert index not in self.errors
        assert started_s <= ended_s <= time.perf_counter()

    def size_hint(self) -> Any:
        return None

    def write(self, stream: Any, text: Any, index: Any = None) -> None:
        self.printed.append((stream, text))
        self.printers.append(index)

    def text(self, stream: Any = "stdout") -> str:
        return "".join(text for to, text in self.printed if to == stream)


@pytest.fixture(autouse=True)
def nothing_of_processes_left() -> Iterator[None]:
    eventlet.hubs.get_hub()  # its own descriptor is not ours to count
    me = psutil.Process()
    before = me.num_fds()
    gc.freeze()  # so that collecting looks at what the test has made, which takes a tenth of the time
    yield
    gc.collect()
    gc.unfreeze()
    assert [] == me.children(recursive=True)
    assert before == me.num_fds()
    hub = eventlet.hubs.get_hub()
    eventlet.sleep(0)
    assert [] == [timer for timer in [*hub.timers, *hub.next_timers] if not timer[1].called]


@pytest.fixture(autouse=True)
def time_limit() -> Iterator[None]:
    with eventlet.Timeout(60):
        yield


@pytest.fixture
def pool() -> Iterator[PreforkPool]:
    with PreforkPool(2) as pool:
        yield pool


def run(pool: PreforkPool, func: Any, items: Any, **options: Any) -> FakeJob:
    job = FakeJob(func, items, **options)
    pool.run(job)
    assert 0 == pool.in_flight
    return job


def run_script(text: Any, *args: Any) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-", *args],
        input=textwrap.dedent(text),
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert (0, "") == (done.returncode, done.stderr)
    return done.stdout


def server_pid(pool: PreforkPool) -> int:
    return pool._fleet.server_pid


def held(pool: PreforkPool) -> Iterator[Any]:
    return itertools.chain.from_iterable(link.outstanding.values() for link in pool._fleet.processes)


def kill(thread: Any) -> None:
    thread.kill()
    with contextlib.suppress(eventlet.greenlet.GreenletExit):
        thread.wait()


def until(condition: Any) -> None:
    while not condition():
        eventlet.sleep(0.005)


def kill_quietly(thread: Any) -> None:
    """End a run that may have ended, or raised."""
    with contextlib.suppress(Exception):
        kill(thread)
