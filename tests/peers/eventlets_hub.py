"""greenlab's hub for eventlet's tests, which check after each one that nobody listens on the hub any more."""

from __future__ import annotations

from typing import Any

from greenlab.hub import GuestHub


class Hub(GuestHub):
    """Does not count the descriptor by which other threads wake it, which it always listens to."""

    def get_readers(self) -> list[Any]:
        """List who waits to read."""
        return [each for each in super().get_readers() if each.fileno != self._wakeups.fd]
