"""The hub: an eventlet hub that lives inside the kernel's own loop.

`start()` makes the hub of this thread, `current()` returns it, `stop()` ends it. Everything green in greenlab runs
on it, and so does plain eventlet code: `eventlet.spawn`, `GreenPool`, `eventlet.sleep`.

Must not import: greening, pools, runs, live, magics.
"""

from __future__ import annotations

import asyncio

from greenlab import patched
from greenlab.hub._ending import close_at_end
from greenlab.hub._quiet import eventlet
from greenlab.hub.adopted import adopt
from greenlab.hub.guest import GuestHub
from greenlab.hub.host import Host
from greenlab.hub.tasks import Task, spawn, wait_async

__all__ = ["GuestHub", "Host", "Task", "current", "eventlet", "spawn", "start", "stop", "wait_async"]


def current() -> GuestHub | None:
    """Return the guest hub of this thread, or None if there is none."""
    hub = getattr(eventlet.hubs._threadlocal, "hub", None)
    return hub if isinstance(hub, GuestHub) and not hub.closed_down else None


def start(host: Host | None = None) -> GuestHub:
    """Make this thread's hub, as a guest of `host`, or of the asyncio loop that runs in this thread, if any.

    A hub that is there already is returned as it is. Where eventlet has patched the process, its own hub is adopted.

    Raises:
        UsageError: a hub of eventlet's cannot be adopted; see `greenlab.hub.adopted`.
    """
    hub = current()
    if hub is not None:
        return hub
    if patched.by_eventlet():
        return adopt()
    if host is None:
        try:
            host = asyncio.get_running_loop()
        except RuntimeError:
            host = None
    local = eventlet.hubs._threadlocal
    former = getattr(local, "hub", None), getattr(local, "Hub", None)
    # Several green threads may wait for one descriptor, as several OS threads may. Eventlet's hubs serve them
    # in turn, but refuse it by default.
    several = eventlet.hubs.hub.g_prevent_multiple_readers
    eventlet.hubs.hub.g_prevent_multiple_readers = False
    hub = GuestHub()
    hub.make_current()

    def restore() -> None:
        eventlet.hubs.hub.g_prevent_multiple_readers = several
        for name, value in zip(("hub", "Hub"), former, strict=True):
            if value is not None:
                setattr(local, name, value)
            elif hasattr(local, name):
                delattr(local, name)

    hub.close_with(restore)
    close_at_end(hub)
    if host is not None:
        hub.attach(host)
    return hub


def stop() -> None:
    """End this thread's hub, if there is one. What still ran on it is abandoned."""
    hub = current()
    if hub is not None:
        hub.close()
