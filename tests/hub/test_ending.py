"""Threads that used greenlab and end: they can be joined, and somebody else may use greenlab then."""

# mypy: disable-error-code="func-returns-value"

from __future__ import annotations

import _thread
import asyncio
import subprocess
import sys
import textwrap
import threading
import time
from typing import TYPE_CHECKING, Any

import psutil
import pytest

import greenlab
from greenlab import greening, hub

if TYPE_CHECKING:
    from collections.abc import Callable


def in_thread(work: Callable[[], Any]) -> Any:
    """Call in a thread of its own that is joined; return the value, or raise what it raised."""
    got: list[Any] = []

    def call() -> None:
        try:
            got.append((work(), None))
        except BaseException as error:
            got.append((None, error))

    thread = threading.Thread(target=call)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    ((value, error),) = got
    if error is not None:
        raise error
    return value


def numbers(pool: str = "green") -> Any:
    return greenlab.run(lambda x: time.sleep(0.001) or x, range(3), pool=pool).results


@pytest.mark.parametrize(
    "first",
    [
        "greenlab.run(lambda x: time.sleep(0.001), range(3))",
        "greenlab.start()",
        "greenlab.start(); greenlab.stop()",
        "greenlab.spawn(lambda: time.sleep(600)); time.sleep(0.01)",
    ],
)
def test_a_thread_that_used_greenlab_first_of_all_is_joined_and_the_process_ends(first: str) -> None:
    # A process of its own, for eventlet is loaded in that thread.
    code = f"""
        import threading, time

        def work():
            import greenlab
            {first}

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        import greenlab
        print(greenlab.run(lambda x: time.sleep(0.001) or x, range(3)).results)
    """
    code = textwrap.dedent(code)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (0, "[0, 1, 2]\n", "") == (done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("pool", ["green", "threads", "prefork", "hybrid"])
def test_the_hub_of_a_thread_is_closed_with_it_and_others_start_their_own(pool: str) -> None:
    descriptors = psutil.Process().num_fds()
    for _ in range(2):
        assert [0, 1, 2] == in_thread(lambda: numbers(pool))
        assert not greening.is_green()
    assert descriptors == psutil.Process().num_fds()
    try:
        assert [0, 1, 2] == numbers()
    finally:
        greenlab.stop()


@pytest.mark.parametrize("pool", ["green", "threads"])
def test_a_thread_that_threading_did_not_start_takes_its_hub_with_it(pool: str) -> None:
    got: list[Any] = []
    for _ in range(2):
        _thread.start_new_thread(lambda: got.append(numbers(pool)), ())
        end = time.monotonic() + 60
        while not got or greening.is_green():
            assert time.monotonic() < end
            time.sleep(0.005)
        assert [0, 1, 2] == got.pop()
    assert [0, 1, 2] == in_thread(numbers)


def test_a_thread_that_fails_closes_its_hub_and_tells_of_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: told.append(args.exc_type))

    def work() -> None:
        greenlab.start()
        raise ZeroDivisionError

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(60)
    assert [ZeroDivisionError] == told
    assert not greening.is_green()


def test_a_stopped_hub_leaves_no_mark_on_its_thread() -> None:
    def work() -> Any:
        for _ in range(2):
            greenlab.start()
            greenlab.stop()
        return vars(threading.current_thread()).get("_delete"), hub.current()

    assert (None, None) == in_thread(work)


def test_a_loop_that_a_thread_runs_hosts_the_hub_of_that_thread() -> None:
    async def main() -> Any:
        await asyncio.sleep(0)
        return await greenlab.spawn(lambda: time.sleep(0.001) or "done")

    assert ["done", "done"] == in_thread(lambda: [asyncio.run(main()) for _ in range(2)])
    assert not greening.is_green()


def test_while_a_thread_lives_others_are_told_where_greenlab_runs() -> None:
    begun, go = threading.Event(), threading.Event()

    def work() -> None:
        greenlab.start()
        begun.set()
        go.wait(60)

    thread = threading.Thread(target=work)
    thread.start()
    begun.wait(60)
    try:
        with pytest.raises(greenlab.UsageError, match="runs in one thread"):
            greenlab.start()
    finally:
        go.set()
        thread.join(60)
    assert not greening.is_green()
