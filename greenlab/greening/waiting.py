"""Cooperative waits for descriptors, for native threads, and for the clock.

Guarantees: a wait that is left by an exception (a kill, an interrupt, a timeout) leaves no listener and no timer.
"""

from __future__ import annotations

import _thread
import errno
import os
import sys
import time
from typing import TYPE_CHECKING, Any

import greenlet

from greenlab import patched
from greenlab.hub import eventlet

if TYPE_CHECKING:
    from collections.abc import Callable

    from greenlab.hub import GuestHub

_trampoline = eventlet.hubs.trampoline
_native_sleep = time.sleep
select = patched.original("select")  # eventlet's has no poll
_native_poll = select.poll
_start_thread = _thread.start_new_thread
_getcurrent = greenlet.getcurrent
_KERNELS = "/ipykernel/kernelbase.py"
_BETWEEN = ("/threading.py", "/greening/locks.py")

READ, WRITE = select.POLLIN, select.POLLOUT


class WaitTimeout(Exception):  # noqa: N818 (an internal signal, never seen by users)
    """The descriptor did not become ready in time."""


class NoThread(Exception):  # noqa: N818 (as above)
    """No OS thread could be started: the system has no more, or the interpreter ends (CPython 3.12.0 and 3.12.1)."""


def wait_fd(fd: int, event: int, timeout: float | None = None) -> None:
    """Wait until `fd` is readable or writable.

    Raises:
        WaitTimeout: `timeout` seconds went by.
        OSError: EBADF, if the descriptor was closed meanwhile.
    """
    try:
        _trampoline(fd, read=event == READ, write=event == WRITE, timeout=timeout, timeout_exc=WaitTimeout)
    except eventlet.hubs.IOClosed:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF)) from None
    except OSError:
        _withdraw(fd, event)
        raise


def _withdraw(fd: int, event: int) -> None:
    """Take back a listener that the system's poller refused: eventlet 0.41's hubs keep it among theirs."""
    hub = eventlet.hubs.get_hub()
    kind = hub.READ if event == READ else hub.WRITE
    current = greenlet.getcurrent()
    for listener in (hub.listeners[kind].get(fd), *hub.secondaries[kind].get(fd, ())):
        if listener is not None and listener.greenlet is current:
            try:
                hub.remove(listener)
            except OSError:
                pass  # the poller refuses it again


def ready(fd: int, event: int) -> bool:
    """Return whether `fd` is ready now, without waiting."""
    poll = _native_poll()
    poll.register(fd, event)
    return bool(poll.poll(0))


def is_kernel_waiting(hub: GuestHub) -> bool:
    """Return whether it is the kernel itself that waits, just before it replies. Its output is `kernel`'s affair.

    Such a wait is short. A cell that has ended, or was interrupted, is not to wait for green threads as well.
    """
    if _getcurrent() is not hub.root:
        return False
    frame: Any = sys._getframe(2)
    while frame is not None and frame.f_code.co_filename.endswith(_BETWEEN):
        frame = frame.f_back
    return frame is not None and frame.f_code.co_filename.endswith(_KERNELS)


def sleep(seconds: float) -> None:
    """Sleep on the hub. As time.sleep, it refuses what is no length of time before it waits."""
    if not isinstance(seconds, (int, float)):
        _native_sleep(seconds)  # raises what time.sleep raises, or takes what it takes
    elif not seconds >= 0:
        raise ValueError("sleep length must be non-negative")
    else:
        eventlet.sleep(seconds)


def in_thread(hub: GuestHub, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Run a call that can only block in an OS thread of its own, and wait for it cooperatively.

    If the waiting green thread is killed, the call goes on in its thread, and its outcome is dropped.

    Raises:
        NoThread: there is none to be had, and the call was not made.
    """
    waiter = greenlet.getcurrent()
    outcome: list[Any] = []

    def wake() -> None:
        if waiting:
            waiter.switch()

    # In a list, from which it is taken: the thread ends a little after its call, and must not keep the function and
    # its arguments alive for that long.
    calls = [(func, args, kwargs)]

    def work() -> None:
        func, args, kwargs = calls.pop()
        try:
            outcome.append((func(*args, **kwargs), None))
        except BaseException as error:
            outcome.append((None, error))
        del func, args, kwargs
        hub.call_soon_threadsafe(wake)

    waiting = True
    try:
        _start_thread(work, ())
    except RuntimeError as refused:
        raise NoThread from refused
    try:
        while not outcome:
            hub.switch()
    finally:
        waiting = False
    value, error = outcome.pop()
    if error is not None:
        try:
            raise error
        finally:
            del error, outcome  # a traceback that holds its own frame would keep the waiter alive
    return value
