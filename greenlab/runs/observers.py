"""Observers: objects that are told what happens in a run, or in a series of runs.

`Observer` and `SeriesObserver` have all the hooks that there are; every hook is optional. They are called on the hub's
thread and must not wait long. One that leaves a picture may be a `PictureObserver` too.

Guarantees:

* in every pool `run_started` and `run_ended` are called once each, in this order, and `hub_blocked` between them, once
  for each block; where the pool cannot be started, `run_ended` is called alone; where the run was cancelled before it
  began, none is;
* an observer that raises is dropped with one warning, and the run goes on.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, TypeVar, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from greenlab.hub.blocks import Block

Hook: TypeAlias = Literal["run_started", "hub_blocked", "run_ended", "series_started", "run_added", "series_ended"]
"""A hook by its name."""
_Kind = TypeVar("_Kind")


class Observer(Protocol):
    """An observer that wants to know everything."""

    def run_started(self, run: Any) -> None:
        """The pool is ready, and the first task has not begun."""

    def hub_blocked(self, run: Any, block: Block) -> None:
        """The hub stood still: this one, or that of a worker process, which `block.worker` then names."""

    def run_ended(self, run: Any) -> None:
        """All tasks have ended, or were stopped."""


class SeriesObserver(Protocol):
    """An observer of a series of runs, such as a race or a sweep, that wants to know everything of it."""

    def series_started(self, series: Any) -> None:
        """The first run has not begun."""

    def run_added(self, series: Any) -> None:
        """The series has another run, or another point."""

    def series_ended(self, series: Any) -> None:
        """The last run has ended."""


@runtime_checkable
class PictureObserver(Protocol):
    """An observer that leaves a picture in a cell."""

    def stands_in(self, cell: int | None) -> bool:
        """Return whether its picture stands in a cell; None for the cell that runs now."""


class Observers:
    """The observers of one run or series."""

    def __init__(self, observers: Iterable[Any] = ()) -> None:
        self._observers = list(observers)

    def find(self, kind: type[_Kind]) -> _Kind | None:
        """Return the first observer of a class, if there is one."""
        return next((observer for observer in self._observers if isinstance(observer, kind)), None)

    def add(self, observer: Any) -> None:
        """Add an observer, while the run goes on: of what has been it is told nothing."""
        self._observers.append(observer)

    def stand_in(self, cell: int | None = None) -> bool:
        """Return whether the picture of an observer stands in a cell, above a report there.

        Args:
            cell: its number; None for the cell that runs now.
        """
        return any(observer.stands_in(cell) for observer in self._observers if isinstance(observer, PictureObserver))

    def notify(self, hook: Hook, *args: Any) -> None:
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
