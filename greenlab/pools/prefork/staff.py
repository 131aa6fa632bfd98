"""The worker processes of a pool: their births, their leaving and their deaths.

Guarantees: there are, soon, as many workers as wanted; one that dies or leaves is replaced at once, and before it has
finished what it holds; workers outlive no fork server, but the pool outlives both.
Must not import: runs, live, magics, eventlet.green.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Protocol

from greenlab.errors import GreenlabError
from greenlab.hub import eventlet
from greenlab.pools.prefork.link import Link
from greenlab.pools.processes import forkserver
from greenlab.pools.processes.forkserver import ForkServer

if TYPE_CHECKING:
    from collections.abc import Iterable

Event = eventlet.event.Event
Semaphore = eventlet.semaphore.Semaphore
trampoline = eventlet.hubs.trampoline

_PATIENCE_S: Final = 2.0  # for the end of processes that were told to end


class Owner(Protocol):
    """What the staff tells the pool."""

    def converse(self, link: Link) -> None:
        """Read what a worker sends, for as long as it lives; a green thread of its own does."""

    def account(self, link: Link, status: int) -> bool:
        """Say what became of a dead worker's tasks; return whether it died without a task."""

    def wake(self) -> None:
        """Look again at what may be sent where."""

    def stop(self, error: GreenlabError) -> None:
        """End all runs."""


class Staff:
    """Keeps as many workers as wanted.

    Attributes:
        target: how many.
        links: those that live.
        asked: those that are being forked.
        server: where they come from.
    """

    def __init__(self, owner: Owner, target: int) -> None:
        self.target = target
        self.links: list[Link] = []
        self.asked: deque[Link] = deque()
        self.server: ForkServer | None = None
        self._owner = owner
        self._listener: Any = None
        self._starting = Semaphore(1)
        self._changed = Event()
        self._trouble: GreenlabError | None = None
        self._useful = False  # the server has forked
        self._stillborn = 0  # deaths, since the last one that lived, of those that never said anything

    def start(self) -> None:
        """Have as many workers as wanted, now.

        Raises:
            GreenlabError: not one could be started.
        """
        with self._starting:
            self._trouble = None
            self._stillborn = 0
            self.adjust()
            while self.asked:
                self._changed.wait()
            if self._trouble is not None and not self.links:
                raise self._trouble

    def adjust(self) -> None:
        """Have as many workers as wanted, soon."""
        staying = [link for link in self.links if not link.retiring]
        surplus = max(0, len(staying) - self.target)
        for link in sorted(staying, key=lambda link: len(link.outstanding))[:surplus]:
            self._let_go(link)
        try:
            for _ in range(self.target - len(staying) - len(self.asked)):
                if self.server is None:
                    self.server = ForkServer("greenlab.pools.prefork.worker")
                    self._useful = False
                    self._listener = eventlet.spawn(self._listen, self.server)
                link = Link(self)
                self.asked.append(link)
                link.hand_over(self.server)
        except OSError as error:
            self._give_up(GreenlabError(f"cannot start a worker process: {error}"))

    def retire(self, link: Link) -> None:
        """Let a worker leave when it has done what it holds, and have its replacement forked meanwhile."""
        if not link.retiring:
            self._let_go(link)
            self.adjust()

    def _let_go(self, link: Link) -> None:
        link.retiring = True
        link.open = False
        if not link.outstanding:
            link.dismiss()

    def note_life(self, link: Link) -> None:
        """Note that a worker has spoken: it can live here."""
        if link.fresh:
            link.fresh = False
            self._stillborn = 0

    def close(self) -> None:
        """End the workers, with all that they started, and the fork server."""
        server, self.server = self.server, None
        links = [*self.links, *self.asked]
        self.links.clear()
        self.asked.clear()
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
            # Only now: a worker whose connection ends leaves by itself, and leaves alone what its tasks started.
            for link in links:
                link.close()
            if server is not None:
                server.close()

    # --- what links ask for

    def kill(self, link: Link) -> None:
        """Kill a worker and what it started."""
        link.open = False
        if self.server is not None:
            self.server.kill(link.pid)

    def signal(self, link: Link) -> None:
        """Send a worker SIGUSR1."""
        if self.server is not None:
            self.server.signal(link.pid, signal.SIGUSR1)

    def wake(self) -> None:
        """Look again at what may be sent where."""
        self._owner.wake()

    def await_end(self, links: Iterable[Link]) -> None:
        """Wait until workers that were killed are dead."""
        for link in links:
            link.gone.wait(_PATIENCE_S)

    # --- what the server tells

    def _listen(self, server: ForkServer) -> None:
        try:
            while True:
                trampoline(server, read=True)
                for kind, pid, status in server.read():
                    if kind == forkserver.FORKED:
                        self._welcome(pid, status)
                    else:
                        self._expect_burial(pid, status)
        except EOFError:
            if server is not self.server:
                return
            self.server = None
            unborn, status = list(self.asked), server.close()
            self.asked.clear()
            for link in unborn:
                link.close()
            if unborn and self._useful:
                self.adjust()
            elif unborn:
                self._give_up(GreenlabError(f"the fork server ended with status {status} before it was of use"))
            for link in list(self.links):  # they end with it
                self._expect_burial(link.pid, signal.SIGKILL)

    def _welcome(self, pid: int, errno: int) -> None:
        link = self.asked.popleft()
        if pid:
            self._useful = True
            link.pid = pid
            link.open = True
            link.reader = eventlet.spawn(self._owner.converse, link)
            self.links.append(link)
            self.adjust()  # fewer may be wanted than when it was asked for
        else:
            link.close()
            self._give_up(GreenlabError(f"cannot fork a worker process: {os.strerror(errno)}"))
        self._note_change()
        self._owner.wake()

    def _expect_burial(self, pid: int, status: int) -> None:
        for link in self.links:
            if link.pid == pid and not link.dead:
                link.open = False
                link.dead = True
                eventlet.spawn(self._bury, link, status)

    def _bury(self, link: Link, status: int) -> None:
        """Account for a dead worker's tasks, and put another worker in its place."""
        if link not in self.links:  # the pool was closed
            return
        idle = self._owner.account(link, status)
        self.links.remove(link)
        link.close()
        if link.fresh and idle:
            self._stillborn += 1
        if self._stillborn > 5 * self.target + 10:
            self._give_up(GreenlabError("workers die as soon as they start: is there memory for them?"))
        else:
            self.adjust()
        self._owner.wake()

    def _give_up(self, error: GreenlabError) -> None:
        """Go on with the workers that there are, if any; the next start tries again."""
        self._trouble = error
        self._note_change()
        if not self.links:
            self._owner.stop(error)

    def _note_change(self) -> None:
        changed, self._changed = self._changed, Event()
        changed.send()
