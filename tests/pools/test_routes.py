"""Routes: where the calls of a function go, and where they stay."""

# mypy: disable-error-code="arg-type, call-overload, attr-defined, dict-item, func-returns-value, misc"

from __future__ import annotations

import os
import pickle
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from waiting import wait_until

import greenlab
from greenlab.pools import routes

if TYPE_CHECKING:
    from kernel import Kernel


@greenlab.task(pool="prefork")
def process_id(*args: Any, **kw: Any) -> Any:
    """Tell where it runs."""
    return os.getpid(), args, kw


@greenlab.task(pool="threads")
def thread_id() -> int:
    return threading.get_ident()


@greenlab.task
def parse_number(text: str) -> tuple[int, int]:
    return int(text), os.getpid()


class Reader:
    def __init__(self, text: str) -> None:
        self.text = text

    @greenlab.task(pool="threads")
    def read_all(self) -> tuple[str, int]:
        return self.text, threading.get_ident()


HERE = os.getpid()


def test_a_call_from_green_code_goes_to_its_pool_with_its_arguments(started: Any) -> None:
    pid, args, kw = process_id(1, two=2)
    assert (True, (1,), {"two": 2}) == (pid != HERE, args, kw)
    assert threading.get_ident() != thread_id()
    assert pid != HERE == greenlab.run(lambda _: process_id.local()[0], [1], live=False).results[0]
    assert HERE not in {pid for pid, *_ in greenlab.run(process_id, range(4), live=False).results}


def test_the_caller_waits_cooperatively(started: Any) -> None:
    nap = greenlab.task(pool="threads")(lambda: entered.set() or release.wait(30))
    entered, release = threading.Event(), threading.Event()
    task = greenlab.spawn(nap)
    wait_until(entered.is_set)
    release.set()
    assert task.wait()


def test_an_exception_comes_back(started: Any) -> None:
    with pytest.raises(ZeroDivisionError):
        greenlab.task(pool="prefork")(lambda: 1 / 0)()


def test_without_a_hub_it_is_the_plain_function() -> None:
    assert HERE == process_id()[0]
    assert (3, HERE) == parse_number("3")
    assert threading.get_ident() == thread_id()


def test_in_another_thread_a_native_block_and_a_worker_it_is_the_plain_function(started: Any) -> None:
    assert HERE == greenlab.offload(process_id, pool="threads")[0]
    with greenlab.native():
        assert HERE == process_id()[0]
    there = greenlab.run(lambda _: (os.getpid(), process_id()[0]), range(2), pool="prefork", workers=1, live=False)
    assert all(outer == inner != HERE for outer, inner in there.results)
    in_hybrid = greenlab.run(lambda _: (os.getpid(), process_id()[0]), range(2), pool="hybrid", workers=1, live=False)
    assert all(outer == inner != HERE for outer, inner in in_hybrid.results)


def test_local_and_wrapped_are_the_function_itself(started: Any) -> None:
    assert HERE == process_id.local()[0] == process_id.__wrapped__()[0]
    assert ("process_id", "Tell where it runs.") == (process_id.__name__, process_id.__doc__)


def test_a_method_is_routed_with_its_object(started: Any) -> None:
    text, ident = Reader("abc").read_all()
    assert ("abc", True) == (text, ident != threading.get_ident())
    assert isinstance(Reader.read_all, routes.Routed)


def test_it_travels_by_name_or_with_its_function(started: Any) -> None:
    assert process_id is pickle.loads(pickle.dumps(process_id))

    @greenlab.task(pool="prefork")
    def factorial(n: int) -> tuple[int, int]:
        return (1, os.getpid()) if n == 0 else (n * factorial(n - 1)[0], os.getpid())

    value, pid = factorial(5)
    assert (120, True) == (value, pid != HERE)


def test_patterns_route_tasks_by_name_and_the_first_match_counts(started: Any) -> None:
    assert parse_number("1")[1] == HERE
    table = {"parse_n*": "prefork", "parse_*": "green", "*.read_*": "threads"}
    assert table == greenlab.route(table) == greenlab.route()
    assert parse_number("1")[1] != HERE
    greenlab.route({"parse_*": "green", "*": "prefork"})
    assert parse_number("1")[1] == HERE
    greenlab.route({"*test_routes.parse_*": "prefork"})  # with the module's name
    assert parse_number("1")[1] != HERE
    assert {} == greenlab.route({})
    assert parse_number("1")[1] == HERE


