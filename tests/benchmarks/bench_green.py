"""The green pool against its peers: tasks that do nothing, 500 in flight, records on.

Run as `python tests/benchmarks/bench_green.py [--quick]`. Each measurement is a fresh process, because the hubs of
gevent and of eventlet do not mix, and because a peer must run on eventlet's own hub, not on greenlab's.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "kit"))

import bench

if TYPE_CHECKING:
    from collections.abc import Callable

CONCURRENCY = 500


def nothing(_: Any) -> None:
    """Do nothing: what is left is the pool's own cost."""


def greenlab_run() -> Callable[[int], int]:
    import greenlab

    return lambda count: greenlab.run(nothing, range(count), concurrency=CONCURRENCY, live=False).done


def eventlet_imap() -> Callable[[int], int]:
    from greenlab.hub import eventlet

    pool = eventlet.GreenPool(CONCURRENCY)
    return lambda count: sum(1 for _ in pool.imap(nothing, range(count)))


def eventlet_spawn_n() -> Callable[[int], int]:
    from greenlab.hub import eventlet

    pool = eventlet.GreenPool(CONCURRENCY)

    def run(count: int) -> int:
        for item in range(count):
            pool.spawn_n(nothing, item)
        pool.waitall()
        return count

    return run


def gevent_imap_unordered() -> Callable[[int], int]:
    import gevent.pool

    pool = gevent.pool.Pool(CONCURRENCY)
    return lambda count: sum(1 for _ in pool.imap_unordered(nothing, range(count)))


def asyncio_task_group() -> Callable[[int], int]:
    async def task(item: int) -> None:
        nothing(item)

    async def groups(count: int) -> int:
        for first in range(0, count, CONCURRENCY):
            async with asyncio.TaskGroup() as group:
                for item in range(first, first + CONCURRENCY):
                    group.create_task(task(item))
        return count

    return lambda count: asyncio.run(groups(count))


def thread_pool() -> Callable[[int], int]:
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(CONCURRENCY)
    return lambda count: sum(1 for _ in pool.map(nothing, range(count)))


GREEN, IMAP, GEVENT = "greenlab.run", "GreenPool.imap", "gevent imap_unordered"
CONTENDERS: dict[str, tuple[Callable[[], Callable[[int], int]], int]] = {
    GREEN: (greenlab_run, 500_000),
    IMAP: (eventlet_imap, 50_000),
    "GreenPool.spawn_n": (eventlet_spawn_n, 50_000),
    GEVENT: (gevent_imap_unordered, 50_000),
    "asyncio.TaskGroup": (asyncio_task_group, 50_000),
    "ThreadPoolExecutor": (thread_pool, 50_000),
}


def measure(name: str) -> float:
    """Give microseconds a task; this process has run nothing else."""
    make, count = CONTENDERS[name]
    run = make()
    run(5_000)
    began_s = perf_counter()
    ended = run(count)
    taken_s = perf_counter() - began_s
    assert ended == count
    return taken_s / count * 1e6


def measure_apart(name: str) -> float:
    command = [sys.executable, __file__, "--one", name]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    rounds = 2 if bench.quick(__doc__) else 9
    print(f"{CONCURRENCY} in flight, {rounds} rounds, Python {sys.version.split()[0]}")
    found: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for _ in range(rounds):
        for name, values in found.items():
            values.append(measure_apart(name))
    bench.show("tasks that do nothing", "µs/task", found)
    better = [min(pair) for pair in zip(found[IMAP], found[GEVENT], strict=True)]
    bench.show_ratio(f"green against the better of {IMAP} and gevent", bench.divide(better, found[GREEN]), "≥ 5")
    best = [min(row) for row in zip(*(found[name] for name in CONTENDERS if name != GREEN), strict=True)]
    bench.show_ratio("green against the best of all", bench.divide(best, found[GREEN]), "none")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(measure(sys.argv[2]))
    else:
        main()
