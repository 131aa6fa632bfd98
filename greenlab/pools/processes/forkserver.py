"""The fork server: a fresh, small interpreter whose forks become worker processes.

The kernel itself cannot be forked: it has threads, and a hub. The server has neither, and loads nothing but
what a worker needs. `ForkServer` is the pool's half, `serve` the other one; between them runs one socket.

Guarantees:

* no child outlives the process it works for: at the end of the pool's process, be it by SIGKILL, the server
  kills its children and leaves; on Linux they also die with the server;
* each child leads a process group of its own: what it started is killed with it, and also when it ended badly by
  itself. Only where it left of its own accord (status 0) does it leave what it started alone;
* a pid is signalled only while it is still a child of the server, so never a stranger's that took its number;
* nothing polls, and no process is ended by the SIGINT that a terminal or front end sends to the whole group.

Bounds: a process that made itself a group or session of its own is not found; if the server itself is killed by
SIGKILL, its children die (on Linux) but not what they started.

Must not import: eventlet, asyncio, IPython.
"""

from __future__ import annotations

import array
import contextlib
import gc
import os
import selectors
import signal
import socket
import subprocess
import sys
from importlib import import_module
from struct import Struct
from typing import TYPE_CHECKING, Final, NoReturn

from greenlab.children import undebugged
from greenlab.pools.processes import shell
from greenlab.pools.this_process import enter_worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FORK: Final = 1  # a request: fork a worker on the two descriptors that come along
KILL: Final = 2  # a request: kill this child, and what it started
FORKED: Final = 3  # answers FORK with a pid, or 0 and an errno
EXITED: Final = 4  # a child has ended; with its wait status
SIGNAL: Final = 5  # a request: send this child a signal

_MESSAGE: Final = Struct("<iii")
_PROGRAM: Final = (
    "import sys; fd, module = int(sys.argv[1]), sys.argv[2]; sys.path[:] = sys.argv[3:]; del sys.argv[1:];"
    " from greenlab.pools.processes.forkserver import serve; serve(fd, module)"
)
_PR_SET_PDEATHSIG: Final = 1


class ForkServer:
    """The pool's half. It never blocks: wait for `fileno()` to be readable, then `read`.

    Args:
        module: which module its forks run: it has a `main(sock_fd, page_fd)`. The server imports it once, for all.
    """

    def __init__(self, module: str) -> None:
        path = [entry for entry in sys.path if isinstance(entry, str)]
        ours, theirs = socket.socketpair()
        with theirs, contextlib.ExitStack() as stack, _sigint_held(), undebugged():
            stack.callback(ours.close)
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and program
                [sys.executable, "-c", _PROGRAM, str(theirs.fileno()), module, *path],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
            stack.pop_all()
        ours.setblocking(False)
        self._sock = ours
        self._rest = b""

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._process.pid

    def fileno(self) -> int:
        """Return the descriptor to wait for."""
        return self._sock.fileno()

    def fork(self, sock: socket.socket, page_fd: int) -> None:
        """Ask for a worker. The answers (`FORKED`) come in the order of the requests.

        Raises:
            OSError: the server is gone.
        """
        fds = array.array("i", [sock.fileno(), page_fd])
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)]
        self._sock.sendmsg([_MESSAGE.pack(FORK, 0, 0)], rights)

    def kill(self, pid: int) -> None:
        """Ask for the end of a child and its group by SIGKILL; `EXITED` follows, unless it came already."""
        with contextlib.suppress(OSError):
            self._sock.send(_MESSAGE.pack(KILL, pid, 0))

    def signal(self, pid: int, signum: int) -> None:
        """Ask for a signal to be sent to a child; nothing happens if it has ended."""
        with contextlib.suppress(OSError):
            self._sock.send(_MESSAGE.pack(SIGNAL, pid, signum))

    def read(self) -> list[tuple[int, int, int]]:
        """Return what has been said since: kind, pid, and status or errno.

        Raises:
            BlockingIOError: nothing.
            EOFError: the server has ended.
        """
        try:
            chunk = self._sock.recv(4096)
        except ConnectionError as error:
            raise EOFError from error
        if not chunk:
            raise EOFError
        data = self._rest + chunk
        whole = len(data) - len(data) % _MESSAGE.size
        self._rest = data[whole:]
        return list(_MESSAGE.iter_unpack(data[:whole]))

    def hang_up(self) -> None:
        """Have the server end its children, then itself; `read` raises EOFError when that is done."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    def close(self) -> int:
        """Collect the ended server, by force if it has not ended; return its status."""
        self._sock.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            # After EOF only the exit itself is left. Popen's wait with a time limit sleeps and looks again.
            return self._process.wait(timeout=1)
        self._process.kill()
        return self._process.wait()


@contextlib.contextmanager
def _sigint_held() -> Iterator[None]:
    """A child starts with SIGINT held back, and so cannot be hit before it has chosen to ignore it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# --- in the server's process -------------------------------------------------------------------------------


