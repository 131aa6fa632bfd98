"""How often a probe is right: calls of known kind against verdicts, on a quiet and on a busy machine.

    python tests/benchmarks/bench_check.py [--quick]

Target: 95 % right, busy or not. Busy means two processes a core that compute without pause. Every miss is printed
with its evidence, so that a threshold can be mended for its reason. Without a server its clients are left out.
"""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "kit"))

import bench
import second_zoo
import servers
import zoo

from greenlab.probes import judge, probe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROUNDS = 3
CLIENTS: dict[str, list[tuple[Callable[..., Any], str]]] = {
    "site": [
        (zoo.fetch, judge.COOPERATES),
        (zoo.fetch_by_http_client, judge.COOPERATES),
        (zoo.fetch_by_requests, judge.COOPERATES),
        (zoo.fetch_by_urllib3, judge.COOPERATES),
        (zoo.fetch_by_httpx, judge.COOPERATES),
    ],
    "valkey": [(zoo.pop_from_redis, judge.COOPERATES)],
    "postgres": [
        (functools.partial(zoo.ask_postgres, "psycopg2"), judge.COOPERATES),
        (functools.partial(zoo.ask_postgres, "psycopg"), judge.COOPERATES),
        (zoo.ask_postgres_natively, judge.BLOCKS),
    ],
    "memcached": [(zoo.use_pymemcache, judge.COOPERATES), (zoo.use_pylibmc, judge.BLOCKS)],
    "grpc": [(zoo.call_grpc, judge.BLOCKS)],
}


@contextlib.contextmanager
def animals(folder: Path) -> Iterator[list[tuple[str, Callable[[], Any], str]]]:
    """Start every server there is; give the name, the call and the kind of each animal."""
    found = [(call.__name__, call, kind) for call, kind in zoo.ANIMALS.items()]
    with servers.all_there_are(folder) as addresses:
        for name, address in addresses.items():
            for call, kind in CLIENTS[name]:
                found.append((zoo.name_of(call), functools.partial(call, address), kind))
        yield found


@contextlib.contextmanager
def load(count: int) -> Iterator[None]:
    """Keep the machine busy with so many processes that compute."""
    busy = [subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for each in busy:
            each.kill()
            each.wait()


def score(title: str, zoo_now: list[tuple[str, Callable[[], Any], str]], rounds: int) -> None:
    """Probe every animal some times and print the confusion table."""
    table: Counter[tuple[str, str]] = Counter()
    misses = []
    begin = time.perf_counter()
    for _ in range(rounds):
        for name, call, kind in zoo_now:
            verdict = probe(call, name)
            table[kind, verdict.kind] += 1
            if verdict.kind != kind:
                misses.append(f"{kind} taken for {verdict}")
    total = sum(table.values())
    right = sum(count for (known, said), count in table.items() if known == said)
    each_s = (time.perf_counter() - begin) / total
    print(f"\n{title}: {right} of {total} right, {right / total:.1%} (target 95 %), {each_s:.1f} s a probe")
    kinds = [kind for kind in judge.KINDS if any(kind in pair for pair in table)]
    print(f"  {'known as':24}{'verdict:':>10} {' '.join(f'{kind.split()[0]:>10}' for kind in kinds)}")
    for known in kinds:
        counts = (table[known, said] or "-" for said in kinds)
        print(f"  {known:34} {' '.join(f'{count:>10}' for count in counts)}")
    for miss in misses:
        print(f"  miss: {miss}")


def main() -> None:
    rounds = 1 if bench.quick(__doc__) else ROUNDS
    second = [(call.__name__, call, kind) for call, kind in second_zoo.ANIMALS.items()]
    with tempfile.TemporaryDirectory() as folder, animals(Path(folder)) as found:
        score("quiet", found, rounds)
        score("a second zoo, which no threshold was set by", second, rounds)
        with load(2 * (os.cpu_count() or 1)):
            score("busy", found, rounds)
            score("the second zoo, busy", second, rounds)


if __name__ == "__main__":
    main()
