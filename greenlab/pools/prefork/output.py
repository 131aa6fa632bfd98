"""A worker's `sys.stdout` and `sys.stderr`: what tasks print is shipped to the pool, line by line.

Must not import: anything of greenlab, eventlet, asyncio; worker processes load this.
"""

from __future__ import annotations

import io
import threading
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_LONGEST_PARTIAL: Final = 8192


class Output(io.TextIOBase):
    """A `sys.stdout` that ships whole lines."""

    encoding = "utf-8"
    errors = "replace"

    def __init__(self, ship: Callable[[str], None], fd: int) -> None:
        self._ship = ship
        self._fd = fd
        self._lock = threading.RLock()
        self._size = 0
        self.partial: list[str] = []

    @property
    def buffer(self) -> _Binary:
        """Takes bytes, as that of the real one does."""
        return _Binary(self)

    def write(self, text: str, /) -> int:
        """Take text, and ship it up to its last line end."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        count = len(text)
        with self._lock:
            self._size += count
            if "\n" in text or self._size > _LONGEST_PARTIAL:
                whole, end, rest = text.rpartition("\n")
                if not end:
                    whole, rest = text, ""
                self.partial.append(whole + end)
                self.flush()
                text, self._size = rest, len(rest)
            if text:
                self.partial.append(text)
        return count

    def flush(self) -> None:
        """Ship what there is."""
        with self._lock:
            text = "".join(self.partial)
            self.partial.clear()
            self._size = 0
            if text:
                self._ship(text)

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
