"""`%greencheck` and `greenlab.check`: probes of the zoo, the bounds that they keep, and the magic in a real kernel."""

from __future__ import annotations

import contextlib
import linecache
import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import second_zoo
import zoo

import greenlab
from greenlab import UsageError
from greenlab.probes import judge, probe
from greenlab.probes.places import Finder

if TYPE_CHECKING:
    from pathlib import Path

    from kernel import Kernel

pytestmark = pytest.mark.whole_heap


# -- verdicts of what is known -----------------------------------------------------------------------------


KNOWN = zoo.ANIMALS | second_zoo.ANIMALS


@pytest.mark.parametrize("animal", KNOWN, ids=lambda animal: animal.__name__)
def test_the_verdict_is_the_kind_of_the_animal(animal: Any) -> None:
    verdict = probe(animal, animal.__name__)
    assert KNOWN[animal] == verdict.kind, str(verdict)


@pytest.mark.parametrize(
    ("animal", "helps"),
    [(zoo.compress, True), (zoo.usleep, True), (zoo.compute_in_python, False), (zoo.usleep_with_gil, False)],
)
def test_threads_help_where_the_gil_is_released_and_the_fix_says_so(animal: Any, helps: bool) -> None:
    verdict = probe(animal, "animal")
    assert helps == verdict.threads_help
    assert helps == verdict.fix.startswith("offload(f, x, pool=")


def test_the_evidence_names_the_native_call_that_the_thread_stood_in() -> None:
    assert "ctypes.CDLL(None).usleep(USLEEP_US)" in str(probe(zoo.usleep, "usleep"))


def test_calls_that_wait_for_each_other_are_told_from_those_that_overlap() -> None:
    verdict = probe(zoo.wait_for_each_other, "call")
    assert verdict.cooperates
    assert "they wait for each other" in str(verdict)
    assert "connections" in verdict.fix
    assert "wait for each other" not in str(probe(zoo.sleep, "call"))


def test_a_ticker_stands_still_for_no_longer_than_the_calls_beside_it_last() -> None:
    for call in (zoo.sleep, zoo.usleep):
        figures = probe(call, "call").figures
        assert figures is not None
        assert 0 < figures.gap_s < figures.together_s + 0.9


# -- bounds ------------------------------------------------------------------------------------------------


def test_a_call_is_made_no_more_often_than_allowed(tmp_path: Path) -> None:
    path = tmp_path / "calls"

    def call() -> None:
        with path.open("a") as file:
            file.write("x")

    for times in (5, 6, 30):
        path.write_text("")
        verdict = greenlab.check(call, times=times)
        assert verdict.figures.calls == len(path.read_text()) <= times  # type: ignore[union-attr]


def test_a_call_that_never_ends_is_stopped_and_where_it_stood_is_told() -> None:
    def forever() -> None:
        threading.Event().wait()

    verdict = probe(forever, "forever", limit_s=0.3)
    assert judge.UNKNOWN == verdict.kind
    assert "it had not ended after 0.3 s" in str(verdict)
    assert "it stood in waiter.acquire()" in str(verdict)


def test_a_call_that_never_ends_and_keeps_the_gil_is_stopped_too() -> None:
    def forever() -> None:
        import ctypes

        ctypes.PyDLL(None).sleep(100)

    verdict = probe(forever, "forever", limit_s=0.3)
    assert judge.UNKNOWN == verdict.kind
    assert "it keeps the GIL" in str(verdict)


def test_a_call_that_never_ends_when_greened_fails_when_greened() -> None:
    def forever_green() -> None:
        from greenlab import greening

        if greening.is_green():
            threading.Event().wait()

    verdict = probe(forever_green, "forever", limit_s=0.3)
    assert judge.FAILS_GREEN == verdict.kind
    assert "had not ended" in str(verdict)


def test_what_the_call_started_is_ended_with_it(tmp_path: Path) -> None:
    path = tmp_path / "pid"

    def leave_a_child() -> None:
        child = subprocess.Popen(["sleep", "100"])
        path.write_text(str(child.pid))
        raise ValueError("enough")

    assert judge.FAILS == probe(leave_a_child, "call").kind
    pid = int(path.read_text())
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(pid).wait(5)
    assert not psutil.pid_exists(pid)


