"""Odd input: items, iterators, functions and errors that nobody expects. Each run ends, and all is accounted for."""

from __future__ import annotations

import contextlib
import io
import sys
import threading
import time
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

import greenlab
from greenlab.text.tracebacks import Raised, message_of, shortened, traceback_of, visible

if TYPE_CHECKING:
    from collections.abc import Iterator

POOLS = ("green", "threads", "prefork", "hybrid", "auto")


# -- lengths that are not kept -----------------------------------------------------------------------------


def test_a_data_frame_has_as_many_tasks_as_its_iterator_gives(started: Any) -> None:
    run = greenlab.run(str, pd.DataFrame({"a": [1, 2, 3]}), live=False)
    assert ["a"] == run.results
    assert 1 == run.total
    assert {"total": 1, "succeeded": 1, "failed": 0, "cancelled": 0, "pending": 0} == run.counts


def test_an_iterator_that_gives_more_than_its_length_says_runs_to_its_end(started: Any) -> None:
    class Short:
        def __len__(self) -> int:
            return 2

        def __iter__(self) -> Iterator[int]:
            return iter(range(5))

    run = greenlab.run(abs, Short(), live=False)
    assert [0, 1, 2, 3, 4] == run.results
    assert 5 == run.total == run.counts["succeeded"]


@pytest.mark.parametrize("method", ["__len__", "__iter__"])
def test_items_whose_length_or_iterator_raises_are_a_source_error(started: Any, method: str) -> None:
    def fail(_self: Any) -> Any:
        raise ValueError("broken on purpose")

    methods = {"__iter__": lambda _self: iter([1]), "__len__": lambda _self: 1, method: fail}
    with pytest.raises(greenlab.SourceError, match="ValueError: broken on purpose") as raised:
        greenlab.run(abs, type("Odd", (), methods)(), live=False)
    assert isinstance(raised.value.__cause__, ValueError)


# -- iterators that end in no ordinary way -----------------------------------------------------------------


class NotAnException(BaseException):
    """Neither an Exception nor one of Python's own."""


@pytest.mark.parametrize("kind", [SystemExit, GeneratorExit, NotAnException, ValueError])
@pytest.mark.parametrize("pool", POOLS)
def test_an_iterator_that_raises_whatever_it_be_ends_the_run_with_a_source_error(
    started: Any, pool: str, kind: type[BaseException]
) -> None:
    class Items:
        def __init__(self) -> None:
            self.given = 0

        def __iter__(self) -> Items:
            return self

        def __next__(self) -> int:
            self.given += 1
            if self.given > 3:
                raise kind("broken on purpose")
            return -self.given

    workers = 1 if pool in ("prefork", "hybrid", "auto") else None
    with pytest.raises(greenlab.SourceError, match=f"ended early, after 3: {kind.__name__}: broken") as raised:
        greenlab.run(abs, Items(), pool=pool, workers=workers, live=False)
    assert type(raised.value.__cause__) is kind


# -- functions that are none -------------------------------------------------------------------------------


async def fetch(_item: Any) -> int:
    return 1


async def stream(_item: Any) -> Any:
    yield 1


class AsyncCall:
    async def __call__(self, _item: Any) -> int:
        return 1


@pytest.mark.parametrize("func", [fetch, stream, AsyncCall()], ids=["function", "generator", "object"])
@pytest.mark.parametrize("call", ["run", "race", "sweep", "advise"])
def test_a_coroutine_function_is_refused_in_one_line(started: Any, call: str, func: Any) -> None:
    with pytest.raises(greenlab.UsageError, match=r"is a coroutine function.*write def without async") as raised:
        getattr(greenlab, call)(func, [1, 2])
    assert "\n" not in str(raised.value)


def test_numbers_of_numpy_are_taken(started: Any) -> None:
    run = greenlab.run(abs, count=np.int64(5), concurrency=np.int64(2), timeout=np.float64(5), live=False)  # type: ignore[arg-type]
    assert [0, 1, 2, 3, 4] == run.results
    assert 2 == run.concurrency


def repr_of(error: Any) -> Any:
    return error.run._repr_mimebundle_()


# -- errors that do not want to be shown -------------------------------------------------------------------


class NoTruthError(Exception):
    def __bool__(self) -> bool:
        raise RuntimeError("has no truth")


class NoWordsError(Exception):
    def __str__(self) -> str:
        raise SystemExit("has no words")


@pytest.mark.parametrize("kind", [NoTruthError, NoWordsError])
def test_an_exception_whose_own_methods_raise_is_reported(started: Any, kind: type[Exception]) -> None:
    def task(_item: int) -> None:
        raise kind("x")

    with pytest.raises(greenlab.RunError, match=f"every task failed: 2 {kind.__name__}") as raised:
        greenlab.run(task, [1, 2], live=False)
    assert kind.__name__ in repr_of(raised.value)["text/html"]


