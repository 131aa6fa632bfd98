"""The prefork pool against its peers: tasks that do nothing, start-up, a mebibyte in and out; and its own losses.

Run as `python tests/benchmarks/bench_prefork.py [--rounds N]`. Two workers each; every peer gets its items
one by one (chunksize 1), as the prefork pool pulls them. Contenders alternate, and the table shows medians
over rounds and the ratio to the best peer, so that a noisy machine disturbs all alike.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import multiprocessing
import os
import signal
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "kit"))

import bench
import billiard
import loky
import psutil

from greenlab.errors import WorkerLostError
from greenlab.pools.prefork import PreforkPool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

WORKERS = 2
MIB = bytes(1 << 20)
TASK_S = 0.001


def nothing(_: Any) -> None:
    """Do nothing: what is left is the pool's own cost."""


def same(data: bytes) -> bytes:
    """Send the argument back."""
    return data


class CountingJob:
    """A job that keeps no more than a count."""

    concurrency = 1_000
    workers = 1_000
    timeout_s: float | None = None
    max_tasks: int | None = None
    max_memory: int | None = None
    kind: str | None = None

    def __init__(self, func: Callable[[Any], Any], items: Iterable[Any]) -> None:
        self.func = func
        self.ended = 0
        self._items = enumerate(items)

    def pull(self) -> tuple[int, Any]:
        return next(self._items)

    def succeed(self, _index: int, _started_s: float, _ended_s: float, _value: Any) -> None:
        self.ended += 1

    def fail(self, _index: int, _started_s: float, _ended_s: float, error: BaseException) -> None:
        raise error

    def size_hint(self) -> int | None:
        return None

    def write(self, _stream: str, _text: str, _index: int | None = None) -> None:
        pass

    def note_block(self, _block: object) -> None:
        pass


class Prefork:
    def __enter__(self) -> Self:
        self.pool = PreforkPool(WORKERS)
        self.pool.start()
        return self

    def run(self, func: Callable[[Any], Any], items: list[Any]) -> int:
        job = CountingJob(func, items)
        self.pool.run(job)
        return job.ended

    def __exit__(self, *_: object) -> None:
        self.pool.close()


class Pool:
    """`imap_unordered` of multiprocessing, or of billiard."""

    def __init__(self, make: Callable[[int], Any]) -> None:
        self.make = make

    def __enter__(self) -> Self:
        self.pool = self.make(WORKERS)
        return self

    def run(self, func: Callable[[Any], Any], items: list[Any]) -> int:
        return sum(1 for _ in self.pool.imap_unordered(func, items))

    def __exit__(self, *_: object) -> None:
        self.pool.terminate()
        self.pool.join()


class Executor:
    """`map` of concurrent.futures, or of loky."""

    def __init__(self, make: Callable[[int], Any]) -> None:
        self.make = make

    def __enter__(self) -> Self:
        self.pool = self.make(WORKERS)
        return self

    def run(self, func: Callable[[Any], Any], items: list[Any]) -> int:
        return sum(1 for _ in self.pool.map(func, items))

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown()


CONTENDERS: dict[str, Callable[[], Any]] = {
    "greenlab prefork": Prefork,
    "multiprocessing.Pool": lambda: Pool(multiprocessing.get_context("fork").Pool),
    "billiard.Pool": lambda: Pool(billiard.Pool),
    "ProcessPoolExecutor": lambda: Executor(concurrent.futures.ProcessPoolExecutor),
    "loky": lambda: Executor(loky.ProcessPoolExecutor),
}


def rates(func: Callable[[Any], Any], counts: dict[str, int], item: Any, rounds: int) -> dict[str, list[float]]:
    """Tasks a second, by contender and round; pools are warm, and alive one at a time."""
    found: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for _ in range(rounds):
        for name, make in CONTENDERS.items():
            items = [item] * counts[name]
            with make() as pool:
                pool.run(func, items[:50])
                began_s = time.perf_counter()
                ended = pool.run(func, items)
                found[name].append(ended / (time.perf_counter() - began_s))
            assert ended == len(items)
    return found


def starts(rounds: int) -> dict[str, list[float]]:
    """Seconds from nothing to the first result."""
    found: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for _ in range(rounds):
        for name, make in CONTENDERS.items():
            began_s = time.perf_counter()
            with make() as pool:
                pool.run(nothing, [0, 0])
                found[name].append(time.perf_counter() - began_s)
    return found


