"""Cooperative `select.epoll` and `select.kqueue`.

C's types cannot be subclassed, so a Python class stands for each and holds the native object. A wait of a green caller
asks natively without waiting; if nothing is there, it waits on the hub for the poller's own descriptor, which the
system makes readable while events are there, and asks again. Asking whether it is readable takes no event away, so
edge-triggered and one-shot registrations keep their meaning, and several green threads and OS threads may share one.

Selectors hold native pollers, and are made cooperative one level up (see `selecting`): the kernel's own loop waits on
its native object as ever.
"""

from __future__ import annotations

import errno
import select
import selectors
import time
import types
from typing import TYPE_CHECKING, Any, Self

from greenlab.greening.scope import green_hub
from greenlab.greening.sockets import wake_waiters
from greenlab.greening.waiting import READ, WaitTimeout, in_thread, wait_fd

if TYPE_CHECKING:
    from collections.abc import Callable

    from greenlab.greening.patches import Patches
    from greenlab.hub import GuestHub

_epoll: Any = getattr(select, "epoll", None)
_kqueue: Any = getattr(select, "kqueue", None)
_NATIVE_SELECT = types.SimpleNamespace(**vars(select))
_monotonic = time.monotonic
_LONGEST_S = (2**31 - 1) / 1000  # more milliseconds than an int holds are refused by C
_LEAST_S = 0.001  # epoll counts milliseconds, so less than one below 0 is 0
_EVENTS: int = getattr(select, "EPOLLIN", 0) | getattr(select, "EPOLLPRI", 0) | getattr(select, "EPOLLOUT", 0)


def _wait(hub: GuestHub, poller: Any, ask: Callable[[float | None], Any], timeout: float | None) -> Any:
    """Ask until something is there, waiting on the hub in between.

    Args:
        hub: the caller's.
        poller: a native epoll or kqueue object.
        ask: asks it, and waits natively for the seconds that it is given.
        timeout: in seconds, or None.
    """
    end = None if timeout is None else _monotonic() + timeout
    while True:
        found = ask(0)
        left = None if end is None else end - _monotonic()
        if found or (left is not None and left <= 0):
            return found
        try:
            wait_fd(poller.fileno(), READ, left)
        except WaitTimeout:
            return ask(0)
        except OSError as error:
            if error.errno != errno.EBADF:
                # Pollers that watch pollers can be too deep for one more (ELOOP); watches can be used up (ENOSPC).
                return in_thread(hub, ask, left)
            # Closed meanwhile: the next call raises what C raises.


class _Poller:
    """What both kinds share. Their methods are C's, and carry C's docstrings."""

    __slots__ = ("_native",)

    _native: Any
    _make: Any  # the native type

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        return cls._around(cls._make(*args, **kwargs))

    @classmethod
    def _around(cls, native: Any) -> Self:
        made = object.__new__(cls)
        made._native = native
        return made

    def __init_subclass__(cls) -> None:
        if not cls.__module__.startswith("greenlab."):
            base = cls.__mro__[1]
            raise TypeError(f"type '{base.__module__}.{base.__name__}' is not an acceptable base type")

    @classmethod
    def fromfd(cls, fd: int, /) -> Self:
        return cls._around(cls._make.fromfd(fd))

    def fileno(self) -> int:
        fd: int = self._native.fileno()
        return fd

    @property
    def closed(self) -> bool:
        closed: bool = self._native.closed
        return closed

    def close(self) -> None:
        if not self._native.closed:
            wake_waiters(self._native.fileno())
        self._native.close()

    def __reduce__(self) -> Any:
        raise TypeError(f"cannot pickle '{type(self).__module__}.{type(self).__name__}' object")


class GreenEpoll(_Poller):
    """select.epoll for green threads and OS threads alike."""

    __slots__ = ()

    _make = _epoll

    def register(self, fd: Any, eventmask: int = _EVENTS) -> None:
        self._native.register(fd, eventmask)

    def modify(self, fd: Any, eventmask: int) -> None:
        self._native.modify(fd, eventmask)

    def unregister(self, fd: Any) -> None:
        self._native.unregister(fd)

    def poll(self, timeout: Any = None, maxevents: int = -1) -> Any:
        native = self._native.poll
        hub = green_hub()
        if hub is None:
            return native(timeout, maxevents)
        if timeout is not None:
            if not isinstance(timeout, (int, float)):
                return in_thread(hub, native, timeout, maxevents)  # what C takes differs between versions
            if -_LONGEST_S <= timeout <= -_LEAST_S:
                timeout = None
            elif not 0 < timeout <= _LONGEST_S:
                return native(timeout, maxevents)
        return _wait(hub, self._native, lambda left: native(left, maxevents), timeout)

    def __enter__(self) -> Self:
        self._native.__enter__()
        return self

    def __exit__(self, exc_type: object = None, exc_value: object = None, exc_tb: object = None, /) -> None:
        self.close()


class GreenKqueue(_Poller):
    """select.kqueue for green threads and OS threads alike."""

    __slots__ = ()

    _make = _kqueue

    def control(self, changelist: Any, max_events: Any, timeout: Any = None, /) -> Any:
        native = self._native.control
        hub = green_hub()
        if hub is None or max_events == 0:
            return native(changelist, max_events, timeout)
        if timeout is not None:
            if not isinstance(timeout, (int, float)):
                return in_thread(hub, native, changelist, max_events, timeout)
            if not 0 < timeout <= _LONGEST_S:
                return native(changelist, max_events, timeout)
        # The changes are made once.
        found = native(changelist, max_events, 0)
        return found or _wait(hub, self._native, lambda left: native(None, max_events, left), timeout)


def patch(patches: Patches) -> None:
    """Make the pollers cooperate."""
    for name, native, green in (("epoll", _epoll, GreenEpoll), ("kqueue", _kqueue, GreenKqueue)):
        if native is None:
            continue
        # The names and docstrings of C's own.
        green.__module__, green.__qualname__, green.__name__ = "select", name, name
        green.__doc__ = native.__doc__
        for method in vars(native):
            function = vars(green).get(method) or vars(_Poller).get(method)
            if isinstance(function, types.FunctionType):
                function.__doc__ = getattr(native, method).__doc__
        patches.replace(select, name, green)
    if _kqueue is not None:
        # KqueueSelector asks for `select.kqueue` each time; its objects wait as selectors, and may be the kernel's.
        patches.replace(selectors, "select", _NATIVE_SELECT)
