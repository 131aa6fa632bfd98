"""What the live view costs: the same run with the view and without, in turn, in a real kernel.

Run as `python tests/benchmarks/bench_live.py [--quick]`. Ratios are taken pair by pair, and the order within a pair
alternates. Throughput is the run's own; the cell's wall time holds what stands around it too: the view's
appearance and its last picture. The processor time of the kernel's process, while tasks run, says what the view
costs where other programs disturb the clock; what the drawing process uses is not in it. How long the hub
was held is seen by a green ticker of 1 ms, in runs of their own, because the ticker is work too; a workload of many
short tasks holds it by itself, so the stalls that are the view's own are clocked where they are made: each stretch of
the view's code on the hub that gives way to nobody. Their processor time is what they take of the hub on any machine;
by the clock they also hold what other programs, and other threads of the kernel, took meanwhile.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "kit"))

import bench
from kernel import Kernel

from greenlab.lab import FeedHub

CONCURRENCY = 500
ON, OFF = "view on", "view off"

SET_UP = """
import eventlet, gc, greenlab, json, psutil, time, urllib.request
from greenlab.live.drawing.client import DrawingClient
from greenlab.live.view import View
from greenlab.live.widget_display import WidgetDisplay
from greenlab.pools.green import GreenPool

def clocked(pool, job, run=GreenPool.run):
    global spent_s
    began_s = time.process_time()
    run(pool, job)
    spent_s = time.process_time() - began_s

GreenPool.run = clocked

def clock(owner, name):
    "Note how long each call of a method that gives way to nobody takes, in ms, by the clock and of the processor."
    method = getattr(owner, name)

    def clocked(*args, **kw):
        began_s, began_cpu_s = time.perf_counter(), time.thread_time()
        try:
            return method(*args, **kw)
        finally:
            taken.append(((time.perf_counter() - began_s) * 1e3, (time.thread_time() - began_cpu_s) * 1e3))

    setattr(owner, name, clocked)

taken = []
clock(View, "tick")
clock(WidgetDisplay, "picture")
clock(WidgetDisplay, "_make")
clock(WidgetDisplay, "_appear")
clock(WidgetDisplay, "finish")

drawn = [0]

def counted(self, *args, draw=DrawingClient.draw):
    drawn[0] += 1
    return draw(self, *args)

DrawingClient.draw = counted

def drawing_s():
    client = greenlab.start().kept.get("drawing client")
    used = psutil.Process(client.pid).cpu_times() if client and client.pid else None
    return used.user + used.system if used else 0.0

def tick():
    last_s = time.perf_counter()
    while True:
        eventlet.sleep(0.001)
        now_s = time.perf_counter()
        if now_s - last_s > 0.002:
            gaps.append((last_s, now_s))
        last_s = now_s

def held_ms(begin_s, end_s):
    "The longest part of a gap that lies between the two times."
    return max([(min(end_s, later) - max(begin_s, former)) * 1e3 for former, later in gaps], default=0.0)

def tidy():
    get_ipython().displayhook.flush()
    gc.collect()
