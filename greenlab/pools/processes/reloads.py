"""Whether modules were executed anew in the kernel, so that worker processes have old ones.

Must not import: IPython, eventlet, asyncio.
"""

from __future__ import annotations

import sys
from typing import Any

from greenlab.places import shell


class Reloads:
    """Notices `importlib.reload`, IPython's autoreload, and an import after a `del sys.modules[…]`."""

    def __init__(self) -> None:
        self._specs: dict[str, Any] = {}
        self._mtimes: dict[str, float] = {}

    def look(self) -> bool:
        """Return whether a module that was there has been executed anew since the last look."""
        specs, mtimes = _specs(), _autoreloaded()
        before, mtimes_before = self._specs, self._mtimes
        self._specs, self._mtimes = specs, mtimes
        return any(before.get(name, spec) is not spec for name, spec in specs.items()) or any(
            mtimes_before.get(name, mtime) != mtime for name, mtime in mtimes.items()
        )


def _specs() -> dict[str, Any]:
    """A reload sets a new one. It is taken as it lies: some modules run code for each attribute that is asked for."""
    found = {}
    for name, module in sys.modules.copy().items():
        try:
            spec = object.__getattribute__(module, "__dict__").get("__spec__")
        except AttributeError:  # what is there need not be a module
            continue
        if spec is not None:
            found[name] = spec
    return found


def _autoreloaded() -> dict[str, float]:
    """When the files were changed that autoreload has reloaded; IPython 9 changes functions in place where it can."""
    ip = shell() if "IPython.extensions.autoreload" in sys.modules else None
    magics = getattr(getattr(ip, "magics_manager", None), "registry", {}).get("AutoreloadMagics")
    return dict(getattr(getattr(magics, "_reloader", None), "modules_mtimes", {}))
