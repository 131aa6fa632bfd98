"""Cooperative sockets: the methods of `socket.socket` itself, not another class.

`socket.socket` is a Python class above C's `_socket.socket`. Methods set on it shadow the C ones, for sockets made
before and after, for subclasses and for `ssl.SSLSocket`; `isinstance` and `type` return what they always did.
Each method asks whether its caller is green; if not, it calls C.

How a green call avoids to block without changing the socket's mode under another thread's feet:

* no timeout: the descriptor is in blocking mode, and MSG_DONTWAIT makes the one call return (`_retry`);
* with a timeout: CPython keeps the descriptor non-blocking, and polls before each call for as long as the
  timeout. `os.read` and its kin on the same descriptor skip that poll (`_retry`); calls that they cannot make
  (flags, addresses, ancillary data) are made when a poll of no length says that they will not wait (`_polled`);
* timeout 0 is the caller's own wish not to wait: straight to C.
"""

from __future__ import annotations

import _thread
import errno
import os
import socket
import time
from typing import TYPE_CHECKING, Any

from greenlab.greening.scope import green_hub, scope
from greenlab.greening.waiting import READ, WRITE, WaitTimeout, ready, wait_fd

if TYPE_CHECKING:
    from collections.abc import Callable

    from greenlab.greening.patches import Patches

# Taken now, before anything is replaced: these are the native calls.
_c: Any = socket.socket.__mro__[1]  # _socket.socket
_gettimeout, set_timeout, _fileno = _c.gettimeout, _c.settimeout, _c.fileno
_recv, _recv_into, _send, _sendall = _c.recv, _c.recv_into, _c.send, _c.sendall
_os_read, _os_readv, _os_write = os.read, os.readv, os.write
_socket: Any = socket.socket
_real_close, _detach, _sendfile = _socket._real_close, _socket.detach, _socket.sendfile
_monotonic = time.monotonic
_get_ident = _thread.get_ident

_DONTWAIT = socket.MSG_DONTWAIT
_NO_WAIT = _DONTWAIT | getattr(socket, "MSG_ERRQUEUE", 0)
_AF_UNIX = getattr(socket, "AF_UNIX", None)
NATIVE = 0.0  # what `green_timeout` returns for a caller that must not, or does not want to, wait on the hub


def green_timeout(sock: Any) -> float | None:
    """Return for how many seconds the caller would wait on the hub: None for ever, or `NATIVE`."""
    if green_hub() is None:
        return NATIVE
    timeout: float | None = _gettimeout(sock)
    return timeout


class Deadline:
    """The waits of one socket call: one timeout in all, however often it waits."""

    __slots__ = ("end", "fd")

    def __init__(self, sock: Any, timeout: float | None) -> None:
        self.fd = _fileno(sock)
        self.end = None if timeout is None else _monotonic() + timeout

    def wait(self, event: int) -> None:
        left = None if self.end is None else self.end - _monotonic()
        if left is not None and left <= 0:
            raise TimeoutError("timed out")
        try:
            wait_fd(self.fd, event, left)
        except WaitTimeout:
            raise TimeoutError("timed out") from None


def _retry(sock: Any, timeout: float | None, event: int, call: Callable[..., Any], *args: Any) -> Any:
    """Make a call that raises BlockingIOError instead of waiting, until it does not."""
    deadline = None
    while True:
        try:
            return call(*args)
        except BlockingIOError:
            deadline = deadline or Deadline(sock, timeout)
            deadline.wait(event)


def _polled(sock: Any, timeout: float | None, event: int, call: Callable[..., Any], *args: Any) -> Any:
    """Make a call that may wait natively, once it need not."""
    deadline = Deadline(sock, timeout)
    while deadline.fd >= 0 and not ready(deadline.fd, event):
        deadline.wait(event)
    return call(*args)


def _wants_no_wait(flags: Any) -> bool:
    """Return whether the caller's own flags ask not to wait, or are no flags at all."""
    return not isinstance(flags, int) or bool(flags & _NO_WAIT)


# The four that are called most ask first whether another thread calls them, which is quickly answered.


def recv(self: Any, bufsize: int, flags: int = 0, /) -> bytes:
    data: bytes
    if _get_ident() != scope.thread_id:
        data = _recv(self, bufsize, flags)
        return data
    timeout = green_timeout(self)
    if timeout == NATIVE or not isinstance(bufsize, int) or bufsize < 0 or (flags and _wants_no_wait(flags)):
        data = _recv(self, bufsize, flags)
    elif timeout is None:
        data = _retry(self, None, READ, _recv, self, bufsize, flags | _DONTWAIT)
    elif flags:
        data = _polled(self, timeout, READ, _recv, self, bufsize, flags)
    else:
        data = _retry(self, timeout, READ, _os_read, _fileno(self), bufsize)
    return data


