"""The threads pool's own: native threads, and what cannot be stopped."""

# mypy: disable-error-code="arg-type, attr-defined, func-returns-value, misc, union-attr, var-annotated"

from __future__ import annotations

import contextvars
import queue
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest
from waiting import wait_until

import greenlab
from greenlab import greening, pools
from greenlab.hub import eventlet
from greenlab.pools.threads.workers import TaskStopped, _Worker
from greenlab.runs import Ledger


@pytest.fixture
def pool(started: Any) -> Any:
    return pools.get(started, "threads")


def work(pool: Any, func: Any, items: Any, **options: Any) -> Any:
    ledger = Ledger(func, items, concurrency=options.pop("concurrency", 4), **options)
    pool.run(ledger)
    return ledger


def begin(pool: Any, func: Any, items: Any, **options: Any) -> Any:
    ledger = Ledger(func, items, concurrency=options.pop("concurrency", 4), **options)
    return ledger, eventlet.spawn(pool.run, ledger)


def stop(ledger: Any, runner: Any) -> None:
    ledger.stopped = True
    runner.kill()


def test_tasks_run_in_threads_that_are_not_the_hubs(pool: Any) -> None:
    barrier = threading.Barrier(4)

    def together(_: Any) -> int:
        barrier.wait()
        return threading.get_ident()

    idents = work(pool, together, range(4)).values
    assert 4 == len(set(idents) - {threading.get_ident()})


def test_primitives_made_and_used_in_a_task_are_native_in_effect(pool: Any) -> None:
    def produce_and_consume(n: Any) -> Any:
        box: queue.Queue[int] = queue.Queue(1)
        maker = threading.Thread(target=lambda: [box.put(i) for i in range(n)])
        maker.start()
        got = [box.get() for _ in range(n)]
        maker.join()
        return got

    assert [list(range(20))] * 4 == work(pool, produce_and_consume, [20] * 4).values


def test_a_green_task_and_a_thread_task_exchange_over_a_queue(pool: Any) -> None:
    box: queue.Queue[int] = queue.Queue()
    ledger, runner = begin(pool, lambda _: box.get(), range(3))
    for i in range(3):
        box.put(i)
        eventlet.sleep(0)
    runner.wait()
    assert [0, 1, 2] == sorted(ledger.values)


def test_what_blocks_natively_overlaps_and_the_hub_goes_on(pool: Any) -> None:
    release = threading.Event()
    inside = []

    def block(i: Any) -> Any:
        inside.append(i)
        release.wait()
        return i

    ledger, runner = begin(pool, block, range(4))
    while len(inside) < 4:
        eventlet.sleep(0.001)
    assert (4, 4) == (pool.in_flight, pool.count(ledger))
    release.set()
    runner.wait()
    assert [0, 1, 2, 3] == ledger.values


@pytest.mark.parametrize("late", [0, 10], ids=["the first", "one behind which others wait in the queue"])
def test_a_task_that_cannot_be_stopped_fails_at_once_and_its_place_is_taken(pool: Any, late: int) -> None:
    release = threading.Event()
    began = []

    def stuck(i: Any) -> Any:
        began.append(threading.current_thread())
        if i == late:
            greenlab_wait(release)
        return i

    def greenlab_wait(event: Any) -> None:
        # One native call that no exception reaches.
        while not event.is_set():
            try:
                event.wait(10)
            except BaseException:
                continue

    try:
        ledger = work(pool, stuck, range(20), concurrency=1, timeout_s=0.1)
        assert {late: greenlab.TaskTimeoutError} == {i: type(e) for i, e in ledger.errors.items()}
        assert [*range(late), None, *range(late + 1, 20)] == ledger.values
        assert began[late].is_alive()
    finally:
        release.set()
        for thread in began:
            with greening.native():
                thread.join()


def test_the_exception_of_a_limit_is_raised_in_the_task(pool: Any) -> None:
    seen = []

    def tidy(_: Any) -> None:
        try:
            for _i in range(10_000):
                time.sleep(0.005)
        except greenlab.TaskTimeoutError:
            seen.append("timeout")
            raise
        finally:
            seen.append("finally")

    ledger = work(pool, tidy, [1], timeout_s=0.05)
    assert "0.05 s" in str(ledger.errors[0])
    wait_until(lambda: len(seen) == 2)
    assert ["timeout", "finally"] == seen


@pytest.mark.parametrize("error", [TaskStopped, greenlab.TaskTimeoutError])
def test_an_exception_that_comes_a_moment_after_its_task_ends_the_thread_in_silence(error: type[BaseException]) -> None:
    """It is raised wherever the thread is by then: between two tasks."""

    def get() -> Any:
        raise error

    workers: Any = SimpleNamespace(todo=SimpleNamespace(get=get), report=None, func=None, context=None)
    worker = _Worker(workers)
    worker.token = []  # the hub has given its task up
    worker._work(workers)
    worker.token = [3]  # it has not: nothing accounts for the task
    with pytest.raises(error):
        worker._work(workers)


