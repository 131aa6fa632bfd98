"""Each task of a short run by itself: what it is called, when it began and ended, and how."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import pytest

import greenlab
from greenlab.api.run import prepare
from greenlab.hub import eventlet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from greenlab.runs import Run

MOST = 30


@pytest.fixture(autouse=True)
def _hub(started: Any) -> Any:
    return started


def names(items: Sequence[Any]) -> list[str]:
    return [bar.name for bar in greenlab.run(lambda _: None, items).bars(MOST)]


def test_tasks_stand_in_the_order_in_which_they_began_with_their_outcomes() -> None:
    def one(x: int) -> None:
        time.sleep(0.001 * x)
        if x == 1:
            raise ValueError

    run = greenlab.run(one, [3, 1, 2], concurrency=1)
    bars = run.bars(MOST)
    assert ["succeeded", "failed", "succeeded"] == [bar.outcome for bar in bars]
    assert sorted(bar.start_s for bar in bars) == [bar.start_s for bar in bars]
    starts, ends = run.times()
    assert list(zip(starts, ends, strict=True)) == [(bar.start_s, bar.end_s) for bar in bars]


def test_a_task_is_called_by_its_index_and_by_its_item_where_that_prints() -> None:
    assert ["task 0", "task 1"] == names(range(2))
    assert ["0  seven", "1  2.5"] == names(["seven", 2.5])
    assert ["0  1, x", "1  2, y"] == names([(1, "x"), (2, "y")])
    assert ["task 0", "1  a"] == names([object(), "a"])


def test_what_all_names_begin_with_is_left_out() -> None:
    assert ["0  …feeds/7", "1  …feeds/81"] == names(["http://127.0.0.1:80/feeds/7", "http://127.0.0.1:80/feeds/81"])
    assert ["0  http://127.0.0.1:80/feeds/7"] == names(["http://127.0.0.1:80/feeds/7"])


def test_no_code_of_an_items_own_runs_for_its_name() -> None:
    class Odd(str):
        __slots__ = ()

        def __str__(self) -> str:  # noqa: PLE0307
            pytest.fail("it was called")

        __repr__ = __getitem__ = split = __str__  # type: ignore[assignment]

    assert ["task 0"] == names([Odd("x")])


def begun(go_on: Any) -> Run:
    """Start a run whose first task has ended, and whose next two wait for an event."""

    def wait(x: int) -> None:
        if x:
            go_on.wait()

    run = prepare(wait, range(10), concurrency=2).start()
    while run.done < 1 or run.in_flight < 2:
        eventlet.sleep(0)
    return run


def test_a_task_that_is_cut_short_has_a_bar_from_its_start_to_the_runs_end() -> None:
    run = begun(eventlet.event.Event())
    run.cancel()
    bars = run.bars(MOST)
    assert ["succeeded", "cancelled", "cancelled"] == [bar.outcome for bar in bars]
    assert not [bar for bar in bars if math.isnan(bar.start_s)]
    assert {run.started_s + run.elapsed_s} == {bar.end_s for bar in bars[1:]}


def test_a_task_that_runs_has_a_bar_until_now_and_one_that_has_not_begun_has_none() -> None:
    go_on = eventlet.event.Event()
    run = begun(go_on)
    bars = run.bars(MOST)
    assert [("task 0", "succeeded"), ("task 1", "running"), ("task 2", "running")] == [
        (b.name, b.outcome) for b in bars
    ]
    assert all(run.started_s <= bar.start_s <= bar.end_s <= time.perf_counter() for bar in bars)
    go_on.send()
    run.wait()
    assert {"succeeded"} == {bar.outcome for bar in run.bars(MOST)}


def test_many_tasks_and_a_run_that_discards_have_none() -> None:
    assert [] == greenlab.run(lambda _: None, range(MOST + 1)).bars(MOST)
    assert [] == greenlab.run(lambda _: None, range(3), discard=True).bars(MOST)


def test_a_resumed_run_has_the_tasks_that_it_has_run_itself() -> None:
    broken = [True]

    def one(x: int) -> None:
        if x == 1 and broken:
            raise ValueError

    first = greenlab.run(one, range(3))
    broken.clear()
    assert ["task 1"] == [bar.name for bar in first.resume().bars(MOST)]


def test_it_is_known_which_tasks_failed() -> None:
    run = greenlab.run(lambda x: 1 // (x % 3), range(5))
    assert bytes([1, 0, 0, 1, 0]) == run.failures()
