"""Where the standard library is green: in one OS thread, outside `native()` blocks.

Guarantees: every replaced function asks `green_hub()` at each call, so that a thread other than the hub's, a forked
child, the hub's own callbacks and native blocks get native behaviour, whatever object they call it on.

Must not import: pools, runs, live, magics.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

import greenlet

from greenlab import patched
from greenlab.hub import nested

if TYPE_CHECKING:
    from collections.abc import Iterator

    from greenlab.hub import GuestHub

get_ident = patched.original("_thread").get_ident
_getcurrent = greenlet.getcurrent


# What serves the kernel, watches it or hosts the hub must not wait on the hub itself; nor must gevent's hub, which is
# the OS thread's, and runs in one green thread after another.
_LEFT_ALONE = {
    "IPython", "asyncio", "comm", "concurrent", "debugpy", "eventlet", "gevent", "greenlab", "greenlet", "ipykernel",
    "jupyter_client", "jupyter_core", "multiprocessing", "prompt_toolkit", "pydevd", "tornado", "traitlets", "zmq",
}  # fmt: skip
# eventlet keeps copies of the standard library's modules under names of this kind: the original ones are to stay so.
_ALONE_BY_PREFIX = ("_pydev", "__original_module_", "__patched_module_")


def left_alone(module: Any) -> bool:
    """Return whether a module, by its name, belongs to the kernel's machinery, or to greenlab."""
    if not isinstance(module, str):
        return False  # a class's `__module__` may be anything
    top = module.partition(".")[0]
    return top in _LEFT_ALONE or top.startswith(_ALONE_BY_PREFIX)


class Scope:
    """The hub that is served, its thread and main greenlet, and the greenlets that asked for native behaviour."""

    def __init__(self) -> None:
        self.hub: GuestHub | None = None
        self.thread_id = -1
        self.root: Any = None
        self.native: dict[Any, int] = {}
        self._fork_hook_registered = False

    def open(self, hub: GuestHub) -> None:
        """Serve `hub`."""
        self.hub, self.thread_id, self.root = hub, hub.thread_id, hub.root
        if not self._fork_hook_registered and hasattr(os, "register_at_fork"):
            # There is no way to unregister, so the hook is registered once and looks at the scope.
            os.register_at_fork(after_in_child=self._forget_in_child)
            self._fork_hook_registered = True

    def close(self) -> None:
        """Serve no hub: every replaced function that is still held somewhere is native from now on."""
        self.hub, self.thread_id, self.root = None, -1, None
        self.native.clear()

    def _forget_in_child(self) -> None:
        hub = self.hub
        self.close()
        if hub is not None:
            hub.disown()


scope = Scope()


def green_hub() -> GuestHub | None:
    """Return the hub if the caller should cooperate, or None if it should block natively."""
    if get_ident() != scope.thread_id:
        return None
    hub = scope.hub
    current = _getcurrent()
    if hub is None or current is hub.greenlet:
        return None
    if current is scope.root or current.parent is hub.greenlet:
        return None if scope.native and current in scope.native else hub
    # One that others made.
    return None if nested.is_native(hub, current, scope.native) else hub


def owner_of(current: Any) -> Any:
    """Return the green thread, or the main greenlet of the thread, whose code a greenlet runs."""
    hub = scope.hub
    if hub is not None:
        return nested.owner_of(hub, current)
    while current.parent is not None:
        current = current.parent
    return current


def same_owner(one: Any, other: Any) -> bool:
    """Return whether two greenlets run the code of one owner, so that what one holds the other one holds."""
    return one is other or (one is not None and owner_of(one) is owner_of(other))


@contextlib.contextmanager
def native() -> Iterator[None]:
    """Run this block with native blocking calls: nothing else runs on the hub while it waits.

    Raises:
        UsageError: eventlet has patched the process; its patch cannot be lifted for a block.
    """
    patched.refuse_natively("greenlab.native()")
    current = _getcurrent()
    scope.native[current] = scope.native.get(current, 0) + 1
    try:
        yield
    finally:
        left = scope.native.get(current, 1) - 1
        if left:
            scope.native[current] = left
        else:
            scope.native.pop(current, None)
