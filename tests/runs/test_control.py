"""Control of runs: what is kept, nesting, concurrency while it runs, and what runs now."""

# mypy: disable-error-code="arg-type, attr-defined, func-returns-value, misc, union-attr, var-annotated"

from __future__ import annotations

import gc
import itertools
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from tasks import doze
from waiting import wait_until

import greenlab
from greenlab import hub, pools
from greenlab.api.run import prepare
from greenlab.hub import eventlet
from greenlab.runs import Latency
from greenlab.runs.aggregate import KEPT
from greenlab.runs.latency import Histogram, latency_of

POOLS = pools.LOCAL


@pytest.fixture(autouse=True)
def _hub(started: Any) -> Any:
    return started


def two_workers(pool: str) -> dict[str, int]:
    """The option of a pool that has processes: also where the machine has one processor."""
    return {"workers": 2} if pool in ("prefork", "hybrid", "auto") else {}


# -- what is discarded -------------------------------------------------------------------------------------


def test_memory_stays_flat_over_an_endless_iterator_when_results_are_discarded() -> None:
    run = prepare(lambda x: str(x) * 10, itertools.count(), concurrency=10, discard=True).start()
    sizes = []
    tracemalloc.start()
    for stop in (20_000, 40_000, 80_000):
        wait_until(lambda stop=stop: run.done > stop)
        gc.collect()
        sizes.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    run.cancel()
    assert sizes[-1] - sizes[0] < 100_000  # 60,000 more tasks; columns would take two megabytes
    assert run.counts["succeeded"] == run.done > 80_000


def test_a_run_that_discards_says_so_where_a_result_is_read() -> None:
    run = greenlab.run(lambda x: x, range(10), discard=True)
    for read in (lambda: run.results, lambda: run.outcomes, run.to_pandas):
        with pytest.raises(greenlab.UsageError, match="made with discard"):
            read()
    assert "results were discarded" in repr(run)
    assert {"total": 10, "succeeded": 10, "failed": 0, "cancelled": 0, "pending": 0} == run.counts


def test_a_run_that_discards_keeps_the_first_failures_and_counts_the_rest() -> None:
    run = greenlab.run(lambda x: 1 / (x % 2), range(1000), discard=True)
    assert (KEPT, {"ZeroDivisionError": 500}) == (len(run.errors), run.error_types)
    assert "x % 2" in repr(run)
    with pytest.raises(greenlab.UsageError, match="keeps the first 100"):
        run.resume()


def test_a_run_that_discards_can_be_resumed() -> None:
    broken = {3, 5}
    run = greenlab.run(lambda x: 1 / (x not in broken), iter(range(20)), discard=True)
    assert 2 == run.counts["failed"]
    broken.clear()
    assert {"total": 20, "succeeded": 20, "failed": 0, "cancelled": 0, "pending": 0} == run.resume().counts


def test_the_histogram_agrees_with_exact_percentiles_to_two_percent() -> None:
    values = [0.0003 * 1.01**i for i in range(1000)]
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    exact, found = latency_of([0.0] * len(values), values), histogram.latency()
    for name in ("p50", "p90", "p99", "max"):
        assert getattr(found, name) == pytest.approx(getattr(exact, name), rel=0.02)
    assert repr(Latency()) == repr(Histogram().latency())


def test_a_latency_of_nothing_or_of_ages_is_counted_at_the_edge() -> None:
    histogram = Histogram()
    for value in (0.0, -1.0, 1e30):
        histogram.add(value)
    assert histogram.latency().max == 1e30


def test_a_run_that_discards_is_resumed_once_for_its_items_are_gone() -> None:
    run = prepare(nap, iter([0.001] * 200), concurrency=2, discard=True).start()
    wait_until(lambda: run.done > 5)
    run.cancel()
    assert 200 == run.resume().counts["succeeded"]
    with pytest.raises(greenlab.UsageError, match="resumed before"):
        run.resume()


