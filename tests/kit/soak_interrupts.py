"""Interrupts at random moments around short cells, in a real kernel: nobody dies, hangs or loses a task.

    python tests/kit/soak_interrupts.py                      # a thousand interrupts beside each kind of background run
    python tests/kit/soak_interrupts.py --interrupts 5000 --background green --seed 3
    python tests/kit/soak_interrupts.py --control            # the same cells in a kernel without greenlab

`soak` is what `test_interrupts_soak.py` runs in short. The front end's part is played by a thread that signals the
kernel's process group, as ■ does, whether a cell runs or the kernel idles.

What a kernel loses by itself is counted apart, and is no failure. Between a cell and its reply, ipykernel 7.4 raises
KeyboardInterrupt too ("caught in kernel"), and then there is no reply; and it ends when an interrupt comes just as it
sets SIGINT back, or a second one while it logs the first: 3 times in 4,007 interrupts without greenlab.
"""

from __future__ import annotations

import argparse
import os
import queue
import random
import signal
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kernel import Cell, Kernel

if TYPE_CHECKING:
    from collections.abc import Sequence

BACKGROUNDS = ("none", "green", "threads", "prefork", "hybrid", "auto")
PLAIN = (
    "time.sleep({s})",
    "end = time.perf_counter() + {s}\nwhile time.perf_counter() < end: pass",
    "await asyncio.sleep({s})",
    "for _ in range(5): print(_); time.sleep({s} / 5)",
    "threading.Event().wait({s})",
    "pass",
    "await asyncio.gather(*(asyncio.sleep({s}) for _ in range(3)))",
)
GREEN = (
    "%%greenrun --no-live -c 10 -n 30\ntime.sleep({s} / 4)\ni",
    "%%greenrun -c 10 -n 30\ntime.sleep({s} / 4)\ni",
    "task = greenlab.spawn(time.sleep, {s}); task.wait()",
    "await greenlab.spawn(time.sleep, {s})",
    "greenlab.run(abs, range(50), pool='{pool}').results",
)
# A kernel dies of a KeyboardInterrupt that reaches its loop, and without a word: this says where it came from.
PREPARE = """
import asyncio.events, gc, greenlet, signal, threading, time, traceback
_words = open({path!r}, "a")

def _note_death(self, former=asyncio.events.Handle._run):
    try:
        former(self)
    except KeyboardInterrupt:
        _words.write(traceback.format_exc())
        _words.flush()
        raise

asyncio.events.Handle._run = _note_death

def _note_waits(signum, frame):
    _words.write("".join(traceback.format_stack(frame)))
    for each in gc.get_objects():
        if isinstance(each, greenlet.greenlet) and each.gr_frame is not None:
            _words.write(f"\\n{each}\\n" + "".join(traceback.format_stack(each.gr_frame)[-12:]))
    _words.flush()

signal.signal(signal.SIGUSR1, _note_waits)
"""
PREPARE_GREEN = """
import greenlab, greenlab.api.run
def work(x):
    import time
    time.sleep(0.002)
    return x
greenlab.run(abs, range(4), pool={pool!r})
"""
START = """
background = greenlab.api.run.prepare(work, range({count}), pool={pool!r}, concurrency=10, live=False).start()
"""
CHECK = """
for task in list(greenlab.hub.current().tasks):
    if getattr(task, "about", None) is not None and task.about is not background: task.about.wait()
lost = []
if background is not None:
    background.wait()
    if background.results != list(range({count})): lost.append(background.counts)
run = globals().get("_run")
if run is not None:
    found = run.counts
    if run.running or found["pending"] or found["succeeded"] + found["cancelled"] + found["failed"] < run.ledger.pulled:
        lost.append(found)
assert not lost, lost
"""
STOPPED = ("KeyboardInterrupt", "RunInterrupted", "CancelledError")
_GIVEN_UP_S = 30.0


@dataclass
class Tally:
    """What a soak saw.

    Attributes:
        interrupts: how many were sent, and `hits`, how many cells ended by one.
        deaths: how often the kernel died, and was started anew.
        own_deaths: how often it died of an interrupt that was raised in nothing of greenlab's, such as a second one
            while ipykernel logs the first.
        hangs: cells that did not end within half a minute.
        lost: checks after which a task of a run was missing, or one that should have succeeded had not.
        silent: cells whose reply never came.
    """

    interrupts: int = 0
    cells: int = 0
    hits: int = 0
    deaths: int = 0
    own_deaths: int = 0
    hangs: int = 0
    lost: int = 0
    silent: int = 0
    failures: str = ""


class _Shooter:
    """Signals a kernel's process group, as a front end does it, when it is told to."""

    def __init__(self, kernel: Kernel) -> None:
        self.sent = 0
        self._kernel = kernel
        self._timers: list[threading.Timer] = []

    def aim(self, after_s: float) -> None:
        """Signal so long from now."""
        timer = threading.Timer(after_s, self._shoot)
        self._timers.append(timer)
        timer.start()

    def wait(self) -> None:
        """Wait until nothing is on its way."""
        while self._timers:
            self._timers.pop().join()

    def _shoot(self) -> None:
        try:
            self._kernel.interrupt()
        except (AttributeError, ProcessLookupError):
            return  # the kernel has died
        self.sent += 1


