"""Greenlets that other libraries made: whose code they run, and how they wait.

SQLAlchemy's asyncio engine, greenback, playwright and gevent make greenlets of their own beside the hub's. A greenlet
that is made in another one is a part of that one's code: it ends there, sees its thread-locals and holds its locks.
So every greenlet has an owner, which is found by its chain of parents: a green thread, if the chain leads to the hub,
or else the thread's main greenlet.

Guarantees: a wait never changes a greenlet's parent, unless its end is not waited for any more; what is thrown
into a green thread (a time limit, a kill) is raised where the thread stands, which may be in a greenlet of its own.

gevent's hub runs its greenlets for what waits for gevent at that time, and knows nothing of this hub: what is below
it waits natively. If it waited here, another green thread would be handed gevent's hub in the middle of its work.

Must not import: greening, pools, runs, live, magics.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import greenlet

from greenlab.hub._quiet import eventlet

if TYPE_CHECKING:
    from collections.abc import Container
    from types import CodeType

    from greenlab.hub.protocols import HubLike

_INNER = "greenlab_inner"
WAITS: set[CodeType] = set()
"""The code of the functions in which a greenlet stands that waits on the hub."""


def is_scheduler(each: greenlet.greenlet) -> bool:
    """Return whether a greenlet is a hub that runs greenlets of its own: gevent's."""
    gevent = sys.modules.get("gevent.hub")
    return gevent is not None and isinstance(each, getattr(gevent, "Hub", ()))


def owner_of(hub: HubLike, current: Any) -> Any:
    """Return the green thread whose code `current` runs, or the main greenlet of its thread."""
    if current is hub.root or current.parent is hub.greenlet:
        return current
    return _trace(hub, current)[0]


def _trace(hub: HubLike, current: Any) -> tuple[Any, bool]:
    """Follow the parents: return the owner, and whether it is so only by gevent's hub."""
    hubs = hub.hubs
    if current in hubs:
        return current, False
    scheduled = False
    while (parent := current.parent) is not None and parent not in hubs:
        scheduled = scheduled or is_scheduler(current)
        current = parent
    if scheduled and (parent is not None or current is hub.root):
        return (hub.holder if hub.turning and hub.holder else hub.root), True
    return current, False


def is_native(hub: HubLike, current: Any, native: Container[Any]) -> bool:
    """Return whether a greenlet that others made waits natively: it is gevent's, or part of a native block."""
    while current is not None and current not in hub.hubs:
        if current in native or is_scheduler(current):
            return True
        current = current.parent
    return False


def wait(hub: HubLike, current: Any) -> Any:
    """Give up the hub in a greenlet that is no child of the hub's; its owner waits for it meanwhile."""
    owner, scheduled = _trace(hub, current)
    if owner is current:
        current.parent = hub.greenlet  # a child of a hub's greenlet that has died
        return hub.switch()
    if owner is hub.root and not hub.turning:
        return hub.block(current)
    own = owner is not hub.root and not scheduled
    holder = owner if own else hub.holder
    hub.holder = None
    if own:
        owner.__dict__[_INNER] = current
    try:
        return hub.greenlet.switch()
    finally:
        hub.moved_on()
        hub.holder = holder
        if own:
            if owner.__dict__.get(_INNER) is current:
                del owner.__dict__[_INNER]
            if owner.dead or _waits(owner):
                _cut(hub, current, owner)


def throw(hub: HubLike, green: Any, *error: Any) -> None:
    """Throw into a green thread, where it stands. Called by the hub."""
    inner = _inner(green)
    if inner is not None and not green.dead:
        if _is_exit(error):
            # It would come to the owner as what the inner one gave, and be no end of it.
            _cut(hub, inner, green)
            inner.throw(*error)
        else:
            green = inner
    green.throw(*error)


def kill(hub: HubLike, green: Any, *error: Any) -> None:
    """As eventlet's `kill`, where the green thread stands."""
    inner = _inner(green)
    if inner is not None and not green.dead:
        if _is_exit(error):
            _cut(hub, inner, green)
            eventlet.kill(inner, *error)
        else:
            green = inner
    eventlet.kill(green, *error)


def _inner(green: Any) -> Any:
    """Return the greenlet that waits on the hub in the place of `green`, if there is one."""
    inner = green.__dict__.get(_INNER)
    return inner if inner is not None and _waits(inner) and not _waits(green) else None


def _waits(each: Any) -> bool:
    frame = each.gr_frame
    return frame is not None and frame.f_code in WAITS


def _cut(hub: HubLike, inner: Any, owner: Any) -> None:
    """Have what `inner` is a part of end in the hub: its owner does not wait for it any more."""
    while inner.parent is not owner:
        inner = inner.parent
    inner.parent = hub.greenlet


def _is_exit(error: tuple[Any, ...]) -> bool:
    kind = error[0] if error else greenlet.GreenletExit
    return isinstance(kind, greenlet.GreenletExit) or (
        isinstance(kind, type) and issubclass(kind, greenlet.GreenletExit)
    )


WAITS.add(wait.__code__)
