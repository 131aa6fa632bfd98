"""Runs: what is known of many tasks, while they run and after."""

# Doubles, lambdas and deliberate misuse: what these rules see in them is meant.
# mypy: disable-error-code="arg-type, attr-defined, func-returns-value, misc, union-attr, var-annotated"

from __future__ import annotations

import _thread
import math
import threading
import time
import warnings
from typing import Any

import pytest
from waiting import wait_until

import greenlab
import greenlab.api.run
from greenlab.runs.latency import latency_of
from greenlab.text.format import seconds


def one_in_three(x: Any) -> Any:
    return 1 // (x % 3)


@pytest.fixture(autouse=True)
def _hub(started: Any) -> Any:
    return started


def test_results_stand_in_input_order_however_the_tasks_end() -> None:
    run = greenlab.run(lambda s: time.sleep(s) or s, [0.03, 0.02, 0.01])
    assert [0.03, 0.02, 0.01] == run.results


def test_results_raise_the_first_error_in_input_order_and_outcomes_hold_all() -> None:
    run = greenlab.run(one_in_three, range(5))
    with pytest.raises(ZeroDivisionError):
        _ = run.results
    assert [ZeroDivisionError, 1, 0, ZeroDivisionError, 1] == [
        type(o) if isinstance(o, Exception) else o for o in run.outcomes
    ]
    assert [0, 3] == list(run.errors)
    assert {"total": 5, "succeeded": 3, "failed": 2, "cancelled": 0, "pending": 0} == run.counts
    assert {"ZeroDivisionError": 2} == run.error_types


def test_times_agree_with_each_other() -> None:
    run = greenlab.run(lambda _: time.sleep(0.02), range(20), concurrency=10)
    assert 0.04 <= run.elapsed_s
    assert run.throughput == pytest.approx(20 / run.elapsed_s)
    assert 0.02 <= run.latency.p50 <= run.latency.p90 <= run.latency.p99 <= run.latency.max <= run.elapsed_s
    starts, ends = run.spans()
    assert all(0 <= s < e <= run.elapsed_s for s, e in zip(starts, ends, strict=True))
    assert sorted(ends) == run.ended_s_sorted()


def test_latency_is_by_nearest_rank_and_skips_what_has_not_ended() -> None:
    nan = math.nan
    latency = latency_of([0.0] * 101, [*(float(i) for i in range(1, 101)), nan])
    assert (50.0, 90.0, 99.0, 100.0) == (latency.p50, latency.p90, latency.p99, latency.max)
    assert math.isnan(latency_of([], []).p50)


def test_the_report_counts_failures_and_shows_the_first_traceback_from_the_users_line_on() -> None:
    run = greenlab.run(one_in_three, range(5))
    text = repr(run)
    assert "3 of 5 tasks succeeded" in text
    assert "failed: 2 ZeroDivisionError" in text
    assert "return 1 // (x % 3)" in text
    assert "greenlab/pools" not in text
    html = run._repr_mimebundle_()["text/html"]
    assert "<details>" in html
    assert "1 // (x % 3)" in html


def test_the_report_as_html_escapes_what_tasks_say() -> None:
    def bad(x: Any) -> None:
        raise ValueError("<script>")

    run = greenlab.api.run.prepare(bad, [1]).start().wait()
    assert "<script>" not in run._repr_mimebundle_()["text/html"]


def test_a_run_in_which_everything_fails_raises_and_is_within_reach() -> None:
    with pytest.raises(greenlab.RunError, match="every task failed: 3 ZeroDivisionError") as caught:
        greenlab.run(lambda x: 1 / 0, range(3))
    assert 3 == caught.value.run.counts["failed"]


def test_fail_fast_stops_at_the_first_failure() -> None:
    def third(x: Any) -> Any:
        time.sleep(0.01)
        return 1 / (x - 2)

    with pytest.raises(greenlab.RunError, match="fail fast") as caught:
        greenlab.run(third, range(1000), concurrency=1, fail_fast=True)
    counts = caught.value.run.counts
    assert (2, 1) == (counts["succeeded"], counts["failed"])
    assert len(caught.value.run.outcomes) < 10


