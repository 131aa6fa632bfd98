"""What SIGINT does while the hub turns.

Python runs a signal handler in whichever greenlet is current. Left alone, the handler of an interrupted cell would
raise in a random background task, or in the hub itself. So while the main greenlet waits or pumps, `Interrupts` stands
in for the handler in force, of whatever origin:

* what the handler raises is raised in the main greenlet, at its wait, as soon as the hub gets its turn;
* if the hub does not get its turn for `GRACE_S`, the green thread that runs is a hog: it gets a KeyboardInterrupt,
  also where it waits in C, and the main greenlet its own before any other goes on;
* SIGINT that is ignored stays ignored. Only that a kernel ignores it between two cells does not save a hog;
* when a wait, or a turn for the host, ends, the handler is the one that was in force before, or one set meanwhile.

A call that is stuck in C goes on after a signal (PEP 475), unless a handler raises. So the second look at a hog comes
as a signal too: SIGURG to the main thread, which the system ignores by default, so that a late one does nothing.

Must not import: greening, pools, runs, live, magics.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # typeshed has it as `signal` only
import asyncio
import sys
from typing import TYPE_CHECKING, Any

import greenlet

from greenlab import patched

if TYPE_CHECKING:
    from types import FrameType

    from greenlab.hub.protocols import HubLike

GRACE_S = 0.3
REST_S = 0.5

SIGINT, _NUDGE = _signal.SIGINT, _signal.SIGURG
_LOOKS = 200
_time, _thread = patched.original("time"), patched.original("_thread")
_sleep, _monotonic = _time.sleep, _time.monotonic
_start_thread = _thread.start_new_thread
_getcurrent = greenlet.getcurrent
# The module without the enums of `signal`, which cost more than all the rest of a wait's preparations.
_signal_of, _set_signal = _signal.getsignal, _signal.signal
_HUB_FILES = ("greenlab/hub/", "eventlet/hubs/")
_CALLS = {"drain", "__call__"}
"""The hub's functions that call callbacks of others: an error that is raised in them does no harm."""


