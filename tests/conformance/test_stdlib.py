"""CPython's own tests, on a greened standard library: in the hub's main greenlet, and in a green task.

The processes mostly wait, so several run at a time. What fails without greenlab too says nothing about greenlab, and
is asked for only when something failed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUT_S = 200
AT_A_TIME = 6
HERE = Path(__file__).parent

GROUPS: dict[str, list[str]] = {
    "locks": ["test.test_threading:*Tests.*", "test.test_thread:LockTests*"],
    "local": ["test.test_threading_local", "test.test_context", "test.test_decimal:*Thread*"],
    "queue": ["test.test_queue"],
    "select": ["test.test_select", "test.test_selectors", "test.test_poll", "test.test_epoll"],
    "socket": ["test.test_socket"],
    "ssl": ["test.test_ssl"],
    "subprocess": ["test.test_subprocess:*ProcessTestCase.*", "test.test_subprocess:RunFuncTestCase*"],
}

_SIGNAL = (
    "raises in a signal handler: that goes to the main greenlet, as with threads it goes to the main thread; "
    "a green task is not it"
)
_OWN_PROCESS = "is about how an interpreter of its own starts and ends; greenlab is not in it"
_ADDRESSES = "a family of addresses that needs a virtual machine's host, a kernel module or a radio"

# Each with its reason, as the pattern of a test's id, by where it runs ("*": everywhere).
WITHOUT: dict[str, dict[str, dict[str, str]]] = {
    "locks": {
        "*": {
            "*.ThreadTests.test_disallow_instantiation": "threading.Lock is a class here, as from Python 3.13 on",
            "*.ThreadTests.test_frame_tstate_tracing": "traces every call of a thread: the interpreter, not a lock",
            "*.ThreadTests.test_finalize_running_thread": _OWN_PROCESS,
            "*.ThreadTests.test_finalize_with_trace": _OWN_PROCESS,
            "*.CRLockTests.test_signature": "RLock of 3.13 takes arguments, ignores them, and says that it will not",
            "*.ThreadJoinOnShutdown.*": _OWN_PROCESS,
            "*.SubinterpThreadingTests.*": _OWN_PROCESS,
            "*.AtexitTests.*": _OWN_PROCESS,
        },
        "task": {"*.InterruptMainTests.*": _SIGNAL},
        "crowd": {"*.PyRLockTests.*": "threading._PyRLock belongs to a thread by its ident; nobody gets one unasked"},
    },
    "local": {
        "task": {
            "*.ThreadLocalTest.test_cycle_collection": "a value that leads back to its local lives as long as the task",
        },
    },
    "queue": {},
    "select": {"task": {"*.test_select_interrupt_exc": _SIGNAL}},
    "socket": {
        "*": {
            "*VSOCK*": _ADDRESSES,
            "*UDPLITE*": "the same code as UDP, with another protocol number: 60 tests that would take 10 s",
            "*.testRefCountGetNameInfo": "the native thread of a look-up may hold its arguments a moment longer",
        },
        "task": {
            "*.test_sendall_interrupted*": _SIGNAL,
            "*.Interrupted*Test.*": _SIGNAL,
            "*.testInterruptedTimeout": _SIGNAL,
        },
    },
    "ssl": {},
    "subprocess": {},
}


def run(where: str, names: list[str], without: dict[str, str]) -> dict[str, Any]:
    """Run tests in a process of their own and give the outcome."""
    asked = json.dumps({"names": names, "without": without, "timeout_s": TIMEOUT_S})
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent.parent), "PYTHONWARNINGS": ""}
    # A folder of its own: some tests make files of fixed names where they run.
    try:
        with TemporaryDirectory() as folder:
            done = subprocess.run(
                [sys.executable, HERE / "run_stdlib.py", where, asked],
                capture_output=True, encoding="utf-8", errors="replace",  # test_ssl sometimes prints what it received
                timeout=TIMEOUT_S, env=environment, check=False, cwd=folder,
            )  # fmt: skip
    except subprocess.TimeoutExpired as late:
        return {"ran": 0, "broken": [("the whole group", f"took more than {TIMEOUT_S} s: {late.stderr!r}"[-3000:])]}
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        return {"ran": 0, "broken": [("the whole group", done.stderr[-3000:])]}
    outcome: dict[str, Any] = json.loads(lines[-1])
    return outcome


@pytest.fixture
def nothing_left() -> None:
    """Instead of the check after every other test: these run beside the processes of the next."""


@pytest.fixture(scope="module")
def outcomes() -> Iterator[dict[tuple[str, str], Future[dict[str, Any]]]]:
    """Start all groups, the slow ones first."""
    if find_spec("test") is None or find_spec("test.lock_tests") is None:
        pytest.skip("this interpreter comes without CPython's `test` package")
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        yield {(group, where): pool.submit(run, where, GROUPS[group], excluded(group, where)) for group, where in CASES}


def excluded(group: str, where: str) -> dict[str, str]:
    """Give what is left out of a group, with the reasons."""
    table = WITHOUT[group]
    # What is left out of a task is left out of a crowd of them, too.
    parts = {"main": ("*",), "task": ("*", "task"), "crowd": ("*", "task", "crowd")}[where]
    return {pattern: reason for part in parts for pattern, reason in table.get(part, {}).items()}


CASES = [
    (group, where)
    for group in ("socket", "ssl", "subprocess", "locks", "queue", "select", "local")
    for where in ("main", "task", "crowd")
    if where != "crowd" or group in {"locks", "local"}
]


@pytest.mark.timeout(2 * TIMEOUT_S + 60)  # the first to be asked waits for its group, and for one more if it failed
@pytest.mark.parametrize(("group", "where"), CASES)
def test_cpythons_own_tests_pass(group: str, where: str, outcomes: Any) -> None:
    outcome = outcomes[group, where].result()
    broken = outcome["broken"]
    if broken and outcome["ran"]:
        ids = [known for known, _ in broken]
        natively = {known for known, _ in run("native", _patterns(ids), {})["broken"]}
        broken = [(known, text) for known, text in broken if known not in natively]
    assert [] == broken, "\n\n".join(f"{known}\n{text}" for known, text in broken)
    assert outcome["ran"] > 0


def _patterns(ids: list[str]) -> list[str]:
    """Give the runner's names for single tests: the first two parts of an id are its module."""
    return [":".join((".".join(each.split(".")[:2]), ".".join(each.split(".")[2:]))) for each in ids]
