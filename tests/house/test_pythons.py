"""What differs from Python to Python: the methods that later ones add, and how the interpreter ends."""

from __future__ import annotations

import _queue
import _thread
import inspect
import os
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

import greenlab
from greenlab.greening import adopted, locks, queues, replaced, waiting
from greenlab.magics import check, options

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.whole_heap

# C classes have it, and who subscripts one has the class, not a lock of before.
TYPING = {"__class_getitem__"}


@pytest.mark.parametrize(
    "make", [_thread.allocate_lock, _thread.RLock, _queue.SimpleQueue, _thread._local], ids=lambda made: made.__name__
)
def test_what_stands_for_a_native_object_has_all_its_methods(make: Any) -> None:
    native = make()
    assert set() == set(dir(native)) - set(dir(adopted._MAKERS[type(native)](native))) - TYPING


@pytest.mark.parametrize(
    ("native", "green"),
    [(_thread.LockType, locks.Lock), (_thread.RLock, locks.RLock), (_queue.SimpleQueue, queues.SimpleQueue)],
)
def test_what_is_made_in_place_of_a_native_object_has_all_its_methods(native: Any, green: Any) -> None:
    assert set() == set(dir(native)) - set(dir(green)) - TYPING


# The native one has it from Python 3.14 on.
WITH_LOCKED = [
    locks.RLock,
    *([lambda: adopted.AdoptedRLock(_thread.RLock())] if hasattr(_thread.RLock, "locked") else []),
]


@pytest.mark.parametrize("make", WITH_LOCKED)
def test_an_rlock_tells_whether_it_is_locked(started: Any, make: Any) -> None:
    lock = make()
    seen = [lock.locked()]
    with lock:
        seen.append(lock.locked())
        seen.append(greenlab.spawn(lock.locked).wait())
    assert [False, True, True, False] == [*seen, lock.locked()]


@pytest.mark.parametrize("make", [lambda: options.make_parser("greenrun"), check.make_parser], ids=["run", "check"])
def test_the_help_of_magics_is_plain_text_whatever_argparse_would_like(make: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # Python 3.14 colours help
    text = options.describe(make())
    assert "\x1b" not in text
    assert text.startswith("options:\n  -")


def test_replaced_functions_take_the_arguments_of_the_native_ones() -> None:
    natives = {name: getattr(__import__(owner), name) for owner, name in FUNCTIONS}
    greenlab.start()
    try:
        greened = {name: getattr(__import__(owner), name) for owner, name in FUNCTIONS}
    finally:
        greenlab.stop()
    for name, native in natives.items():
        assert native is not greened[name]
        assert _parameters(native) == _parameters(greened[name]), name


FUNCTIONS = [
    ("select", "select"), ("os", "read"), ("os", "write"), ("os", "waitpid"), ("os", "wait"), ("socket", "getaddrinfo"),
]  # fmt: skip


def _parameters(function: Any) -> list[tuple[Any, ...]]:
    """Describe parameters but for their names, if only their place counts."""
    return [
        (each.kind, None if each.kind is each.POSITIONAL_ONLY else each.name, each.default)
        for each in inspect.signature(function).parameters.values()
    ]


def test_a_thread_is_joined_and_a_name_looked_up_where_no_thread_can_be_started(
    started: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    go_on = threading.Event()
    thread = threading.Thread(target=go_on.wait)
    thread.start()
    name = socket.gethostname()
    expected = socket.gethostbyname(name)
    monkeypatch.setattr(waiting, "_start_thread", refuse)
    assert expected == socket.gethostbyname(name)
    thread.join(0.01)
    assert thread.is_alive()
    greenlab.spawn(go_on.set)  # the hub turns while the thread is joined
    thread.join()
    assert not thread.is_alive()


@pytest.mark.parametrize("how", ["-c", "script"])
def test_nothing_is_printed_when_the_interpreter_ends(how: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import atexit, threading, time, greenlab\n"
        "greenlab.start()\n"
        "done = threading.Event()\n"
        "thread = threading.Thread(target=done.wait, daemon=True)\n"
        "thread.start()\n"
        "atexit.register(thread.join)\n"
        "atexit.register(done.set)\n"
        "greenlab.spawn(time.sleep, 60)\n"
    )
    command = ["-m", "IPython", "-c", "%load_ext greenlab"] if how == "-c" else [str(script)]
    ended = subprocess.run(
        [sys.executable, *command],
        env={**os.environ, "IPYTHONDIR": str(tmp_path)}, capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert (0, "", "") == (ended.returncode, ended.stdout, ended.stderr)


def test_the_greening_names_what_it_replaces_alike_on_every_python(started: Any) -> None:
    names = {name for _, name in replaced()}
    assert {"sleep", "select", "poll", "read", "write", "recv", "RLock", "Lock", "SimpleQueue", "join"} <= names
