"""How good advice is: what is advised against the best that could have been, for calls of known kind.

    python tests/benchmarks/bench_advise.py [--quick]

What is best is measured: each pool runs tasks of a kind for a second, few in flight and, of tasks that wait or block,
many, with a worker a core and with four; each has the best of its sizes. An advice is right if what it advises, pool
and sizes, reaches 0.8 of the best pool's throughput; target: 95 %. The confusion table has a column for each advised
pool, and a row for each that would have been right, the simplest if there are several: then what is off the diagonal
may be right as well. auto, its sample included, beats each single pool of its sizes, or is printed with the one that
it did not beat. Only tasks that succeed count. Pools go in turn, the opposite way every other kind. Without a server
its clients are left out.
"""

from __future__ import annotations

import contextlib
import functools
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "kit"))

import bench
import servers
import zoo

import greenlab
from greenlab import pools
from greenlab.api.run import prepare
from greenlab.lab import FeedHub

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

IN_PROCESS = ("green", "threads")
POOLS = (*IN_PROCESS, "prefork", "hybrid")
GOOD = 0.8
TASKS = 3000
FEW, MANY = 10, 50
ROUNDS = 3


class Kind(NamedTuple):
    """Calls to be advised on.

    Attributes:
        name: what they are called.
        call: one of them.
        many: whether many may be in flight; else they compute, and many would take minutes to end.
        pools: where they mean the same: a lock of this process is none in others.
        most: as many as the server takes at once, or None.
    """

    name: str
    call: Callable[[], Any]
    many: bool
    pools: tuple[str, ...] = POOLS
    most: int | None = None


def of(call: Callable[[], Any], many: bool, *rest: Any) -> Kind:
    return Kind(call.__name__, call, many, *rest)


PURE = (
    of(zoo.sleep, True), of(zoo.wait_for_socket, True), of(zoo.wait_for_lock, True), of(zoo.wait_for_queue, True),
    of(zoo.run_child, False), of(zoo.wait_for_each_other, True, IN_PROCESS),
    of(zoo.mix_10, False), of(zoo.mix_50, False), of(zoo.mix_90, False),
    of(zoo.usleep, True), of(zoo.run_shell, False), of(zoo.wait_for_sqlite, True), of(zoo.write_and_sync, True),
    of(zoo.wait_for_file_lock, True), of(zoo.wait_then_block, True), of(zoo.usleep_with_gil, False),
    of(zoo.hash_password, False), of(zoo.compress, False), of(zoo.multiply_matrices, False),
    of(zoo.compute_in_python, False), of(zoo.compute_in_c_with_gil, False), of(zoo.parse_json, False),
    of(zoo.blink, False),
)  # fmt: skip
QUICK = (of(zoo.sleep, True), of(zoo.mix_50, False), of(zoo.usleep, True), of(zoo.compute_in_python, False))


CLIENTS: dict[str, list[tuple[Callable[..., Any], int | None]]] = {
    "valkey": [(zoo.pop_from_redis, None)],
    "postgres": [(functools.partial(zoo.ask_postgres, driver), MANY) for driver in ("psycopg2", "psycopg")],
    "memcached": [(zoo.use_pymemcache, None), (zoo.use_pylibmc, None)],
    "grpc": [(zoo.call_grpc, None)],
}


@contextlib.contextmanager
def clients(folder: Path) -> Iterator[list[Kind]]:
    """Start every server there is; give the kinds of calls that need one."""
    with FeedHub() as hub, servers.all_there_are(folder) as addresses:
        found = [Kind("fetch", functools.partial(zoo.fetch, hub.delay_url(0.1)), True)]
        for name, address in addresses.items():
            for call, most in CLIENTS.get(name, ()):
                found.append(Kind(zoo.name_of(call), functools.partial(call, address), True, POOLS, most))
        yield found


def call(kind: Callable[[], Any], _: int) -> None:
    kind()


def throughput(kind: Kind, seconds: float, **options: Any) -> tuple[float, str]:
    """Run for some seconds; give the tasks that succeeded a second, and what auto said."""
    if kind.most is not None:
        options["concurrency"] = min(options.get("concurrency") or kind.most, kind.most)
    task = functools.partial(call, kind.call)
    if options["pool"] != "auto":  # which begins by itself, and where others have been
        prepare(task, range(8), live=False, **options).complete()  # what the tasks import is in the workers then
    run = prepare(task, range(TASKS), live=False, **options)

    def enough() -> None:
        run.ledger.stopped = True

    run.start()
    timer = run._hub.schedule_call_global(seconds, enough)
    run.wait()
    timer.cancel()
    return (run.done - run.failed) / run.elapsed_s, run.moved


