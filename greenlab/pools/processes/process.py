"""The pool's end of one worker process: its socket, and what is known of its life.

Guarantees: nothing here waits, and sending never blocks: what the socket does not take now, a green thread sends as
it does.
Must not import: runs, live, magics, eventlet.green.
"""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING, Any

from greenlab.errors import WorkerLostError
from greenlab.hub import eventlet
from greenlab.pools.processes.framing import Bytes, Inbox, Outbox, Page

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from greenlab.pools.processes.forkserver import ForkServer

trampoline = eventlet.hubs.trampoline
GreenletExit = eventlet.greenlet.GreenletExit


class Process:
    """One worker process. Each pool adds what it has there.

    Attributes:
        pid: its process id; 0 before it is forked.
        ready: whether it can work.
        spoken: whether it has said anything.
        open: whether it takes tasks.
        retiring: whether it is to leave.
        dead: whether it has ended.
        failure: why it is useless, if that is known: what broke the loop that reads from it or writes to it, here or
            there.
        gone: an event that comes when all that it held has been accounted for.
        page_fd: a descriptor of the memory shared with it, until `hand_over`.
    """

    def __init__(self) -> None:
        self.page_fd = Page.open_fd()
        try:
            self.sock, self._theirs = socket.socketpair()
        except OSError:
            os.close(self.page_fd)
            raise
        self.sock.setblocking(False)
        self.inbox = Inbox(self.sock)
        self.outbox = Outbox(self.sock)
        self.pid = 0
        self.ready = self.spoken = self.open = self.retiring = self.dead = False
        self.gone = eventlet.event.Event()
        self.failure: BaseException | None = None
        self._reader: Any = None
        self._writer: Any = None

    # --- what each pool knows better

    @property
    def load(self) -> int:
        """How many tasks it holds."""
        return 0

    @property
    def at_work(self) -> bool:
        """Whether a task runs there: if it dies now, that task may be why."""
        return False

    @property
    def useful(self) -> bool:
        """Whether what it has said shows that it can live here."""
        return True

    @property
    def pause_s(self) -> float:
        """For how long not to read, so that more is read at once."""
        return 0.0

    def begin(self) -> None:
        """It has been forked, and takes tasks; or if it says itself when it is ready, then not yet."""
        self.ready = self.open = True

    def take(self) -> None:
        """Read once, and act on it.

        Raises:
            BlockingIOError: there is nothing to read now.
            EOFError, OSError: nor will there be.
        """

    def written(self) -> None:
        """Do what waited for the outbox to be empty again."""

    # --- its life

    def hand_over(self, server: ForkServer) -> None:
        """Have a worker forked at the other end.

        Raises:
            OSError: it could not be asked for.
        """
        try:
            server.fork(self._theirs, self.page_fd)
        except ConnectionError:  # it has died, which whoever listens to it will notice
            pass
        finally:
            self._theirs.close()
            os.close(self.page_fd)

    def read_with(self, read: Callable[[], object]) -> None:
        """Have a green thread of its own read what comes."""
        self._reader = eventlet.spawn(read)

    def send(self, parts: Iterable[Bytes]) -> None:
        """Send a frame."""
        self.outbox.put(parts)
        self.write()

    def write(self) -> None:
        """Send what waits in the outbox."""
        try:
            if not self.outbox.write() and self._writer is None:
                self._writer = eventlet.spawn(self._write_rest)
        except OSError:  # the process has died, which the fork server tells
            pass

    def _write_rest(self) -> None:
        try:
            while not self.outbox.write():
                trampoline(self.sock, write=True)
            self._writer = None
            self.written()
        except OSError:
            return
        except GreenletExit:
            raise
        except BaseException as error:
            self.break_off(error)
        finally:
            self._writer = None

    def break_off(self, error: BaseException) -> None:
        """Give the process up, its connection being of no use: its reader finds that closed, and has it killed."""
        if self.failure is None:
            self.failure = error
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)

    def loss(self, status: int) -> WorkerLostError:
        """Say what becomes of a task that was lost with it; `status` is as `os.wait` gives it."""
        code = os.waitstatus_to_exitcode(status)
        lost = WorkerLostError(self.pid, signal=-code) if code < 0 else WorkerLostError(self.pid, exitcode=code)
        lost.__cause__ = self.failure
        return lost

    def dismiss(self) -> None:
        """Let the process leave, which it does when it finds nothing more to read."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Let go of everything, also if no process was ever at the other end."""
        self.open = False
        for thread in (self._reader, self._writer):
            if thread is not None and thread is not eventlet.getcurrent():
                thread.kill()
        self.sock.close()
        if not self.gone.ready():
            self.gone.send()
