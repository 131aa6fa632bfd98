"""Interrupts of a real kernel: of what is stuck in C, in every pool; of awaiting cells; and thousands of them.

    GREENLAB_SOAK=3000 pytest tests/hub/test_interrupts_kernel.py -k soak

sends three thousand beside each kind of background run, instead of a few; see also `soak_interrupts.py`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from soak_interrupts import BACKGROUNDS, Soak

from greenlab import pools

if TYPE_CHECKING:
    from kernel import Kernel

# However busy the machine is, this is far from a minute, which is how long what is stuck would stay so.
SOON_S = 20.0
SOAK = int(os.environ.get("GREENLAB_SOAK", "0"))
STUCK = """
import asyncio, ctypes, eventlet, fcntl, select, tempfile, time, greenlab
held = tempfile.NamedTemporaryFile()
fcntl.flock(held, fcntl.LOCK_EX)
def by_flock(name=held.name):
    import fcntl
    with open(name) as file: fcntl.flock(file, fcntl.LOCK_EX)
def by_ctypes():
    import ctypes
    for _ in range(600): ctypes.CDLL(None).usleep(100_000)
def by_poll():
    import select
    with greenlab.native(): select.poll().poll(60_000)
def by_sleep():
    import time
    with greenlab.native(): time.sleep(60)
"""


@pytest.mark.parametrize("pool", pools.LOCAL)
def test_a_run_of_tasks_that_are_stuck_in_c_is_stopped_by_one_interrupt(kernel: Kernel, pool: str) -> None:
    kernel.run(STUCK)
    for stuck in ("by_flock", "by_ctypes", "by_poll", "by_sleep")[:: 1 if pool == "green" else 3]:
        cell = kernel.run(f"%%greenrun --no-live -p {pool} -c 20 -n 40\n{stuck}()", interrupt_after=1)
        assert "RunInterrupted" == cell.ename, stuck
        assert cell.seconds < SOON_S
    assert "(False, 40)" == kernel.run("_run.running, _run.counts['total']").value


@pytest.mark.parametrize(
    ("waits", "error"),
    [
        ("time.sleep(60)", "KeyboardInterrupt"),
        ("tasks[1].wait()", "KeyboardInterrupt"),
        ("input()", "KeyboardInterrupt"),
        # As ipykernel does with any awaiting cell (`_cancel_on_sigint`).
        ("await asyncio.sleep(60)", "CancelledError"),
        ("await tasks[1]", "CancelledError"),
    ],
)
def test_a_cell_is_stopped_whatever_it_waits_for_while_tasks_are_stuck_in_c(
    kernel: Kernel, waits: str, error: str
) -> None:
    kernel.run(STUCK + "over = []\ndef stuck():\n    if not over: by_sleep()")
    start = "tasks = [greenlab.spawn(stuck) for _ in range(3)]\n"
    cell = kernel.run(start + waits, interrupt_after=0.5)
    assert error == cell.ename
    assert cell.seconds < SOON_S
    # The hub rests for a moment, and lets the next cell come. The interrupt is for a machine that takes longer.
    kernel.run("over.append(1)", interrupt_after=2)
    assert "[True, True, True]" == kernel.run("time.sleep(0.1)\n[task.dead for task in tasks]").value


def test_an_awaiting_cell_is_stopped_by_one_interrupt_while_the_hub_is_busy(kernel: Kernel) -> None:
    kernel.run(
        "import asyncio, eventlet, time\ndef work():\n    while True:\n"
        "        end = time.monotonic() + 0.002\n        while time.monotonic() < end: pass\n"
        "        eventlet.sleep(0)\n"
        "workers = [eventlet.spawn(work) for _ in range(10)]"
    )
    for _ in range(3):
        cell = kernel.run("await asyncio.sleep(60)", interrupt_after=0.3)
        assert "CancelledError" == cell.ename
        assert cell.seconds < SOON_S
    assert "False" == kernel.run("any(worker.dead for worker in workers)").value
    kernel.run("for worker in workers: worker.kill()")


def test_a_coroutine_that_waits_without_await_is_stopped_and_the_kernel_lives(kernel: Kernel) -> None:
    kernel.run("import asyncio, time\nasync def wait():\n    time.sleep(60)")
    cell = kernel.run("await asyncio.create_task(wait())", interrupt_after=0.5)
    assert "CancelledError" == cell.ename
    assert cell.seconds < SOON_S
    assert "4" == kernel.run("2 + 2").value


def test_what_a_cell_ignores_stays_ignored_while_tasks_compute(kernel: Kernel) -> None:
    kernel.run(
        "import asyncio, greenlab.api.run, signal, time\ndef compute(x):\n    end = time.monotonic() + 0.5\n"
        "    while time.monotonic() < end: pass\n    return x"
    )
    ignore = "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    for waits in ("run.wait()", "await asyncio.sleep(0.5); await run._driver", "time.sleep(0.5); run.wait()"):
        start = "run = greenlab.api.run.prepare(compute, range(2), live=False).start()\n"
        cell = kernel.run(ignore + start + waits, interrupt_after=0.2)
        assert cell.error is None, waits
        assert "[0, 1]" == kernel.run("run.results").value


def test_the_kernel_outlives_an_interrupt_that_comes_as_a_cell_ends(kernel: Kernel) -> None:
    # The kernel ignores SIGINT by then, and waits for its output to be sent.
    kernel.run(
        "import os, signal, sys, threading, time, ipykernel.iostream as io\n"
        "def flush(self, flush=io.OutStream.flush):\n"
        "    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:\n"
        "        threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "        threading.Event().wait(0.1)\n"
        "    flush(self)\n"
        "io.OutStream.flush, former = flush, io.OutStream.flush"
    )
    for _ in range(3):
        assert kernel.run("1").error is None
    assert kernel.run("io.OutStream.flush = former").error is None


@pytest.mark.timeout(max(300, 2 * SOAK))
@pytest.mark.parametrize("background", BACKGROUNDS)
def test_a_soak_of_interrupts_kills_hangs_and_loses_nothing(background: str) -> None:
    tally = Soak(background).run(SOAK or 5)
    assert (0, 0, 0, "") == (tally.deaths, tally.hangs, tally.lost, tally.failures)