@pytest.mark.parametrize("kind", [list, iter])
def test_a_run_can_be_resumed_more_than_once_also_when_a_resumed_one_was_stopped(kind: Any) -> None:
    run = prepare(lambda x: time.sleep(0.001) or x, kind(list(range(200))), concurrency=2).start()
    wait_until(lambda: run.done > 5)
    run.cancel()
    stopped = greenlab.spawn(run.resume)
    wait_until(lambda: len(greenlab.ps()) > 1)
    eventlet.sleep(0.02)
    stopped.kill()
    greenlab.kill(*[row.id for row in greenlab.ps() if "." not in row.id])
    assert list(range(200)) == run.resume().results
    assert list(range(200)) == run.resume().results


# -- concurrency while it runs -----------------------------------------------------------------------------


@pytest.mark.parametrize("pool", POOLS)
def test_the_concurrency_follows_while_a_run_goes_on(pool: str) -> None:
    options = {"workers": 2} if pool == "prefork" else {"workers": None, "concurrency": 2}
    run = prepare(nap, itertools.repeat(0.02), pool=pool, **options).start()
    seen = []
    for concurrency in (2, 4, 1):
        run.concurrency = concurrency
        settled = run.done + 20
        wait_until(lambda settled=settled: run.done >= settled)
        seen.append(max(_sampled(run)))
    run.cancel()
    assert [2, 4, 1] == seen


def nap(seconds: Any) -> None:
    time.sleep(seconds)


def _sampled(run: Any) -> Any:
    for _ in range(25):
        eventlet.sleep(0.004)
        yield run.in_flight


def test_a_run_that_is_cancelled_before_its_first_step_ends_and_can_be_resumed() -> None:
    run = prepare(abs, [-1, -2]).start()
    run.cancel()
    assert (False, True) == (run.running, run.cancelled)
    assert [1, 2] == run.resume().results


def test_a_run_that_was_never_begun_does_not_run_and_can_be_resumed() -> None:
    run = prepare(abs, [-1, -2])
    assert not run.running
    with pytest.raises(greenlab.PendingError, match="has not ended"):
        _ = run.results
    assert [1, 2] == run.resume().results
    run.cancel()
    assert run.wait().cancelled


# -- runs that wait for runs -------------------------------------------------------------------------------


def test_a_task_that_waits_for_its_own_run_is_told_that_this_would_never_end() -> None:
    holder = []
    run = prepare(lambda _: holder[0].wait(), [1])
    holder.append(run)
    run.start().wait()
    assert "ends only when this task has ended" in str(run.errors[0])


def test_two_runs_whose_tasks_wait_for_each_other_are_told_so() -> None:
    runs: list[Any] = []
    for other in (1, 0):
        runs.append(prepare(lambda _, other=other: runs[other].wait(), [1]))
    for run in runs:
        run.start()
    for run in runs:
        run.wait()
    told = [str(error) for run in runs for error in run.errors.values()]
    assert 1 == len(told)
    assert "ends only when this task has ended" in told[0]


def test_runs_nest_as_deep_as_one_likes() -> None:
    def nested(depth: Any) -> Any:
        return depth if depth == 0 else greenlab.run(nested, [depth - 1] * 2, live=False).results[0]

    assert [0, 0] == greenlab.run(nested, [5, 5]).results


def test_a_wait_with_a_time_limit_may_be_for_any_run() -> None:
    holder = []

    def peek(_: Any) -> str:
        try:
            holder[0].wait(0.01)
        except greenlab.PendingError as error:
            return str(error)
        return "ended"

    run = prepare(peek, [1])
    holder.append(run)
    assert ["the run has not ended after 0.01 s; it goes on"] == run.start().wait().results


def test_a_task_in_the_background_that_waits_for_itself_is_told() -> None:
    holder = []

    def wait() -> None:
        eventlet.sleep(0)
        holder[0].wait()

    holder.append(greenlab.spawn(wait))
    with pytest.raises(greenlab.UsageError, match="waits for itself"):
        holder[0].wait()


