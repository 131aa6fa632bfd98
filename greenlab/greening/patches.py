"""What was replaced, and how it is put back.

Guarantees: `restore` puts back every object by identity, last replaced first, also names that were added.
"""

from __future__ import annotations

import pkgutil
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MISSING = object()


class Patches:
    """A list of replaced attributes."""

    def __init__(self) -> None:
        self._done: list[tuple[Any, str, Any]] = []

    def replace(self, owner: Any, name: str, new: Any) -> None:
        """Set `owner.name`, and remember what stood in the owner's own namespace before."""
        # Not getattr: a method inherited from a base must be deleted again, not copied down.
        self._done.append((owner, name, vars(owner).get(name, _MISSING)))
        setattr(owner, name, new)

    def restore(self) -> None:
        """Put everything back."""
        while self._done:
            owner, name, old = self._done.pop()
            if old is _MISSING:
                delattr(owner, name)
            else:
                setattr(owner, name, old)

    def replaced(self) -> list[tuple[str, str]]:
        """List what is replaced now, as (owner's name, attribute)."""
        return [(getattr(owner, "__name__", str(owner)), name) for owner, name, _ in self._done]

    def kept(self) -> list[Any]:
        """Return the list itself of what was replaced."""
        return self._done

    def by_name(self, one: Any) -> tuple[Callable[[str], Any], tuple[str]] | None:
        """Return how another process finds what was put in the place of another in a module, or stood there; else None.

        As `object.__reduce__` returns it: by its name there, which in that process is greened, or is not.
        """
        if not isinstance(one, FunctionType | BuiltinFunctionType | type):
            return None
        return next(
            (
                (pkgutil.resolve_name, (f"{module.__name__}:{name}",))
                for module, name, old, new in self.in_modules()
                if old is one or new is one
            ),
            None,
        )

    def in_modules(self) -> Iterator[tuple[ModuleType, str, Any, Any]]:
        """Yield (module, name, original or `_MISSING`, replacement) of what stands in modules."""
        for owner, name, old in self._done:
            if isinstance(owner, ModuleType):
                yield owner, name, old, getattr(owner, name)

    def pairs(self) -> list[tuple[Any, Any]]:
        """List (original, replacement) of what stands in modules: what others may have imported by name."""
        return [(old, new) for _, _, old, new in self.in_modules() if old is not _MISSING]
