"""The threads pool and offload against concurrent.futures: tasks that do nothing, sleeps of 1 ms, single calls.

Run as `python tests/benchmarks/bench_threads.py [--quick]`. Contenders alternate; ratios are taken round by round.
"""

from __future__ import annotations

import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "kit"))

import bench

import greenlab

if TYPE_CHECKING:
    from collections.abc import Callable

WIDTH = 100


def nothing(_: Any) -> None:
    """Do nothing: what is left is the pool's own cost."""


def nap(_: Any) -> None:
    """Wait as a fast server would."""
    time.sleep(0.001)


def by_greenlab(func: Callable[[Any], Any], count: int) -> float:
    return greenlab.run(func, range(count), pool="threads", concurrency=WIDTH).throughput


def by_executor(func: Callable[[Any], Any], count: int) -> float:
    with greenlab.native():
        begin_s = time.perf_counter()
        with ThreadPoolExecutor(WIDTH) as executor:
            for _ in executor.map(func, range(count)):
                pass
        return count / (time.perf_counter() - begin_s)


def offloaded(count: int) -> float:
    """Calls a second, by a hundred green tasks at once."""
    return greenlab.run(lambda x: greenlab.offload(abs, x), range(count), concurrency=WIDTH).throughput


def submitted(executor: ProcessPoolExecutor, count: int) -> float:
    """The same by a hundred OS threads that submit to an executor and wait."""
    with greenlab.native():
        begin_s = time.perf_counter()
        with ThreadPoolExecutor(WIDTH) as callers:
            for _ in callers.map(lambda x: executor.submit(abs, x).result(), range(count)):
                pass
        return count / (time.perf_counter() - begin_s)


def main() -> None:
    rounds, scale = (2, 5) if bench.quick(__doc__) else (7, 1)
    greenlab.start()
    for title, func, count, target in (
        ("tasks that do nothing", nothing, 20_000, "≥ 2"),
        ("tasks that sleep 1 ms", nap, 20_000, "≥ 1"),
    ):
        found: dict[str, list[float]] = {"greenlab threads": [], "ThreadPoolExecutor": []}
        for _ in range(rounds):
            found["greenlab threads"].append(by_greenlab(func, count // scale))
            found["ThreadPoolExecutor"].append(by_executor(func, count // scale))
        bench.show(f"{title}, {WIDTH} threads", "tasks/s", found)
        bench.show_ratio("threads against the executor", bench.divide(*found.values()), target)

    calls: dict[str, list[float]] = {"greenlab.offload": [], "submit().result()": []}
    with greenlab.native():
        executor = ProcessPoolExecutor()
        executor.submit(abs, 1).result()
    greenlab.offload(abs, 1)
    for _ in range(rounds):
        calls["greenlab.offload"].append(offloaded(5000 // scale))
        calls["submit().result()"].append(submitted(executor, 5000 // scale))
    bench.show(f"one call at a time to a process, {WIDTH} callers", "calls/s", calls)
    bench.show_ratio("offload against submit", bench.divide(*calls.values()), "≥ 2")
    with greenlab.native():
        executor.shutdown()

    kept: dict[str, list[float]] = {"discard": [], "kept": []}
    for _ in range(rounds):
        for name, discard in (("discard", True), ("kept", False)):
            kept[name].append(greenlab.run(nothing, range(500_000 // scale), discard=discard).throughput)
    bench.show("green tasks that do nothing, results discarded or kept", "tasks/s", kept)
    greenlab.stop()


if __name__ == "__main__":
    main()
