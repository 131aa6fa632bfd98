"""Processes that eventlet or gevent has patched: importing greenlab works there, and its hub cannot.

Eventlet's patch is there for every thread, and its hub runs already; gevent's hub knows nothing of eventlet's. greenlab
takes native functions when it is loaded, and would take theirs.

Must not import: anything of greenlab but its errors.
"""

from __future__ import annotations

import sys
from typing import Any

from greenlab.errors import UsageError


def refuse() -> None:
    """Refuse a process that is patched; before greenlab's own modules are imported.

    Raises:
        UsageError: who patched it, and what to do.
    """
    monkey: Any = sys.modules.get("gevent.monkey")
    if monkey is not None and getattr(monkey, "saved", None):
        raise UsageError(
            "gevent.monkey has patched this process, and gevent's hub does not turn greenlab's: "
            "use greenlab in a process without it"
        )
    patcher: Any = sys.modules.get("eventlet.patcher")
    if patcher is not None and getattr(patcher, "already_patched", None):
        raise UsageError(
            "eventlet.monkey_patch() was called before greenlab started, and its hub runs already: "
            "leave it out (greenlab does the same for its own thread), or use greenlab in another process"
        )
