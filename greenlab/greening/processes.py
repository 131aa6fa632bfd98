"""Cooperative child processes, pipes and descriptors: os.read, os.write, os.wait*, subprocess.

Regular files are always ready, so reading and writing them is native: their I/O blocks the hub for as long as the
disk takes. A child is waited for through a pidfd where the system has them (Linux), else by asking with growing
pauses of up to 50 ms.
"""

from __future__ import annotations

import _socket
import fcntl
import io
import os
import re
import socket
import stat
import subprocess
import warnings
from typing import TYPE_CHECKING, Any

from greenlab.greening.scope import green_hub
from greenlab.greening.waiting import READ, WRITE, ready, sleep, wait_fd

if TYPE_CHECKING:
    from greenlab.greening.patches import Patches

_read, _write, _waitpid, _wait = os.read, os.write, os.waitpid, os.wait
_Socket: Any = _socket.socket
_pidfd_open = getattr(os, "pidfd_open", None)
_CHUNK = 4096  # PIPE_BUF: a pipe that polls as writable takes this much without blocking


def _wait_ready(fd: int, event: int) -> None:
    """Wait until `fd` is ready, if the native call would wait, rather than succeed or fail at once."""
    if not ready(fd, event) and _keeps_waiting(fd, event):
        wait_fd(fd, event)


def _keeps_waiting(fd: int, event: int) -> bool:
    """Return whether a call on a descriptor that is not ready waits; on the wrong end of a pipe it does not."""
    mode, flags = os.fstat(fd).st_mode, fcntl.fcntl(fd, fcntl.F_GETFL)
    if stat.S_ISREG(mode) or flags & os.O_NONBLOCK:
        return False
    if flags & os.O_ACCMODE == (os.O_WRONLY if event == READ else os.O_RDONLY):
        return False
    if stat.S_ISSOCK(mode):
        return not _listens(fd)
    # Of the system's nameless ones, these two can be neither read nor written.
    return bool(stat.S_IFMT(mode)) or not {"eventpoll", "pidfd"} & set(_kind(fd))


def _listens(fd: int) -> bool:
    sock = _Socket(fileno=fd)
    try:
        return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    finally:
        sock.detach()


def _kind(fd: int) -> list[str]:
    try:
        return re.findall(r"\w+", os.readlink(f"/proc/self/fd/{fd}"))  # noqa: PTH115 (a name, not a path)
    except OSError:
        return []  # no such folder here


def _is_small(fd: int, length: int) -> bool:
    """Return whether this is less than the eight bytes of an eventfd or a timerfd, which refuse it at once."""
    return length < 8 and not stat.S_IFMT(os.fstat(fd).st_mode) and bool({"eventfd", "timerfd"} & set(_kind(fd)))


def read(fd: int, length: int, /) -> bytes:
    if green_hub() is not None and _is_number(fd) and _is_number(length) and length and not _is_small(fd, length):
        _wait_ready(fd, READ)
    return _read(fd, length)


def write(fd: int, data: Any, /) -> int:
    if green_hub() is None or not _is_number(fd):
        return _write(fd, data)
    try:
        view = memoryview(data).cast("B")
    except TypeError:
        return _write(fd, data)  # C raises what is wrong with it
    with view as rest:
        sent, total = 0, len(rest)
        if not total or _is_small(fd, total) or (not ready(fd, WRITE) and not _keeps_waiting(fd, WRITE)):
            return _write(fd, data)
        if stat.S_ISREG(os.fstat(fd).st_mode) or not os.get_blocking(fd):
            return _write(fd, data)
        while True:
            _wait_ready(fd, WRITE)
            # A blocking write returns only when all is written, so this one does too, a safe piece at a time.
            sent += _write(fd, rest[sent : sent + _CHUNK])
            if sent >= total:
                return sent


def _is_number(value: Any) -> bool:
    """Return whether this can be a descriptor or a length: C raises what is wrong with all else."""
    return isinstance(value, int) and value >= 0


def waitpid(pid: int, options: int, /) -> tuple[int, int]:
    if green_hub() is None or not isinstance(pid, int) or not isinstance(options, int) or options & os.WNOHANG:
        return _waitpid(pid, options)
    pidfd = -1
    if _pidfd_open is not None and pid > 0 and not options:
        try:
            pidfd = _pidfd_open(pid)
        except OSError:
            pidfd = -1  # no such child: waitpid says so; or no pidfds in this sandbox
    pause_s = 0.001
    try:
        while True:
            done = _waitpid(pid, options | os.WNOHANG)
            if done[0]:
                return done
            if pidfd >= 0:
                wait_fd(pidfd, READ)
            else:
                sleep(pause_s)
                pause_s = min(pause_s * 2, 0.05)
    finally:
        if pidfd >= 0:
            os.close(pidfd)


def wait() -> tuple[int, int]:
    return _wait() if green_hub() is None else waitpid(-1, 0)


class PipeIO(io.FileIO):
    """The raw file of a subprocess pipe; its reads and writes cooperate."""

    def readinto(self, buffer: Any, /) -> int | None:
        if green_hub() is not None and self.readable() and _can_take(buffer):
            _wait_ready(self.fileno(), READ)
        return super().readinto(buffer)

    def read(self, size: int | None = -1, /) -> bytes | None:  # type: ignore[override]
        if green_hub() is None or not self.readable():
            return super().read(size)
        if size is None or (isinstance(size, int) and size < 0):
            return self.readall()
        if _is_number(size) and size:
            _wait_ready(self.fileno(), READ)
        return super().read(size)

    def readall(self) -> bytes:
        if green_hub() is None or not self.readable():
            return super().readall()
        chunks = []
        while chunk := self.read(65536):
            chunks.append(chunk)
        return b"".join(chunks)

    def write(self, data: Any, /) -> int:
        if not self.writable() or not os.get_blocking(self.fileno()):
            return super().write(data)
        return write(self.fileno(), data)


def _can_take(buffer: Any) -> bool:
    """Return whether something can be read into this."""
    try:
        with memoryview(buffer) as view:
            return not view.readonly and bool(view.nbytes)
    except TypeError:
        return False


class _PipeModule:
    """Stands in for `io` inside subprocess, which opens its ends of pipes with `io.open`."""

    def __getattr__(self, name: str) -> Any:
        return getattr(io, name)

    @staticmethod
    def open(file: Any, mode: str = "r", buffering: int = -1, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(file, int) or mode not in ("rb", "wb"):
            return io.open(file, mode, buffering, *args, **kwargs)  # noqa: UP020 (stands for io.open)
        raw = PipeIO(file, mode)
        if buffering == 0:
            return raw
        if buffering == 1:
            # As io.open does, at the line that called Popen, which is two calls up.
            message = "line buffering (buffering=1) isn't supported in binary mode, "
            warnings.warn(f"{message}the default buffer size will be used", RuntimeWarning, stacklevel=3)
        size = buffering if buffering > 1 else io.DEFAULT_BUFFER_SIZE
        return io.BufferedReader(raw, size) if mode == "rb" else io.BufferedWriter(raw, size)


def patch(patches: Patches) -> None:
    """Make descriptors and child processes cooperate."""
    for name, function in (("read", read), ("write", write), ("waitpid", waitpid), ("wait", wait)):
        function.__doc__ = getattr(os, name).__doc__
        patches.replace(os, name, function)
    patches.replace(subprocess, "io", _PipeModule())
    # subprocess keeps some functions under names of its own, for when the interpreter ends and modules are emptied.
    keeper: Any = getattr(subprocess, "_del_safe", None)
    if keeper is not None:
        patches.replace(keeper, "waitpid", waitpid)
