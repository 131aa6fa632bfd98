"""What SIGINT does while the hub turns.

Python runs a signal handler in whichever greenlet is current. With the default handler an interrupt of a waiting
cell would be raised in a random background task, or in the hub itself. So while the main greenlet waits or pumps,
this handler stands in:

* if a cell waits, the interrupt is raised in the main greenlet, at the wait, as soon as the hub gets its turn;
* if the hub does not get its turn for `GRACE_S`, a green thread hogs it: the interrupt is raised in that one
  (and the cell that waits still gets its own);
* if no cell waits and nobody hogs, an interrupt means nothing, as in an idle kernel.
"""

from __future__ import annotations

import _thread
import signal
import time
from typing import TYPE_CHECKING, Any

import greenlet

if TYPE_CHECKING:
    from collections.abc import Callable

    from greenlab.hub.guest import GuestHub

GRACE_S = 0.3

_sleep = time.sleep


class Interrupts:
    """The SIGINT handler of one hub."""

    def __init__(self, hub: GuestHub) -> None:
        self._hub = hub
        self._pending = False
        self._hogged = False

    def take_over(self) -> Callable[[], object]:
        """Stand in for the handler in force, if it is one that we know.

        ipykernel 7 sets Python's default handler around a synchronous cell, its own around an awaiting one, and
        ignores SIGINT between cells. A handler of the user's is left alone.

        Returns:
            what puts the former handler back.
        """
        if _thread.get_ident() != _main_thread_id():
            return _nothing  # only the main thread may set handlers, and only it is interrupted
        former = signal.getsignal(signal.SIGINT)
        known = (
            former in (signal.default_int_handler, signal.SIG_IGN)
            or getattr(former, "__module__", "") == "ipykernel.ipkernel"
        )
        if not known:
            return _nothing
        signal.signal(signal.SIGINT, self._on_signal)
        return lambda: signal.signal(signal.SIGINT, former)

    def take(self) -> bool:
        """Tell whether an interrupt came that has not been raised yet, and consider it raised."""
        pending, self._pending = self._pending, False
        return pending

    def _on_signal(self, signum: int, frame: Any) -> None:
        hub = self._hub
        current = greenlet.getcurrent()
        if self._hogged:
            self._hogged = False
            if current is not hub.greenlet:
                raise KeyboardInterrupt
        if current is hub.root:
            if hub.blocking:
                signal.default_int_handler(signum, frame)
            return
        if hub.blocking and not self._pending:
            self._pending = True
            hub.call_soon_threadsafe(self._raise_in_root)
        if hub.busy and current is not hub.greenlet:
            _thread.start_new_thread(self._watch_hog, (hub.turns,))

    def _raise_in_root(self) -> None:
        if self._hub.blocking and self.take():
            self._hub.waiter.throw(KeyboardInterrupt)

    def _watch_hog(self, turns: int) -> None:
        """Runs in a native thread: if the hub is still in the same turn after the grace, interrupt again."""
        _sleep(GRACE_S)
        hub = self._hub
        if hub.turns == turns and hub.busy and not hub.closed_down:
            self._hogged = True
            _thread.interrupt_main()


def _nothing() -> None:
    pass


def _main_thread_id() -> int | None:
    import threading

    return threading.main_thread().ident
