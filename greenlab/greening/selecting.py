"""Cooperative select, poll and selectors.

One way for all: ask natively without waiting; if nothing is ready, gather the descriptors in a poller of the
kernel's (epoll or kqueue), whose own descriptor becomes readable when one of them is ready, and wait for that on
the hub; then ask again. So any number of green threads may watch the same descriptors.

The selector of the loop that hosts the hub is left alone: it is where the host itself rests. A loop that rests in
the main greenlet and is not the host becomes it.
`select.epoll` and `select.kqueue` objects used directly cooperate by another way (see `pollers`).
"""

from __future__ import annotations

import select
import selectors
import time
from typing import TYPE_CHECKING, Any, Self

from greenlab.greening.loops import host_by, hub_of_main, running_loop
from greenlab.greening.scope import green_hub
from greenlab.greening.waiting import READ, WaitTimeout, wait_fd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from greenlab.greening.patches import Patches

_select = select.select
_poll = select.poll
_monotonic = time.monotonic
_INT_MAX = 2**31 - 1
_Gatherer: Any = selectors.DefaultSelector


def _wait_any(watched: Iterable[tuple[int, int]], timeout: float | None) -> None:
    """Wait until one of (descriptor, EVENT_READ | EVENT_WRITE) may be ready, or the time is over."""
    with _Gatherer() as gatherer:
        for fd, events in watched:
            try:
                gatherer.register(fd, events)
            except PermissionError:
                return  # a regular file: always ready
            except (KeyError, ValueError, OSError):
                return  # the native call raises what is wrong with it
        try:
            wait_fd(gatherer.fileno(), READ, timeout)
        except WaitTimeout:
            pass


def _cooperate(ask: Callable[[float], Any], ready: Callable[[Any], bool], watched: Any, timeout: float | None) -> Any:
    """Ask until something is ready or `timeout` seconds are over."""
    end = None if timeout is None else _monotonic() + timeout
    while True:
        found = ask(0)
        left = None if end is None else end - _monotonic()
        if ready(found) or (left is not None and left <= 0):
            return found
        _wait_any(watched(), left)


def green_select(rlist: Any, wlist: Any, xlist: Any, timeout: float | None = None, /) -> Any:
    if green_hub() is None or (isinstance(timeout, (int, float)) and timeout <= 0):
        return _select(rlist, wlist, xlist, timeout)
    if timeout is not None and not isinstance(timeout, (int, float)):
        return _select(rlist, wlist, xlist, timeout)  # C raises what is wrong with it
    # An iterator can be asked only once; a list is handed to C as it is, which reads it as C always does.
    rlist, wlist, xlist = (each if isinstance(each, (list, tuple)) else list(each) for each in (rlist, wlist, xlist))

    def watched() -> Iterable[tuple[int, int]]:
        events: dict[int, int] = {}
        for event, objects in (
            (selectors.EVENT_READ, (*rlist, *xlist)),
            (selectors.EVENT_WRITE, wlist),
        ):
            for each in objects:
                fd = each if isinstance(each, int) else each.fileno()
                events[fd] = events.get(fd, 0) | event
        return events.items()

    return _cooperate(lambda _: _select(rlist, wlist, xlist, 0), any, watched, timeout)


class GreenPoll:
    """A poll object whose `poll` cooperates. Made by `select.poll()` alone."""

    _native: Any
    _events: dict[int, int]

    def __new__(cls) -> Self:
        raise TypeError(f"cannot create '{cls.__module__}.{cls.__qualname__}' instances")

    def register(self, fd: Any, eventmask: int = select.POLLIN | select.POLLPRI | select.POLLOUT, /) -> None:
        self._native.register(fd, eventmask)
        self._events[fd if isinstance(fd, int) else fd.fileno()] = eventmask

    def modify(self, fd: Any, eventmask: int, /) -> None:
        self._native.modify(fd, eventmask)
        self._events[fd if isinstance(fd, int) else fd.fileno()] = eventmask

    def unregister(self, fd: Any, /) -> None:
        self._native.unregister(fd)
        self._events.pop(fd if isinstance(fd, int) else fd.fileno(), None)

    def poll(self, timeout: float | None = None, /) -> list[tuple[int, int]]:
        """As select.poll: `timeout` is in milliseconds, and None or less than 0 waits for ever."""
        if green_hub() is None or timeout == 0:
            native: list[tuple[int, int]] = self._native.poll(timeout)
            return native
        if timeout is not None and timeout > _INT_MAX:
            raise OverflowError("timeout is too large")

        def watched() -> Iterable[tuple[int, int]]:
            for fd, mask in self._events.items():
                yield (
                    fd,
                    (selectors.EVENT_WRITE if mask & select.POLLOUT else 0)
                    | (selectors.EVENT_READ if mask & ~select.POLLOUT or not mask else 0),
                )

        seconds = None if timeout is None or timeout < 0 else timeout / 1000
        found: list[tuple[int, int]] = _cooperate(lambda _: self._native.poll(0), bool, watched, seconds)
        return found


def green_poll() -> GreenPoll:
    made = object.__new__(GreenPoll)
    made._native = _poll()
    made._events = {}
    return made


# The name of C's own type of poll objects.
GreenPoll.__module__, GreenPoll.__qualname__, GreenPoll.__name__ = "select", "poll", "poll"


def _selector_method(owner: Any) -> Any:
    native = owner.select

    def select_(self: Any, timeout: float | None = None) -> Any:
        hub = green_hub()
        if hub is None or (timeout is not None and timeout <= 0) or self is getattr(hub.host, "_selector", None):
            return native(self, timeout)
        loop = None if hub_of_main() is None else running_loop()
        if loop is not None and self is getattr(loop, "_selector", None) and host_by(hub, loop):
            return native(self, 0)  # the hub has just asked the loop for a call

        def watched() -> Iterable[tuple[int, int]]:
            return [(key.fd, key.events) for key in self.get_map().values()]

        return _cooperate(lambda _: native(self, 0), bool, watched, timeout)

    select_.__name__ = "select"
    select_.__qualname__ = f"{owner.__name__}.select"
    select_.__doc__ = native.__doc__
    return select_


def patch(patches: Patches) -> None:
    """Make select, poll and the selectors cooperate."""
    green_select.__name__ = "select"
    green_select.__doc__ = _select.__doc__
    patches.replace(select, "select", green_select)
    green_poll.__name__ = "poll"
    green_poll.__doc__ = _poll.__doc__
    patches.replace(select, "poll", green_poll)
    for name in ("SelectSelector", "_PollLikeSelector", "EpollSelector", "KqueueSelector"):
        owner = getattr(selectors, name, None)
        if owner is not None:
            patches.replace(owner, "select", _selector_method(owner))
