"""A fleet: the worker processes of a pool, as many as are wanted, replaced as they die.

The fleet knows births, deaths and the ends of sockets; what the processes do is the pool's affair.

Guarantees:

* a process that has died is replaced at once; if they die as soon as they start, the fleet gives up and says so;
* a process that must leave takes nothing new, and leaves when it has done what it holds;
* nothing here blocks, and a fleet with nothing to do wakes nobody: no timer, no polling.

Must not import: runs, live, magics, eventlet.green. It patches nothing, and needs nothing patched.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

from greenlab.errors import GreenlabError
from greenlab.hub import eventlet
from greenlab.pools.processes import forkserver
from greenlab.pools.processes.forkserver import ForkServer
from greenlab.pools.processes.wire import Bytes, Inbox, Outbox, Page

if TYPE_CHECKING:
    from collections.abc import Callable

Event = eventlet.event.Event
trampoline = eventlet.hubs.trampoline
Semaphore = eventlet.semaphore.Semaphore

PATIENCE_S: Final = 2.0
"""How long to wait for the end of processes that were killed or told to end."""


class Process:
    """The pool's end of one worker process.

    Attributes:
        pid: its process id; 0 before it is forked.
        ready: whether it has said that it is.
        open: whether it takes tasks.
        retiring: whether it is to leave.
        dead: whether it has ended.
        gone: an event that comes when all that it held has been accounted for.
        page_fd: a descriptor of the memory shared with it, until `hand_over`.
    """

    def __init__(self) -> None:
        self.sock, self._theirs = socket.socketpair()
        self.sock.setblocking(False)
        self.page_fd = Page.open_fd()
        self.inbox = Inbox(self.sock)
        self.outbox = Outbox(self.sock)
        self.pid = 0
        self.ready = self.open = self.retiring = self.dead = False
        self.gone = Event()
        self._reader: Any = None
        self._writer: Any = None

    @property
    def load(self) -> int:
        """How many tasks it holds."""
        return 0

    def take(self) -> None:
        """Read once, and act on it.

        Raises:
            BlockingIOError: there is nothing to read now.
            EOFError, OSError: nor will there be.
        """

    def written(self) -> None:
        """Do what waited for the outbox to be empty again."""

    def hand_over(self, server: ForkServer) -> None:
        """Have a worker forked at the other end."""
        try:
            server.fork(self._theirs, self.page_fd)
        except ConnectionError:  # it has died, which whoever listens to it will notice
            pass
        finally:
            self._theirs.close()
            os.close(self.page_fd)

    def send(self, parts: list[Bytes]) -> None:
        """Send a frame; what the socket does not take now, a green thread sends as it does."""
        self.outbox.put(parts)
        try:
            if not self.outbox.write() and self._writer is None:
                self._writer = eventlet.spawn(self._write_rest)
        except OSError:  # the process has died, which the fork server tells
            pass

    def _write_rest(self) -> None:
        try:
            while not self.outbox.write():
                trampoline(self.sock, write=True)
        except OSError:
            return
        finally:
            self._writer = None
        self.written()

    def read_with(self, read: Callable[[], object]) -> None:
        """Have a green thread of its own read what comes."""
        self._reader = eventlet.spawn(read)

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


P = TypeVar("P", bound=Process)


class Owner(Protocol):
    """What a fleet tells the pool. None of this may wait."""

    def changed(self) -> None:
        """There are more or fewer processes that take tasks."""

    def lost(self, process: Any, status: int) -> None:
        """Account for what a dead process held; `status` is as `os.wait` gives it."""

    def failed(self, error: GreenlabError) -> None:
        """There are no processes, and there will be none."""


class Fleet(Generic[P]):
    """Keeps `target` processes alive.

    Args:
        module: whose `main` the processes run, see `ForkServer`.
        make: makes the pool's end of a process.
        owner: the pool.
    """

    def __init__(self, module: str, make: Callable[[], P], owner: Owner) -> None:
        self.target = 0
        self.processes: list[P] = []
        self._module = module
        self._make = make
        self._owner = owner
        self._server: ForkServer | None = None
        self._listener: Any = None
        self._asked: deque[P] = deque()  # those that are being forked
        self._starting = Semaphore(1)
        self._changed = Event()
        self._trouble: GreenlabError | None = None
        self._useful = False  # the server has forked
        self._stillborn = 0

    @property
    def server_pid(self) -> int:
        """The process id of the fork server; 0 if there is none."""
        return self._server.pid if self._server is not None else 0

    def start(self, target: int) -> None:
        """Have `target` processes ready; at once if they are.

        Raises:
            GreenlabError: no process could be started.
        """
        self.target = target
        with self._starting:
            self._trouble = None
            self._stillborn = 0
            self.adjust()
            while self._asked or not all(process.ready for process in self.processes):
                self._changed.wait()
            if self._trouble is not None and not self.processes:
                raise self._trouble

    def adjust(self) -> None:
        """Have as many processes as wanted, soon."""
        staying = [process for process in self.processes if not process.retiring]
        too_many = max(0, len(staying) - self.target)
        for process in sorted(staying, key=lambda process: process.load)[:too_many]:
            process.retiring = True
            process.open = False
            if not process.load:
                process.dismiss()
        try:
            for _ in range(self.target - len(staying) - len(self._asked)):
                if self._server is None:
                    self._server = ForkServer(self._module)
                    self._useful = False
                    self._listener = eventlet.spawn(self._listen, self._server)
                process = self._make()
                self._asked.append(process)
                process.hand_over(self._server)
        except OSError as error:
            self._give_up(GreenlabError(f"cannot start a worker process: {error}"))

    def welcome(self, process: P) -> None:
        """Take a process that has said that it is ready into service."""
        process.ready = True
        self._stillborn = 0
        process.open = not (process.retiring or process.dead)
        self._note_change()
        self._owner.changed()

    def kill(self, process: P) -> None:
        """End a process. Its death is heard of by `Owner.lost`, and it is replaced."""
        process.open = False
        if self._server is not None:
            self._server.kill(process.pid)

    def close(self) -> None:
        """End the processes and the fork server. The fleet may be started again."""
        server, self._server = self._server, None
        processes = [*self.processes, *self._asked]
        self.processes.clear()
        self._asked.clear()
        for process in processes:
            process.close()
        self._note_change()
        if server is None:
            return
        server.hang_up()
        self._listener.kill()
        try:
            with contextlib.suppress(EOFError, TimeoutError):
                while True:
                    trampoline(server, read=True, timeout=PATIENCE_S, timeout_exc=TimeoutError)
                    server.read()
        finally:
            server.close()

    # --- births and deaths

    def _listen(self, server: ForkServer) -> None:
        """Hear of them from the fork server."""
        try:
            while True:
                trampoline(server, read=True)
                for kind, pid, status in server.read():
                    if kind == forkserver.FORKED:
                        self._take_on(pid, status)
                    else:
                        self._expect_burial(pid, status)
        except EOFError:
            if server is not self._server:
                return
            self._server = None
            unborn, status = list(self._asked), server.close()
            self._asked.clear()
            for process in unborn:
                process.close()
            if unborn and self._useful:
                self.adjust()
            elif unborn:
                self._give_up(GreenlabError(f"the fork server ended with status {status} before it was of use"))
            for process in self.processes:  # they end with it
                self._expect_burial(process.pid, signal.SIGKILL)

    def _take_on(self, pid: int, errno: int) -> None:
        process = self._asked.popleft()
        if pid:
            self._useful = True
            process.pid = pid
            self.processes.append(process)
            process.read_with(lambda: self._read(process))
        else:
            process.close()
            self._give_up(GreenlabError(f"cannot fork a worker process: {os.strerror(errno)}"))
        self._note_change()

    def _read(self, process: P) -> None:
        """Read what one process sends, for as long as it lives."""
        try:
            while True:
                trampoline(process.sock, read=True)
                with contextlib.suppress(BlockingIOError):
                    process.take()
                if process.retiring and not process.load:
                    process.dismiss()
        except (EOFError, OSError):
            self.kill(process)  # it has died, or lost its mind: its end is told by the fork server

    def _expect_burial(self, pid: int, status: int) -> None:
        for process in self.processes:
            if process.pid == pid and not process.dead:
                process.open = False
                process.dead = True
                eventlet.spawn(self._bury, process, status)

    def _bury(self, process: P, status: int) -> None:
        """Read the last words of a process, and put another in its place."""
        if process not in self.processes:  # the fleet was closed
            return
        with contextlib.suppress(EOFError, OSError):  # BlockingIOError too says that there is nothing more
            while True:
                process.take()
        self.processes.remove(process)
        self._owner.lost(process, status)
        process.close()
        self._stillborn += not process.ready
        if self._stillborn > 2 * self.target + 3:
            self._give_up(GreenlabError("workers die as soon as they start: is there memory for them?"))
        else:
            self.adjust()
        self._note_change()
        self._owner.changed()

    def _give_up(self, error: GreenlabError) -> None:
        """Go on with the processes that there are, if any; the next start tries again."""
        self._trouble = error
        self._note_change()
        if not self.processes:
            self._owner.failed(error)

    def _note_change(self) -> None:
        changed, self._changed = self._changed, Event()
        changed.send()
