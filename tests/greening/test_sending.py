"""What is greened, and natives that were kept since before, sent to other processes."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

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
