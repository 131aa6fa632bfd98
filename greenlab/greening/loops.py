"""Which event loop is the hub's host: the one that runs in the main greenlet of the hub's thread now.

The hub may be started before any loop runs (`c.InteractiveShellApp.extensions`, `ipython --ext`, a script), and loops
may follow one another (`asyncio.run` twice, a terminal's prompts) or run inside each other (`nest_asyncio`).

Guarantees: a loop that begins to run there becomes the host before its first callback runs; when it ends, the hub has
the loop around it as its host again, or none. Loops that green threads run, and other threads', are never hosts.

Asyncio's loops and uvloop's set the hooks for asynchronous generators when they begin and end, and look that function
up at each time; `nest_asyncio`'s `run_until_complete` sets none, and is noticed by its selector, see `selecting`.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import greenlet

from greenlab.greening.scope import scope

if TYPE_CHECKING:
    from greenlab.greening.patches import Patches
    from greenlab.hub import GuestHub

_set_asyncgen_hooks = sys.set_asyncgen_hooks
_getcurrent = greenlet.getcurrent


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the loop that runs in this thread, if there is one."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def hub_of_main() -> GuestHub | None:
    """Return the hub if the caller is the main greenlet of its thread."""
    hub = scope.hub
    return hub if hub is not None and _getcurrent() is hub.root else None


def host_by(hub: GuestHub, loop: asyncio.AbstractEventLoop) -> bool:
    """Have a loop that has begun to run be the hub's host; return whether it can be.

    One that cannot watch a descriptor (QtAsyncio's of PySide 6, a loop that a test is made of) is none, and runs all
    the same: where it waits by a selector, the hub turns meanwhile.
    """
    try:
        hub.attach(loop)
    except Exception:  # whatever it lacks
        hub.detach()
        return False
    return True


def set_asyncgen_hooks(*hooks: Any, **named: Any) -> None:
    _set_asyncgen_hooks(*hooks, **named)
    hub = hub_of_main()
    if hub is None:
        return
    first = sys.get_asyncgen_hooks().firstiter
    loop = getattr(first, "__self__", None)
    if isinstance(loop, asyncio.AbstractEventLoop):
        host_by(hub, loop)
    elif first is None or running_loop() is None:
        hub.detach()


def patch(patches: Patches) -> None:
    """Notice loops that begin and end."""
    set_asyncgen_hooks.__doc__ = _set_asyncgen_hooks.__doc__
    patches.replace(sys, "set_asyncgen_hooks", set_asyncgen_hooks)
