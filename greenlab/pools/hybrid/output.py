"""What tasks print in a process of the hybrid pool: whole lines, each known by the task that printed it.

Must not import: runs, live, magics.
"""

from __future__ import annotations

from _thread import RLock
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeAlias

from greenlab.pools.processes.output import Captured

if TYPE_CHECKING:
    from collections.abc import Callable

Task: TypeAlias = tuple[Any, int]
"""A job of this process, and the index of one of its tasks."""

this_task: ContextVar[Task | None] = ContextVar("greenlab task", default=None)
"""The task that runs here. Green threads that a task spawns are of the same task."""

_LONGEST_PARTIAL = 8192


class Output(Captured):
    """A `sys.stdout` that ships whole lines.

    Args:
        ship: takes the task, or None, and its text; it may wait.
        fd: the real descriptor.
    """

    def __init__(self, ship: Callable[[Task | None, str], None], fd: int) -> None:
        super().__init__(fd)
        self._ship = ship
        self._lock = RLock()
        self.partial: dict[Task | None, str] = {}

    def take(self, text: str) -> None:
        """Keep text, and ship it up to its last line end."""
        task = this_task.get()
        with self._lock:
            whole, end, rest = (self.partial.pop(task, "") + text).rpartition("\n")
            if not end and len(rest) > _LONGEST_PARTIAL:
                whole, rest = rest, ""
            if rest:
                self.partial[task] = rest
        if whole or end:
            self._ship(task, whole + end)

    def flush(self) -> None:
        """Ship what this task has written so far."""
        self.end(this_task.get())

    def end(self, task: Task | None) -> None:
        """Ship what a task has written: there is no more to come."""
        with self._lock:
            rest = self.partial.pop(task, "")
        if rest:
            self._ship(task, rest)
