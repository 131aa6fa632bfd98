"""How good advice is: the advised pool, and auto, against every pool there is, over the zoo's kinds.

    python tests/benchmarks/bench_advise.py [--quick]

Each pool runs tasks of a kind for some seconds, at 20 in flight or a worker a core, after a warm-up. Targets:
the advised pool and sizes reach 0.8 of the best pool's throughput in 90 % of the kinds; auto, its sample included,
beats each single pool, or is printed with the one that it did not beat. Order of pools: the opposite
every other kind.
"""

from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import zoo
from benchmarks import _measure

import greenlab
from greenlab.api import prepare

if TYPE_CHECKING:
    from collections.abc import Callable

SINGLE = ("green", "threads", "prefork", "hybrid")
GOOD = 0.8
TASKS = 3000
AT_ONCE = 20
KINDS: tuple[Callable[[], Any], ...] = (
    zoo.sleep, zoo.wait_for_socket, zoo.wait_for_lock, zoo.run_child, zoo.wait_for_each_other, zoo.mix_10, zoo.mix_50,
    zoo.mix_90, zoo.usleep, zoo.usleep_with_gil, zoo.wait_for_sqlite, zoo.write_and_sync, zoo.hash_password,
    zoo.compress, zoo.multiply_matrices, zoo.compute_in_python, zoo.parse_json, zoo.wait_then_block, zoo.blink,
)  # fmt: skip
QUICK = (zoo.sleep, zoo.mix_50, zoo.usleep, zoo.compute_in_python)


def call(kind: Callable[[], Any], _: int) -> None:
    kind()


def throughput(task: Callable[[int], Any], seconds: float, **options: Any) -> tuple[float, str]:
    """Run for some seconds; give the tasks that ended a second, and what auto said."""
    prepare(task, range(4), live=False, **options).complete()  # what the task imports is in the workers now
    run = prepare(task, range(TASKS), live=False, **{"concurrency": AT_ONCE, **options})

    def enough() -> None:
        run.ledger.stopped = True

    run.start()
    timer = run._hub.schedule_call_global(seconds, enough)
    run.wait()
    timer.cancel()
    return run.throughput, run.moved


def main() -> None:
    """Print the table and the scores."""
    quick = _measure.quick(__doc__)
    seconds = 0.6 if quick else 1.2
    shares: list[float] = []
    beaten: list[str] = []
    print(f"{'kind':20} {'green':>8} {'threads':>8} {'prefork':>8} {'hybrid':>8} {'advised':>8} {'auto':>8}  tasks/s")
    for number, kind in enumerate(QUICK if quick else KINDS):
        task = partial(call, kind)
        order = SINGLE if number % 2 else SINGLE[::-1]
        found = {pool: throughput(task, seconds, pool=pool)[0] for pool in order}
        begin = time.perf_counter()
        advice = greenlab.advise(task, range(TASKS), sample=20, seconds=seconds)
        advising_s = time.perf_counter() - begin
        advised, _ = throughput(task, seconds, **advice.options)
        auto, moved = throughput(task, 2 * seconds, pool="auto")
        best = max(found, key=lambda pool: found[pool])
        shares.append(advised / max(advised, found[best]))
        row = [*(found[pool] for pool in SINGLE), advised, auto]
        print(f"{kind.__name__:20} " + " ".join(f"{value:8.4g}" for value in row))
        print(f"{'':20} best {best}; advised {advice.plan} ({advice.sure}) in {advising_s:.1f} s; auto {moved}")
        if auto < found[best]:
            beaten.append(f"{kind.__name__}: {auto / found[best]:.2f} of {best}")
    right = sum(share >= GOOD for share in shares)
    _measure.show_ratio(f"advised pools that reach {GOOD} of the best", [right / len(shares)], "≥ 0.9")
    _measure.show_ratio("the advised pool's throughput by the best one's", shares, "≥ 0.8")
    print("  auto did not beat: " + ("; ".join(beaten) or "nobody"))
    greenlab.stop()


if __name__ == "__main__":
    main()
