"""A worker process's `sys.stdout` and `sys.stderr`: what tasks print is captured, and shipped to the pool.

Guarantee: `fileno` and the descriptors 1 and 2 stay what they were: what C code writes there is not captured.
Must not import: eventlet, asyncio, or anything of greenlab; worker processes load this.
"""

from __future__ import annotations

import io
import sys
from typing import Any


class Captured(io.TextIOBase):
    """Looks like the real stream. Each pool says what becomes of the text: `take` and `flush`.

    Args:
        fd: the real descriptor.
    """

    encoding = "utf-8"
    errors = "replace"

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @property
    def buffer(self) -> _Binary:
        """Takes bytes, as that of the real one does."""
        return _Binary(self)

    def take(self, text: str) -> None:
        """Keep text, and ship it up to its last line end."""
        raise NotImplementedError

    def write(self, text: str, /) -> int:
        """Take text."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        self.take(text)
        return len(text)

    def fileno(self) -> int:
        """Return the real descriptor, which is not captured."""
        return self._fd

    def writable(self) -> bool:
        """Return True."""
        return True


class _Binary(io.BufferedIOBase):
    def __init__(self, text: Captured) -> None:
        self._text = text

    def write(self, data: Any, /) -> int:
        self._text.write(bytes(data).decode("utf-8", "replace"))
        return len(data)

    def flush(self) -> None:
        self._text.flush()

    def writable(self) -> bool:
        return True


def let_go() -> None:
    """Capture no longer, in a process that a task has forked: what it prints goes to the descriptors."""
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