def test_many_runs_at_once_share_the_workers_of_a_pool_and_all_end() -> None:
    def outer(x: Any) -> Any:
        return sum(greenlab.run(abs, range(-x, 0), pool="prefork", workers=2, live=False).results)

    assert [sum(range(x + 1)) for x in range(1, 9)] == greenlab.run(outer, range(1, 9)).results


@pytest.mark.parametrize("end", ["kill", "timeout", "time limit"])
@pytest.mark.parametrize("pool", ["green", "threads", "prefork"])
def test_a_run_ends_with_the_task_that_waits_for_it(end: str, pool: str) -> None:
    naps = 0.2 if pool == "threads" else 600.0  # a thread is left alone until its call returns

    def wait_for_a_run(_: int = 0) -> None:
        greenlab.run(time.sleep, [naps] * 2, pool=pool, **two_workers(pool), live=False)

    if end == "time limit":
        with pytest.raises(greenlab.RunError, match="TaskTimeoutError"):
            greenlab.run(wait_for_a_run, [0], timeout=0.1, live=False)
    elif end == "timeout":
        with eventlet.Timeout(0.1, False):
            wait_for_a_run()
    else:
        task = greenlab.spawn(wait_for_a_run)
        wait_until(lambda: any(one.state == "0 of 2 done" for one in greenlab.ps()))
        task.kill()
    wait_until(lambda: not list(greenlab.ps()))


# -- what was printed --------------------------------------------------------------------------------------


def test_what_workers_print_is_shown_and_known_by_task(capsys: pytest.CaptureFixture[str]) -> None:
    run = greenlab.run(lambda x: print("hello from", x), range(3), pool="prefork", workers=2)
    assert {i: f"hello from {i}\n" for i in range(3)} == run.printed
    assert {"hello from 0", "hello from 1", "hello from 2"} == set(capsys.readouterr().out.split("\n")[:-1])


def test_of_a_flood_the_first_mebibyte_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    run = greenlab.run(lambda _: print("x" * 1_000_000), range(3), pool="prefork", workers=1)
    assert 1 << 20 == sum(map(len, run.printed.values()))
    assert 3_000_003 == len(capsys.readouterr().out)


# -- what runs now -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("pool", POOLS)
def test_the_tasks_of_a_run_are_listed_with_where_they_stand(pool: str) -> None:
    run = prepare(doze, ["a", "b"], pool=pool, **two_workers(pool)).start()
    wait_until(lambda: run.in_flight == 2 and all(held.where for held in run.tasks_in_flight()))
    rows = {row.id: row for row in greenlab.ps()}
    assert {f"{run.id}", f"{run.id}.0", f"{run.id}.1"} == set(rows)
    assert (pool, "run of doze", "0 of 2 done") == (
        rows[f"{run.id}"].pool,
        rows[f"{run.id}"].what,
        rows[f"{run.id}"].state,
    )
    task = rows[f"{run.id}.1"]
    assert task.place is not None
    assert ("tasks.py", "doze") == (Path(task.place[0]).name, task.place[2])
    assert (pool in ("green", "auto")) == (task.worker is None)
    assert "tasks.py, in doze" in repr(greenlab.ps())
    assert "<table>" in greenlab.ps()._repr_html_()
    run.cancel()
    assert [] == greenlab.ps()
    assert "nothing runs" == repr(greenlab.ps())


@pytest.mark.parametrize("pool", POOLS)
def test_killing_one_task_leaves_the_others(pool: str) -> None:
    run = prepare(lambda x: doze(x) if x == 1 else x, range(4), pool=pool, concurrency=2, **two_workers(pool)).start()
    wait_until(lambda: run.done == 3 and run.in_flight == 1)
    assert [f"{run.id}.1"] == greenlab.kill(f"{run.id}.1")
    run.wait()
    assert {1: "CancelledError"} == {index: type(error).__name__ for index, error in run.errors.items()}
    assert [0, 2, 3] == [value for value in run.outcomes if not isinstance(value, Exception)]