def test_a_huge_message_is_cut_and_it_is_said_what_was_cut(started: Any) -> None:
    def task(item: int) -> int:
        if item:
            raise ValueError("begin" + "x" * 10_000_000 + "end")
        return item

    run = greenlab.run(task, [0, 1], live=False)
    for text in run._repr_mimebundle_().values():
        assert len(text) < 20_000
        assert "begin" in text
        assert "end" in text
        assert "characters left out" in text
    assert 10_000_008 == len(str(run.errors[1]))


def test_of_very_many_lines_the_first_and_the_last_are_shown() -> None:
    text = "\n".join(str(number) for number in range(1_000_000))
    lines = shortened(text).split("\n")
    assert ["0", "1"] == lines[:2]
    assert ["999998", "999999"] == lines[-2:]
    assert "… 999,970 lines left out …" in lines
    assert "short" == shortened("short")


def test_control_characters_are_written_as_python_writes_them(started: Any) -> None:
    def task(item: int) -> int:
        if item:
            raise ValueError("red \x1b[31m bell \x07 nul \x00 c1 \x9b tab \t")
        return item

    run = greenlab.run(task, [0, 1], live=False)
    bundle = run._repr_mimebundle_()
    for text in (*bundle.values(), run.summary(), run.first_failure):
        assert not set(text) & {chr(code) for code in (*range(9), *range(11, 32), *range(127, 160))}
        assert r"red \x1b[31m bell \x07 nul \x00 c1 \x9b tab" in text
    assert "a\tb\n\\x1b" == visible("a\tb\n\x1b")


def test_a_message_and_a_traceback_come_of_every_exception() -> None:
    assert "NoWordsError: its __str__ raised SystemExit" == message_of(NoWordsError())
    assert "KeyError" == message_of(KeyError())
    assert ["NoTruthError: x", "(its traceback cannot be shown: RuntimeError)"] == traceback_of(
        Raised.of(NoTruthError("x")), lambda _: False
    )


def make_lock() -> Any:
    return threading.Lock()


def divide() -> Any:
    return 1 // 0


class UnsendableError(Exception):
    def __reduce__(self) -> Any:
        raise ValueError("of the task's own class")


@pytest.mark.parametrize("pool", ["prefork", "hybrid"])
@pytest.mark.parametrize(
    ("result", "frames", "words"),
    [
        (make_lock, 0, "return plain data, or use -p green (TypeError: "),
        (UnsendableError, 1, "use -p green (ValueError: of the task's own class)"),
        (divide, 2, "ZeroDivisionError: integer division"),
    ],
    ids=["lock", "error", "raises"],
)
def test_the_report_says_once_what_a_worker_raised_and_shows_no_frame_but_the_users(
    started: Any, pool: str, result: Any, frames: int, words: str
) -> None:
    run = greenlab.run(lambda item: result() if item else 0, [0, 1], pool=pool, workers=1, live=False)
    told = run.first_failure
    assert 1 == told.count(words), told
    assert frames == told.count("  File "), told
    assert "greenlab.pools" not in told


def test_the_report_shows_no_frame_but_the_users_for_an_item_that_cannot_be_sent(started: Any) -> None:
    told = greenlab.run(abs, [1, threading.Lock()], pool="prefork", workers=1, live=False).first_failure
    assert 1 == told.count("make it inside the task, or use -p green (TypeError: ")
    assert 0 == told.count("  File "), told


# -- streams that tasks replace ----------------------------------------------------------------------------


def redirected(item: int) -> str:
    """Redirect, wait, and leave in another order than others came."""
    with contextlib.redirect_stdout(io.StringIO()) as kept:
        print("of task", item)
        time.sleep(0.005 * (item + 1))
    return kept.getvalue()


def test_what_the_shell_writes_to_is_put_back_when_the_run_ends_and_a_warning_names_the_task(started: Any) -> None:
    out = sys.stdout
    with pytest.warns(RuntimeWarning, match=r"^task 2 left sys.stdout replaced, and greenlab has put back") as caught:
        greenlab.run(redirected, range(3), live=False)
    assert out is sys.stdout
    assert 1 == len(caught)


def test_a_redirection_around_a_run_is_nobody_s_fault(started: Any) -> None:
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()) as kept:
        warnings.simplefilter("error")
        greenlab.run(print, ["a", "b"], live=False)
        print("after")
    assert {"a", "b", "after"} == set(kept.getvalue().split())


def test_a_run_in_the_background_leaves_alone_what_a_cell_has_redirected_meanwhile(started: Any) -> None:
    from greenlab.api.run import prepare

    run = prepare(lambda _: time.sleep(0.01), range(3), live=False).start()
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()) as kept:
        warnings.simplefilter("error")
        while run.running:
            time.sleep(0.01)
        print("still here")
    assert "still here\n" == kept.getvalue()
