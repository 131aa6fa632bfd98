"""A worker's `sys.stdout` and `sys.stderr`: what tasks print is shipped to the pool, line by line.

Must not import: eventlet, asyncio; worker processes load this.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from greenlab.pools.processes.output import Captured

if TYPE_CHECKING:
    from collections.abc import Callable

_LONGEST_PARTIAL: Final = 8192


class Output(Captured):
    """A `sys.stdout` that ships whole lines, in the order in which threads wrote them."""

    def __init__(self, ship: Callable[[str], None], fd: int) -> None:
        super().__init__(fd)
        self._ship = ship
        self._lock = threading.RLock()
        self._size = 0
        self.partial: list[str] = []

    def take(self, text: str) -> None:
        """Keep text, and ship it up to its last line end."""
        with self._lock:
            self._size += len(text)
            if "\n" in text or self._size > _LONGEST_PARTIAL:
                whole, end, rest = text.rpartition("\n")
                if not end:
                    whole, rest = text, ""
                self.partial.append(whole + end)
                self.flush()
                text, self._size = rest, len(rest)
            if text:
                self.partial.append(text)

    def flush(self) -> None:
        """Ship what there is."""
        with self._lock:
            text = "".join(self.partial)
            self.partial.clear()
            self._size = 0
            if text:
                self._ship(text)
