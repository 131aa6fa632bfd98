"""The supervisor: keeps as many worker processes of a pool as are wanted, and replaces those that die.

It knows starts, exits and the ends of sockets; what the processes do is the pool's affair. The states that a process
goes through, and what brings each about, stand in `worker_state.py`.

Guarantees:

* a process that has died is replaced at once; if they die as soon as they start, the supervisor gives up and says so;
* a process that must leave takes nothing new, and leaves when it has done what it holds; its replacement is forked
  meanwhile;
* after modules were reloaded here, a start replaces the processes, which have the old ones;
* processes outlive no fork server, but the supervisor outlives both; at its own end, what processes started ends with
  them;
* nothing here blocks, and a supervisor with nothing to do wakes nothing: no timer, no polling.

Must not import: runs, live, magics, eventlet.green. It patches nothing, and needs nothing patched.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

from greenlab.errors import GreenlabError
from greenlab.hub import eventlet
from greenlab.pools.processes import forkserver
from greenlab.pools.processes.forkserver import ForkServer
from greenlab.pools.processes.process import ProcessHandle
from greenlab.pools.processes.reloads import Reloads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Event = eventlet.event.Event
GreenletExit = eventlet.greenlet.GreenletExit
trampoline = eventlet.hubs.trampoline
Semaphore = eventlet.semaphore.Semaphore

_PATIENCE_S: Final = 2.0  # for the end of processes that were killed or told to end

H = TypeVar("H", bound=ProcessHandle)


class PoolCallbacks(Protocol):
    """What a supervisor tells the pool. None of this may wait."""

    def changed(self) -> None:
        """There are more or fewer processes, or other ones take tasks."""

    def lost(self, process: Any, status: int) -> None:
        """Account for what a dead process held; `status` is as `os.wait` gives it."""

    def failed(self, error: GreenlabError) -> None:
        """There are no processes, and there will be none."""


class Supervisor(Generic[H]):
    """Keeps processes alive.

    Attributes:
        target: how many.
        processes: those that live.

    Args:
        module: whose `main` the processes run, see `ForkServer`.
        make: makes the pool's end of a process.
        pool: whose processes they are.
    """

    def __init__(self, module: str, make: Callable[[], H], pool: PoolCallbacks) -> None:
        self.target = 0
        self.processes: list[H] = []
        self._module = module
        self._make = make
        self._pool = pool
        self._server: ForkServer | None = None
        self._listener: Any = None
        self._asked: deque[H] = deque()  # those that are being forked
        self._reloads = Reloads()
        self._starting = Semaphore(1)
        self._changed = Event()
        self._trouble: GreenlabError | None = None
        self._server_proven = False  # it has forked
        self._failed_starts = 0  # exits, since one was proven, of those that never were and had no task

    @property
    def server_pid(self) -> int:
        """The process id of the fork server; 0 if there is none."""
        return self._server.pid if self._server is not None else 0

    @property
    def asked(self) -> int:
        """How many processes are being forked."""
        return len(self._asked)

    def start(self) -> None:
        """Have as many processes as wanted ready; at once if they are.

        Raises:
            GreenlabError: no process could be started, or the pool was closed meanwhile.
        """
        with self._starting:
            if self._reloads.look():
                for process in self.processes:
                    if process.is_staying:
                        process.retire()
            self._trouble = None
            self._failed_starts = 0
            self.adjust()
            while self._asked or any(process.is_unproven for process in self.processes):
                self._changed.wait()
            if self._trouble is not None and not self.processes:
                raise self._trouble

    def adjust(self) -> None:
        """Have as many processes as wanted, soon."""
        staying = self._retire_surplus()
        try:
            for _ in range(self.target - staying - len(self._asked)):
                self._ask_for_one()
        except OSError as error:
            self._give_up(GreenlabError(f"cannot start a worker process: {error}"))

    def _retire_surplus(self) -> int:
        """Retire those that are too many; return how many there were."""
        staying = [process for process in self.processes if process.is_staying]
        surplus = max(0, len(staying) - self.target)
        for process in sorted(staying, key=lambda process: process.load)[:surplus]:
            process.retire()
        return len(staying)

    def _ask_for_one(self) -> None:
        if self._server is None:
            self._server = ForkServer(self._module)
            self._server_proven = False
            self._listener = eventlet.spawn(self._listen, self._server)
        process = self._make()
        try:
            process.hand_over(self._server)
        except OSError:
            process.close()
            raise
        self._asked.append(process)  # only now: the answers come in the order of what the server was asked

    def retire(self, process: H) -> None:
        """Have a process leave when it has done what it holds, and its replacement forked meanwhile."""
        if process.is_staying:
            process.retire()
            self.adjust()

    def welcome(self, process: H) -> None:
        """Have a process serve that has said that it can."""
        process.serve()
        self._note_change()
        self._pool.changed()

    def kill(self, process: H) -> None:
        """End a process. Its death is heard of by `PoolCallbacks.lost`, and it is replaced."""
        if process.is_dead:
            return
        process.killed()
        if self._server is not None:
            self._server.kill(process.pid)

    def signal(self, process: H, signum: int) -> None:
        """Send a process a signal."""
        if self._server is not None:
            self._server.signal(process.pid, signum)

    def await_end(self, processes: Iterable[H]) -> None:
        """Wait until processes that were killed are dead."""
        for process in processes:
            process.gone.wait(_PATIENCE_S)

    def close(self) -> None:
        """End the processes, with all that they started, and the fork server. The supervisor may be started again."""
        server, self._server = self._server, None
        processes = [*self.processes, *self._asked]
        self.processes.clear()
        self._asked.clear()
        self._trouble = GreenlabError("the pool was closed while it was started")
        self._note_change()
        try:
            if server is not None:
                server.hang_up()
                self._listener.kill()
                with contextlib.suppress(EOFError, TimeoutError):
                    while True:
                        trampoline(server, read=True, timeout=_PATIENCE_S, timeout_exc=TimeoutError)
                        server.read()
        finally:
            # Only now: a process whose connection ends leaves by itself, and leaves alone what its tasks started.
            for process in processes:
                process.close()
            if server is not None:
                server.close()

    # --- starts and exits

    def _listen(self, server: ForkServer) -> None:
        """Hear of them from the fork server."""
        try:
            while True:
                trampoline(server, read=True)
                for kind, pid, status in server.read():
                    if kind == forkserver.FORKED:
                        self._on_fork(pid, status)
                    else:
                        self._on_exit(pid, status)
        except EOFError:
            if server is not self._server:
                return
            self._server = None
            not_forked, status = list(self._asked), server.close()
            self._asked.clear()
            for process in not_forked:
                process.close()
            if not_forked and self._server_proven:
                self.adjust()
            elif not_forked:
                self._give_up(GreenlabError(f"the fork server ended with status {status} before it was of use"))
            for process in list(self.processes):  # they end with it
                self._on_exit(process.pid, signal.SIGKILL)

    def _on_fork(self, pid: int, errno: int) -> None:
        process = self._asked.popleft()
        if pid:
            self._server_proven = True
            process.born(pid, lambda: self._read(process))
            self.processes.append(process)
            self._retire_surplus()  # fewer may be wanted than when it was asked for
        else:
            process.close()
            self._give_up(GreenlabError(f"cannot fork a worker process: {os.strerror(errno)}"))
        self._note_change()
        self._pool.changed()

    def _read(self, process: H) -> None:
        """Read what one process sends, for as long as it lives."""
        try:
            while True:
                trampoline(process.sock, read=True)
                self._hear(process)
                process.leave_if_idle()
                if pause_s := process.pause_s:
                    eventlet.sleep(pause_s)
        except (EOFError, OSError):
            self.kill(process)  # it has died, or closed its end: the fork server tells of its exit
        except GreenletExit:
            raise
        except BaseException as error:  # what it sent, or what it wanted here, cannot be dealt with
            process.break_off(error)
            self.kill(process)

    def _hear(self, process: H) -> bool:
        """Read once; return whether there was something to read."""
        was_proven = process.proven
        try:
            process.take()
        except BlockingIOError:
            return False
        if process.proven and not was_proven:
            self._failed_starts = 0
        return True

    def _on_exit(self, pid: int, status: int) -> None:
        for process in self.processes:
            if process.pid == pid and not process.is_dead:
                process.died()
                eventlet.spawn(self._replace, process, status)

    def _replace(self, process: H, status: int) -> None:
        """Read what a dead process sent last, account for its tasks, and put another one in its place."""
        if process not in self.processes:  # the pool was closed
            return
        try:
            while self._hear(process):
                pass
        except (EOFError, OSError):
            pass
        except GreenletExit:
            raise
        except BaseException as error:
            process.break_off(error)
        self._failed_starts += not process.proven and not process.at_work
        self.processes.remove(process)
        self._pool.lost(process, status)
        process.close()
        if self._failed_starts > 5 * self.target + 10:
            why = process.failure or "is there memory for them?"
            self._give_up(GreenlabError(f"workers die as soon as they start: {why}"))
        else:
            self.adjust()
        self._note_change()
        self._pool.changed()

    def _give_up(self, error: GreenlabError) -> None:
        """Go on with the processes that there are or will be, if any; the next start tries again."""
        self._trouble = error
        self._note_change()
        if not self.processes and not self._asked:
            self._pool.failed(error)

    def _note_change(self) -> None:
        changed, self._changed = self._changed, Event()
        changed.send()