class Soak:
    """One soak of one kernel at a time, beside one kind of background run."""

    def __init__(self, background: str, *, control: bool = False, seed: int = 1) -> None:
        self.tally = Tally()
        self._pool = background if background != "none" else ""
        self._control = control
        self._chance = random.Random(seed)
        self._usual_s = 0.05
        self._cells: Sequence[str] = PLAIN if control else (*PLAIN, *GREEN)
        self._count = 40 * 5

    def run(self, interrupts: int) -> Tally:
        """Go on until so many interrupts have been sent."""
        with tempfile.TemporaryDirectory() as folder:
            self._last_words = Path(folder, "last_words")
            while self.tally.interrupts < interrupts:
                with Kernel() as kernel:
                    self._soak(kernel, interrupts)
        return self.tally

    def _soak(self, kernel: Kernel, interrupts: int) -> None:
        tally = self.tally
        self._last_words.write_text("")
        prepare = PREPARE.replace("{path!r}", repr(str(self._last_words)))
        if not self._control:
            prepare = "%load_ext greenlab\n" + prepare
        assert kernel.run(prepare).error is None
        if not self._control:
            made = kernel.run(PREPARE_GREEN.format(pool=self._pool or "green") + "background = None")
            assert made.error is None, made.error
        shooter = _Shooter(kernel)
        try:
            while tally.interrupts + shooter.sent < interrupts:
                if self._pool and not self._control:
                    _run(kernel, START.format(count=self._count, pool=self._pool))
                for _ in range(min(20, interrupts)):
                    self._cell(kernel, shooter)
                    if self._chance.random() < 0.3:
                        time.sleep(self._chance.uniform(0, 0.03))
                shooter.wait()
                self._check(kernel)
        except queue.Empty:
            dead = not kernel.manager.is_alive()
            if not dead:
                os.kill(kernel.manager.provisioner.pid, signal.SIGUSR1)  # it writes where each greenlet stands
                time.sleep(1)
            words = self._last_words.read_text()
            deadly = words.rsplit("During handling of the above exception", 1)[-1]
            own = dead and "KeyboardInterrupt" in deadly and "/greenlab/" not in deadly
            tally.own_deaths += own
            tally.deaths += dead and not own
            tally.hangs += not dead
            tally.failures += f"the kernel {'died' if dead else 'hangs'}\n{words}" * (not own)
        finally:
            shooter.wait()
            tally.interrupts += shooter.sent

    def _cell(self, kernel: Kernel, shooter: _Shooter) -> None:
        code = self._chance.choice(self._cells).replace("{s}", f"{self._chance.uniform(0, 0.05):.4f}")
        for _ in range(self._chance.choice((1, 1, 2))):
            shooter.aim(self._chance.uniform(0, 1.2 * self._usual_s))
        cell = _run(kernel, code.replace("{pool}", self._pool or "green"))
        self._usual_s += (cell.seconds - self._usual_s) / 10
        self.tally.cells += 1
        self.tally.hits += cell.ename in STOPPED
        if cell.ename is not None and cell.ename not in STOPPED:
            self.tally.failures += f"{code}\n{cell.error}\n"
        self.tally.silent += not _answered(kernel, cell)

    def _check(self, kernel: Kernel) -> None:
        code = "pass" if self._control else CHECK.replace("{count}", str(self._count))
        cell = _run(kernel, code)
        if cell.error is not None:
            self.tally.lost += 1
            self.tally.failures += cell.error + "\n"


def _run(kernel: Kernel, code: str) -> Cell:
    """Run a cell; a kernel that has died is noticed within a second.

    Raises:
        queue.Empty: there was no message for half a minute, or the kernel is dead.
    """
    begin_s = last_s = time.monotonic()
    cell = Cell(msg_id=kernel.client.execute(code))
    while True:
        try:
            message = kernel.client.get_iopub_msg(timeout=1)
        except queue.Empty:
            if time.monotonic() - last_s > _GIVEN_UP_S or not kernel.manager.is_alive():
                raise
            continue
        last_s = time.monotonic()
        if not kernel._take(cell, message):
            cell.seconds = time.monotonic() - begin_s
            return cell


def _answered(kernel: Kernel, cell: Cell) -> bool:
    """Tell whether the reply to a cell has come; it is sent before the kernel says that it idles."""
    while True:
        try:
            message = kernel.client.get_shell_msg(timeout=0.3)
        except queue.Empty:
            return False
        except ValueError:
            continue  # half of one reply and half of another: the kernel was interrupted while it sent
        if message["parent_header"].get("msg_id") == cell.msg_id:
            return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--interrupts", type=int, default=1000, help="how many, beside each background")
    parser.add_argument("--background", choices=BACKGROUNDS, nargs="+", default=BACKGROUNDS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--control", action="store_true", help="without greenlab")
    asked = parser.parse_args()
    for background in ("none",) if asked.control else asked.background:
        begin_s = time.monotonic()
        soak = Soak(background, control=asked.control, seed=asked.seed)
        tally = asdict(soak.run(asked.interrupts))
        failures = tally.pop("failures")
        name = "without greenlab" if asked.control else f"background: {background}"
        print(name, ", ".join(f"{key} {value}" for key, value in tally.items()), f"{time.monotonic() - begin_s:.0f} s")
        print(failures, end="", flush=True)


if __name__ == "__main__":
    main()
