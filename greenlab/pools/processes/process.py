"""The pool's end of one worker process: its socket, and the state that it is in.

Guarantees: nothing here waits, and sending never blocks: what the socket does not take now, a green thread sends as
it does; the state changes by the table of `worker_state.py` alone.
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
from greenlab.pools.processes.worker_state import WorkerState, check_transition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from greenlab.pools.processes.forkserver import ForkServer

trampoline = eventlet.hubs.trampoline
GreenletExit = eventlet.greenlet.GreenletExit


class ProcessHandle:
    """One worker process. Each pool adds what it has there.

    Attributes:
        pid: its process id; 0 before it is forked.
        state: where it is in its life.
        proven: whether what it has sent shows that it can live here.
        failure: why it is useless, if that is known: what broke the loop that reads from it or writes to it, here or
            there.
        posts: how many batches of tasks were sent to it.
        gone: an event that comes when all that it held has been accounted for.
        page_fd: a descriptor of the memory shared with it, until `hand_over`.
    """

    announces_itself = False
    """Whether it says when it can work; if not, it can from the fork on."""

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
        self.state = WorkerState.STARTING
        self.proven = False
        self.posts = 0
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
    def pause_s(self) -> float:
        """For how long not to read, so that more is read at once."""
        return 0.0

    def take(self) -> None:
        """Read once, and act on it; set `proven` where that shows it.

        Raises:
            BlockingIOError: there is nothing to read now.
            EOFError, OSError: nor will there be.
        """

    def written(self) -> None:
        """Do what waited for the outbox to be empty again."""

    # --- its life: one method for each state that it may go to

    @property
    def takes_tasks(self) -> bool:
        """Whether tasks may be sent to it."""
        return self.state is WorkerState.SERVING

    @property
    def is_staying(self) -> bool:
        """Whether it serves, or will."""
        return self.state in _STAYING

    @property
    def is_unproven(self) -> bool:
        """Whether it cannot serve yet, or was ended before it could show that it can: another one is to come."""
        return self.state is WorkerState.FORKED or (self.state in _LOST and not self.proven)

    @property
    def is_dead(self) -> bool:
        """Whether it has ended."""
        return self.state in _ENDED

    @property
    def is_closed(self) -> bool:
        """Whether nothing of it is left here, its shared memory included."""
        return self.state is WorkerState.CLOSED

    def _become(self, state: WorkerState) -> None:
        check_transition(self.state, state)
        self.state = state

    def born(self, pid: int, read: Callable[[], object]) -> None:
        """It has been forked: have a green thread of its own read what comes. Unless it says itself when, it serves."""
        self._become(WorkerState.FORKED)
        self.pid = pid
        self._reader = eventlet.spawn(read)
        if not self.announces_itself:
            self._become(WorkerState.SERVING)

    def serve(self) -> None:
        """It has said that it can work; if it is to leave, or is being killed, that comes too late."""
        if self.state is WorkerState.FORKED:
            self._become(WorkerState.SERVING)

    def retire(self) -> None:
        """Take no more tasks, and leave when there are none."""
        self._become(WorkerState.RETIRING)
        self.leave_if_idle()

    def leave_if_idle(self) -> None:
        """Have the process leave, if it is to and holds nothing; it does when it finds nothing more to read."""
        if self.state is WorkerState.RETIRING and not self.load:
            with contextlib.suppress(OSError):
                self.sock.shutdown(socket.SHUT_WR)

    def killed(self) -> None:
        """It is being killed: take no more tasks, and wait for its death."""
        if self.state is not WorkerState.ENDING:
            self._become(WorkerState.ENDING)

    def died(self) -> None:
        """It has ended."""
        self._become(WorkerState.DEAD)

    def close(self) -> None:
        """Release everything, also if no process was ever at the other end."""
        self._become(WorkerState.CLOSED)
        for thread in (self._reader, self._writer):
            if thread is not None and thread is not eventlet.getcurrent():
                thread.kill()
        self.sock.close()
        if not self.gone.ready():
            self.gone.send()

    # --- its connection

    def hand_over(self, server: ForkServer) -> None:
        """Have a worker forked at the other end.

        Raises:
            OSError: it could not be asked for.
        """
        try:
            server.fork(self._theirs, self.page_fd)
        except ConnectionError:  # the server has died, which the supervisor will notice
            pass
        finally:
            self._theirs.close()
            os.close(self.page_fd)

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
        """Return what a task fails with that was lost with it; `status` is as `os.wait` returns it."""
        code = os.waitstatus_to_exitcode(status)
        lost = WorkerLostError(self.pid, signal=-code) if code < 0 else WorkerLostError(self.pid, exitcode=code)
        lost.__cause__ = self.failure
        return lost


_STAYING = frozenset({WorkerState.FORKED, WorkerState.SERVING})
_LOST = frozenset({WorkerState.ENDING, WorkerState.DEAD})
_ENDED = frozenset({WorkerState.DEAD, WorkerState.CLOSED})
