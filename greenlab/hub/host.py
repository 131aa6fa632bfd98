"""What the hub asks of the loop that it is a guest of.

Must not import: anything of greenlab.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


class Host(Protocol):
    """The loop that the hub is a guest of. Any asyncio loop with `add_reader` is one."""

    def call_soon(self, callback: Callable[[], object], /) -> Any:
        """Call back in the loop's next iteration; the handle returned has `cancel()`."""

    def call_later(self, delay: float, callback: Callable[[], object], /) -> Any:
        """Call back after `delay` seconds; the handle returned has `cancel()`."""

    def add_reader(self, fd: int, callback: Callable[[], object], /) -> Any:
        """Call back whenever `fd` is readable."""

    def remove_reader(self, fd: int, /) -> Any:
        """Undo `add_reader`."""