def warm_starts(rounds: int) -> list[float]:
    """Seconds for two more workers from a fork server that runs."""
    found = []
    for _ in range(rounds):
        with PreforkPool(1) as pool:
            began_s = time.perf_counter()
            pool.resize(3)
            found.append(time.perf_counter() - began_s)
    return found


def compute(_: Any) -> None:
    """Use a processor for a millisecond."""
    end_s = time.thread_time() + TASK_S
    while time.thread_time() < end_s:
        pass


def scale(rounds: int) -> tuple[list[float], list[float]]:
    """Give, by round, what two workers do against twice what one does, and the share of processor time in tasks.

    The second is what the first would be if nobody else used the processors.
    """
    ratios, shares = [], []
    for _ in range(rounds):
        rates = []
        for workers in (1, 2):
            with PreforkPool(workers) as pool:
                pool.run(CountingJob(compute, range(100)))
                processes = [psutil.Process(), *map(psutil.Process, pool.pids)]
                began_s, used_s = time.perf_counter(), _processor_s(processes)
                pool.run(CountingJob(compute, range(1_000 * workers)))
                rates.append(1_000 * workers / (time.perf_counter() - began_s))
                used_s = _processor_s(processes) - used_s
        ratios.append(rates[1] / rates[0] / 2)
        shares.append(2_000 * TASK_S / used_s)
    return ratios, shares


def _processor_s(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


class DyingJob(CountingJob):
    """Its first task kills its worker; keeps when that was, and when tasks began elsewhere."""

    def __init__(self) -> None:
        super().__init__(die_once, range(400))
        self.died_s = 0.0
        self.began_s: dict[int, float] = {}

    def succeed(self, _index: int, started_s: float, _ended_s: float, value: Any) -> None:
        self.began_s.setdefault(value, started_s)

    def fail(self, _index: int, _started_s: float, _ended_s: float, error: BaseException) -> None:
        assert isinstance(error, WorkerLostError)

    def write(self, _stream: str, text: str, _index: int | None = None) -> None:
        self.died_s = float(text)

    def note_block(self, _block: object) -> None:
        pass


def die_once(index: int) -> int:
    """Say when it is, and die; or take a millisecond, and say where."""
    if index == 100:
        print(time.perf_counter(), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.001)
    return os.getpid()


def recoveries(rounds: int) -> list[float]:
    """Seconds from the death of a worker to the first task on its replacement."""
    found = []
    for _ in range(rounds):
        with PreforkPool(WORKERS) as pool:
            before, job = pool.pids, DyingJob()
            pool.run(job)
            found.append(min(began_s for pid, began_s in job.began_s.items() if pid not in before) - job.died_s)
    return found


def show(title: str, unit: str, found: dict[str, list[float]], target: str = "none") -> None:
    """Print a table, and the ratio to the best peer of each round."""
    bench.show(title, unit, found)
    ours, *others = found.values()
    more = unit.endswith("/s")
    best = [(max if more else min)(row) for row in zip(*others, strict=True)]
    ratios = bench.divide(ours, best) if more else bench.divide(best, ours)
    bench.show_ratio("prefork against the best peer", ratios, target)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    warnings.simplefilter("ignore", DeprecationWarning)  # the peers fork, and eventlet warns of forks
    print(f"{WORKERS} workers, chunksize 1, {rounds} rounds, Python {sys.version.split()[0]}")
    few = dict.fromkeys(CONTENDERS, 4_000)
    many = {**few, "greenlab prefork": 100_000, "multiprocessing.Pool": 20_000, "billiard.Pool": 20_000}
    show("tasks that do nothing", "tasks/s", rates(nothing, many, 0, rounds), "≥ 4")
    show("1 MiB in, 1 MiB out", "tasks/s", rates(same, dict.fromkeys(CONTENDERS, 300), MIB, rounds), "≥ 1.5")
    show("start to first results, cold", "s", starts(rounds), "none; ours < 0.4 s")
    print("\nthe prefork pool by itself")
    bench.show_ratio("2 workers from a warm fork server", warm_starts(rounds), "< 0.15", "s")
    ratios, shares = scale(rounds)
    bench.show_ratio("tasks of 1 ms, 2 workers against twice 1", ratios, "≥ 0.97 on 2 cores that are free")
    bench.show_ratio("share of all processor time that is the tasks'", shares, "≥ 0.97")
    bench.show_ratio("from a worker's death to a task on its replacement", recoveries(rounds), "< 0.05", "s")


if __name__ == "__main__":
    main()
