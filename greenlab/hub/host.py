"""What the hub asks of the loop that it is a guest of, and how it is held there.

Must not import: anything of greenlab.
"""

from __future__ import annotations

from math import inf
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


class HostLink:
    """What a hub has with its host: a descriptor that is watched, and one timer.

    Guarantees: there is one host at a time; one that was closed is left, as soon as that is noticed.

    Args:
        fileno: returns the descriptor that the host shall watch.
        pump: what the host calls when it is readable, or the time has come.
        clock: what the times of `arm` are read from.
    """

    def __init__(self, fileno: Callable[[], int], pump: Callable[[], object], clock: Callable[[], float]) -> None:
        self.host: Host | None = None
        self._fileno = fileno
        self._pump = pump
        self._clock = clock
        self._handle: Any = None
        self._handle_when = inf

    def attach(self, host: Host) -> None:
        """Leave the former host, and have `host` call `pump` soon."""
        if host is self.host:
            return
        self.detach()
        host.add_reader(self._fileno(), self._pump)
        self.host = host
        self.arm(self._clock())

    def detach(self) -> None:
        """Leave the host, if there is one. It may be closed."""
        host, self.host = self.host, None
        self.disarm()
        if host is not None and not _is_closed(host):
            host.remove_reader(self._fileno())

    def arm(self, when: float) -> None:
        """Ask the host for a call at `when`, unless an earlier one is due."""
        if self.host is None or when >= self._handle_when:
            return
        self.disarm()
        delay = when - self._clock()
        try:
            self._handle = self.host.call_soon(self._pump) if delay <= 0 else self.host.call_later(delay, self._pump)
        except RuntimeError:
            if not _is_closed(self.host):
                raise
            self.host = None
        else:
            self._handle_when = when

    def disarm(self) -> None:
        """Withdraw what `arm` asked for."""
        if self._handle is not None:
            self._handle.cancel()
        self._handle = None
        self._handle_when = inf


def _is_closed(host: Any) -> bool:
    is_closed = getattr(host, "is_closed", None)
    return is_closed is not None and bool(is_closed())
