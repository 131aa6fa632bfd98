"""What tasks print in a process of the hybrid pool: whole lines, each known by the task that printed it.

Must not import: runs, live, magics.
"""

from __future__ import annotations

import io
from _thread import RLock
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

Task: TypeAlias = tuple[Any, int]
"""A job of this process, and the index of one of its tasks."""

this_task: ContextVar[Task | None] = ContextVar("greenlab task", default=None)
"""The task that runs here. Green threads that a task spawns are of the same task."""

_LONGEST_PARTIAL = 8192


class Output(io.TextIOBase):
    """A `sys.stdout` that ships whole lines.

    Args:
        ship: takes the task, or None, and its text; it may wait.
        fd: the real descriptor.
    """

    encoding = "utf-8"
    errors = "replace"

    def __init__(self, ship: Callable[[Task | None, str], None], fd: int) -> None:
        self._ship = ship
        self._fd = fd
        self._lock = RLock()
        self.partial: dict[Task | None, str] = {}

    @property
    def buffer(self) -> _Binary:
        """Takes bytes, as that of the real one does."""
        return _Binary(self)

    def write(self, text: str, /) -> int:
        """Take text, and ship it up to its last line end."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        task = this_task.get()
        with self._lock:
            whole, end, rest = (self.partial.pop(task, "") + text).rpartition("\n")
            if not end and len(rest) > _LONGEST_PARTIAL:
                whole, rest = rest, ""
            if rest:
                self.partial[task] = rest
        if whole or end:
            self._ship(task, whole + end)
        return len(text)

    def flush(self) -> None:
        """Ship what this task has written so far."""
        self.end(this_task.get())

    def end(self, task: Task | None) -> None:
        """Ship what a task has written: there is no more to come."""
        with self._lock:
            rest = self.partial.pop(task, "")
        if rest:
            self._ship(task, rest)

    def fileno(self) -> int:
        """Return the real descriptor, which is not captured."""
        return self._fd

    def writable(self) -> bool:
        """Say yes."""
        return True


class _Binary(io.BufferedIOBase):
    def __init__(self, text: Output) -> None:
        self._text = text

    def write(self, data: Any, /) -> int:
        self._text.write(bytes(data).decode("utf-8", "replace"))
        return len(data)

    def flush(self) -> None:
        self._text.flush()

    def writable(self) -> bool:
        return True
