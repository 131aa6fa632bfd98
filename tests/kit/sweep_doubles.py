"""Points of sweeps as a test says: simulated, or with the throughputs that it sets."""

from __future__ import annotations

import heapq
import random

import greenlab
from greenlab.comparing import steady_state


def closed_loop(
    clients: int, servers: int, service_s: float, seconds: float, *, spread: float = 0.0, failed: int = 0
) -> steady_state.Point:
    """Simulate `clients` that each wait for one of `servers`, first come first served, without any clock."""
    rng = random.Random(clients)
    free, ready = [0.0] * servers, [(0.0, client) for client in range(clients)]
    starts_s, ends_s = [], []
    while ready:
        now, client = heapq.heappop(ready)
        if now > seconds:
            continue
        begin = max(now, heapq.heappop(free))
        end = begin + service_s * (rng.lognormvariate(0, spread) if spread else 1.0)
        heapq.heappush(free, end)
        heapq.heappush(ready, (end, client))
        starts_s.append(now)
        ends_s.append(end)
    kinds = [("OSError", failed)] if failed else []
    return steady_state.measure(
        clients, starts_s, ends_s, seconds, failed=failed, elapsed_s=max(ends_s), error_types=kinds
    )


def points(
    *rates: float, widths: tuple[int, ...] = (1, 10, 100, 1000), noise: float = 0.01
) -> list[steady_state.Point]:
    """Points with these throughputs, and the latencies that Little's law gives them."""
    return [
        steady_state.Point(
            width, 10_000, 0, 9_000, rate, rate * noise, (rate,) * 10, width / rate, greenlab.runs.Latency(), width, 5.0
        )
        for width, rate in zip(widths, rates, strict=True)
    ]