def test_a_kill_passes_except_exception_in_the_task() -> None:
    def stubborn(_: Any) -> None:
        while True:
            try:
                time.sleep(10)
            except Exception:
                continue

    run = prepare(stubborn, [1]).start()
    wait_until(lambda: run.in_flight)
    assert run.kill(0)
    run.wait()
    assert "the task was killed" == str(run.errors[0])


def test_killing_a_run_cancels_it_and_a_background_task_ends() -> None:
    run = prepare(doze, range(5)).start()
    task = greenlab.spawn(doze, 1)
    wait_until(lambda: run.in_flight)
    assert [str(task.id), str(run.id)] == greenlab.kill(task.id, str(run.id))
    assert run.cancelled
    assert task.dead
    assert [] == greenlab.kill(task.id, f"{run.id}.0")


def test_background_tasks_are_listed_with_their_state() -> None:
    task = greenlab.spawn(doze, 1)
    assert [("waiting to start", "hub")] == [(row.state, row.pool) for row in greenlab.ps()]
    eventlet.sleep(0)
    (row,) = greenlab.ps()
    assert ("waiting", "doze", str(task.id)) == (row.state, row.what, row.id)
    assert "tasks.py, in doze" in row.where
    task.kill()


def test_a_long_list_is_cut_short_when_it_is_shown() -> None:
    run = prepare(doze, range(100), concurrency=100).start()
    wait_until(lambda: run.in_flight == 100)
    listing = greenlab.ps()
    assert 101 == len(listing)
    assert "and 80 more tasks" in repr(listing)
    run.cancel()


@pytest.mark.parametrize(("ids", "says"), [((), "say what to kill"), (("x",), "'x' is no id"), (("3.",), "is no id")])
def test_what_is_no_id_is_told_and_nothing_is_killed(ids: Any, says: str) -> None:
    with pytest.raises(greenlab.UsageError, match=says):
        greenlab.kill(*ids)


def test_a_task_may_cancel_its_own_run() -> None:
    holder = []

    def task(x: Any) -> Any:
        if x == 3:
            holder[0].cancel()
        time.sleep(0.001)
        return x

    run = prepare(task, range(100), concurrency=2)
    holder.append(run)
    run.start().wait()
    assert run.cancelled
    assert run.done < 100


# -- what a pool cannot keep -------------------------------------------------------------------------------


@pytest.mark.parametrize("pool", [name for name in POOLS if name != "prefork"])
@pytest.mark.parametrize(("option", "flag"), [("max_tasks", "--max-tasks"), ("max_memory", "--max-memory")])
def test_an_option_that_a_pool_cannot_keep_is_refused_up_front(pool: str, option: str, flag: str) -> None:
    refused = rf"{pool} pool does not replace workers: {option} \({flag}\) goes with the prefork pool"
    with pytest.raises(greenlab.UsageError, match=refused):
        greenlab.run(abs, [1], pool=pool, **{option: 5})


@pytest.mark.parametrize("known", [True, False])
def test_a_run_that_is_interrupted_as_it_starts_has_ended(monkeypatch: Any, known: bool) -> None:
    spawn = hub.spawn
    ran = []

    def interrupted(*args: Any) -> Any:
        raise KeyboardInterrupt

    def spawn_interrupted(*args: Any) -> Any:
        task = spawn(*args)
        if not known:
            raise KeyboardInterrupt
        task.link = interrupted
        return task

    monkeypatch.setattr("greenlab.runs.run.spawn", spawn_interrupted)
    with pytest.raises(greenlab.RunInterrupted) as caught:
        greenlab.run(ran.append, range(3))
    eventlet.sleep(0.01)
    assert ([], False, True) == (ran, caught.value.run.running, caught.value.run.cancelled)