def test_a_call_that_kills_its_process_fails_and_the_signal_is_named() -> None:
    def crash() -> None:
        os.kill(os.getpid(), 11)

    verdict = probe(crash, "crash")
    assert judge.FAILS == verdict.kind
    assert "SIGSEGV" in str(verdict)


def test_what_cannot_be_sent_is_named() -> None:
    lock = threading.Lock()
    verdict = probe(lambda: bool(lock), "lock")
    assert judge.UNSENDABLE == verdict.kind
    assert "'lock' (_thread.lock)" in str(verdict)


def test_what_cannot_be_loaded_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone.py").write_text("def call(): pass")
    monkeypatch.syspath_prepend(str(tmp_path))
    import gone  # type: ignore[import-not-found]

    (tmp_path / "gone.py").unlink()
    verdict = probe(gone.call, "gone")
    assert judge.UNSENDABLE == verdict.kind
    assert "No module named 'gone'" in str(verdict)


def test_what_is_neither_call_nor_library_is_a_mistake() -> None:
    with pytest.raises(UsageError, match="takes a function and its arguments, or libraries, not an int"):
        greenlab.check(3)
    with pytest.raises(UsageError, match="times must be a whole number of 5 or more, not 4"):
        greenlab.check(zoo.sleep, times=4)
    with pytest.raises(UsageError, match="limit must be a number greater than 0"):
        greenlab.check(zoo.sleep, limit=-1)


def test_green_tasks_go_on_while_a_probe_runs(started: Any) -> None:
    ticks = []

    def tick() -> None:
        while True:
            time.sleep(0.01)
            ticks.append(1)

    ticker = greenlab.spawn(tick)
    greenlab.check(zoo.sleep)
    ticker.kill()
    assert 10 < len(ticks)