@pytest.mark.parametrize("pool", ["green", "prefork"])
def test_results_of_a_run_that_failed_fast_raise_the_failure_and_not_what_it_cancelled(pool: str) -> None:
    def second_fails(x: Any) -> Any:
        if x == 1:
            raise OSError("gone")
        time.sleep(60)

    workers = 2 if pool == "prefork" else None
    run = greenlab.api.run.prepare(second_fails, range(3), pool=pool, concurrency=2, workers=workers, fail_fast=True)
    run.start().wait()
    assert [greenlab.CancelledError, OSError] == [type(error) for error in run.outcomes[:2]]
    with pytest.raises(OSError, match="gone"):
        _ = run.results


def test_results_of_a_run_that_its_pool_could_not_run_raise_why() -> None:
    lock = _thread.allocate_lock()
    run = greenlab.api.run.prepare(lambda _: lock.locked(), range(3), pool="prefork", workers=1).start().wait()
    with pytest.raises(greenlab.NotSendableError, match="cannot send 'lock'"):
        _ = run.results
    assert 0 == run.begun
    assert run.cut_by.startswith("cannot send 'lock'")


def test_a_run_says_what_ended_it_before_all_its_tasks_had() -> None:
    whole = greenlab.run(lambda x: x, range(3))
    stopped = greenlab.api.run.prepare(lambda _: time.sleep(60), range(3)).start()
    wait_until(lambda: stopped.begun == 3)
    assert "" == stopped.cut_by
    stopped.cancel()
    assert ["", "it was stopped"] == [whole.cut_by, stopped.cut_by]


def test_a_detached_run_goes_on_and_its_results_are_refused_until_it_has_ended() -> None:
    run = greenlab.api.run.prepare(lambda x: time.sleep(0.02) or x, range(4)).start()
    with pytest.raises(greenlab.PendingError):
        _ = run.results
    with pytest.raises(greenlab.PendingError):
        run.wait(0.001)
    assert [0, 1, 2, 3] == run.wait().results


def test_two_runs_at_once_do_not_mix() -> None:
    runs = [greenlab.api.run.prepare(lambda x, k=k: time.sleep(0.005) or k * x, range(20)).start() for k in (1, 10)]
    assert [list(range(20)), list(range(0, 200, 10))] == [run.wait().results for run in runs]


def test_a_run_inside_a_task_of_another_ends() -> None:
    def outer(x: Any) -> Any:
        return sum(greenlab.run(lambda y: time.sleep(0.001) or y, range(x), live=False).results)

    assert [0, 1, 3, 6] == greenlab.run(outer, range(1, 5), concurrency=2).results


def test_observers_hear_of_start_and_end_and_one_that_raises_is_dropped_with_a_warning() -> None:
    heard = []

    class Good:
        def run_started(self, run: Any) -> None:
            heard.append(("started", run.running))

        def run_ended(self, run: Any) -> None:
            heard.append(("ended", run.running))

    class Bad:
        def run_started(self, run: Any) -> None:
            raise ValueError("no")

        def run_ended(self, run: Any) -> None:
            heard.append("bad")

    run = greenlab.api.run.prepare(lambda x: x, [1, 2])
    run._observers._observers[:] = [Bad(), Good()]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run.start().wait()
    assert [("started", True), ("ended", False)] == heard
    assert [
        "greenlab dropped the observer Bad, whose run_started raised ValueError: no; the run goes on without it"
    ] == [str(w.message) for w in caught]
    assert [1, 2] == run.results


def test_a_task_that_holds_the_hub_is_named_with_its_line() -> None:
    def hold(x: Any) -> None:
        with greenlab.native():
            time.sleep(0.3 if x == 1 else 0)
        time.sleep(0.01)

    run = greenlab.run(hold, range(3))
    (block,) = run.blocked
    assert 0.1 < block.duration_s < 2  # of 0.3; a busy machine may see it begin late
    assert "in hold" in str(block)
    assert "test_runs.py" in str(block)


def test_a_healthy_run_reports_no_block() -> None:
    run = greenlab.run(lambda x: time.sleep(0.3), range(50), concurrency=50)
    assert [] == run.blocked


def test_to_pandas_gives_a_row_a_task() -> None:
    run = greenlab.run(one_in_three, range(5))
    frame = run.to_pandas()
    assert ["failed", "succeeded", "succeeded", "failed", "succeeded"] == list(frame.state)
    assert (frame.latency_s >= 0).all()
    assert ((frame.started_s >= 0) & (frame.started_s <= frame.ended_s) & (frame.ended_s <= run.elapsed_s)).all()
    assert list(frame.ended_s - frame.started_s) == list(frame.latency_s)
    assert "ZeroDivisionError" == type(frame.error[0]).__name__


