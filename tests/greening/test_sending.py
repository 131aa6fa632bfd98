"""What is greened, and natives that were kept since before, sent to other processes."""

from __future__ import annotations

import pickle
import queue
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import cloudpickle
import pytest

import greenlab

if TYPE_CHECKING:
    from pathlib import Path

KEPT = [time.sleep]

MANAGERS = """
import concurrent.futures, multiprocessing, queue, sys, threading, time

if "early" in sys.argv:
    import multiprocessing.managers
kept = [time.sleep, threading.Lock, threading.RLock, queue.SimpleQueue]

if __name__ == "__main__":
    import greenlab

    greenlab.start()
    context = multiprocessing.get_context(sys.argv[1])
    with context.Manager() as manager:
        event, items = manager.Event(), manager.Queue()
        event.set()
        items.put(3)
        assert event.wait(1) and manager.RLock().acquire() and items.get() == 3
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as executor:
        for naps in kept[0], time.sleep:
            assert executor.submit(naps, 0.01).result() is None
        assert len(executor.submit(list, kept).result()) == len(kept)
    greenlab.stop()
    assert not hasattr(multiprocessing.reduction.ForkingPickler, "reducer_override")
    print("sent")
"""


@pytest.mark.parametrize("when", ["early", "late"])
@pytest.mark.parametrize("how", ["spawn", "forkserver", "fork"])
def test_managers_and_pools_of_multiprocessing_are_sent_what_they_need(how: str, when: str, tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(MANAGERS)
    done = subprocess.run(
        [sys.executable, tmp_path / "main.py", how, when], capture_output=True, text=True, timeout=60, check=False
    )
    assert "sent\n" == done.stdout, done.stderr


def test_a_native_call_that_was_kept_is_sent_to_a_worker(started: Any) -> None:
    assert [None] == greenlab.run(KEPT[0], [0.01], pool="prefork", live=False).results


STANDARD = "threading time socket os queue select ssl selectors subprocess asyncio _thread"

NATIVE = f"""
import importlib, pickle
for module in map(importlib.import_module, {STANDARD.split()}):
    for name in dir(module):
        try:
            pickle.dumps(getattr(module, name))
        except Exception:
            continue
        print(module.__name__, name)
"""


def run_natively(program: str, *args: str) -> str:
    """Return what a program printed in a process without greenlab."""
    return subprocess.run(
        [sys.executable, "-c", program, *args], capture_output=True, text=True, timeout=60, check=True
    ).stdout


def test_what_can_be_pickled_natively_can_be_when_greened_and_names_the_standard_library(started: Any) -> None:
    wrong = []
    names = [line.split() for line in run_natively(NATIVE).splitlines()]
    for module, name in names:
        value = getattr(sys.modules[module], name)
        try:
            pickled = pickle.dumps(value)
        except Exception as error:
            wrong.append(f"{module}.{name}: {error}")
        else:
            wrong += [f"{module}.{name}: {pickled!r}"] * (b"greenlab" in pickled)
    assert len(names) > 300
    assert [] == wrong


def test_what_a_notebook_makes_with_locks_in_it_is_sent_to_a_process_without_greenlab(started: Any) -> None:
    factories: list[Any] = [threading.Lock, threading.RLock, threading.Event, queue.SimpleQueue]
    calls: list[Any] = [time.sleep, socket.gethostbyname]

    def make(host: str) -> Any:
        for factory in factories:
            factory()
        calls[0](0.01)
        return calls[1](host)

    make.__module__ = "__main__"  # as in a cell: cloudpickle then sends it whole
    sent = cloudpickle.dumps(make)
    load = """
import pickle, sys
print(pickle.loads(bytes.fromhex(sys.argv[1]))("127.0.0.1"), [name for name in sys.modules if "greenlab" in name])
"""
    assert "127.0.0.1 []\n" == run_natively(load, sent.hex())
