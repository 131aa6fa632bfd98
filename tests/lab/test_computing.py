"""`compute` and `parallel_share`: what lessons measure parallelism with."""

from __future__ import annotations

import threading
import time

from greenlab.lab import compute, cores, parallel_share


def test_computing_takes_so_much_of_a_processor() -> None:
    before = time.thread_time()
    instants = compute(0.05)
    assert 0.05 <= time.thread_time() - before < 0.1
    assert 250 <= len(instants) <= 2 * 500


def test_one_after_another_is_not_parallel() -> None:
    assert parallel_share([compute(0.02) for _ in range(5)]) < 0.02


def test_threads_that_take_turns_at_the_gil_are_not_parallel() -> None:
    done: list[frozenset[int]] = []
    threads = [threading.Thread(target=lambda: done.append(compute(0.1))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert parallel_share(done) < 0.1


def test_instants_that_are_shared_are_counted() -> None:
    assert 0.5 == parallel_share([frozenset({1, 2, 3}), frozenset({3, 4}), frozenset({4, 2, 5, 6})])
    assert 0 == parallel_share([])


def test_there_is_a_core() -> None:
    assert cores() >= 1
