"""The probed process: makes the call natively, then greened, alone and several at once, and measures.

It is a fresh interpreter in a session of its own, so that nothing of the kernel's state plays a part, and all that
the call starts can be ended with it. A native thread beside it does three things every few milliseconds: it
measures how long it waited for the GIL, reads where the hub's thread stands, and stops a call that takes too long.

Guarantees: the call runs at most as often as allowed; the process ends when it is done, when the call takes too
long, and when its parent is gone.

Must not import: IPython, asyncio.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import pickle
import signal
import socket
import sys
from math import ceil
from time import perf_counter, sleep, thread_time
from typing import TYPE_CHECKING, Any, NoReturn

from greenlab import greening, messages
from greenlab import hub as hubs
from greenlab.hub._clocks import ThreadClocks
from greenlab.hub.account import accounts_of
from greenlab.hub.gil import TICK_S, had_to_wait
from greenlab.pools.processes import forkserver, serialization
from greenlab.probes.figures import AGAIN, DONE, GREEN, LOAD, NATIVE, TOGETHER, Figures, GilLook, Measurement, Place
from greenlab.probes.places import Finder, Sighting
from greenlab.text.format import shortened

if TYPE_CHECKING:
    from collections.abc import Callable

    from greenlab.hub.account import Account

_ENOUGH_S = 0.02
_ALONE = 3
_AT_ONCE = 4
_LONGEST_TEXT = 200
_PACKAGE = os.path.dirname(os.path.dirname(__file__)) + os.sep  # noqa: PTH120
_native_sleep = sleep
_clock, _cpu = perf_counter, thread_time


def serve(fd: int) -> NoReturn:
    """Probe the call that arrives on this descriptor, and exit."""
    with socket.socket(fileno=fd) as sock:
        subject = _Subject(sock)
        subject.run()
    # Threads that the call has left, and what they would print at the end, are of no interest.
    os._exit(0)


class _FailedError(Exception):
    """The call, or loading it, has raised: the probe ends."""


class _Subject:
    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.figures = Figures()
        self._call: Callable[[], Any] = _do_nothing
        self._hub: Any = None
        self._last_tick_s = 0.0

    def run(self) -> None:
        """Go through the stages as far as the call allows."""
        times, limit_s, data = pickle.loads(_receive(self._sock))
        figures = self.figures
        figures.times, figures.limit_s = times, limit_s
        self._watch = _Watch(self)
        self._watch.start()
        with contextlib.suppress(_FailedError):
            self._begin(LOAD, figures.allowed_s)
            self._call = self._checked(serialization.load_function, data)
            for stage in (NATIVE, AGAIN):
                self._begin(stage, limit_s)
                figures.native_s.append(self._checked(self._native))
            self._green()
            figures.stage = DONE
        self._watch.stop()
        self.send_figures()

    def send_figures(self) -> None:
        """Send the figures so far."""
        data = pickle.dumps(self.figures)
        self._sock.sendall(b"".join(messages.join(data)))

    def _begin(self, stage: str, allowed_s: float) -> None:
        self.figures.stage, self.figures.allowed_s = stage, allowed_s
        self._watch.allow(allowed_s)
        self.send_figures()

    def _checked(self, step: Callable[..., Any], *args: Any) -> Any:
        try:
            return step(*args)
        except BaseException as error:
            self.figures.error = _one_line(error)
            raise _FailedError from error

    def _native(self) -> float:
        self.figures.calls += 1
        begin = _clock()
        self._call()
        return _clock() - begin

    # --- greened

    def _green(self) -> None:
        figures = self.figures
        call_s = max(figures.native_s[-1], 1e-7)
        alone, at_once, figures.loops = plan(call_s, figures.times - figures.calls)
        self._begin(GREEN, figures.limit_s * alone * figures.loops)
        self._hub = hubs.start()
        greening.green(self._hub)
        ticker = hubs.spawn(self._hub, self._tick)
        free = {self._hub.greenlet, self._hub.root, ticker}
        accounts = accounts_of(self._hub)
        figures.gil.append(GilLook())
        tracer = self._watch.tracer = accounts.open(lambda green: green not in free)
        others = _other_threads(self._watch)
        for _ in range(alone):
            tracer.reset()
            wall_s = self._checked(self._run, 1)
            loops = figures.loops
            figures.alone.append(
                Measurement(
                    wall_s=wall_s / loops,
                    held_s=tracer.held_s / loops,
                    cpu_s=tracer.cpu_s / loops,
                    delay_s=tracer.delay_s / loops,
                    longest_s=tracer.longest_s,
                )
            )
            figures.gil.append(GilLook())  # of the next sample
        figures.others_cpu_s = max(0.0, _other_threads(self._watch) - others) / (alone * figures.loops)
        self._watch.conclude()
        self._begin(TOGETHER, figures.limit_s * at_once * figures.loops)
        figures.at_once = at_once
        tracer.reset()
        figures.gap_s = 0.0
        figures.together_s = self._checked(self._run, at_once)
        # A call that holds the hub to the very end leaves the ticker without its last tick.
        figures.gap_s = max(figures.gap_s, _clock() - self._last_tick_s)
        accounts.end(tracer)
        ticker.kill()
        self._watch.conclude()

    def _run(self, count: int) -> float:
        """Run so many tasks at once, and return for how long calls were running."""
        begun: list[float] = []
        tasks = [hubs.spawn(self._hub, self._repeat, begun) for _ in range(count)]
        ends = []
        try:
            for task in tasks:
                task.wait()
                ends.append(_clock())
        finally:
            for task in tasks:
                if not task.dead:
                    task.kill()
        return max(ends) - min(begun)

    def _repeat(self, begun: list[float]) -> None:
        begun.append(_clock())
        for _ in range(self.figures.loops):
            self.figures.calls += 1
            self._call()

    def _tick(self) -> None:
        while True:
            self._last_tick_s = _clock()
            hubs.eventlet.sleep(TICK_S)
            self.figures.gap_s = max(self.figures.gap_s, _clock() - self._last_tick_s)


def plan(call_s: float, calls: int) -> tuple[int, int, int]:
    """Return how to spend the calls: samples alone, tasks at once, and calls in a row in each of them.

    Args:
        call_s: how long a call takes.
        calls: how many there may be, 3 or more.
    """
    # A long call is as good as several short ones, and one that blocks takes `at_once` times as long.
    alone, at_once = (_ALONE, _AT_ONCE) if call_s < 1 else (1, 2)
    while alone + at_once > calls:
        alone, at_once = (alone - 1, at_once) if alone > 1 else (alone, at_once - 1)
    loops = min(ceil(_ENOUGH_S / call_s), calls // (alone + at_once))
    return alone, at_once, max(1, loops)


# --- the native thread beside it ---------------------------------------------------------------------------


class _Watch:
    def __init__(self, subject: _Subject) -> None:
        self._subject = subject
        self._main = _thread.get_ident()
        self._parent = os.getppid()
        self._deadline = float("inf")
        self._stopping = False
        self._held_s: dict[Sighting, float] = {}
        self._find = Finder(_PACKAGE, __file__)
        self.tracer: Account | None = None
        self.cpu_s = 0.0

    def start(self) -> None:
        _thread.start_new_thread(self._run, ())

    def stop(self) -> None:
        self._stopping = True

    def allow(self, seconds: float) -> None:
        """Allow the present stage so many seconds from now on."""
        self._deadline = _clock() + seconds

    def conclude(self) -> None:
        """Set the figures' place: where the thread stood for most of the time."""
        held_s: dict[Place, float] = {}
        for seen, seconds in list(self._held_s.items()):  # it may grow meanwhile
            held_s[seen.place] = held_s.get(seen.place, 0.0) + seconds
        if held_s:
            self._subject.figures.place = max(held_s, key=held_s.__getitem__)

    def _run(self) -> None:
        clocks = ThreadClocks()
        while not self._stopping:
            # Reading a file releases the GIL, and may be long without it: so nothing does so between the two clocks,
            # nor between the second one and `_find`.
            delay_then = clocks.queued_s() or 0.0
            begin, held_then = _clock(), self._held_by_now()
            _native_sleep(TICK_S)
            now, held_now = _clock(), self._held_by_now()
            seen = self._find(sys._current_frames().get(self._main)) if self.tracer is not None else None
            delayed_s = max(0.0, (clocks.queued_s() or 0.0) - delay_then)
            if self.tracer is not None and held_now - held_then >= (now - begin) / 2:
                self._account_for(now - begin, delayed_s, seen)
            if now > self._deadline:
                self._stop_call()
            if os.getppid() != self._parent:
                _end()
            self.cpu_s = _cpu()

    def _held_by_now(self) -> float:
        return self.tracer.held_by_now() if self.tracer is not None else 0.0

    def _account_for(self, slept_s: float, delayed_s: float, seen: Sighting | None) -> None:
        """Account for one sleep of this thread, for most of which the hub was held: it may have woken late."""
        look = self._subject.figures.gil[-1]
        look.watched_s += slept_s
        if had_to_wait(slept_s, delayed_s):
            look.missed_s += slept_s
            look.missed_s2 += slept_s**2
        if seen is not None:
            # By time: while the GIL is kept this thread cannot look, and sees the place when it runs again.
            self._held_s[seen] = self._held_s.get(seen, 0.0) + slept_s

    def _stop_call(self) -> None:
        figures = self._subject.figures
        seen = self._find(sys._current_frames().get(self._main))
        figures.place = seen.place if seen is not None else None
        figures.stopped = True
        with contextlib.suppress(OSError):
            self._subject.send_figures()
        _end()


def _end() -> NoReturn:
    """End this process and all that the call has started."""
    os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _other_threads(watch: _Watch) -> float:
    """Return the CPU time of all threads but this one and the watching one, in seconds."""
    import time

    return time.process_time() - _cpu() - watch.cpu_s


# --- helpers -----------------------------------------------------------------------------------------------


def _receive(sock: socket.socket) -> bytes:
    with sock.makefile("rb") as stream:
        (message,) = messages.receive(stream.read)
        return message


def _one_line(error: BaseException) -> str:
    text = str(error).strip().partition("\n")[0]
    name = serialization.type_name(error)
    return f"{name}: {shortened(text, _LONGEST_TEXT)}" if text else name


def _do_nothing() -> None:
    pass


def die_with_parent() -> None:
    """Ask the system to end this process with its parent, where it can."""
    ask = forkserver._find_prctl()
    if ask is not None:
        ask()