def recv_into(self: Any, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
    got: int
    if _get_ident() != scope.thread_id:
        got = _recv_into(self, buffer, nbytes, flags)
        return got
    timeout = green_timeout(self)
    if timeout == NATIVE or (flags and _wants_no_wait(flags)):
        got = _recv_into(self, buffer, nbytes, flags)
    elif timeout is None:
        got = _retry(self, None, READ, _recv_into, self, buffer, nbytes, flags | _DONTWAIT)
    elif flags or nbytes:
        got = _polled(self, timeout, READ, _recv_into, self, buffer, nbytes, flags)
    else:
        try:
            got = _retry(self, timeout, READ, _os_readv, _fileno(self), [buffer])
        except BufferError:
            got = _recv_into(self, buffer)  # refuses it, and says what is wrong
    return got


def send(self: Any, data: Any, flags: int = 0, /) -> int:
    sent: int
    if _get_ident() != scope.thread_id:
        sent = _send(self, data, flags)
        return sent
    timeout = green_timeout(self)
    if timeout == NATIVE or (flags and _wants_no_wait(flags)):
        sent = _send(self, data, flags)
    elif timeout is None:
        sent = _retry(self, None, WRITE, _send, self, data, flags | _DONTWAIT)
    elif flags:
        sent = _polled(self, timeout, WRITE, _send, self, data, flags)
    else:
        sent = _retry(self, timeout, WRITE, _os_write, _fileno(self), data)
    return sent


def sendall(self: Any, data: Any, flags: int = 0, /) -> None:
    if _get_ident() != scope.thread_id:
        _sendall(self, data, flags)
        return
    timeout = green_timeout(self)
    if timeout == NATIVE or isinstance(data, str) or (flags and _wants_no_wait(flags)):
        _sendall(self, data, flags)
        return
    deadline = Deadline(self, timeout)
    with memoryview(data) as view, view.cast("B") as rest:
        sent, total = 0, len(rest)
        while True:
            try:
                if timeout is None:
                    sent += _send(self, rest[sent:], flags | _DONTWAIT)
                elif flags:
                    sent += _polled(self, timeout, WRITE, _send, self, rest[sent:], flags)
                else:
                    sent += _os_write(deadline.fd, rest[sent:])
            except BlockingIOError:
                deadline.wait(WRITE)
            if sent >= total:
                return


def _with_flags(name: str, event: int, before: int) -> Any:
    """Make a method of the rarer kind, whose flags come after `before` other arguments."""
    native = getattr(_c, name)

    def method(self: Any, *args: Any) -> Any:
        timeout = green_timeout(self)
        if timeout == NATIVE or not args:
            return native(self, *args)
        # Buffers and ancillary data may come from an iterator, which a first try would use up.
        args = tuple(list(arg) if hasattr(arg, "__next__") else arg for arg in args)
        if timeout is not None:
            return _polled(self, timeout, event, native, self, *args)
        if len(args) < before:
            # C has no keyword for the flags, so the ancillary data before them are filled in: none.
            args = (*args, 0 if event == READ else ())
        flags = args[before] if len(args) > before else 0
        if flags and _wants_no_wait(flags):
            return native(self, *args)
        return _retry(self, None, event, native, self, *args[:before], flags | _DONTWAIT, *args[before + 1 :])

    return method


def recvfrom_into(self: Any, buffer: Any, nbytes: int = 0, flags: int = 0) -> Any:
    timeout = green_timeout(self)
    if timeout == NATIVE or (flags and _wants_no_wait(flags)):
        return _c.recvfrom_into(self, buffer, nbytes, flags)
    if timeout is None:
        return _retry(self, None, READ, _c.recvfrom_into, self, buffer, nbytes, flags | _DONTWAIT)
    return _polled(self, timeout, READ, _c.recvfrom_into, self, buffer, nbytes, flags)


def sendto(self: Any, data: Any, *args: Any) -> int:
    timeout = green_timeout(self)
    sent: int
    if timeout == NATIVE or len(args) not in (1, 2):
        sent = _c.sendto(self, data, *args)
        return sent
    flags, address = args if len(args) == 2 else (0, args[0])
    if flags and _wants_no_wait(flags):
        sent = _c.sendto(self, data, *args)
        return sent
    address = _resolved(self, address)
    if timeout is None:
        sent = _retry(self, None, WRITE, _c.sendto, self, data, flags | _DONTWAIT, address)
    else:
        sent = _polled(self, timeout, WRITE, _c.sendto, self, data, flags, address)
    return sent


def accept_raw(self: Any) -> Any:
    # accept() takes no flags. If another process takes the connection between the poll and the call, a socket
    # without a timeout waits natively for the next one: share listeners between processes with a timeout set.
    timeout = green_timeout(self)
    if timeout == NATIVE or (timeout is None and not self.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)):
        return _c._accept(self)  # does not wait: one that does not listen is refused
    return _polled(self, timeout, READ, _c._accept, self)