class Interrupts:
    """The SIGINT handler of one hub.

    Attributes:
        pending: whether a signal has come whose handler has not been called yet.
    """

    def __init__(self, hub: HubLike) -> None:
        self._hub = hub
        self._handler = self._on_signal
        self._nudged = self._on_nudge
        self.pending = False
        self._active = False
        self._only_hogs = False
        self._former: Any = None
        self._former_nudge: Any = None
        self._nudges = False
        self._error: BaseException | None = None
        self._seen: tuple[Any, ...] = ()
        self._seen_s = 0.0
        self._watches = 0
        self._rest_until_s: float | None = None
        self._skipped: list[tuple[Any, Any]] = []

    # -- what the hub calls --------------------------------------------------------------------------------

    def take_over(self, *, pumps: bool) -> None:
        """Stand in for the handler in force. To be followed by `hand_back` and `call_pending`.

        ipykernel 7 sets Python's default handler around a synchronous cell, its own around an awaiting one, and
        ignores SIGINT between cells.

        Args:
            pumps: whether the host loop pumps the hub, or else the main greenlet waits.
        """
        if _thread.get_ident() != _main_thread_id():
            return  # only the main thread may set handlers, and only it is interrupted
        former = _signal_of(SIGINT)
        if former is not self._handler:
            if former == _signal.SIG_IGN:
                self._only_hogs = True
                if not _is_kernel_ignoring(pumps=pumps):
                    return  # to ignore it is also what child processes inherit
            elif not callable(former):
                return  # ends the process, or is not Python's
            else:
                # Raised in a kernel's loop, it would end the kernel.
                self._only_hogs = pumps and former is _signal.default_int_handler and _kernel() is not None
            self._former = former
        self.pending = False
        self._active = True
        try:
            _set_signal(SIGINT, self._handler)
        except BaseException:  # an interrupt that came just before
            self.hand_back()
            raise

    def hand_back(self) -> None:
        """Put the former handler back."""
        if not self._active:
            return
        if self._nudges:
            self._nudges = False
            if _signal_of(_NUDGE) is self._nudged:
                _set_signal(_NUDGE, self._former_nudge)
        if _signal_of(SIGINT) is self._handler:
            _set_signal(SIGINT, self._former)
        self._active = False
        self._seen = ()
        self._unskip()

    def call_pending(self) -> None:
        """Call the handler for a signal that has not been handled yet; in the main greenlet."""
        if self.pending:
            # What a wait was for came first, maybe by the same interrupt: it goes to child processes too.
            self._call(sys._getframe(1))

    def deliver(self) -> None:
        """Call the handler for a signal that waits, from the hub; what it raises is raised in the main greenlet."""
        hub = self._hub
        self._unskip()
        if not self.pending:
            return
        if not hub.blocking:
            hub._host_greenlet.switch()  # which pumps the hub, and sees that something is pending
            return
        try:
            self._call(hub.waiter.gr_frame)
        except KeyboardInterrupt:
            hub.waiter.throw(KeyboardInterrupt)
        except BaseException as error:
            hub.waiter.throw(error)

    def rests(self) -> bool:
        """Return whether the host should go on without a turn of the hub for a while, after an interrupt of a hog."""
        if self._rest_until_s is None:
            return False
        now_s = _monotonic()
        self._rest_until_s = self._rest_until_s or now_s + REST_S
        if now_s < self._rest_until_s:
            return True
        self._rest_until_s = None
        return False

    def disown(self) -> None:
        """Leave the signals to themselves, in a forked child."""
        try:
            self.hand_back()
        except ValueError:
            pass  # this is not its main thread

    # -- signals -------------------------------------------------------------------------------------------

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        """Runs in whichever greenlet is current."""
        if not self._active:
            # A green thread set another handler, and put this one back when the wait was over.
            if callable(self._former):
                self._former(signum, frame)
            return
        hub = self._hub
        if not self._only_hogs:
            self.pending = True
            hub.call_soon_threadsafe(_nothing)  # comes back from its poll, and delivers
        if self._is_held():
            self._watch()
            self._look(frame)

    def _on_nudge(self, signum: int, frame: FrameType | None) -> None:
        if self._active and self._is_held():
            self._look(frame)
        if callable(self._former_nudge):
            self._former_nudge(signum, frame)

    def _is_held(self) -> bool:
        hub = self._hub
        return hub.busy and hub.turning and hub.owner() is not hub.root

    def _look(self, frame: FrameType | None) -> None:
        """See whether the hub stands where it stood at the last look, and has done so for long."""
        hub, current = self._hub, _getcurrent()
        seen = current, hub.turns, hub.switches
        if seen != self._seen:
            self._seen, self._seen_s = seen, _monotonic()
        elif _monotonic() - self._seen_s >= 0.9 * GRACE_S and not (current is hub.greenlet and _is_hub_code(frame)):
            self._stop_hog(frame)

    def _stop_hog(self, frame: FrameType | None) -> None:
        self._seen = ()
        if self.pending:
            if self._calls_former():
                try:
                    self._call(frame)
                except BaseException as error:
                    self._error, self.pending = error, True
                else:
                    return
            self._clear_the_way()
        self._rest_until_s = 0.0  # which begins when the host next pumps the hub
        raise KeyboardInterrupt

    def _call(self, frame: FrameType | None) -> None:
        """Call the handler that was in force when the signal came."""
        self.pending = False
        error, self._error = self._error, None
        if error is not None:
            raise error
        if self._calls_former():
            self._former(SIGINT, frame)
        elif self._only_hogs:
            pass
        elif self._former is not _signal.default_int_handler and not _is_in_cell(frame):
            # A coroutine of an awaiting cell's waits natively. KeyboardInterrupt would end the kernel's loop.
            self._former(SIGINT, frame)
            if self._hub.blocking:
                raise asyncio.CancelledError
        else:
            raise KeyboardInterrupt

    def _calls_former(self) -> bool:
        """Return whether to call the former handler; not Python's and the kernel's, for their effect is known."""
        former = self._former
        return not (
            self._only_hogs
            or former is _signal.default_int_handler
            or getattr(former, "__module__", "") == "ipykernel.ipkernel"
        )

    # -- hogs ----------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Have the main thread look again, from time to time."""
        if not self._nudges:
            former = _signal_of(_NUDGE)
            if former is None:
                return
            self._former_nudge, self._nudges = former, True
            _set_signal(_NUDGE, self._nudged)
        self._watches += 1
        try:
            _start_thread(self._nudge, (self._watches,))
        except RuntimeError:
            pass  # there are no more threads: the next interrupt looks

    def _nudge(self, watch: int) -> None:
        """Runs in a native thread, until the hub has gone on or another interrupt has come."""
        hub = self._hub
        for _ in range(_LOOKS):
            turns = hub.turns
            _sleep(GRACE_S)
            if not self._nudges or watch != self._watches or hub.closed_down:
                return
            if hub.turns != turns and not self.pending:
                return
            if hub.busy:
                _signal.pthread_kill(hub.thread_id, _NUDGE)

    def _clear_the_way(self) -> None:
        """Let nothing go on before the main greenlet: there may be more hogs."""
        hub = self._hub
        hub._wakeups.call_first(self.deliver)
        for bucket in hub.listeners.values():
            for listener in bucket.values():
                if listener.cb is not _skip and listener.fileno != hub._wakeups.fd:
                    self._skipped.append((listener, listener.cb))
                    listener.cb = _skip  # its descriptor is found ready again by the next poll

    def _unskip(self) -> None:
        while self._skipped:
            listener, callback = self._skipped.pop()
            if listener.cb is _skip:
                listener.cb = callback


def _nothing() -> None:
    pass


def _skip(_fileno: int) -> None:
    pass


def _main_thread_id() -> int | None:
    import threading

    return threading.main_thread().ident


def _is_hub_code(frame: FrameType | None) -> bool:
    """Return whether the hub's own code is at work, and not something that it has called."""
    if frame is None:
        return True
    code = frame.f_code
    return any(part in code.co_filename for part in _HUB_FILES) and code.co_name not in _CALLS


def _kernel() -> Any:
    """Return the application of the kernel that this process is, or None."""
    module = sys.modules.get("ipykernel.kernelapp")
    application: Any = getattr(module, "IPKernelApp", None)
    return application.instance() if application is not None and application.initialized() else None


def _is_kernel_ignoring(*, pumps: bool) -> bool:
    """Return whether it is the kernel that ignores SIGINT, between two cells, and not the code of a cell."""
    application = _kernel()
    if application is None:
        return False
    if pumps:
        lock: Any = getattr(getattr(application, "kernel", None), "_main_asyncio_lock", None)
        return lock is None or not lock.locked()
    return not _is_in_cell(sys._getframe(1))


def _is_in_cell(frame: FrameType | None) -> bool:
    """Return whether a frame was called by the code of a cell."""
    while frame is not None:
        if frame.f_code.co_name == "run_code" and frame.f_code.co_filename.endswith("interactiveshell.py"):
            return True
        frame = frame.f_back
    return False