def test_a_probed_process_ends_with_the_one_that_asked() -> None:
    code = (
        "import greenlab, os, time\n"
        "def call():\n    print(os.getpid(), file=open(2, 'w'), flush=True); time.sleep(100)\n"
        "greenlab.check(call, limit=90)"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as asking:
        probed = _child_of(asking.pid)
        asking.kill()
        asking.wait()
    with contextlib.suppress(psutil.NoSuchProcess):
        probed.wait(10)
    assert not probed.is_running()


def _child_of(pid: int) -> psutil.Process:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        for child in psutil.Process(pid).children():
            with contextlib.suppress(psutil.Error):
                if "greenlab.probes" in " ".join(child.cmdline()):
                    return child
        time.sleep(0.02)
    pytest.fail("no probe began")


@pytest.mark.parametrize(
    ("animal", "fix"),
    [
        (zoo.run_shell, "subprocess.run(command, shell=True)"),
        (zoo.usleep_with_gil, "load the library with CDLL"),
        (second_zoo.sleep_in_asyncio, "greenlab.wait_async(coroutine)"),
    ],
)
def test_a_call_whose_trouble_is_known_gets_its_own_fix(animal: Any, fix: str) -> None:
    assert fix in probe(animal, "animal").fix


def test_a_place_outside_the_call_is_none() -> None:
    here = sys._getframe()
    above = here.f_back
    assert above is not None
    found = Finder("/nowhere/", above.f_code.co_filename)(here)
    assert found is not None
    assert "test_a_place_outside_the_call_is_none" == found.place.function
    assert Finder("/nowhere/", "/no/such/file")(here) is None


def test_a_place_is_noted_without_a_file_being_read_and_without_a_proxys_code_being_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who lets go of the GIL, or raises, in the thread that watches, sees no more."""

    class Proxy:
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError(name)

        @property  # type: ignore[misc]
        def __class__(self) -> Any:
            raise RuntimeError

    def call(proxy: Any, find: Finder) -> Any:
        return find(sys._getframe())

    above = sys._getframe().f_back
    assert above is not None
    with monkeypatch.context() as patch:
        patch.delattr(linecache, "getline")
        seen = call(Proxy(), Finder("/nowhere/", above.f_code.co_filename))
    assert "find(sys._getframe())" == seen.place.source
    assert "greenlab" in seen.place.names


# -- in a real kernel --------------------------------------------------------------------------------------


def test_a_call_is_checked_with_what_it_uses_of_the_notebook(kernel: Kernel) -> None:
    kernel.run("import time\nwait_s = 0.05\ndef pause():\n    time.sleep(wait_s)")
    cell = kernel.run("%greencheck pause()")
    assert "cooperates: pause()" == cell.value.splitlines()[0]
    assert "other tasks ran for" in cell.value
    assert "<b " in cell.result["text/html"]
    assert "cooperates: pause" == kernel.run("%greencheck pause").value.splitlines()[0]
    assert "True" == kernel.run("_.cooperates").value


def test_a_call_that_cannot_be_sent_names_the_notebooks_variable(kernel: Kernel) -> None:
    kernel.run("import sqlite3\nconnection = sqlite3.connect(':memory:')")
    value = kernel.run("%greencheck connection.execute('select 1')").value
    assert "cannot be sent" == value.partition(":")[0]
    assert "'connection' (sqlite3.Connection)" in value


def test_the_number_of_calls_and_their_length_are_bounded_by_options(kernel: Kernel) -> None:
    kernel.run("import time")
    assert "called 7 times" in kernel.run("%greencheck --times 7 time.sleep(0.02)").value
    assert "it had not ended after 0.2 s" in kernel.run("%greencheck --limit 0.2 time.sleep(9)").value


def test_an_interrupt_ends_the_probe_and_its_process(kernel: Kernel) -> None:
    kernel.run("import time, psutil")
    cell = kernel.run("%greencheck --limit 60 time.sleep(50)", interrupt_after=1.5)
    assert "KeyboardInterrupt" == cell.ename
    left = "[c for c in psutil.Process().children() if 'greenlab.probes' in ' '.join(c.cmdline())]"
    assert "[]" == kernel.run(left).value


def test_libraries_are_answered_from_the_table_under_any_name(kernel: Kernel) -> None:
    kernel.run("import sqlite3 as db")
    value = kernel.run("%greencheck db psycopg os.system").value
    assert ["blocks on a native call: sqlite3", "cooperates: psycopg", "blocks on a native call: os.system"] == [
        line for line in value.splitlines() if line[0] != " "
    ]


def test_of_several_libraries_those_that_exist_are_answered_and_others_suggested(kernel: Kernel) -> None:
    value = kernel.run("%greencheck requests numpy sqlite psycopg").value
    assert ["cooperates: requests", "CPU-bound: numpy", "no such module: sqlite", "cooperates: psycopg"] == [
        line for line in value.splitlines() if line[0] != " "
    ]
    assert "there is no module 'sqlite'; did you mean sqlite3?" in value


def test_a_bare_check_tells_of_what_is_loaded_but_not_of_the_kernels_own(kernel: Kernel) -> None:
    kernel.run("import sqlite3, redis")
    named = [line for line in kernel.run("%greencheck").value.splitlines() if line[0] != " "]
    assert ["blocks on a native call: sqlite3", "cooperates: redis"] == [
        line for line in named if "unknown" not in line
    ]
    assert not {"pyzmq", "psutil", "tornado", "greenlet", "debugpy"} & {line.rpartition(": ")[2] for line in named}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("reqests", "%greencheck fetch(url); did you mean requests?"),
        ("reqests qqqqqqqq", "there is no module 'reqests': give a module's name"),
        ("1 +", "'1 +' is no expression"),
        ("await pause()", "is no expression"),
        ("--times 2 f()", "takes a whole number of 5 or more"),
        ("--nonsense f()", "no option --nonsense"),
        ("number", "number is a value: give a call"),
    ],
)
def test_a_mistake_is_one_line_and_an_error_of_the_cell(kernel: Kernel, line: str, says: str) -> None:
    kernel.run("number = 3")
    cell = kernel.run(f"%greencheck {line}")
    assert cell.error is not None
    assert says in cell.error
    assert "\n" not in cell.error


def test_tab_offers_the_options_and_the_known_libraries(kernel: Kernel) -> None:
    assert ["--limit", "--times"] == kernel.complete("%greencheck --")
    assert "pylibmc" in kernel.complete("%greencheck pylib")


def test_help_says_that_the_call_is_made_for_real(kernel: Kernel) -> None:
    kernel.client.execute("%greencheck?", silent=False)
    while True:
        message = kernel.client.get_shell_msg(timeout=60)
        if message["msg_type"] == "execute_reply" and message["content"].get("payload"):
            break
    text = message["content"]["payload"][0]["data"]["text/plain"]
    assert "run FOR REAL, up to 12 times" in text
    assert "--times K" in text