def test_an_outcome_that_comes_after_the_limit_is_dropped(pool: Any) -> None:
    for _ in range(30):
        ledger = work(pool, time.sleep, [0.01] * 4, timeout_s=0.01)
        ended = [state for state in ledger.state if state]
        assert 4 == ledger.done == len(ended)
        assert {greenlab.TaskTimeoutError} >= {type(e) for e in ledger.errors.values()}


def test_a_kill_ends_one_task_and_no_other(pool: Any) -> None:
    release = threading.Event()
    began = []

    def wait(i: Any) -> Any:
        began.append(i)
        while not release.wait(0.005):
            pass
        return i

    ledger, runner = begin(pool, wait, range(3))
    wait_until(lambda: len(began) == 3)
    assert pool.kill(ledger, 1, greenlab.CancelledError("no more"))
    assert not pool.kill(ledger, 7, greenlab.CancelledError("there is none"))
    release.set()
    runner.wait()
    assert ([0, 2], "no more") == ([ledger.values[0], ledger.values[2]], str(ledger.errors[1]))


def test_threads_leave_and_come_with_the_concurrency(pool: Any) -> None:
    ledger, runner = begin(pool, lambda _: time.sleep(0.005), range(100_000), concurrency=2)
    seen = []
    for concurrency in (2, 6, 1):
        ledger.concurrency = concurrency
        pool.adjust(ledger)
        eventlet.sleep(0.15)
        seen.append(max(_sampled(pool)))
    stop(ledger, runner)
    assert [2, 6, 1] == seen


def test_a_task_sees_the_context_of_its_run_and_not_of_the_task_before(pool: Any) -> None:
    var = contextvars.ContextVar("var", default=0)
    var.set(7)

    def look(x: Any) -> Any:
        before = var.get()
        var.set(x)
        return before

    assert [7] * 20 == work(pool, look, range(20), concurrency=2).values


def test_tiny_tasks_need_few_threads(pool: Any) -> None:
    threads = set(work(pool, lambda _: threading.get_ident(), range(5000), concurrency=100).values)
    assert len(threads) < 20


def test_tasks_that_only_seemed_tiny_get_the_threads_that_they_may_have(pool: Any) -> None:
    barrier = threading.Barrier(50)

    def meet(i: Any) -> Any:
        if i >= 1_000:
            barrier.wait(30)
        return i

    assert list(range(1_050)) == work(pool, meet, range(1_050), concurrency=50).values


def test_where_a_task_stands_is_told(pool: Any) -> None:
    release = threading.Event()
    ledger, runner = begin(pool, lambda _: release.wait(), [0])
    wait_until(lambda: pool.held(ledger))
    (held,) = pool.held(ledger)
    wait_until(lambda: pool.held(ledger)[0].where is not None)
    (held,) = pool.held(ledger)
    assert held.where is not None
    assert (0, "test_threads.py") == (held.index, held.where[0].rpartition("/")[2])
    assert held.worker not in {None, threading.get_native_id()}
    release.set()
    runner.wait()
    assert [] == pool.held(ledger)


def test_a_run_inside_a_task_of_a_thread_is_refused_in_one_line(pool: Any) -> None:
    ledger = work(pool, lambda _: greenlab.run(abs, [1]), [0])
    assert "greenlab runs in one thread" in str(ledger.errors[0])


def test_closing_a_busy_pool_ends_its_run(pool: Any) -> None:
    _ledger, runner = begin(pool, lambda _: [time.sleep(0.005) for _ in range(10_000)], range(3))
    wait_until(lambda: pool.in_flight)
    pool.close()
    with pytest.raises(greenlab.GreenlabError, match="closed"):
        runner.wait()
    assert 0 == pool.in_flight


def _sampled(pool: Any) -> Any:
    for _ in range(20):
        eventlet.sleep(0.002)
        yield pool.in_flight


def test_tasks_that_wait_are_run_where_all_threads_have_left_or_were_given_up(pool: Any) -> None:
    """Threads that are too many were asked to leave, and the ones that were to stay are killed."""
    release = threading.Event()
    began = []

    def wait(i: Any) -> Any:
        began.append(i)
        while i >= 200 and not release.wait(0.005):
            pass
        return i

    ledger, runner = begin(pool, wait, range(300), concurrency=4)
    wait_until(lambda: len(began) == 204)
    ledger.concurrency = 1
    pool.adjust(ledger)
    for index in [held.index for held in pool.held(ledger)][:3]:
        assert pool.kill(ledger, index, greenlab.CancelledError("no more"))
    release.set()
    runner.wait()
    assert (297, 3) == (ledger.done - ledger.failed, ledger.failed)


@pytest.mark.parametrize("most", [0, 2])
def test_a_system_that_has_no_more_threads_ends_a_run_only_if_it_gave_none(
    pool: Any, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    start, started = threading.Thread.start, []

    def scarce(thread: threading.Thread) -> None:
        if len(started) == most:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", scarce)
    ledger, runner = begin(pool, lambda i: time.sleep(0.001) or i, range(50), concurrency=10)
    if most:
        runner.wait()
        assert list(range(50)) == ledger.values
    else:
        with pytest.raises(greenlab.GreenlabError, match="can't start new thread"):
            runner.wait()
    assert most == len(started)
