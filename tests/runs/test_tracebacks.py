"""Tracebacks of what tasks raised: the user's own frames, and the same ones each time they are read."""

# Doubles, lambdas and deliberate misuse: what these rules see in them is meant.
# mypy: disable-error-code="arg-type, attr-defined, func-returns-value, misc, union-attr, var-annotated"

from __future__ import annotations

import pickle
import time
import traceback
from dataclasses import dataclass
from typing import Any

import pytest

import greenlab
from greenlab.text.tracebacks import Raised


@pytest.fixture(autouse=True)
def _hub(started: Any) -> Any:
    return started


def invert(x: Any) -> Any:
    return 1 / x


@dataclass(frozen=True)
class FrozenError(Exception):
    what: str = "frozen"


SHARED = ValueError("shared")


def raise_frozen(x: int) -> None:
    if x:
        raise FrozenError


def raise_shared(_: int) -> None:
    raise SHARED


def raise_with_cause(x: int) -> None:
    if x:
        try:
            invert(0)
        except ZeroDivisionError as error:
            raise LookupError("no such thing") from error


def read(run: Any) -> BaseException:
    try:
        _ = run.results
    except BaseException as error:
        return error
    raise AssertionError("it has results")


def functions_of(error: BaseException) -> list[str]:
    return [frame.f_code.co_name for frame, _ in traceback.walk_tb(error.__traceback__)]


@pytest.mark.parametrize("pool", ["green", "threads", "prefork"])
@pytest.mark.parametrize("task", [invert, raise_frozen, raise_with_cause])
def test_the_report_is_the_same_after_results_were_read(pool: str, task: Any) -> None:
    run = greenlab.run(task, [1, 0], pool=pool, workers=1, live=False)
    before = run.first_failure
    told = [functions_of(read(run)) for _ in range(3)]
    assert before == run.first_failure
    assert [told[0]] * 3 == told
    assert " in read" not in run.first_failure


def test_the_report_does_not_tell_what_was_handled_where_results_were_read() -> None:
    run = greenlab.run(invert, [0, 1], live=False)
    try:
        raise KeyError("of the reader")
    except KeyError:
        error = read(run)
    assert error.__context__ is None
    assert "of the reader" not in run.first_failure


def test_an_error_that_several_tasks_raise_is_raised_for_each_as_it_was() -> None:
    tasks = [lambda: 1, lambda: raise_shared(0), lambda: raise_shared(1)]
    run = greenlab.run(lambda task: task(), tasks, concurrency=1, live=False)
    before, told = run.first_failure, [functions_of(read(run)) for _ in range(2)]
    assert told[0] == told[1]
    assert 1 == told[0].count("raise_shared")
    assert before == run.first_failure


def test_an_error_that_is_read_keeps_its_cause_and_can_be_pickled() -> None:
    run = greenlab.run(raise_with_cause, [0, 1], live=False)
    error = read(run)
    assert isinstance(error.__cause__, ZeroDivisionError)
    assert "ZeroDivisionError" in run.first_failure
    assert "no such thing" == str(pickle.loads(pickle.dumps(error)))


@pytest.mark.parametrize("pool", ["green", "threads"])
def test_results_show_the_frames_of_the_task_and_none_of_what_ran_it(pool: str) -> None:
    run = greenlab.run(lambda x: (time.sleep(0.001), invert(x)), [0, 1], pool=pool, timeout=60, live=False)
    assert ["read", "<lambda>", "invert"] == functions_of(read(run))


def test_a_task_over_its_time_limit_is_shown_where_it_waited() -> None:
    run = greenlab.run(lambda x: time.sleep(60 * x), [0, 1], timeout=0.05, live=False)
    assert ["read", "<lambda>"] == functions_of(read(run))
    assert "eventlet" not in run.first_failure
    assert "time.sleep(60 * x)" in run.first_failure


def test_items_that_raise_are_shown_where_they_did() -> None:
    def items() -> Any:
        yield 1
        invert(0)

    with pytest.raises(greenlab.SourceError) as caught:
        greenlab.run(abs, items(), live=False)
    assert ["items", "invert"] == functions_of(caught.value.__cause__)


def test_what_made_a_run_fail_fast_does_not_grow_either() -> None:
    with pytest.raises(greenlab.RunError) as caught:
        greenlab.run(invert, [1, 0, 1], fail_fast=True, live=False)
    run = caught.value.run
    told = [functions_of(read(run)) for _ in range(3)]
    assert [told[0]] * 3 == told


def test_an_exception_that_is_raised_again_has_the_frames_of_its_first_raise_only() -> None:
    try:
        invert(0)
    except ZeroDivisionError as error:
        raised = Raised.of(error)
    here = "test_an_exception_that_is_raised_again_has_the_frames_of_its_first_raise_only"
    for _ in range(2):
        with pytest.raises(ZeroDivisionError) as caught:
            raised.again()
        assert [here, here, "invert"] == functions_of(caught.value)
