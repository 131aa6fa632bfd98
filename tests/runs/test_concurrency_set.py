"""A run's concurrency is set while it goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from waiting import wait_until

import greenlab
from greenlab.api.run import prepare
from greenlab.hub import eventlet

if TYPE_CHECKING:
    from greenlab.hub import GuestHub
    from greenlab.runs import Run


def await_in_flight(run: Run, count: int) -> None:
    wait_until(lambda: run.in_flight == count, f"{count} tasks in flight")


def test_more_and_fewer_green_tasks_are_in_flight_at_once(started: GuestHub) -> None:
    run = prepare(lambda _: eventlet.sleep(0.01), range(10**6), concurrency=2, live=False).start()
    await_in_flight(run, 2)
    run.concurrency = 50
    await_in_flight(run, 50)
    run.concurrency = 3
    await_in_flight(run, 3)
    run.cancel()


def test_prefork_has_as_many_workers_as_it_is_told_and_the_next_run_has_its_own_number(started: GuestHub) -> None:
    run = prepare(_nap, range(10**6), pool="prefork", workers=2, live=False).start()
    await_in_flight(run, 2)
    run.concurrency = 4
    await_in_flight(run, 4)
    assert 4 == run.concurrency
    run.concurrency = 1
    await_in_flight(run, 1)
    run.cancel()
    following = greenlab.run(_nap, range(4), pool="prefork", workers=2, live=False)
    assert 2 == following.concurrency
    assert 2 == len(started.kept["pool prefork"].pids)


def test_a_concurrency_set_by_a_task_s_callback_on_the_hub_waits_for_nobody(started: GuestHub) -> None:
    run = prepare(_nap, range(10**6), pool="prefork", workers=1, live=False).start()
    await_in_flight(run, 1)
    started.call_soon_threadsafe(setattr, run, "concurrency", 2)
    await_in_flight(run, 2)
    run.cancel()


@pytest.mark.parametrize("value", [0, -5, 2.7, "x", None, True])
def test_a_concurrency_that_is_no_number_of_tasks_is_refused_and_the_old_one_stays(
    started: GuestHub, value: Any
) -> None:
    run = prepare(abs, [-1], concurrency=3, live=False)
    with pytest.raises(greenlab.UsageError, match="concurrency must be a whole number of 1 or more, not"):
        run.concurrency = value
    assert 3 == run.concurrency


def test_errors_are_counted_by_type_most_frequent_first_and_the_first_is_told(started: GuestHub) -> None:
    def task(item: int) -> None:
        raise ValueError(item) if item % 3 == 1 else KeyError(item) if item % 3 else TypeError

    run = prepare(task, range(8), live=False)
    assert {} == run.error_types
    assert "" == run.first_failure
    run.start().wait()
    assert [("TypeError", 3), ("ValueError", 3), ("KeyError", 2)] == list(run.error_types.items())
    assert "the first, task 0:" in run.first_failure
    assert run.first_failure.endswith("TypeError")


def _nap(_: int) -> None:
    import time

    time.sleep(0.02)
