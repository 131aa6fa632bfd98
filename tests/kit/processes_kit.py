"""What the tests of the pools with worker processes share: a job that keeps what it is told, and what is counted."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterable, Sized
from typing import TYPE_CHECKING, Any

from greenlab.errors import WorkerLostError
from greenlab.hub import eventlet
from greenlab.pools.hybrid import HybridPool
from greenlab.pools.prefork import PreforkPool

if TYPE_CHECKING:
    from pathlib import Path

    from greenlab.hub.blocks import Block
MIB = 1 << 20

ProcessPool = PreforkPool | HybridPool


class FakeJob:
    """A job over an iterable, which keeps what it is told.

    Attributes:
        values, errors: what tasks returned and raised, by index.
        spans: when tasks started and ended, by index.
        blocks: what held the hubs of processes.
        printed: streams, texts and the indices of the tasks that printed them.
        most_waiting: how many tasks had been pulled and had not ended, at the most.
        stopped: whether nothing more is pulled.
    """

    kind: str | None = None

    def __init__(
        self,
        func: Any,
        items: Any,
        *,
        concurrency: int = 8,
        workers: int = 2,
        timeout_s: float | None = None,
        max_tasks: int | None = None,
        max_memory: int | None = None,
    ) -> None:
        self.func = func
        self.concurrency = concurrency
        self.workers = workers
        self.timeout_s = timeout_s
        self.max_tasks = max_tasks
        self.max_memory = max_memory
        self.values: dict[int, Any] = {}
        self.errors: dict[int, Any] = {}
        self.spans: dict[int, tuple[float, float]] = {}
        self.printed: list[tuple[str, str, int | None]] = []
        self.blocks: list[Block] = []
        self.pulled = 0
        self.most_waiting = 0
        self.stopped = False
        self._total = len(items) if isinstance(items, Sized) else None
        self._items = enumerate(items)

    @property
    def done(self) -> int:
        return len(self.values) + len(self.errors)

    @property
    def results(self) -> list[Any]:
        """The values in the order of the items; None for each task that failed."""
        return [self.values.get(index) for index in range(self.pulled)]

    def pull(self) -> tuple[int, Any]:
        if self.stopped:
            raise StopIteration
        task = next(self._items)
        self.pulled += 1
        self.most_waiting = max(self.most_waiting, self.pulled - self.done)
        return task

    def succeed(self, index: int, started_s: float, ended_s: float, value: Any) -> None:
        self._end(index, started_s, ended_s)
        self.values[index] = value

    def fail(self, index: int, started_s: float, ended_s: float, error: BaseException) -> None:
        self._end(index, started_s, ended_s)
        self.errors[index] = error

    def _end(self, index: int, started_s: float, ended_s: float) -> None:
        assert index not in self.spans
        assert started_s <= ended_s <= time.perf_counter()
        self.spans[index] = started_s, ended_s

    def size_hint(self) -> int | None:
        return None if self._total is None else self._total - self.pulled

    def note_block(self, block: Block) -> None:
        self.blocks.append(block)

    def write(self, stream: str, text: str, index: int | None = None) -> None:
        self.printed.append((stream, text, index))

    def text(self, stream: str = "stdout", index: int | None = None) -> str:
        """All that was printed to a stream, or what one task printed there."""
        return "".join(text for to, text, of in self.printed if to == stream and index in (None, of))


# --- runs --------------------------------------------------------------------------------------------------


def run(pool: ProcessPool, func: Any, items: Any, **options: Any) -> FakeJob:
    job = FakeJob(func, items, **options)
    pool.run(job)
    assert 0 == pool.count(job)
    if not pool._jobs:  # or what others have in flight would count too
        assert 0 == pool.in_flight
    return job


def kill(thread: Any) -> None:
    thread.kill()
    with contextlib.suppress(eventlet.greenlet.GreenletExit):
        thread.wait()


def server_pid(pool: ProcessPool) -> int:
    return pool._supervisor.server_pid


def count_turns(seconds: float) -> int:
    """Wait; count meanwhile how often the hub looks what is to do, which it does twice in each turn."""
    turns = []
    hub = eventlet.hubs.get_hub()
    prepare = hub.prepare_timers

    def count() -> None:
        turns.append(1)
        prepare()

    hub.prepare_timers = count
    eventlet.sleep(seconds)
    del hub.prepare_timers
    return len(turns)


def most_at_once(spans: Iterable[tuple[float, float]]) -> int:
    """How many of these spans of time overlap at the most."""
    level = most = 0
    for _, step in sorted(step for start, end in spans for step in ((start, 1), (end, -1))):
        level += step
        most = max(most, level)
    return most


def assert_each_once(job: FakeJob, log: Path, count: int) -> None:
    """Every task of `tasks.note_to` is accounted for, and none was begun twice."""
    ran = [int(line) for line in log.read_text().split()]
    assert len(ran) == len(set(ran))
    assert set(range(count)) == set(job.values) | set(job.errors)
    assert {i: i for i in job.values} == job.values
    assert {WorkerLostError} >= set(map(type, job.errors.values()))


# --- scripts -----------------------------------------------------------------------------------------------


def script_env() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def run_script(text: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-"],
        input=textwrap.dedent(text),
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
        env=script_env(),
    )
    assert (0, "") == (done.returncode, done.stderr)
    return done.stdout
