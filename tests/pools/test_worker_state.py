"""A worker's life: the table of its transitions, and the handles of both pools, which keep to it."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING, Any

import pytest

from greenlab.hub import eventlet
from greenlab.pools.hybrid import HybridPool
from greenlab.pools.prefork import PreforkPool
from greenlab.pools.processes.worker_state import TRANSITIONS, WorkerState, check_transition

if TYPE_CHECKING:
    from collections.abc import Iterator

    from greenlab.pools.processes.process import ProcessHandle

pytestmark = pytest.mark.usefixtures("nothing_of_processes_left", "time_limit")

PAIRS = list(itertools.product(WorkerState, WorkerState))


def name(state: WorkerState) -> str:
    return state.value


@pytest.mark.parametrize(("before", "after"), [pair for pair in PAIRS if pair in TRANSITIONS], ids=name)
def test_a_transition_of_the_table_is_allowed_and_says_why_and_what(before: WorkerState, after: WorkerState) -> None:
    check_transition(before, after)
    assert all(TRANSITIONS[before, after])


@pytest.mark.parametrize(("before", "after"), [pair for pair in PAIRS if pair not in TRANSITIONS], ids=name)
def test_any_other_transition_is_an_error_that_names_both_states(before: WorkerState, after: WorkerState) -> None:
    with pytest.raises(AssertionError, match=f"a worker that is {before.value} cannot become {after.value}"):
        check_transition(before, after)


def test_every_state_is_reached_and_every_life_ends_closed() -> None:
    reached = {WorkerState.STARTING}
    for _ in WorkerState:
        reached |= {after for before, after in TRANSITIONS if before in reached}
    assert set(WorkerState) == reached
    assert {state for state in WorkerState if (state, WorkerState.CLOSED) in TRANSITIONS} == set(WorkerState) - {
        WorkerState.CLOSED
    }
    assert WorkerState.CLOSED not in {before for before, _ in TRANSITIONS}


def test_no_state_is_taken_up_twice() -> None:
    order = list(WorkerState)
    assert [] == [pair for pair in TRANSITIONS if order.index(pair[0]) >= order.index(pair[1])]


@pytest.fixture(params=[PreforkPool, HybridPool])
def handle(request: Any) -> Iterator[ProcessHandle]:
    """A handle with nobody at the other end."""
    handle: ProcessHandle = request.param()._make_handle()
    handle._theirs.close()
    yield handle
    if not handle.is_closed:
        handle.close()
    os.close(handle.page_fd)


def test_a_handle_takes_tasks_from_when_its_worker_can_work_until_it_is_to_leave(handle: ProcessHandle) -> None:
    assert not handle.takes_tasks
    handle.born(7, eventlet.sleep)
    assert handle.takes_tasks is not handle.announces_itself
    handle.serve()
    assert handle.takes_tasks
    handle.retire()
    assert (False, WorkerState.RETIRING) == (handle.takes_tasks, handle.state)


@pytest.mark.parametrize("step", ["retire", "killed", "died"])
def test_a_worker_that_is_leaving_dying_or_dead_serves_no_more(handle: ProcessHandle, step: str) -> None:
    handle.born(7, eventlet.sleep)
    getattr(handle, step)()
    state = handle.state
    handle.serve()
    assert (state, False) == (handle.state, handle.takes_tasks)


def test_a_handle_refuses_what_is_not_in_the_table(handle: ProcessHandle) -> None:
    with pytest.raises(AssertionError, match="a worker that is starting cannot become dead"):
        handle.died()
    handle.close()
    with pytest.raises(AssertionError, match="a worker that is closed cannot become forked"):
        handle.born(7, eventlet.sleep)
