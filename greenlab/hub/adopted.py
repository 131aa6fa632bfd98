"""Eventlet's own hub, made one of greenlab's, in a process that `eventlet.monkey_patch()` has patched.

There the hub turns already, for a Celery or gunicorn worker, and what blocks is green by eventlet's means. The very hub
is adopted: it becomes an `AdoptedHub`, which runs green pools, tasks and the watchdog as a guest hub does, and has no
host. Its greenlet, its timers, descriptors and green threads stay, also those that wait in it at that moment.

Guarantees:

* what others run on the hub goes on as before: a SystemExit or KeyboardInterrupt of one of their green threads ends
  the hub's loop and is raised in the main greenlet (so a Celery worker is shut down by remote control), and their green
  threads begin with an empty context;
* `close` gives the hub back as it was, with all that others run on it; greenlab's own tasks are killed.

What stays on the hub after that are a few attributes, for greenlets that still stand in its former `switch`.

Bounds: the hub of the main thread alone, and of the class that eventlet chooses by itself on this platform.

Must not import: greening, pools, runs, live, magics.
"""

from __future__ import annotations

import threading
from math import inf
from time import perf_counter
from typing import Any

import greenlet

from greenlab import patched
from greenlab.errors import UsageError
from greenlab.hub import nested
from greenlab.hub._quiet import eventlet
from greenlab.hub.guest import GuestHub
from greenlab.hub.slices import SlicedHub

_get_ident = patched.original("_thread").get_ident
_getcurrent = greenlet.getcurrent
_Hub: Any = eventlet.hubs.get_default_hub().Hub


class AdoptedHub(GuestHub):
    """Eventlet's hub, for as long as greenlab is started. Made by `adopt`."""

    SYSTEM_EXCEPTIONS = _Hub.SYSTEM_EXCEPTIONS

    def schedule_call_global(self, seconds: float, cb: Any, *args: Any, **kw: Any) -> Any:
        """As eventlet's, but what is thrown at a green thread is raised where it stands."""
        target = getattr(cb, "__self__", None)
        if isinstance(target, greenlet.greenlet):
            if cb.__name__ == "throw":
                return super().schedule_call_global(seconds, cb, *args, **kw)
            if cb.__name__ == "switch" and not target and not target.dead and target.parent is self.greenlet:
                return SlicedHub.schedule_call_global(self, seconds, self._begin, target, *args, **kw)
        return SlicedHub.schedule_call_global(self, seconds, cb, *args, **kw)

    def attach(self, host: Any) -> None:
        """Refuse: eventlet's hub cannot be a guest."""
        raise UsageError(f"eventlet has patched this process, and its hub cannot be a guest of {host!r}")

    def close(self) -> None:
        """Give the hub back; from any of its green threads, or the main greenlet."""
        if self.closed_down:
            return
        failures = self._call_closers()
        for task in list(self.tasks):
            if task and task is not self.owner():
                nested.kill(self, task)
        self.closed_down = True
        self._interrupts.hand_back()
        self.remove(self.listeners[self.READ][self._wakeups.fd])
        self._give_back()
        if failures:
            raise failures[0]

    def disown(self) -> None:
        """Give the hub back in a forked child. Its poller is the parent's too, and is left as it is."""
        self.closed_down = True
        self._interrupts.disown()
        self.listeners[self.READ].pop(self._wakeups.fd, None)
        self._give_back()

    def _give_back(self) -> None:
        self._wakeups.close()
        hub: Any = self
        hub.__class__ = _Hub
        hub.kept.clear()
        # `switch` and `block` of greenlets that wait at this moment go on with these.
        hub.look_at_s, hub.moved_on, hub.owner = inf, _nothing, _getcurrent


def adopt() -> AdoptedHub:
    """Adopt eventlet's hub of the calling thread.

    Raises:
        UsageError: it is not the main thread, or not the hub of this platform.
    """
    if _get_ident() != threading.main_thread().ident:
        raise UsageError(
            "eventlet has patched this process: greenlab runs on the hub of its main thread, and this is another thread"
        )
    hub: Any = eventlet.hubs.get_hub()
    if type(hub) is not _Hub:
        raise UsageError(
            f"greenlab runs on eventlet's {_Hub.__module__}, and this process uses {type(hub).__module__}: leave "
            "EVENTLET_HUB and use_hub out"
        )
    for name in ("look_at_s", "moved_on", "owner"):
        vars(hub).pop(name, None)  # of a former adoption
    hub.__class__ = AdoptedHub
    hub._set_up()
    hub.busy = True
    # Either the caller runs on the hub, and the main greenlet waits; or it is the main greenlet, and nothing waits.
    hub.blocking = _getcurrent() is not hub.root
    if hub.blocking:
        hub.holder, hub.held_since_s = hub.owner(), perf_counter()
    adopted: AdoptedHub = hub
    return adopted


def _nothing() -> None:
    pass