def test_a_function_made_in_a_function_goes_by_its_own_name(started: Any) -> None:
    def parse_here() -> int:
        return threading.get_ident()

    greenlab.route({"parse_*": "threads"})
    assert threading.get_ident() != greenlab.task(parse_here)()


def test_a_pool_of_its_own_goes_before_patterns(started: Any) -> None:
    greenlab.route({"*": "green"})
    assert HERE != process_id()[0]


def test_patterns_are_forgotten_at_the_stop() -> None:
    greenlab.route({"parse_*": "prefork"})
    greenlab.stop()
    try:
        assert {} == greenlab.route()
    finally:
        greenlab.stop()


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: greenlab.task(pool="grn"), "not to 'grn'"),
        (lambda: greenlab.task(pool="hybrid"), "calls are routed to prefork, threads or green"),
        (lambda: greenlab.task(3), "task takes a function"),
        (lambda: greenlab.route({3: "prefork"}), "a route's pattern is text"),
        (lambda: greenlab.route({"a": "celery"}), "not to 'celery'"),
        (lambda: greenlab.route(["a"]), "routes are a dict of patterns"),
    ],
)
def test_a_mistake_is_one_line(started: Any, call: Any, says: str) -> None:
    with pytest.raises(greenlab.UsageError, match=r"^[^\n]*$") as caught:
        call()
    assert says in str(caught.value)


def test_a_coroutine_function_is_no_task() -> None:
    async def fetch() -> None:
        pass

    with pytest.raises(greenlab.UsageError, match="without async"):
        greenlab.task(fetch)


def test_a_wrong_table_leaves_the_former_one(started: Any) -> None:
    greenlab.route({"a": "threads"})
    with pytest.raises(greenlab.UsageError):
        greenlab.route({"b": "threads", "c": "nowhere"})
    assert {"a": "threads"} == greenlab.route()


def test_routed_parts_of_green_tasks_run_beside_each_other(started: Any) -> None:
    def fetch(n: int) -> int:
        time.sleep(0.01)
        return parse_number(str(n))[0]

    greenlab.route({"parse_*": "prefork"})
    assert list(range(30)) == greenlab.run(fetch, range(30), concurrency=30, live=False).results


# -- in a notebook -------------------------------------------------------------------------------------------

DEFINED = """
import os, greenlab

@greenlab.task(pool="prefork")
def parse(x):
    return os.getpid(), 1 / x

@greenlab.task
def read_here(x):
    return os.getpid()
"""


def test_functions_of_the_notebook_are_routed_from_cells_and_from_tasks(kernel: Kernel) -> None:
    assert kernel.run(DEFINED).error is None
    assert "True" == kernel.run("parse(1)[0] != os.getpid() == read_here(1)").value
    kernel.run("greenlab.route({'read_*': 'prefork'})")
    cell = kernel.run("%%greenrun -c 5 --no-live x in range(1, 9)\nparse(x)[0] != os.getpid() != read_here(x)")
    assert cell.error is None
    assert "[True]" == kernel.run("list(set(_run.results))").value
    assert "<task parse, routed to prefork>" == kernel.run("parse").value
    cell = kernel.run("%%greenrun -p prefork -w 1 --no-live x in range(1, 5)\nparse(x)[0] == os.getpid()")
    assert "[True]" == kernel.run("list(set(_run.results))").value


def test_a_traceback_from_a_worker_shows_the_line_of_the_cell(kernel: Kernel) -> None:
    kernel.run(DEFINED)
    cell = kernel.run("parse(0)")
    assert "ZeroDivisionError" == cell.ename
    assert "return os.getpid(), 1 / x" in (cell.error or "")


def test_a_wrong_pool_is_an_error_of_the_cell_in_one_line(kernel: Kernel) -> None:
    cell = kernel.run("import greenlab\n@greenlab.task(pool='gren')\ndef f(x): ...")
    assert "UsageError: calls are routed to prefork, threads or green (here), not to 'gren'" == cell.error
