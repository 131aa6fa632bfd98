"""Resume and rerun: which tasks of a run that has ended run again, and with which options."""

# mypy: disable-error-code="func-returns-value"

from __future__ import annotations

import time
from typing import Any

import pytest

import greenlab
import greenlab.api.run
from greenlab.hub import eventlet


@pytest.fixture(autouse=True)
def _hub(started: Any) -> Any:
    return started


def test_cancel_keeps_what_has_ended_and_resume_does_the_rest() -> None:
    calls = []

    def task(x: Any) -> Any:
        calls.append(x)
        time.sleep(0.01)
        return x

    run = greenlab.api.run.prepare(task, range(40), concurrency=4).start()
    while run.done < 8:
        eventlet.sleep(0.005)
    run.cancel()
    assert not run.running
    before = run.counts["succeeded"]
    assert 8 <= before < 40
    with pytest.raises(greenlab.CancelledError) as caught:
        _ = run.results
    assert "run.outcomes has what has ended, and again = run.resume() runs the rest, as a new run" in str(caught.value)
    whole = run.resume()
    assert list(range(40)) == whole.results
    with pytest.raises(greenlab.CancelledError):
        _ = run.results  # of this one they are not there
    assert before == run.counts["succeeded"]
    assert len(calls) == 40 + run.counts["cancelled"]


def test_results_of_a_cancelled_run_are_no_shorter_list_although_nothing_was_in_flight() -> None:
    run = greenlab.api.run.prepare(lambda x: x, iter(range(40)), rate=100).start()
    while run.done < 2:
        eventlet.sleep(0.005)
    run.cancel()
    assert 0 == run.counts["cancelled"]
    assert "  cancelled: no task was in flight" in run.summary().split("\n")
    with pytest.raises(greenlab.CancelledError, match=r"before all tasks had begun: run\.outcomes has"):
        _ = run.results
    assert list(range(run.done)) == run.outcomes
    assert list(range(40)) == run.resume(rate=None).results


@pytest.mark.parametrize("discard", [False, True])
def test_resume_takes_the_options_of_a_run(discard: bool) -> None:
    waited: list[int] = []
    first = greenlab.run(lambda _: waited.append(1) or 1 / 0 if len(waited) < 60 else 1, range(90), discard=discard)
    second = first.resume(concurrency=7, retries=1, timeout=5.0, rate=10_000, pool="threads", workers=3)
    assert (90, "threads") == (second.counts["succeeded"], second.pool)
    ledger = second.ledger
    given = (ledger.concurrency, ledger.retries, ledger.timeout_s, ledger.rate, ledger.workers)
    assert (7, 1, 5.0, 10_000, 3) == given
    assert 7 == second.concurrency
    with pytest.raises(greenlab.UsageError, match=r"no option 'concurency'.*did you mean concurrency"):
        first.resume(concurency=2)
    with pytest.raises(greenlab.UsageError, match="leave out discard"):
        first.resume(discard=not discard)


def test_resume_runs_failed_tasks_again_and_no_other() -> None:
    broken = {3, 5}
    calls = []

    def task(x: Any) -> Any:
        calls.append(x)
        if x in broken:
            raise OSError(x)
        return x

    run = greenlab.run(task, iter(range(8)))
    broken.clear()
    calls.clear()
    assert list(range(8)) == run.resume().results
    assert [3, 5] == sorted(calls)


@pytest.mark.parametrize("discard", [False, True])
def test_the_throughput_of_a_resumed_run_is_of_the_tasks_that_it_ran_itself(discard: bool) -> None:
    broken = {3, 5}
    run = greenlab.run(lambda x: 1 / (x not in broken), range(200), discard=discard)
    broken.clear()
    again = run.resume()
    assert (200, 198) == (again.done, again.done_before)
    assert pytest.approx(2) == again.throughput * again.elapsed_s
    assert "resumed: 198 tasks had succeeded before" in str(again)
    nothing = again.resume()
    assert 0 == nothing.throughput
    assert 200 == nothing.counts["succeeded"]


def test_resume_goes_on_with_an_iterator_where_the_run_left_it() -> None:
    run = greenlab.api.run.prepare(lambda x: time.sleep(0.005) or x, iter(range(30)), concurrency=2).start()
    while run.done < 4:
        eventlet.sleep(0.002)
    run.cancel()
    assert list(range(30)) == run.resume().results


def test_rerun_changes_the_options_it_is_given() -> None:
    run = greenlab.run(lambda x: x * 2, range(5), concurrency=2)
    again = run.rerun(pool="prefork", workers=2)
    assert ("prefork", [0, 2, 4, 6, 8]) == (again.pool, again.results)
    assert 2 == again.concurrency
    assert "2 workers" in repr(again)


def test_rerun_of_a_generator_uses_what_it_gave() -> None:
    run = greenlab.run(lambda x: x, (i for i in range(3)))
    assert [0, 1, 2] == run.rerun().results


def test_rerun_with_an_unknown_option_lists_those_there_are() -> None:
    run = greenlab.run(lambda x: x, [1])
    with pytest.raises(greenlab.UsageError, match=r"no option 'workrs'.*workers"):
        run.rerun(workrs=3)


@pytest.mark.parametrize("repeat", ["rerun", "resume"])
def test_a_run_is_repeated_over_its_own_items_and_takes_another_name(repeat: str) -> None:
    run = greenlab.run(lambda x: x, [1, 2])
    for name in ("func", "items", "count"):
        with pytest.raises(greenlab.UsageError, match=f"^{name} cannot be changed .* make another with greenlab.run$"):
            getattr(run, repeat)(**{name: [3]})
    for name in ("resumes", "ledger"):
        with pytest.raises(greenlab.UsageError, match=f"there is no option '{name}'"):
            getattr(run, repeat)(**{name: None})
    again = getattr(run, repeat)(label="the second")
    assert ("the second", "the second") == (again.label, getattr(again, repeat)().label)
    assert [1, 2] == again.results
