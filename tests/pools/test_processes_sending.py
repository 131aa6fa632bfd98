"""What travels to worker processes and back, in both pools that have some; and what is said of what does not."""

from __future__ import annotations

import functools
import os
import sqlite3
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
from processes_kit import MIB, FakeJob, ProcessPool, run

from greenlab.errors import GreenlabError, NotSendableError
from greenlab.pools.processes.serialization import RemoteTaskError

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.usefixtures("nothing_of_processes_left", "time_limit")


@pytest.fixture
def pool(both_pools: ProcessPool) -> ProcessPool:
    return both_pools


# --- what travels ------------------------------------------------------------------------------------------


def test_items_and_results_of_every_form_arrive_as_they_were(pool: ProcessPool) -> None:
    items: list[Any] = [
        None,
        True,
        7,
        -1.5,
        2j,
        "ü" * 9,
        "long" * MIB,
        b"b",
        b"b" * MIB,
        (1, "a"),
        [1, [2]],
        {"k": {3}},
    ]
    items += [bytearray(b"x" * MIB), range(3), Path("p"), frozenset({1})]
    assert items == run(pool, lambda x: x, items).results


def test_large_values_travel_both_ways(pool: ProcessPool) -> None:
    blob = os.urandom(20 * MIB)
    job = run(pool, lambda x: x[::-1], [blob, b"", blob, "ü" * 100_000, [1, 2]])
    assert [blob[::-1], b"", blob[::-1], "ü" * 100_000, [2, 1]] == job.results


def test_a_module_of_a_class_of_its_own_travels_by_name(pool: ProcessPool, monkeypatch: pytest.MonkeyPatch) -> None:
    class Lazy(ModuleType):
        """As kombu's and celery's are."""

    lazy = Lazy("colorsys")
    monkeypatch.setitem(sys.modules, "colorsys", lazy)
    assert ["colorsys"] == run(pool, lambda _: lazy.__name__, [1]).results


def test_arrays_travel_and_may_be_written_to(pool: ProcessPool) -> None:
    numpy = pytest.importorskip("numpy")

    def double(array: Any) -> Any:
        array *= 2
        return array

    whole = numpy.arange(300_000.0)
    items = [whole, whole[::3], whole.reshape(3, -1).T]
    for func, sent in ((double, [2 * item for item in items]), (lambda x: x[::-1], [item[::-1] for item in items])):
        job = run(pool, func, items)
        for index, expected in enumerate(sent):
            assert (expected == job.values[index]).all()
            job.values[index] += 1


# --- what does not -----------------------------------------------------------------------------------------


UNSENDABLE = sqlite3.connect(":memory:")
UNSENDABLE.close()


def _uses_global() -> Any:
    return eval("lambda x: (helper(x), other)", {"helper": len, "other": UNSENDABLE})


def _uses_nested_global() -> Any:
    inner = eval("lambda x: conn", {"conn": UNSENDABLE})
    return lambda x: (inner(x), 1)


def _uses_closure() -> Any:
    held = UNSENDABLE
    return lambda x: (x, held)


def _uses_default() -> Any:
    return lambda x, db=UNSENDABLE: (x, db)


def _uses_keyword_default() -> Any:
    def task(x: Any, *, db: Any = UNSENDABLE) -> Any:
        return x, db

    return task


def _uses_container() -> Any:
    settings = {"fine": 1, "lock": [threading.Lock()]}
    return lambda x: settings


def _uses_attribute() -> Any:
    class Thing:
        def __init__(self) -> None:
            self.db = UNSENDABLE

    thing = Thing()
    return lambda x: thing


def _uses_partial() -> Any:
    return functools.partial(lambda x, conn: conn, conn=UNSENDABLE)


@pytest.mark.parametrize(
    ("make", "culprit"),
    [
        (_uses_global, "'other' (sqlite3.Connection)"),
        (_uses_nested_global, "'conn' (sqlite3.Connection)"),
        (_uses_closure, "'held' (sqlite3.Connection)"),
        (_uses_default, "'db' (sqlite3.Connection)"),
        (_uses_keyword_default, "'db' (sqlite3.Connection)"),
        (_uses_container, "\"settings['lock'][0]\" (_thread.lock)"),
        (_uses_attribute, "'thing.db' (sqlite3.Connection)"),
        (_uses_partial, "'conn' (sqlite3.Connection)"),
    ],
)
def test_what_a_function_uses_and_cannot_be_sent_is_named_before_a_task_starts(
    unstarted: Callable[[], ProcessPool], make: Any, culprit: Any
) -> None:
    pool = unstarted()
    job = FakeJob(make(), range(3))
    with pytest.raises(NotSendableError) as caught:
        pool.run(job)
    hint = "make it inside the task, or use -p green"
    assert f"cannot send {culprit}, used by the task, to a worker process: {hint}" == str(caught.value)
    assert 0 == job.pulled
    assert () == pool.pids


def test_a_function_that_cannot_be_loaded_there_fails_each_task(pool: ProcessPool) -> None:
    class Absent:
        def __reduce__(self) -> Any:
            return __import__, ("no_such_module_anywhere",)

    class Broken:
        def __reduce__(self) -> Any:
            return int, ("x",)

        def __call__(self, _: Any) -> None:
            pass

    absent = Absent()
    for func, error in ((lambda _: absent, ModuleNotFoundError), (Broken(), ValueError)):
        job = run(pool, func, range(3))
        assert [error] * 3 == [type(job.errors[i]) for i in range(3)]


def test_an_item_that_cannot_be_sent_fails_alone_and_is_named(pool: ProcessPool) -> None:
    job = run(pool, lambda x: x, [0, threading.Lock(), 2, (x for x in "ab"), 4])
    assert {0: 0, 2: 2, 4: 4} == job.values
    assert "item 1 (_thread.lock)" in str(job.errors[1])
    assert "item 3 (generator)" in str(job.errors[3])
    assert [NotSendableError] * 2 == [type(error) for error in job.errors.values()]


def test_a_result_that_cannot_be_sent_fails_alone_and_is_named(pool: ProcessPool) -> None:
    def make(x: Any) -> Any:
        return {1: (i for i in "ab"), 3: threading.Lock()}.get(x, x)

    job = run(pool, make, range(5))
    assert {0: 0, 2: 2, 4: 4} == job.values
    assert [NotSendableError] * 2 == [type(job.errors[i]) for i in (1, 3)]
    what = "the task's result (a generator) cannot be sent back from a worker"
    why = "(TypeError: cannot pickle 'generator' object)"
    assert f"{what}: return plain data, or use -p green {why}" == str(job.errors[1])
    assert "the task's result (a " in str(job.errors[3])


def test_an_error_that_cannot_be_pickled_is_named(pool: ProcessPool) -> None:
    class PickyError(Exception):
        def __init__(self, one: Any, two: Any) -> None:
            super().__init__(f"{one} and {two}")

    class HoldingError(Exception):
        pass

    def fail(kind: Any) -> None:
        if kind == "picky":
            raise PickyError(1, 2)
        raise HoldingError(threading.Lock())

    job = run(pool, fail, ["picky", "holding"])
    assert [RemoteTaskError] * 2 == [type(job.errors[i]) for i in range(2)]
    assert "PickyError: 1 and 2" in str(job.errors[0])
    assert "HoldingError" in job.errors[1].type_name
    assert isinstance(job.errors[0], GreenlabError)
    assert "raise PickyError" in str(job.errors[0].__cause__)
