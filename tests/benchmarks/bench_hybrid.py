"""The hybrid pool against one green process: URLs that take 100 ms, tasks that wait and compute, tasks of nothing.

Also how the two compare for every number in flight from few to many, and how tiny tasks that slow ones follow fare.

Run as `python tests/benchmarks/bench_hybrid.py [--quick]`. Contenders alternate in one process, warm. The server
sleeps 100 ms a request and says little, in a process of its own, so that it costs less than a client; but it shares
the cores with the clients, and whatever else runs takes its part too. So beside each rate stands where the
processor's time went, and what bound that sets: with as many cores as there are, two clients cannot do more than
`cores / (seconds of all a task)`, nor one more than `1 / (seconds of the client a task)`.
"""

from __future__ import annotations

import heapq
import multiprocessing
import os
import resource
import selectors
import socket
import statistics
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "kit"))

import bench
import psutil

import greenlab

if TYPE_CHECKING:
    from collections.abc import Callable

WORKERS, CONCURRENCY, LATENCY_S = 2, 2_000, 0.1
SWEPT = 50, 100, 200, 500, 1_000, 2_000
GREEN, HYBRID, PREFORK = "green", f"hybrid -w {WORKERS}", f"prefork -w {WORKERS}"
OPTIONS: dict[str, dict[str, Any]] = {
    GREEN: {"pool": "green"},
    HYBRID: {"pool": "hybrid", "workers": WORKERS},
    PREFORK: {"pool": "prefork", "workers": WORKERS},
}
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


def serve(port: Any) -> None:
    """Answer each connection once, `LATENCY_S` after its request came: one loop, no parsing."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    listener.setblocking(False)
    port.send(listener.getsockname()[1])
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    due: list[tuple[float, int, socket.socket]] = []
    count = 0
    while True:
        wait_s = max(0.0, due[0][0] - time.monotonic()) if due else None
        for key, _ in selector.select(wait_s):
            if key.fileobj is listener:
                for _ in range(64):
                    try:
                        client, _ = listener.accept()
                    except BlockingIOError:
                        break
                    selector.register(client, selectors.EVENT_READ)
            else:
                client = key.fileobj  # type: ignore[assignment]
                client.recv(65536)
                selector.unregister(client)
                count += 1
                heapq.heappush(due, (time.monotonic() + LATENCY_S, count, client))
        now_s = time.monotonic()
        while due and due[0][0] <= now_s:
            client = heapq.heappop(due)[2]
            client.send(ANSWER)
            client.close()


def fetch(url: str) -> int:
    """Fetch as a cell does."""
    with urllib.request.urlopen(url) as answer:
        return len(answer.read())


def wait_and_compute(compute_s: float) -> None:
    """Wait as for a server, then compute, as for its answer."""
    time.sleep(LATENCY_S)
    end_s = time.thread_time() + compute_s
    while time.thread_time() < end_s:
        pass


def nothing(_: Any) -> None:
    """Do nothing: what is left is the pool's own cost."""


@dataclass
class Figure:
    """One measurement: tasks a second, and the seconds of processor that a task cost whom."""

    rate: float
    kernel_s: float
    workers_s: float
    server_s: float

    @property
    def bound(self) -> float:
        """Tasks a second that the cores allow at this cost, if nobody else wants them."""
        busiest_s = max(self.kernel_s, self.workers_s / WORKERS, self.server_s)
        return min(1 / busiest_s, (os.cpu_count() or 1) / (self.kernel_s + self.workers_s + self.server_s))


class Meter:
    """Adds up the time of this process, its workers and the server while its `with` block runs."""

    def __init__(self, server_pid: int) -> None:
        self.me = psutil.Process()
        self.server = psutil.Process(server_pid)

    def now(self) -> tuple[float, float, float]:
        times = [sum(one.cpu_times()[:2]) for one in (self.me, self.server)]
        workers = [one for one in self.me.children(recursive=True) if one.pid != self.server.pid]
        return times[0], sum(sum(one.cpu_times()[:2]) for one in workers), times[1]

    def __enter__(self) -> Self:
        self.before, self.began_s = self.now(), time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.taken_s = time.perf_counter() - self.began_s
        self.spent_s = [after - before for before, after in zip(self.before, self.now(), strict=True)]


def tiny_then_slow(seconds: float) -> None:
    """Do nothing, or wait."""
    if seconds:
        time.sleep(seconds)


