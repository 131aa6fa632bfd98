"""The celery pool against Celery as it is shipped: 100 ms fetches, and tasks that do nothing.

Run as `python tests/benchmarks/bench_celery.py [--quick]`. All share this machine's cores: the feed server, the broker
(the embedded Valkey), one eventlet worker with `-c 1000`, and the client. Celery as shipped is its own application, on
the same broker, with one task a message and a result backend, and a `group` whose results are awaited; the kernel's
own green pool runs beside it. Where the system has Redis, the same pool with a worker on it, over loopback, is measured
against the embedded broker, each from a process of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "kit"))

import bench
import brokers
import celery_workers
import psutil

import greenlab
from greenlab.lab import FeedHub

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OURS, THEIRS = "greenlab -p celery", "Celery as shipped"
EMBEDDED, REDIS = "the embedded broker", "Redis"
FETCHES, LATENCY_S, NOTHINGS = 2_000, 0.1, 20_000
PLAIN = """
import os, urllib.request
from celery import Celery
app = Celery("plain", broker=os.environ["PLAIN_BROKER"], backend=os.environ["PLAIN_BROKER"])

@app.task
def fetch(url):
    return len(urllib.request.urlopen(url).read())

@app.task
def nothing(x):
    return x
"""


def fetch(url: str) -> int:
    import urllib.request

    return len(urllib.request.urlopen(url).read())


def nothing(x: int) -> int:
    return x


CLIENT = """
import json, sys, time
import plain
from celery import group
for line in sys.stdin:
    name, items = json.loads(line)
    begin = time.perf_counter()
    count = len(group(getattr(plain, name).s(item) for item in items)().get(timeout=600))
    print(count / (time.perf_counter() - begin), flush=True)
"""


class Plain:
    """Celery as it is shipped: a worker, and a client in a process of its own, which knows nothing of greenlab."""

    def __init__(self, folder: Path, broker: str) -> None:
        (folder / "plain.py").write_text(PLAIN)
        environ = os.environ | {"PLAIN_BROKER": broker}
        self._log = (folder / "plain.log").open("wb")
        command = [sys.executable, "-m", "celery", "-A", "plain", "worker", "-P", "eventlet", "-c", "1000"]
        self._worker = subprocess.Popen(command, cwd=folder, env=environ, stdout=self._log, stderr=self._log)
        self._client = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", CLIENT], cwd=folder, env=environ, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def rate(self, name: str, items: list[Any]) -> float:
        """Run a group of one task an item; give the results a second."""
        return ask(self._client, name, items)

    def close(self) -> None:
        """End both."""
        self._client.kill()
        self._client.wait()
        self._worker.terminate()
        self._worker.wait(30)
        self._log.close()


class Kernel:
    """A process with greenlab, on a broker of its own: this script, with `--kernel`."""

    def __init__(self, **environ: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--kernel"], env=os.environ | environ, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def rate(self, name: str, items: list[Any]) -> float:
        """Run a function over items on its workers; give the results a second."""
        return ask(self._process, name, items)

    def close(self) -> None:
        """End it."""
        self._process.communicate(timeout=30)


def ask(process: subprocess.Popen[str], name: str, items: list[Any]) -> float:
    """Have a process run a function of its own over items; give the results a second that it prints."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps((name, items)) + "\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def serve() -> None:
    """Be such a process: for each line with a function's name and items, print the results a second."""
    functions: dict[str, Callable[[Any], int]] = {"fetch": fetch, "nothing": nothing}
    for line in sys.stdin:
        name, items = json.loads(line)
        print(rate(functions[name], items, "celery"), flush=True)
    greenlab.stop()


