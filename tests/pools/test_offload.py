"""One call elsewhere, waited for in a green task."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any

import greenlet
import pytest
from tasks import divide

import greenlab
from greenlab.hub import eventlet

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _hub(started: Any) -> Any:
    return started


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_the_value_comes_back(pool: str) -> None:
    assert 2.5 == greenlab.offload(divide, 5, 2, pool=pool)


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_the_exception_comes_back_with_the_line_that_raised_it(pool: str) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        greenlab.offload(divide, 1, 0, pool=pool)
    told = "".join(traceback.format_exception(caught.value))
    assert "return a / b" in told
    assert "/eventlet/" not in told
    assert "workers.py" not in told


def test_a_process_is_another_one_and_a_thread_another_thread() -> None:
    assert os.getpid() != greenlab.offload(os.getpid)
    assert threading.get_ident() != greenlab.offload(threading.get_ident, pool="threads")


@pytest.mark.parametrize("pool", ["prefork", "hybrid"])
def test_in_a_worker_process_which_may_have_none_a_call_is_made_where_it_is(pool: str) -> None:
    made = greenlab.run(lambda _: (os.getpid(), greenlab.offload(os.getpid)), range(3), pool=pool, live=False)
    assert [True] * 3 == [here == there for here, there in made.results]


def test_an_os_thread_takes_a_call_of_a_hybrid_process() -> None:
    threads = threading.get_ident
    made = greenlab.run(
        lambda _: (threads(), greenlab.offload(threads, pool="threads")), [0], pool="hybrid", live=False
    )
    assert [False] == [here == there for here, there in made.results]


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_other_green_tasks_run_meanwhile(pool: str) -> None:
    ticks = []

    def tick() -> None:
        while True:
            ticks.append(1)
            eventlet.sleep(0.001)

    release = threading.Event()
    ticker = greenlab.spawn(tick)
    if pool == "threads":
        task = greenlab.spawn(greenlab.offload, release.wait, 30, pool=pool)
        eventlet.sleep(0.05)
        release.set()
    else:
        task = greenlab.spawn(greenlab.offload, time.sleep, 0.05)
    task.wait()
    ticker.kill()
    assert len(ticks) > 10


def test_what_blocks_natively_overlaps_in_threads() -> None:
    barrier = threading.Barrier(20)  # passes only if all twenty wait at once
    waits = greenlab.run(
        lambda _: greenlab.offload(barrier.wait, 20, pool="threads") >= 0, range(20), concurrency=20, live=False
    )
    assert [True] * 20 == waits.results


def test_a_database_file_is_read_in_a_thread(tmp_path: Path) -> None:
    def query(n: int) -> Any:
        db = sqlite3.connect(tmp_path / "numbers.db")
        try:
            return db.execute("select ? * 2", (n,)).fetchone()[0]
        finally:
            db.close()

    run = greenlab.run(lambda n: greenlab.offload(query, n, pool="threads"), range(10), live=False)
    assert [2 * n for n in range(10)] == run.results


def test_many_green_tasks_share_the_workers() -> None:
    run = greenlab.run(lambda x: greenlab.offload(divide, x, 2), range(50), concurrency=25, live=False)
    assert [x / 2 for x in range(50)] == run.results


def test_killing_the_caller_ends_its_wait_and_the_pool_lives_on() -> None:
    task = greenlab.spawn(greenlab.offload, time.sleep, 60)
    eventlet.sleep(0.2)
    task.kill()
    with pytest.raises(greenlet.GreenletExit):
        task.wait()
    assert 1.0 == greenlab.offload(divide, 1, 1)


def test_a_capture_that_cannot_travel_is_named() -> None:
    guard = threading.Lock()
    with pytest.raises(greenlab.NotSendableError, match="'guard'"):
        greenlab.offload(lambda: guard)


def test_mistakes_say_what_to_write() -> None:
    with pytest.raises(greenlab.UsageError, match=r"offload\(f, x\)"):
        greenlab.offload(42)  # type: ignore[arg-type]  # the mistake is the point
    with pytest.raises(greenlab.UsageError, match="prefork or threads"):
        greenlab.offload(divide, 1, 2, pool="green")


def test_arguments_that_cannot_travel_are_named() -> None:
    with pytest.raises(greenlab.NotSendableError, match=r"cannot send argument 2 \(\S*[Ll]ock\) of divide to a worker"):
        greenlab.offload(divide, 2, threading.Lock())


def test_calls_of_many_functions_at_once_each_get_their_own_value() -> None:
    calls = [(abs, (-3,), 3), (divide, (6, 3), 2.0), (len, ("four",), 4), (lambda x: x * 2, (5,), 10)] * 25
    run = greenlab.run(lambda call: greenlab.offload(call[0], *call[1]), calls, concurrency=50)
    assert [call[2] for call in calls] == run.results


def test_a_function_whose_global_has_changed_is_not_a_stale_one(monkeypatch: pytest.MonkeyPatch) -> None:
    namespace: dict[str, Any] = {"__name__": "__main__", "factor": 2}
    exec("def scaled(x):\n    return x * factor", namespace)
    assert 6 == greenlab.offload(namespace["scaled"], 3)
    namespace["factor"] = 10
    assert 30 == greenlab.offload(namespace["scaled"], 3)


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_what_a_call_prints_is_seen(pool: str, capsys: pytest.CaptureFixture[str]) -> None:
    greenlab.offload(print, "from", pool, pool=pool)
    assert f"from {pool}\n" == capsys.readouterr().out


def test_a_worker_that_dies_costs_the_call_that_it_held_and_no_other() -> None:
    def end(x: int) -> int:
        if x == 3:
            os._exit(7)
        return x

    run = greenlab.run(lambda x: greenlab.offload(end, x), range(6), concurrency=6)
    assert {3: "WorkerLostError"} == {index: type(error).__name__ for index, error in run.errors.items()}
    assert [0, 1, 2, 4, 5] == [value for value in run.outcomes if isinstance(value, int)]


def test_killing_a_caller_whose_call_has_not_begun_withdraws_it(tmp_path: Path) -> None:
    from greenlab import pools

    mark = tmp_path / "begun"
    busy = [greenlab.spawn(greenlab.offload, time.sleep, 0.3) for _ in range(pools.count_cores())]
    eventlet.sleep(0.1)
    waiting = greenlab.spawn(greenlab.offload, mark.touch)
    eventlet.sleep(0)
    waiting.kill()
    for task in busy:
        task.wait()
    assert 1 == greenlab.offload(abs, -1)
    assert not mark.exists()


def test_a_standing_job_that_is_not_called_ends_and_starts_again(monkeypatch: pytest.MonkeyPatch, started: Any) -> None:
    monkeypatch.setattr("greenlab.pools.offload._IDLE_S", 0.02)
    assert 2.5 == greenlab.offload(divide, 5, 2)
    job = started.kept["offload prefork"]
    while job._server is not None:
        eventlet.sleep(0.01)
    assert 2.5 == greenlab.offload(divide, 5, 2)


def test_a_pool_that_is_closed_tells_a_caller_that_still_waits(started: Any) -> None:
    task = greenlab.spawn(greenlab.offload, time.sleep, 60)
    eventlet.sleep(0.1)
    started.kept["pool prefork"].close()
    with pytest.raises(greenlab.GreenlabError, match="the pool was closed"):
        task.wait()
