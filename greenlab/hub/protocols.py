"""What the modules of the hub's room know of a hub and of its tasks, without importing their classes.

Must not import: anything of greenlab.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


class HubLike(Protocol):
    """A hub, as the code of waits and of interrupts sees it. See `greenlab.hub.guest.GuestHub`."""

    thread_id: int
    root: Any
    waiter: Any
    holder: Any
    greenlet: Any
    hubs: set[Any]
    switches: int
    turns: int
    blocking: bool
    closed_down: bool
    kept: dict[Any, Any]
    listeners: Any
    _wakeups: Any
    _host_greenlet: Any

    @property
    def busy(self) -> bool: ...  # noqa: D102
    @property
    def turning(self) -> bool: ...  # noqa: D102
    @property
    def host(self) -> Any: ...  # noqa: D102
    def owner(self) -> Any: ...  # noqa: D102
    def block(self, current: Any) -> Any: ...  # noqa: D102
    def switch(self) -> Any: ...  # noqa: D102
    def moved_on(self) -> None: ...  # noqa: D102
    def call_soon_threadsafe(self, callback: Callable[..., object], *args: Any) -> None: ...  # noqa: D102
    def schedule_call_global(self, seconds: float, callback: Callable[..., object], *args: Any) -> Any: ...  # noqa: D102


class TaskLike(Protocol):
    """A task, as it is shown. See `greenlab.hub.tasks.Task`."""

    @property
    def id(self) -> int: ...  # noqa: D102
    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def state(self) -> str: ...  # noqa: D102
