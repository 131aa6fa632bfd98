"""The standard library, replaced for one thread and put back: all the modules of the greening together.

Must not import: pools, runs, live, magics. It is imported when the first hub is greened: in a process that eventlet has
patched, those modules would take its functions for the native ones.
"""

from __future__ import annotations

import time
from typing import Any

from greenlab.greening import (
    kernel,
    local,
    locks,
    loops,
    pollers,
    processes,
    queues,
    resolver,
    selecting,
    sending,
    sockets,
    tls,
    waiting,
)
from greenlab.greening.adopted import Adoption
from greenlab.greening.captured import Captured
from greenlab.greening.imported import Imported
from greenlab.greening.patches import Patches
from greenlab.greening.scope import green_hub
from greenlab.greening.switches import Switches
from greenlab.hub import eventlet

_patches = Patches()
_imported = Imported()
_captured = Captured()
_adoption = Adoption()
_switches = Switches()
_native_sleep = time.sleep
_is_monkey_patched = eventlet.patcher.is_monkey_patched
# By eventlet's names and by the modules' own.
_COOPERATING = frozenset((
    "_thread", "os", "psycopg", "psycopg2", "queue", "select", "selectors", "socket", "ssl", "subprocess", "thread",
    "threading", "time",
))  # fmt: skip


def replace() -> None:
    """Replace what blocks."""
    patches = _patches
    patches.replace(time, "sleep", sleep)
    for part in (sockets, tls, resolver, selecting, pollers, processes, locks, queues, local, loops, kernel, sending):
        part.patch(patches)
    # A cell that greens by eventlet's own means would hang the kernel; what it wants is there already.
    for owner in (eventlet, eventlet.patcher):
        patches.replace(owner, "monkey_patch", monkey_patch)
    patches.replace(eventlet.patcher, "is_monkey_patched", is_monkey_patched)
    pairs = patches.pairs()
    _imported.exchange(pairs)
    _captured.exchange(pairs, aside=(patches.kept(), _imported.kept()))
    _adoption.adopt()
    _switches.switch()


def pairs() -> list[tuple[Any, Any]]:
    """List (original, replacement) of what stands in modules."""
    return _patches.pairs()


def by_name(one: Any) -> tuple[Any, tuple[str]] | None:
    """Return how another process finds what was replaced, or has replaced it; None of all else. See `Patches`."""
    return _patches.by_name(one)


def restore(pairs: list[tuple[Any, Any]]) -> None:
    """Put every replaced object back. The scope is closed already."""
    _patches.restore()
    _adoption.undo()
    _switches.restore()
    _imported.restore(pairs)
    _captured.restore(pairs)


def replaced() -> list[tuple[str, str]]:
    """List what is replaced now, as (owner, attribute)."""
    return _patches.replaced()


def sleep(seconds: float, /) -> None:
    """As time.sleep; a green thread lets the others run meanwhile."""
    hub = green_hub()
    if hub is None or waiting.is_kernel_waiting(hub):
        _native_sleep(seconds)
    else:
        waiting.sleep(seconds)


def is_monkey_patched(module: Any) -> bool:
    """As eventlet.patcher.is_monkey_patched: whether a module, or the one of that name, cooperates for the caller."""
    if green_hub() is not None and (module in _COOPERATING or getattr(module, "__name__", None) in _COOPERATING):
        return True
    answer: bool = _is_monkey_patched(module)
    return answer


def monkey_patch(**_on: Any) -> None:
    """Do nothing: under greenlab the hub's thread is green already."""
