"""Observers: objects that are told what happens in a run, or in a series of runs.

An observer has any of the hooks `run_started(run)`, `hub_blocked(run, block)` and `run_ended(run)`; those of a series
are in `greenlab.comparing.series`. They are called on the hub's thread and must not wait long.

Guarantees: an observer that raises is dropped with one warning, and the run goes on.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

_Kind = TypeVar("_Kind")


class Observers:
    """The observers of one run or series."""

    def __init__(self, observers: Iterable[Any] = ()) -> None:
        self._observers = list(observers)

    def find(self, kind: type[_Kind]) -> _Kind | None:
        """Return the first observer of a class, if there is one."""
        return next((observer for observer in self._observers if isinstance(observer, kind)), None)

    def notify(self, hook: str, *args: Any) -> None:
        """Call a hook of every observer that has it."""
        for observer in list(self._observers):
            method = getattr(observer, hook, None)
            if method is None:
                continue
            try:
                method(*args)
            except Exception as error:
                self._observers.remove(observer)
                warnings.warn(
                    f"greenlab dropped the observer {type(observer).__name__}, whose {hook} raised "
                    f"{type(error).__name__}: {error}; the run goes on without it",
                    RuntimeWarning,
                    stacklevel=2,
                )