def measure(
    meter: Meter, name: str, func: Callable[[Any], Any], items: list[Any], concurrency: int = CONCURRENCY
) -> Figure:
    """Run the tasks once."""
    with meter:
        run = greenlab.run(func, items, concurrency=concurrency, live=False, **OPTIONS[name])
    assert len(items) == run.counts["succeeded"], run.errors
    return Figure(len(items) / run.elapsed_s, *(spent_s / len(items) for spent_s in meter.spent_s))


def compare(
    title: str,
    meter: Meter,
    names: tuple[str, str],
    func: Callable[[Any], Any],
    items: list[Any],
    rounds: int,
    target: str,
) -> None:
    """Alternate two contenders, and print their rates, costs and the ratio."""
    found: dict[str, list[Figure]] = {name: [] for name in names}
    for name in names:
        measure(meter, name, func, items[: CONCURRENCY * 2])
    for _ in range(rounds):
        for name in names:
            found[name].append(measure(meter, name, func, items))
    bench.show(title, "tasks/s", {name: [one.rate for one in figures] for name, figures in found.items()})
    for name, figures in found.items():
        kernel, workers, server, bound = (
            statistics.median(getattr(one, what) for one in figures)
            for what in ("kernel_s", "workers_s", "server_s", "bound")
        )
        print(
            f"    a task of {name} costs {kernel * 1e6:.0f} µs in the kernel, {workers * 1e6:.0f} µs in its workers, "
            f"{server * 1e6:.0f} µs in the server: at most {bound:,.0f} tasks/s on {os.cpu_count()} cores"
        )
    one, other = names
    ratios = bench.divide([f.rate for f in found[other]], [f.rate for f in found[one]])
    bench.show_ratio(f"{other} against {one}", ratios, target)
    bounds = bench.divide([f.bound for f in found[other]], [f.bound for f in found[one]])
    bench.show_ratio("what these cores allow, by the costs above", bounds, "none")


def sweep(meter: Meter, url: str, rounds: int) -> None:
    """Alternate green and hybrid, for each number in flight."""
    for concurrency in SWEPT:
        urls = [url] * min(20_000, concurrency * 40)
        found: dict[str, list[float]] = {GREEN: [], HYBRID: []}
        for name in found:
            measure(meter, name, fetch, urls[: concurrency * 2], concurrency)
        for _ in range(rounds):
            for name, rates in found.items():
                rates.append(measure(meter, name, fetch, urls, concurrency).rate)
        bench.show(f"URLs of 100 ms, {concurrency} in flight", "tasks/s", found)
        target = "≥ 1.2" if concurrency == 500 else "≥ 1, where cores are free"
        bench.show_ratio(f"{HYBRID} against {GREEN}", bench.divide(found[HYBRID], found[GREEN]), target)


def change(rounds: int) -> None:
    """Time a thousand tasks of nothing, and a hundred of half a second, a hundred in flight."""
    found: dict[str, list[float]] = {GREEN: [], HYBRID: []}
    for _ in range(rounds + 1):
        for name, taken in found.items():
            run = greenlab.run(tiny_then_slow, [0] * 1000 + [0.5] * 100, concurrency=100, live=False, **OPTIONS[name])
            taken.append(run.elapsed_s)
    found = {name: taken[1:] for name, taken in found.items()}
    bench.show("1,000 tasks of nothing, then 100 of 0.5 s", "s", found)
    bench.show_ratio(f"{HYBRID} against {GREEN}", bench.divide(found[HYBRID], found[GREEN]), "≤ 1.2")


def main() -> None:
    # Each fetch in flight is a descriptor, of the client and of the server, which is spawned below.
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    rounds = 1 if bench.quick(__doc__) else 5
    print(f"{CONCURRENCY} in flight, {rounds} rounds, {os.cpu_count()} cores, Python {sys.version.split()[0]}")
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    assert server.pid is not None
    urls = [f"http://127.0.0.1:{ours.recv()}/"] * 20_000
    meter = Meter(server.pid)
    greenlab.start()
    try:
        both = GREEN, HYBRID
        sweep(meter, urls[0], rounds)
        change(rounds)
        compare("URLs of 100 ms, urllib", meter, both, fetch, urls, rounds, "≥ 1.5, when the server is not the limit")
        for compute_s, tasks in ((0.0002, 20_000), (0.001, 8_000)):
            title = f"wait 100 ms, compute {compute_s * 1e3:g} ms"
            compare(title, meter, both, wait_and_compute, [compute_s] * tasks, rounds, "≥ 1.5")
        compare("tasks of nothing", meter, (PREFORK, HYBRID), nothing, [0] * 200_000, rounds, "none")
    finally:
        greenlab.stop()
        server.kill()
        server.join()


if __name__ == "__main__":
    main()
