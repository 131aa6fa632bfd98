"""Greening: implicit dispatch. Ordinary blocking code cooperates on the hub's thread, and only there.

Unlike eventlet's `monkey_patch`, which puts other classes into place for every thread (and hangs a kernel, whose
own threads share locks and events with the main one), the greening replaces functions and methods by ones that ask
who calls: green threads and the main greenlet of the hub's thread wait on the hub; every other OS thread, every
forked child, the hub's own callbacks and `native()` blocks get the native call.

`green(hub)` starts it and returns what was replaced; `ungreen()` puts every object back.

Must not import: pools, runs, live, magics.
"""

from __future__ import annotations

import _thread
import time
from typing import TYPE_CHECKING, Any

from greenlab.greening import (
    kernel,
    local,
    locks,
    loops,
    names,
    pollers,
    processes,
    queues,
    selecting,
    sockets,
    tls,
    waiting,
)
from greenlab.greening.adopted import Adoption
from greenlab.greening.captured import Captured
from greenlab.greening.databases import Databases
from greenlab.greening.imported import Imported
from greenlab.greening.patches import Patches
from greenlab.greening.scope import native, scope
from greenlab.hub import eventlet

if TYPE_CHECKING:
    from greenlab.hub import GuestHub

__all__ = ["green", "is_green", "may_green", "native", "replaced", "ungreen"]

_patches = Patches()
_imported = Imported()
_captured = Captured()
_adoption = Adoption()
_databases = Databases()
_native_sleep = time.sleep
_is_monkey_patched = eventlet.patcher.is_monkey_patched
# By eventlet's names and by the modules' own.
_COOPERATING = frozenset((
    "_thread", "os", "psycopg", "psycopg2", "queue", "select", "selectors", "socket", "ssl", "subprocess", "thread",
    "threading", "time",
))  # fmt: skip


def green(hub: GuestHub) -> None:
    """Make the standard library cooperate on the thread of `hub`. It is put back with the hub, or if this fails."""
    if is_green():
        return
    scope.open(hub)
    try:
        _replace()
    except BaseException:
        ungreen()
        raise
    hub.close_with(ungreen)


def _replace() -> None:
    patches = _patches
    patches.replace(time, "sleep", sleep)
    for room in (sockets, tls, names, selecting, pollers, processes, locks, queues, local, loops, kernel):
        room.patch(patches)
    # A cell that greens by eventlet's own means would hang the kernel; what it wants is there already.
    for owner in (eventlet, eventlet.patcher):
        patches.replace(owner, "monkey_patch", monkey_patch)
    patches.replace(eventlet.patcher, "is_monkey_patched", is_monkey_patched)
    pairs = patches.pairs()
    _imported.exchange(pairs)
    _captured.exchange(pairs, aside=(patches.kept(), _imported.kept()))
    _adoption.adopt()
    _databases.switch()


def ungreen() -> None:
    """Put every replaced object back."""
    if not is_green():
        return
    pairs = _patches.pairs()
    scope.close()
    _patches.restore()
    _adoption.undo()
    _databases.restore()
    _imported.restore(pairs)
    _captured.restore(pairs)


def is_green() -> bool:
    """Tell whether some thread of this process is greened."""
    return scope.hub is not None


def may_green() -> bool:
    """Tell whether the calling thread is the greened one, or could become it."""
    return scope.hub is None or scope.thread_id == _thread.get_ident()


def replaced() -> list[tuple[str, str]]:
    """List what is replaced now, as (owner, attribute)."""
    return _patches.replaced()


def sleep(seconds: float, /) -> None:
    """As time.sleep; a green thread lets the others run meanwhile."""
    from greenlab.greening.scope import green_hub

    hub = green_hub()
    if hub is None or waiting.is_kernels(hub):
        _native_sleep(seconds)
    else:
        waiting.sleep(seconds)


def is_monkey_patched(module: Any) -> bool:
    """As eventlet.patcher.is_monkey_patched: whether a module, or the one of that name, cooperates for the caller."""
    from greenlab.greening.scope import green_hub

    if green_hub() is not None and (module in _COOPERATING or getattr(module, "__name__", None) in _COOPERATING):
        return True
    answer: bool = _is_monkey_patched(module)
    return answer


def monkey_patch(**_on: Any) -> None:
    """Do nothing: under greenlab the hub's thread is green already."""
