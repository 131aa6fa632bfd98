"""What watching and tracing cost: the watchdog always, the switch recorder only while it is on.

Run as `python tests/benchmarks/bench_trace.py [--quick]`. Each pair runs in turn in the same process. Three kinds of
tasks: empty ones (little but the pool), ones that yield (little but switches), and ones that sleep 1 ms.
"""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "kit"))

import bench
import greenlet

import greenlab
from greenlab.hub.trace import record
from greenlab.hub.watchdog import watchdog_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from greenlab.hub import GuestHub

KINDS: dict[str, tuple[Callable[[Any], Any], int, int]] = {
    "empty": (lambda _: None, 400_000, 100),
    "yields": (lambda _: time.sleep(0), 60_000, 100),
    "sleeps 1 ms": (lambda _: time.sleep(0.001), 60_000, 500),
}


def cost_us(kind: str, share: float, *, trace: bool = False) -> float:
    """Give the processor time of the whole process, microseconds a task."""
    func, count, concurrency = KINDS[kind]
    count = int(count * share)
    began = process_time()
    greenlab.run(func, range(count), concurrency=concurrency, trace=trace)
    return (process_time() - began) / count * 1e6


def watching(hub: GuestHub, rounds: int, share: float) -> None:
    """The watchdog on, and off; in turn, and first in turn. And what its thread alone computes, which is steadier."""
    dog: Any = watchdog_of(hub)
    for kind in KINDS:
        own: list[float] = []
        found: dict[str, list[float]] = {"watched": [], "not watched": []}
        for number in range(rounds):
            for name in sorted(found, reverse=bool(number % 2)):
                greenlab.start(blocked_after=0.1 if name == "watched" else math.inf)
                began, own_began = process_time(), dog._own.cpu_s() or 0.0
                found[name].append(cost_us(kind, share))
                if name == "watched":
                    own.append(((dog._own.cpu_s() or 0.0) - own_began) / (process_time() - began))
        greenlab.start(blocked_after=0.1)
        bench.show(f"the watchdog, a task that {kind}", "µs CPU", found)
        ratios = bench.divide(found["watched"], found["not watched"])
        bench.show_ratio("watched / not watched", ratios, "< 1.01")
        bench.show_ratio("its thread's part of the processor time", own, "< 0.01")


def tracing(rounds: int, share: float) -> None:
    """The recorder on, off before, and off again after it was on."""
    for kind in KINDS:
        found: dict[str, list[float]] = {"off": [], "on": [], "off again": []}
        for _ in range(rounds):
            for name, values in found.items():
                values.append(cost_us(kind, share, trace=name == "on"))
        bench.show(f"the switch recorder, a task that {kind}", "µs CPU", found)
        bench.show_ratio("on / off", bench.divide(found["on"], found["off"]), "< 3")
        bench.show_ratio("off again / off", bench.divide(found["off again"], found["off"]), "1")


def _before(switch: Any) -> Any:
    def before() -> Any:
        return switch()

    return before


def hooks(hub: GuestHub, rounds: int, switches: int) -> None:
    """The two ways to see a switch, doing nothing: greenlet's trace function, and a function before hub.switch."""
    found: dict[str, list[float]] = {
        "none": [],
        "greenlet.settrace": [],
        "before hub.switch": [],
        "both, recording": [],
    }

    def one() -> float:
        def yield_often() -> None:
            for _ in range(switches):
                time.sleep(0)

        task = greenlab.spawn(yield_often)
        began = perf_counter()
        task.wait()
        return (perf_counter() - began) / switches * 1e6

    for _ in range(rounds):
        found["none"].append(one())
        greenlet.settrace(lambda _event, _args: None)
        found["greenlet.settrace"].append(one())
        greenlet.settrace(None)
        hub.__dict__["switch"] = _before(hub.switch)
        found["before hub.switch"].append(one())
        del hub.__dict__["switch"]
        with record(hub):
            found["both, recording"].append(one())
    bench.show("a switch to the hub and back, by what sees it", "µs", found)
    bench.show_ratio("recording / none", bench.divide(found["both, recording"], found["none"]), "< 3")


def main() -> None:
    rounds, share = (2, 0.1) if bench.quick(__doc__) else (7, 1.0)
    print(f"{rounds} rounds, Python {sys.version.split()[0]}")
    hub = greenlab.start()
    watching(hub, rounds, share)
    tracing(rounds, share)
    hooks(hub, rounds, int(50_000 * share))
    greenlab.stop()


if __name__ == "__main__":
    main()