def main() -> None:
    if "--kernel" in sys.argv:
        serve()
        return
    short = bench.quick(__doc__)
    rounds, fetches, nothings = (1, 200, 1_000) if short else (5, FETCHES, NOTHINGS)
    with (
        FeedHub(latency_s=LATENCY_S) as hub,
        celery_workers.working("-P", "eventlet", "-c", "1000") as worker,
        tempfile.TemporaryDirectory() as folder,
    ):
        os.environ["XDG_RUNTIME_DIR"] = str(worker.folder)
        urls, numbers = hub.urls(fetches), list(range(nothings))
        plain = Plain(Path(folder), f"redis+socket://{worker.folder}/greenlab/broker.sock")
        few = numbers[: max(200, nothings // 20)]
        contenders: dict[str, dict[str, Callable[[], float]]] = {
            f"{fetches:,} fetches of {LATENCY_S} s": {
                OURS: lambda: rate(fetch, urls, "celery"),
                "greenlab green": lambda: rate(fetch, urls, "green"),
                THEIRS: lambda: plain.rate("fetch", urls),
            },
            "tasks that do nothing": {
                OURS: lambda: rate(nothing, numbers, "celery"),
                THEIRS: lambda: plain.rate("nothing", few),
            },
        }
        rate(nothing, [0], "celery")
        plain.rate("nothing", [0])
        for title, each in contenders.items():
            found: dict[str, list[float]] = {name: [] for name in each}
            for _ in range(rounds):
                for name, go in each.items():
                    found[name].append(go())
            bench.show(title, "tasks/s", found)
            target = "≥ 5" if "fetches" in title else "≥ 20"
            bench.show_ratio("greenlab against Celery as shipped", bench.divide(found[OURS], found[THEIRS]), target)
        plain.close()
        idle(worker)
        first_result()
        if shutil.which("redis-server"):
            against_redis(worker.folder, {"fetch": urls, "nothing": numbers}, rounds)
        else:
            print("\nRedis is not installed: the embedded broker is not measured against it")
    greenlab.stop()


def against_redis(embedded: Path, items: dict[str, list[Any]], rounds: int) -> None:
    """Show the embedded broker's rates beside Redis's, each with one eventlet worker."""
    with beside_redis() as environ:
        kernels = {EMBEDDED: Kernel(XDG_RUNTIME_DIR=str(embedded)), REDIS: Kernel(**environ)}
        for kernel in kernels.values():
            kernel.rate("nothing", [0])
        for name, each in items.items():
            found: dict[str, list[float]] = {broker: [] for broker in kernels}
            for _ in range(rounds):
                for broker, kernel in kernels.items():
                    found[broker].append(kernel.rate(name, each))
            bench.show(f"{len(each):,} tasks of {name}, by broker", "tasks/s", found)
            bench.show_ratio(f"{EMBEDDED} against {REDIS}", bench.divide(found[EMBEDDED], found[REDIS]), "≥ 0.8")
        for kernel in kernels.values():
            kernel.close()


@contextlib.contextmanager
def beside_redis() -> Iterator[dict[str, str]]:
    """Run Redis and an eventlet worker on it; give the environment of a kernel that uses them."""
    with brokers.redis() as url:
        environ = celery_workers.network(url)
        with celery_workers.working("-P", "eventlet", "-c", "1000", folder=None, within=(), **environ):
            yield environ


def rate(func: Callable[[Any], Any], items: list[Any], pool: str) -> float:
    begin = time.perf_counter()
    count = len(greenlab.run(func, items, pool=pool, concurrency=1000, live=False).results)
    return count / (time.perf_counter() - begin)


def idle(worker: Any) -> None:
    """Show what the worker and this process use while nothing runs."""
    for name, process in (("worker", psutil.Process(worker.process.pid)), ("kernel", psutil.Process())):
        before = process.cpu_times()
        time.sleep(5)
        after = process.cpu_times()
        bench.show_ratio(f"processor time of the idle {name}", [(after.user - before.user) / 5], "0")


def first_result() -> None:
    """Show how long a fresh process needs for its first result."""
    code = (
        "import time; begin = time.perf_counter(); import greenlab; greenlab.start(); ready = time.perf_counter();"
        "greenlab.run(abs, [1], pool='celery', live=False); print(time.perf_counter() - ready); greenlab.stop()"
    )
    found = [float(subprocess.check_output([sys.executable, "-c", code])) for _ in range(5)]
    bench.show_ratio("first result of a fresh process", found, "< 1 s", "s")


if __name__ == "__main__":
    main()