def _resolved(self: Any, address: Any) -> Any:
    """Look a host name up cooperatively: C's connect would do it natively."""
    if self.family in (socket.AF_INET, socket.AF_INET6) and isinstance(address, tuple) and len(address) >= 2:
        host = address[0]
        if isinstance(host, str) and host and host != "<broadcast>" and "\0" not in host:
            found = socket.getaddrinfo(host, None, self.family, self.type, self.proto)
            return (found[0][4][0], *address[1:])
    return address


def connect_ex(self: Any, address: Any, /) -> int:
    timeout = green_timeout(self)
    code: int
    if timeout == NATIVE:
        code = _c.connect_ex(self, address)
        return code
    try:
        set_timeout(self, timeout)
    except OSError:
        code = _c.connect_ex(self, address)  # closed: it cannot wait
        return code
    address = _resolved(self, address)
    deadline = Deadline(self, timeout)
    pause_s = 0.001
    while True:
        set_timeout(self, 0.0)  # nobody else can be using a socket that is not connected
        try:
            code = _c.connect_ex(self, address)
        finally:
            set_timeout(self, timeout)
        if code == errno.EAGAIN and self.family == _AF_UNIX:
            # A full backlog; Linux gives no event for it to wait for.
            if deadline.end is not None and _monotonic() >= deadline.end:
                return code
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, 0.05)
            continue
        if code != errno.EINPROGRESS:
            return code
        try:
            deadline.wait(WRITE)
        except TimeoutError:
            return errno.EAGAIN  # CPython's answer to a timeout here
        return int(self.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))


def connect(self: Any, address: Any, /) -> None:
    timeout = green_timeout(self)
    if timeout == NATIVE:
        _c.connect(self, address)
        return
    try:
        code = connect_ex(self, address)
    except (TypeError, OverflowError):
        _c.connect(self, address)  # raises the same, with its own name, before it waits
        raise
    if code == errno.EAGAIN and timeout is not None:
        raise TimeoutError("timed out")
    if code:
        raise OSError(code, os.strerror(code))


def sendfile(self: Any, file: Any, offset: int = 0, count: int | None = None) -> int:
    # os.sendfile blocks on a blocking descriptor, so green callers take the library's own way with send().
    method = _sendfile if green_timeout(self) == NATIVE else self._sendfile_use_send
    args = (file, offset, count)
    sent: int = method(self, *args) if method is _sendfile else method(*args)
    return sent


def wake_waiters(fd: int) -> None:
    """Wake what waits for a descriptor that is about to be closed: its number may be another's soon."""
    hub = scope.hub
    if hub is None or fd < 0:
        return
    if hub.thread_id == _get_ident():
        hub.mark_as_reopened(fd)
        if hub.closed:
            hub.schedule_call_global(0, _nothing)  # or eventlet 0.41 wakes them after its next poll, of up to a minute
    elif fd in hub.listeners[hub.READ] or fd in hub.listeners[hub.WRITE]:
        hub.call_soon_threadsafe(hub.mark_as_reopened, fd)


def _nothing() -> None:
    pass


def real_close(self: Any, *args: Any) -> None:
    wake_waiters(_fileno(self))
    _real_close(self, *args)


def detach(self: Any) -> int:
    wake_waiters(_fileno(self))
    fd: int = _detach(self)
    return fd


def patch(patches: Patches) -> None:
    """Make the methods of `socket.socket` cooperate."""
    methods = {
        method.__name__: method
        for method in (
            recv, recv_into, recvfrom_into, send, sendall, sendto, connect, connect_ex, sendfile, detach
        )
    }  # fmt: skip
    methods["_accept"] = accept_raw
    methods["_real_close"] = real_close
    rarer = ("recvfrom", READ, 1), ("recvmsg", READ, 2), ("recvmsg_into", READ, 2), ("sendmsg", WRITE, 2)
    for name, event, before in rarer:
        methods[name] = _with_flags(name, event, before)
    for name, method in methods.items():
        native = getattr(_socket, name)
        method.__qualname__ = f"socket.{name}"
        method.__doc__ = native.__doc__
        patches.replace(_socket, name, method)
