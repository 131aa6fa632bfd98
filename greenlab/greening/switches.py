"""Libraries that cooperate by a switch of their own: which they are, and when they are switched.

What waits in C of its own, or asks where it runs, is not reached by replacing the standard library: database drivers
(`databases`), Celery's client (`messaging`), the locks of multiprocessing and its like (`semaphores`). Each has a
function that switches it, by the name of the module that it works on.

Guarantees: a library that is imported later is switched when it is imported; `restore` switches all back.

Must not import: pools, runs, live, magics.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from greenlab.greening.databases import switch_psycopg, switch_psycopg2
from greenlab.greening.messaging import switch_celery, switch_kombu
from greenlab.greening.semaphores import switch_locks, switch_values

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

_SWITCHES: dict[str, Callable[[ModuleType], Callable[[], None]]] = {
    "psycopg2.extensions": switch_psycopg2,
    "psycopg.waiting": switch_psycopg,
    "kombu.utils.compat": switch_kombu,
    "celery.backends.asynchronous": switch_celery,
    "multiprocessing.synchronize": switch_locks,
    "multiprocessing.sharedctypes": switch_values,
    "billiard.synchronize": switch_locks,
    "billiard.sharedctypes": switch_values,
    "loky.backend.synchronize": switch_locks,
    "joblib.externals.loky.backend.synchronize": switch_locks,
}


class Switches:
    """The libraries that are switched, and the finder that switches those that are imported later."""

    def __init__(self) -> None:
        self._back: list[Callable[[], None]] = []

    def switch(self) -> None:
        """Switch what is loaded, and what will be."""
        sys.meta_path.insert(0, self)
        for name in _SWITCHES:
            module = sys.modules.get(name)
            if module is not None:
                self._switch(name, module)

    def restore(self) -> None:
        """Switch everything back, and switch nothing from now on."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        while self._back:
            self._back.pop()()

    def _switch(self, name: str, module: ModuleType) -> None:
        self._back.append(_SWITCHES[name](module))

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find what Python finds; have a library switched once it is executed."""
        if name not in _SWITCHES:
            return None
        spec: ModuleSpec | None = None
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            if finder is not self and find is not None and (spec := find(name, path, target)) is not None:
                break
        if spec is None or spec.loader is None:
            return spec
        # A loader belongs to its spec: nothing is left behind on it when the module is loaded.
        loader: Any = spec.loader
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            del loader.exec_module
            execute(module)
            if self in sys.meta_path:
                self._switch(name, module)

        loader.exec_module = exec_module
        return spec
