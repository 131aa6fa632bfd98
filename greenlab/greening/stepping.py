"""The standard library on a virtual clock, while a step is made.

Guarantees: it holds on the hub's thread alone, and only within the `with` block; other OS threads that ask for the time
meanwhile get the real one. The real hub, its tasks and every patched object are as before afterwards.

Must not import: pools, runs, live, magics.
"""

from __future__ import annotations

import _thread
import contextlib
import queue
import threading
import time
from typing import TYPE_CHECKING, Any

from greenlab.greening import adopted, locks, queues
from greenlab.greening.patches import Patches
from greenlab.greening.scope import scope
from greenlab.hub import eventlet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from greenlab.hub.stepping import StepHub

_get_ident = _thread.get_ident
# Modules that keep a clock under another name count the time limits of locks and queues by it.
_CLOCKS = (
    (time, "monotonic"),
    (time, "perf_counter"),
    (time, "time"),
    (threading, "_time"),
    (queue, "time"),
    (locks, "_monotonic"),
    (adopted, "_monotonic"),
    (queues, "_monotonic"),
)
_CLOCKS_NS = ("monotonic_ns", "perf_counter_ns", "time_ns")


@contextlib.contextmanager
def stepping(hub: StepHub) -> Iterator[None]:
    """Have green code wait on `hub`, and every clock tell its time, while the block runs."""
    local = eventlet.hubs._threadlocal
    former, served = local.hub, scope.hub
    patches = Patches()
    for owner, name in _CLOCKS:
        patches.replace(owner, name, _clock(hub, getattr(owner, name), 1))
    for name in _CLOCKS_NS:
        patches.replace(time, name, _clock(hub, getattr(time, name), 10**9))
    local.hub = scope.hub = hub
    try:
        yield
    finally:
        local.hub, scope.hub = former, served
        patches.restore()


def _clock(hub: StepHub, native: Callable[[], Any], unit: int) -> Callable[[], Any]:
    def clock() -> Any:
        if _get_ident() != hub.thread_id:
            return native()
        return hub.now_s if unit == 1 else round(hub.now_s * unit)

    return clock
