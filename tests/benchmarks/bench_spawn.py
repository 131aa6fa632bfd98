"""The hub as a guest of an asyncio loop: how soon a spawned task runs, how well a timer keeps, what idling costs.

Run as `python tests/benchmarks/bench_spawn.py [--quick]`. asyncio's own tasks and timers, on the same loop and in
turn, are the peers.
"""

from __future__ import annotations

import asyncio
import resource
import statistics
import sys
import time
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "kit"))

import bench

import greenlab

if TYPE_CHECKING:
    from greenlab.hub import GuestHub

TICK_S = 0.01
SPAWNS = 2_000


async def to_green_task() -> float:
    """Microseconds from `greenlab.spawn` in a coroutine to the task."""
    began_s = perf_counter()
    ran_s: float = await greenlab.spawn(perf_counter)
    return (ran_s - began_s) * 1e6


async def to_asyncio_task() -> float:
    """Microseconds from `create_task` in a coroutine to the task."""

    async def task() -> float:
        return perf_counter()

    began_s = perf_counter()
    ran_s = await asyncio.create_task(task())
    return (ran_s - began_s) * 1e6


def tick_green(times_s: list[float]) -> None:
    while True:
        time.sleep(TICK_S)
        times_s.append(perf_counter())


async def tick_asyncio(times_s: list[float]) -> None:
    while True:
        await asyncio.sleep(TICK_S)
        times_s.append(perf_counter())


def gaps_ms(times_s: list[float]) -> list[float]:
    return [(later - former) * 1e3 for former, later in pairwise(times_s)]


async def ticking(hub: GuestHub, length_s: float) -> tuple[list[float], list[float], float]:
    """Give the gaps of a green ticker and of an asyncio one, one after the other, and hub turns a green tick."""
    times_s: list[float] = []
    turns = hub.turns
    ticker: Any = greenlab.spawn(tick_green, times_s)
    await asyncio.sleep(length_s)
    turns = hub.turns - turns
    ticker.kill()
    other_threads_s: list[float] = []
    other = asyncio.create_task(tick_asyncio(other_threads_s))
    await asyncio.sleep(length_s)
    other.cancel()
    return gaps_ms(times_s), gaps_ms(other_threads_s), turns / len(times_s)


async def idle(hub: GuestHub) -> tuple[int, int]:
    """Give the hub's turns in an idle second, and how often the process went to sleep in it."""
    await asyncio.sleep(0.1)
    turns, slept = hub.turns, resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
    await asyncio.sleep(1)
    return hub.turns - turns, resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw - slept


async def measure(rounds: int, length_s: float) -> None:
    hub = greenlab.start()
    spawned: dict[str, list[float]] = {"greenlab.spawn": [], "asyncio.create_task": []}
    medians: dict[str, list[float]] = {"green, time.sleep": [], "asyncio.sleep": []}
    worst: dict[str, list[float]] = {name: [] for name in medians}
    turns_a_tick: list[float] = []
    idling: dict[str, list[float]] = {"turns of the hub": [], "the process went to sleep": []}
    for _ in range(rounds):
        for name, one in zip(spawned, (to_green_task, to_asyncio_task), strict=True):
            spawned[name].append(statistics.median([await one() for _ in range(SPAWNS)]))
        *both, each = await ticking(hub, length_s)
        for name, gaps in zip(medians, both, strict=True):
            medians[name].append(statistics.median(gaps))
            worst[name].append(max(gaps))
        turns_a_tick.append(each)
        for name, times in zip(idling, await idle(hub), strict=True):
            idling[name].append(times)
    bench.show(f"from a coroutine to the task, median of {SPAWNS:,}", "µs", spawned)
    bench.show_ratio("greenlab.spawn", spawned["greenlab.spawn"], "< 50 µs", "µs")
    bench.show(f"gap of a {TICK_S * 1e3:g} ms ticker while the loop idles, median", "ms", medians)
    bench.show("the longest gap", "ms", worst)
    bench.show("an idle second", "times", idling)
    bench.show_ratio("turns of the hub a tick", turns_a_tick, "1")
    bench.show_ratio("turns of the hub in an idle second", idling["turns of the hub"], "0")
    greenlab.stop()


def main() -> None:
    rounds, length_s = (2, 0.5) if bench.quick(__doc__) else (5, 3.0)
    print(f"{rounds} rounds, Python {sys.version.split()[0]}")
    asyncio.run(measure(rounds, length_s))


if __name__ == "__main__":
    main()
