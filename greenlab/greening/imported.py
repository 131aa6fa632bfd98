"""Names that were imported before: `from time import sleep` in the notebook or in a loaded library.

Guarantees: only module globals that *are* a replaced object, by identity, are changed, and each is changed back to
what it was; names that a library imported while they were replaced become what stands in the standard library again.
The kernel's own machinery, the standard library's (but for a few) and greenlab's are left alone. What is held elsewhere
than in a module is the affair of `captured`.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from greenlab.greening.scope import left_alone

if TYPE_CHECKING:
    from collections.abc import Iterator

# Modules of the standard library that keep names of others, and call them for their own callers.
_OF_THE_LIBRARY = {"_pyio", "_threading_local", "multiprocessing.dummy", "pty"}


class Imported:
    """The names that were changed in other modules."""

    def __init__(self) -> None:
        self._changed: list[tuple[dict[str, Any], str, Any]] = []

    def exchange(self, pairs: list[tuple[Any, Any]]) -> None:
        """Replace, wherever it was imported, each first of a pair by its second."""
        new_of = {id(old): new for old, new in pairs if callable(old)}
        for namespace, key, value in _names_of(new_of):
            self._changed.append((namespace, key, value))
            namespace[key] = new_of[id(value)]

    def kept(self) -> list[Any]:
        """Return the list itself of what was changed."""
        return self._changed

    def restore(self, pairs: list[tuple[Any, Any]]) -> None:
        """Put back what was replaced, and replace what was imported meanwhile."""
        greened = {id(new) for _, new in pairs}
        while self._changed:
            namespace, key, old = self._changed.pop()
            if id(namespace.get(key)) in greened:
                namespace[key] = old
        old_of: dict[int, Any] = {}
        for old, new in pairs:
            # Several natives may have one replacement (allocate_lock and Lock): the first is its public name.
            if callable(old):
                old_of.setdefault(id(new), old)
        for namespace, key, value in _names_of(old_of):
            namespace[key] = old_of[id(value)]


def _names_of(sought: dict[int, Any]) -> Iterator[tuple[dict[str, Any], str, Any]]:
    """Yield the global names, in all modules that are not left alone, of objects with these ids."""
    for name, module in list(sys.modules.items()):
        if name not in _OF_THE_LIBRARY and (
            left_alone(name) or (name.partition(".")[0] in sys.stdlib_module_names and name != "__main__")
        ):
            continue
        namespace = getattr(module, "__dict__", None)
        # C looks through each module's values first: few modules hold one of them, of 50,000 names in all.
        if isinstance(namespace, dict) and not sought.keys().isdisjoint(map(id, list(namespace.values()))):
            for key, value in list(namespace.items()):
                if id(value) in sought and not key.startswith("__"):
                    yield namespace, key, value
