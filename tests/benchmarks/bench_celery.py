"""The celery pool against Celery as it is shipped: 100 ms fetches, and tasks that do nothing.

Run as `python tests/benchmarks/bench_celery.py [--quick]`. All share this machine's cores: the feed server, the broker
(the embedded Valkey), one eventlet worker with `-c 1000`, and the client. Celery as shipped is its own application, on
the same broker, with one task a message and a result backend, and a `group` whose results are awaited; the kernel's
own green pool runs beside it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "kit"))

import bench
import celery_workers
import psutil

import greenlab
from greenlab.lab import FeedHub

if TYPE_CHECKING:
    from collections.abc import Callable

OURS, THEIRS = "greenlab -p celery", "Celery as shipped"
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
        assert self._client.stdin is not None
        assert self._client.stdout is not None
        self._client.stdin.write(json.dumps((name, items)) + "\n")
        self._client.stdin.flush()
        return float(self._client.stdout.readline())

    def close(self) -> None:
        """End both."""
        self._client.kill()
        self._client.wait()
        self._worker.terminate()
        self._worker.wait(30)
        self._log.close()


def main() -> None:
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
    greenlab.stop()


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
