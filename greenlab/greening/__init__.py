"""Greening: implicit dispatch. Ordinary blocking code cooperates on the hub's thread, and only there.

Unlike eventlet's `monkey_patch`, which puts other classes into place for every thread (and hangs a kernel, whose
own threads share locks and events with the main one), the greening replaces functions and methods by ones that ask
where they are called: green threads and the main greenlet of the hub's thread wait on the hub; every other OS thread,
every forked child, the hub's own callbacks and `native()` blocks get the native call.

`green(hub)` starts it, `replaced()` lists what was replaced, and `ungreen()` puts every object back. In a process that
eventlet has patched there is nothing to replace: the scope is opened, and no more.

Must not import: pools, runs, live, magics.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from greenlab import patched
from greenlab.greening.scope import get_ident, native, scope

if TYPE_CHECKING:
    from greenlab.hub import GuestHub

__all__ = ["green", "is_green", "may_green", "native", "replaced", "ungreen"]


def green(hub: GuestHub) -> None:
    """Make the standard library cooperate on the thread of `hub`. It is put back with the hub, or if this fails."""
    if is_green():
        return
    scope.open(hub)
    if patched.by_eventlet():
        hub.close_with(scope.close)
        return
    try:
        from greenlab.greening import library

        library.replace()
    except BaseException:
        ungreen()
        raise
    hub.close_with(ungreen)


def ungreen() -> None:
    """Put every replaced object back."""
    if not is_green():
        return
    from greenlab.greening import library

    pairs = library.pairs()
    scope.close()
    library.restore(pairs)


def is_green() -> bool:
    """Return whether some thread of this process is greened."""
    return scope.hub is not None


def may_green() -> bool:
    """Return whether the calling thread is the greened one, or could become it."""
    return scope.hub is None or scope.thread_id == get_ident()


def replaced() -> list[tuple[str, str]]:
    """List what is replaced now, as (owner, attribute)."""
    if not is_green() or patched.by_eventlet():
        return []
    from greenlab.greening import library

    return library.replaced()