"""
FORGET = "taken.clear(); drawn[0] = 0; drew_s = drawing_s()"
READ_COST = """
longest = [max(column) for column in zip(*taken)]
print(json.dumps([*longest, sum(cpu for _, cpu in taken), (drawing_s() - drew_s) / drawn[0] * 1e3]))
"""
READ = "print(json.dumps([run.throughput, spent_s, run.counts['succeeded']])); tidy()"
TICK = "tidy(); gaps = []; ticker = greenlab.spawn(tick)"
READ_GAPS = """
ticker.kill()
ended_s = run.started_s + run.elapsed_s
inside, before, after = held_ms(run.started_s, ended_s), held_ms(0, run.started_s), held_ms(ended_s, 1e99)
print(json.dumps([inside, max(before, after)]))
"""


class Workload(NamedTuple):
    """A cell, and about how many of its tasks end in a second."""

    title: str
    of: str
    body: str
    rate: int


WORKLOADS = (
    Workload("sleeps of 1 ms", "_ in range({count})", "time.sleep(0.001)", 20_000),
    Workload("tasks that do nothing", "_ in range({count})", "pass", 800_000),
    Workload(
        "fetches of 100 ms",
        "url in [delay_url] * {count}",
        "len(urllib.request.urlopen(url).read())",
        2_500,
    ),
)


class Figures(NamedTuple):
    """What one run with the view, or without it, was like."""

    throughput: float
    wall_s: float
    cpu_us: float


def run(kernel: Kernel, work: Workload, count: int, which: str) -> Figures:
    cell = kernel.run(cell_of(work, count, which))
    assert cell.error is None, cell.error
    assert (which == ON) == bool(cell.displays), "a view appears, or not"
    throughput, spent_s, succeeded = bench.ask(kernel, READ)
    assert count == succeeded
    return Figures(throughput, cell.seconds, spent_s / count * 1e6)


def stalls(kernel: Kernel, work: Workload, count: int, which: str) -> tuple[float, float]:
    """Give how long the hub was held at the most, in ms: while the run went on, and before and after it."""
    kernel.run(TICK)
    cell = kernel.run(cell_of(work, count, which))
    assert cell.error is None, cell.error
    inside, around = bench.ask(kernel, READ_GAPS)
    return inside, around


def own_cost(kernel: Kernel, work: Workload, count: int) -> dict[str, float]:
    """Give what the view's own code takes, in ms."""
    kernel.run(FORGET)
    cell = kernel.run(cell_of(work, count, ON))
    assert cell.error is None, cell.error
    names = (
        "longest stretch, by the clock",
        "longest, of the processor",
        "all, a second of the run",
        "a picture, elsewhere",
    )
    longest, longest_cpu, all_cpu, picture = bench.ask(kernel, READ_COST)
    return dict(zip(names, (longest, longest_cpu, all_cpu / cell.seconds, picture), strict=True))


def cell_of(work: Workload, count: int, which: str) -> str:
    view = "" if which == ON else "--no-live"
    return f"%%greenrun -c {CONCURRENCY} {view} -o run {work.of.format(count=count)}\n{work.body}"


def compare(kernel: Kernel, work: Workload, rounds: int, length_s: float) -> None:
    rate = run(kernel, work, work.rate, ON).throughput  # also the first cell's imports, which are not this question
    count = int(rate * length_s)
    found: dict[str, list[Figures]] = {ON: [], OFF: []}
    inside: dict[str, list[float]] = {ON: [], OFF: []}
    around: dict[str, list[float]] = {ON: [], OFF: []}
    costs: list[dict[str, float]] = []
    for number in range(rounds):
        order = (ON, OFF) if number % 2 else (OFF, ON)
        for which in order:
            found[which].append(run(kernel, work, count, which))
        if number % 3 == 0:
            costs.append(own_cost(kernel, work, count))
            for which in order:
                one, other = stalls(kernel, work, count, which)
                inside[which].append(one)
                around[which].append(other)
    rates = {which: [figures.throughput for figures in found[which]] for which in found}
    walls = {which: [figures.wall_s for figures in found[which]] for which in found}
    cpu_us = {which: [figures.cpu_us for figures in found[which]] for which in found}
    bench.show(f"{work.title}, {count:,} of them: throughput", "tasks/s", rates)
    bench.show_ratio("on against off", bench.divide(rates[ON], rates[OFF]), "≥ 0.98")
    bench.show("wall time of the cell", "s", walls)
    bench.show_ratio("on against off", bench.divide(walls[ON], walls[OFF]), "none")
    bench.show("processor time of the kernel while tasks run", "µs/task", cpu_us)
    bench.show_ratio("off against on", bench.divide(cpu_us[OFF], cpu_us[ON]), "none")
    bench.show("the hub was held at the most, while the run went on", "ms", inside)
    bench.show("the hub was held at the most, before and after", "ms", around)
    bench.show("the view's own code on the hub; and drawing", "ms", {n: [c[n] for c in costs] for n in costs[0]})


def main() -> None:
    rounds, length_s = (2, 1.0) if bench.quick(__doc__) else (12, 3.0)
    print(f"{CONCURRENCY} in flight, {rounds} pairs of {length_s:g} s, Python {sys.version.split()[0]}")
    with FeedHub() as hub, Kernel() as kernel:
        kernel.run("%load_ext greenlab")
        kernel.run(f"delay_url = {hub.delay_url(0.1)!r}")
        assert kernel.run(SET_UP).error is None
        for work in WORKLOADS:
            compare(kernel, work, rounds, length_s)


if __name__ == "__main__":
    main()