def test_plot_gives_a_figure_with_axes() -> None:
    figure = greenlab.run(lambda x: time.sleep(0.01), range(100)).plot()
    assert len(figure.axes) >= 2
    assert ["tasks"] == [axes.get_label() for axes in greenlab.run(time.sleep, [0.01] * 3).plot().axes]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"items": None}, "items, or count=N"),
        ({"items": [1], "count": 3}, "once"),
        ({"items": 5}, "an int is not"),
        ({"items": []}, "empty"),
        ({"items": {}}, "empty"),
        ({"count": 0}, "1 or more"),
        ({"count": 2.5}, "whole number"),
        ({"items": [1], "pool": "fork"}, "no pool 'fork'"),
        ({"items": [1], "concurrency": 0}, "concurrency must be"),
        ({"items": [1], "concurrency": True}, "concurrency must be"),
        ({"items": [1], "concurrency": "5"}, "concurrency must be"),
        ({"items": [1], "pool": "prefork", "workers": 0}, "workers must be"),
        ({"items": [1], "timeout": 0}, "timeout must be"),
        ({"items": [1], "timeout": math.nan}, "timeout must be"),
        ({"items": [1], "rate": -1}, "rate must be"),
        ({"items": [1], "retries": -1}, "retries must be"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(arguments: Any, says: Any) -> None:
    with pytest.raises(greenlab.UsageError, match=says) as caught:
        greenlab.run(lambda x: x, **arguments)
    assert "\n" not in str(caught.value)


def test_a_call_instead_of_a_function_says_what_to_write() -> None:
    with pytest.raises(greenlab.UsageError, match=r"run\(f, items\)"):
        greenlab.run(42, [1])


def test_items_that_raise_half_way_are_a_source_error_and_results_stay() -> None:
    def items() -> Any:
        yield 1
        yield 2
        raise OSError("gone")

    run = greenlab.api.run.prepare(lambda x: x, items()).start().wait()
    with pytest.raises(greenlab.SourceError, match="after 2: OSError: gone"):
        run.check()
    assert [1, 2] == run.results


@pytest.mark.parametrize("pool", ["green", "threads", "prefork", "hybrid"])
def test_what_had_ended_before_the_items_raised_is_in_the_error(pool: str) -> None:
    def items() -> Any:
        yield from range(3)
        raise OSError("gone")

    with pytest.raises(greenlab.SourceError) as caught:
        greenlab.run(lambda x: x * 2, items(), pool=pool)
    run: Any = caught.value.run
    assert [0, 2, 4] == run.results
    assert "gone" == str(caught.value.__cause__)


def test_errors_of_runs_travel_without_their_run() -> None:
    def items() -> Any:
        yield 1
        raise OSError("gone")

    def inner(fails: Any) -> Any:
        return greenlab.run(lambda _: 1 / 0, [1]) if fails else greenlab.run(abs, items())

    one, other = greenlab.api.run.prepare(inner, [True, False], pool="prefork", workers=1).start().wait().outcomes
    assert (greenlab.RunError, None) == (type(one), one.run)
    assert "every task failed: 1 ZeroDivisionError" in str(one)
    assert (greenlab.SourceError, None) == (type(other), other.run)


def test_another_thread_is_told_that_greenlab_runs_in_one() -> None:
    caught = []

    def other() -> None:
        try:
            greenlab.run(abs, [1])
        except greenlab.UsageError as error:
            caught.append(str(error))

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert ["greenlab runs in one thread, and this is another one: call it where it was started"] == caught


def test_a_generator_that_gives_nothing_is_nothing_to_run() -> None:
    with pytest.raises(greenlab.UsageError, match="empty"):
        greenlab.run(lambda x: x, iter([]))


@pytest.mark.parametrize(
    ("value", "text"),
    [(math.nan, "none"), (12e-6, "12 µs"), (0.0123, "12.3 ms"), (0.456, "456 ms"), (3.14159, "3.14 s")],
)
def test_times_are_written_with_a_unit_that_suits(value: Any, text: Any) -> None:
    assert text == seconds(value)
