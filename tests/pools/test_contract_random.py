"""One contract, every pool, over inputs that nobody thought of: order, exactly once, retries, cancels.

Each task leaves a byte in a file of its own, so that what was run is counted where it ran. `GREENLAB_SOAK` sets how
many inputs are drawn for each test.
"""

# mypy: disable-error-code="arg-type, attr-defined, func-returns-value, misc, union-attr, var-annotated"

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

import greenlet
import pytest
from autos import POOLS, make_pool
from contract_tasks import Task, nap_now_and_then
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import greenlab
from greenlab.hub import eventlet
from greenlab.runs import AggregateLedger, Ledger
from greenlab.runs.ledger import CANCELLED, FAILED, OK

if TYPE_CHECKING:
    from pathlib import Path

RANDOM = settings(
    max_examples=int(os.environ.get("GREENLAB_SOAK", "8")),
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(params=POOLS)
def pool(request: Any, started: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    return make_pool(started, request.param, monkeypatch)


def ran(folder: Path, item: int) -> int:
    path = folder / str(item)
    return path.stat().st_size if path.exists() else 0


def fresh(folder: Path) -> Path:
    """Give each example a folder of its own."""
    new = folder / str(len(list(folder.iterdir())))
    new.mkdir()
    return new


COUNTS = st.integers(1, 40)
WIDTHS = st.integers(1, 6)
KINDS = st.sampled_from([list, iter, lambda items: (item for item in items)])


@RANDOM
@given(count=COUNTS, width=WIDTHS, kind=KINDS, fails=st.sets(st.integers(0, 39)))
def test_every_task_runs_once_and_ends_in_its_own_place(
    pool: Any, tmp_path: Path, count: int, width: int, kind: Any, fails: Any
) -> None:
    folder = fresh(tmp_path)
    ledger = Ledger(Task(folder, fails), kind(list(range(count))), concurrency=width, workers=2)
    pool.run(ledger)
    assert [1] * count == [ran(folder, item) for item in range(count)]
    assert [None if item in fails else -item for item in range(count)] == ledger.values
    assert {item for item in fails if item < count} == set(ledger.errors)
    assert count == ledger.done == ledger.pulled
    assert all(start <= end for start, end in zip(ledger.started_s, ledger.ended_s, strict=True))


@RANDOM
@given(count=COUNTS, width=WIDTHS, tries=st.integers(0, 2), retries=st.integers(0, 2))
def test_a_task_is_tried_again_as_often_as_asked_and_no_oftener(
    pool: Any, tmp_path: Path, count: int, width: int, tries: int, retries: int
) -> None:
    folder = fresh(tmp_path)
    ledger = Ledger(Task(folder, (), tries), range(count), concurrency=width, workers=2, retries=retries)
    ledger.first_backoff_s = 0.002
    pool.run(ledger)
    works = retries >= tries
    assert [min(tries, retries) + 1] * count == [ran(folder, item) for item in range(count)]
    assert [-item if works else None for item in range(count)] == ledger.values
    assert (count, 0 if works else count) == (ledger.done, ledger.failed)


@RANDOM
@given(count=COUNTS, width=WIDTHS, kind=KINDS, after=st.integers(0, 39), fails=st.sets(st.integers(0, 39), max_size=5))
def test_a_cancel_loses_nothing_and_a_resume_runs_what_is_missing(
    pool: Any, tmp_path: Path, count: int, width: int, kind: Any, after: int, fails: Any
) -> None:
    folder = fresh(tmp_path)
    ledger = Ledger(Task(folder, fails), kind(list(range(count))), concurrency=width, workers=2)
    runner = eventlet.spawn(pool.run, ledger)
    while ledger.done < min(after, count):
        eventlet.sleep(0)
    ledger.stopped = True
    runner.kill()
    try:
        runner.wait()
    except greenlet.GreenletExit:
        pass
    ledger.cancel_pending()
    assert 0 == pool.count(ledger)
    states = [ledger.state.count(state) for state in (OK, FAILED, CANCELLED)]
    assert len(ledger.state) == ledger.pulled == sum(states)
    assert all(1 == ran(folder, item) for item, state in enumerate(ledger.state) if state in (OK, FAILED))
    assert all(1 >= ran(folder, item) for item in range(count))

    # An OS thread that was given up goes on until its call returns: what it still does is the first run's.
    with greenlab.native():
        for thread in threading.enumerate():
            if thread.name.startswith("greenlab-"):
                thread.join()
    before = [ran(folder, item) for item in range(count)]
    whole = ledger.resumed()
    whole.func = Task(folder, ())
    pool.run(whole)
    assert [-item for item in range(count)] == whole.values
    done = {item for item, state in enumerate(ledger.state) if state == OK}
    assert [0 if item in done else 1 for item in range(count)] == [
        ran(folder, item) - before[item] for item in range(count)
    ]


@RANDOM
@given(count=COUNTS, width=WIDTHS, kind=KINDS, fails=st.sets(st.integers(0, 39)))
def test_a_run_that_discards_counts_the_same(
    pool: Any, tmp_path: Path, count: int, width: int, kind: Any, fails: Any
) -> None:
    folder = fresh(tmp_path)
    ledger = AggregateLedger(Task(folder, fails), kind(list(range(count))), concurrency=width, workers=2)
    pool.run(ledger)
    bad = {item for item in fails if item < count}
    assert [1] * count == [ran(folder, item) for item in range(count)]
    assert {"succeeded": count - len(bad), "failed": len(bad), "cancelled": 0, "pending": 0} == ledger.counts()
    assert bad == set(ledger.errors)
    assert ({"ValueError": len(bad)} if bad else {}) == ledger.error_types
    assert 0 < ledger.latency().p50 <= ledger.latency().max


EVENTS = st.tuples(st.sampled_from(["cancel", "kill", "adjust"]), st.integers(0, 3), WIDTHS, st.floats(0, 0.01))


@RANDOM
@given(
    runs=st.lists(st.tuples(st.integers(1, 200), WIDTHS), min_size=2, max_size=4), events=st.lists(EVENTS, max_size=6)
)
def test_what_happens_to_one_run_keeps_no_other_from_its_end(pool: Any, runs: Any, events: Any) -> None:
    ledgers = [Ledger(nap_now_and_then, range(count), concurrency=width, workers=2) for count, width in runs]
    runners = [eventlet.spawn(pool.run, ledger) for ledger in ledgers]
    killed = 0
    for what, which, width, after_s in events:
        eventlet.sleep(after_s)
        ledger = ledgers[which % len(ledgers)]
        if what == "kill":
            for held in pool.held(ledger)[:1]:
                killed += pool.kill(ledger, held.index, greenlab.CancelledError("no more"))
        elif what == "adjust":
            ledger.concurrency = width
            pool.adjust(ledger)
        elif sum(each.stopped for each in ledgers) < len(ledgers) - 1:
            ledger.stopped = True
            runners[which % len(ledgers)].kill()
    with eventlet.Timeout(90):
        for ledger, runner in zip(ledgers, runners, strict=True):
            if not ledger.stopped:
                runner.wait()
    for ledger, (count, _) in zip(ledgers, runs, strict=True):
        if not ledger.stopped:
            assert count == ledger.done == ledger.pulled
            assert [item for item in range(count) if item not in ledger.errors] == [
                value for value in ledger.values if value is not None
            ]
    assert sum(ledger.failed for ledger in ledgers if not ledger.stopped) <= killed