def sizes(kind: Kind, pool: str) -> list[dict[str, int]]:
    """Say what sizes of a pool to measure."""
    cores = pools.count_cores()
    if pool == "prefork":
        return [{"workers": cores}, {"workers": 4 * cores}]
    wide = {"workers": cores} if pool == "hybrid" else {}
    return [{"concurrency": width, **wide} for width in ((FEW, MANY) if kind.many else (FEW,))]


def measure(kind: Kind, seconds: float, order: tuple[str, ...]) -> dict[str, list[float]]:
    """Measure every pool at each of its sizes."""
    return {
        pool: [throughput(kind, seconds, pool=pool, **size)[0] for size in sizes(kind, pool)]
        for pool in order
        if pool in kind.pools
    }


class Score:
    """What was advised, and how good it was."""

    def __init__(self) -> None:
        self.table: Counter[tuple[str, str]] = Counter()
        self.misses: list[str] = []
        self.shares: list[float] = []
        self.seconds: list[float] = []
        self.autos: list[float] = []
        self.singles: dict[str, list[float]] = {pool: [] for pool in POOLS}
        self.beaten: list[str] = []

    def advise(self, kind: Kind, found: dict[str, float], seconds: float) -> str:
        """Ask for advice and follow it; say what it was."""
        best = max(found, key=lambda pool: found[pool])
        begin_s = time.perf_counter()
        advice = greenlab.advise(functools.partial(call, kind.call), range(TASKS))
        self.seconds.append(time.perf_counter() - begin_s)
        got = throughput(kind, seconds, **advice.options)[0] if advice.pool in kind.pools else 0.0
        share = got / max(got, found[best])
        self.shares.append(share)
        simplest = next(pool for pool in POOLS if found.get(pool, 0.0) >= GOOD * found[best])
        self.table[simplest, advice.pool] += 1
        if share < GOOD:
            self.misses.append(f"{kind.name}: {advice} reaches {share:.2f} of {best}")
        return f"{advice.plan} ({advice.sure}) {share:.2f}"

    def try_auto(self, kind: Kind, rates: dict[str, list[float]], seconds: float) -> str:
        """Let auto run it, in sizes that single pools had, too; say where it went."""
        width = MANY if kind.many else FEW
        got, moved = throughput(kind, seconds, pool="auto", concurrency=width, workers=pools.count_cores())
        found = {pool: each[0 if pool == "prefork" else -1] for pool, each in rates.items()}
        best = max(found, key=lambda pool: found[pool])
        self.autos.append(got / found[best])
        for pool, each in found.items():
            self.singles[pool].append(each / found[best])
        if got < found[best]:
            self.beaten.append(f"{kind.name} {got / found[best]:.2f} of {best}")
        return f"{got:.4g}: {moved}"

    def show(self) -> None:
        """Print the confusion table, and what went wrong."""
        right = sum(share >= GOOD for share in self.shares)
        print(f"\n{right} of {len(self.shares)} right, {right / len(self.shares):.1%} (target 95 %)")
        print(f"  {'best, or as good':18}{'advised:':>9} " + " ".join(f"{pool:>8}" for pool in POOLS))
        for good in POOLS:
            print(f"  {good:28}" + " ".join(f"{self.table[good, pool] or '-':>8}" for pool in POOLS))
        for miss in self.misses:
            print("  miss: " + miss.replace("\n", "\n        "))
        bench.show_ratio("what is advised, by the best", self.shares, f"≥ {GOOD}")
        bench.show_ratio("an advice takes", self.seconds, "none", "s")
        bench.show_ratio("auto, by the best pool of its sizes", self.autos, "≥ 1")
        means = {pool: statistics.geometric_mean(each) for pool, each in [*self.singles.items(), ("auto", self.autos)]}
        told = ", ".join(f"{pool} {mean:.2f}" for pool, mean in means.items())
        print(f"  who would be used for all kinds, by the best of each (geometric means): {told}")
        print("  auto did not beat: " + ("; ".join(self.beaten) or "nobody"))


def main() -> None:
    """Print the table and the scores."""
    quick = bench.quick(__doc__)
    seconds, rounds = (0.6, 1) if quick else (1.0, ROUNDS)
    score = Score()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        kinds = QUICK if quick else [*PURE, *stack.enter_context(clients(Path(folder)))]
        print(f"{'':18}" + " ".join(f"{pool:>8}" for pool in POOLS) + "  tasks/s")
        for number, kind in enumerate(kinds):
            rates = measure(kind, seconds, POOLS if number % 2 else POOLS[::-1])
            found = {pool: max(each) for pool, each in rates.items()}
            print(f"{kind.name:18}" + " ".join(f"{found.get(pool, 0.0):8.4g}" for pool in POOLS), flush=True)
            advised = [score.advise(kind, found, seconds) for _ in range(rounds)]
            print(f"{'':18}  advised " + "; ".join(advised))
            print(f"{'':18}  auto {score.try_auto(kind, rates, 2 * seconds)}", flush=True)
        score.show()
    greenlab.stop()


if __name__ == "__main__":
    main()
