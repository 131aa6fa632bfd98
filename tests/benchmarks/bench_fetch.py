"""The main job in a real kernel: 1,000 fetches of 200 ms with urllib, 500 in flight.

Run as `python tests/benchmarks/bench_fetch.py [--quick]`. Each contender gets a fresh kernel and a fresh feed server
a round; its first cell is told from later ones, because it imports and starts what later ones find. It runs right
after `%load_ext`, as "run all cells" has it, or after the few seconds in which a person types it. The server, in
a process of its own, counts what is really in flight; the wall time is the whole cell's, as a front end sees it.
The peer is the same fetch in 500 OS threads, in a kernel without greenlab.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "kit"))

import bench
from kernel import Kernel

from greenlab.lab import FeedHub

FETCHES, CONCURRENCY, LATENCY_S = 1_000, 500, 0.2
LATER_CELLS = 3
FETCH = "import urllib.request\nlen(urllib.request.urlopen(url).read())"
THREADS = f"""
import urllib.request
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor({CONCURRENCY}) as pool:
    done = len(list(pool.map(lambda url: len(urllib.request.urlopen(url).read()), urls)))
"""
TYPING_S = 3.0
LIVE, TYPED, SILENT, PEER = "greenrun", f"greenrun, {TYPING_S:g} s later", "greenrun --no-live", "500 OS threads"
GREEN = LIVE, TYPED, SILENT
_LIVE_CELL = f"%%greenrun -c {CONCURRENCY} -o run url in urls\n{FETCH}"
CONTENDERS = {
    LIVE: _LIVE_CELL,
    TYPED: _LIVE_CELL,
    SILENT: f"%%greenrun -c {CONCURRENCY} --no-live -o run url in urls\n{FETCH}",
    PEER: THREADS,
}


def fetch(kernel: Kernel, hub: FeedHub, name: str) -> tuple[float, float]:
    """Run one cell; give its wall time, and the peak that the server counted."""
    hub.reset()
    cell = kernel.run(CONTENDERS[name])
    assert cell.error is None, cell.error
    done = "done" if name == PEER else "run.counts['succeeded']"
    assert FETCHES == bench.ask(kernel, f"print({done})")
    return cell.seconds, hub.stats().peak_in_flight


def measure(name: str) -> list[tuple[float, float]]:
    """Give wall time and peak of a kernel's first cell, and of later ones."""
    with FeedHub(latency_s=LATENCY_S) as hub, Kernel() as kernel:
        kernel.run(f"urls = {hub.urls(FETCHES)}")
        if name != PEER:
            assert kernel.run("%load_ext greenlab").error is None
        if name == TYPED:
            time.sleep(TYPING_S)
        return [fetch(kernel, hub, name) for _ in range(1 + LATER_CELLS)]


def main() -> None:
    rounds = 1 if bench.quick(__doc__) else 7
    print(f"{FETCHES:,} fetches of {LATENCY_S} s, {CONCURRENCY} in flight, {rounds} rounds")
    first: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    later: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    peaks: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for _ in range(rounds):
        for name in CONTENDERS:
            cells = measure(name)
            peaks[name] += [peak for _, peak in cells]
            first[name].append(cells[0][0])
            later[name] += [wall_s for wall_s, _ in cells[1:]]
    bench.show("wall time of the first cell", "s", first)
    for name in GREEN:
        bench.show_ratio(name, first[name], "< 1.5 s", "s")
    bench.show_ratio("greenrun against OS threads", bench.divide(first[LIVE], first[PEER]), "none")
    bench.show("wall time of later cells", "s", later)
    for name in GREEN:
        bench.show_ratio(name, later[name], "< 1.5 s", "s")
    bench.show_ratio("greenrun against OS threads", bench.divide(later[LIVE], later[PEER]), "none")
    bench.show("peak in flight, counted by the server", "", peaks)
    for name in GREEN:
        bench.show_ratio(name, peaks[name], "≥ 450")


if __name__ == "__main__":
    main()