def serve(fd: int, module: str) -> NoReturn:
    """Run the fork server on this descriptor, until it is closed at the other end; see `ForkServer`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for signum in (signal.SIGTTIN, signal.SIGTTOU):
        # Workers are in the background of a terminal: a task that reads it gets an error, instead of being stopped.
        signal.signal(signum, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    with socket.socket(fileno=fd) as sock:
        _Server(sock, import_module(module).main).serve()
    sys.exit(0)


class _Server:
    def __init__(self, sock: socket.socket, main: Callable[[int, int], object]) -> None:
        self._sock = sock
        self._main = main
        self._pid = os.getpid()
        self._children: set[int] = set()
        self._wakeups, wake = socket.socketpair()
        self._wakeups.setblocking(False)
        wake.setblocking(False)
        self._wake = wake
        signal.signal(signal.SIGCHLD, lambda *_: None)  # without a handler the wake-up descriptor stays silent
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(sock, selectors.EVENT_READ, self._answer)
        self._selector.register(self._wakeups, selectors.EVENT_READ, self._reap)
        self._parent = _watch_parent()
        if self._parent is not None:
            self._selector.register(self._parent, selectors.EVENT_READ, lambda: False)
        self._die_with_parent = _find_prctl()

    def serve(self) -> None:
        gc.collect()
        gc.freeze()  # the collector of a child need not touch, and so copy, what it shares with us
        try:
            while all(key.data() for key, _ in self._selector.select()):
                pass
        except ConnectionError:
            pass
        finally:
            self._end_children()

    def _answer(self) -> bool:
        """Serve one request; False at the end of the pool."""
        data, ancillary, _, _ = self._sock.recvmsg(_MESSAGE.size, socket.CMSG_SPACE(8))
        if len(data) < _MESSAGE.size:
            return False
        kind, pid, signum = _MESSAGE.unpack(data)
        if kind != FORK:
            if pid in self._children:
                if kind == KILL:
                    _kill_group(pid)
                else:
                    os.kill(pid, signum)
            return True
        fds = array.array("i")
        for _, _, payload in ancillary:
            fds.frombytes(payload)
        try:
            pid, status = self._fork(*fds), 0
        except OSError as error:
            pid, status = 0, error.errno or -1
        for fd in fds:
            os.close(fd)
        self._say(FORKED, pid, status)
        return True

    def _fork(self, sock_fd: int, page_fd: int) -> int:
        pid = os.fork()
        if pid:
            with contextlib.suppress(OSError):  # it has done so itself already
                os.setpgid(pid, pid)
            self._children.add(pid)
            return pid
        status = 1
        try:
            os.setpgid(0, 0)
            enter_worker()
            shell.install()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            if self._die_with_parent is not None:
                self._die_with_parent()
                if os.getppid() != self._pid:
                    os._exit(status)
            with contextlib.suppress(OSError):  # macOS: a kqueue is not inherited, so there is nothing to close
                self._selector.close()
            for sock in (self._sock, self._wakeups, self._wake):
                sock.close()
            if self._parent is not None:
                os.close(self._parent)
            self._main(sock_fd, page_fd)
        finally:
            os._exit(status)

    def _reap(self) -> bool:
        with contextlib.suppress(BlockingIOError):
            while self._wakeups.recv(4096):
                pass
        while self._children:
            pid, status = _collect()
            if not pid:
                break
            self._children.discard(pid)
            self._say(EXITED, pid, status)
        return True

    def _say(self, kind: int, pid: int, status: int) -> None:
        self._sock.sendall(_MESSAGE.pack(kind, pid, status))

    def _end_children(self) -> None:
        for pid in self._children:
            _kill_group(pid)
        for pid in self._children:
            os.waitpid(pid, 0)


def _collect() -> tuple[int, int]:
    """Collect a child that has ended, and its wait status; a pid of 0 if there is none."""
    if hasattr(os, "waitid"):
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is None:
            return 0, 0
        if ended.si_status:
            _kill_group(ended.si_pid)  # before it is collected: until then its number is no other's
        return os.waitpid(ended.si_pid, 0)
    pid, status = os.waitpid(-1, os.WNOHANG)  # macOS has os.waitid from Python 3.13 on
    if pid and status:
        with contextlib.suppress(OSError):  # a group's number is not given away while it has members
            os.killpg(pid, signal.SIGKILL)
    return pid, status


def _kill_group(pid: int) -> None:
    """Kill a child that has not been collected, and what is left of its process group."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except OSError:  # it has joined another group
        os.kill(pid, signal.SIGKILL)


def _watch_parent() -> int | None:
    """A descriptor that turns readable when the pool's process has died.

    The socket tells that too, but not while some other child of that process holds a copy of it.
    """
    if not hasattr(os, "pidfd_open"):
        return None
    with contextlib.suppress(OSError):
        return os.pidfd_open(os.getppid())
    return None


def _find_prctl() -> Callable[[], None] | None:
    """A call that asks Linux to kill this process when its parent dies."""
    if sys.platform != "linux":
        return None
    import ctypes

    prctl = ctypes.CDLL(None).prctl

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

    return ask
