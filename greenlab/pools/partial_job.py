"""A partial job: a part of a job that one pool runs, while another pool may run the rest.

Guarantees: it takes tasks from the whole job and tells it how they ended, so that none is lost and none is run twice;
once it is closed it takes no further one, but for the one that a puller waits for at that moment: one at a time waits.

Must not import: live, magics, a concrete pool.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from greenlab.hub import eventlet

if TYPE_CHECKING:
    from collections.abc import Callable

    from greenlab.hub.blocks import Block
    from greenlab.pools.protocol import Job


class PartialJob:
    """A `greenlab.pools.protocol.Job` that is a part of another.

    Attributes:
        whole: the job that it is a part of.
        kind: what its tasks mostly do, where that was measured.
        most: how many tasks it may have in flight at the most; None for as many as the whole may have.
        pulled: how many tasks it has taken.
        closed: whether it takes no more.
        on_pull, on_end: called in the green thread that pulls a task, or tells of its end (its index, its times, the
            value or the exception, and whether it succeeded); or None.
    """

    def __init__(self, whole: Job, most: int | None = None, kind: str | None = None) -> None:
        self.whole = whole
        self.kind = kind or whole.kind
        self.most = most
        self.pulled = 0
        self.closed = False
        self.on_pull: Callable[[Any], object] | None = None
        self.on_end: Callable[[float, float, Any, bool], object] | None = None
        self._pulling = False
        self._waiting: list[Any] = []

    @property
    def func(self) -> Any:
        """The function of one item."""
        return self.whole.func

    @property
    def concurrency(self) -> int:
        """How many tasks may be in flight."""
        wanted = self.whole.concurrency
        return wanted if self.most is None else min(wanted, self.most)

    @property
    def workers(self) -> int:
        """How many worker processes may serve it."""
        return self.whole.workers

    @property
    def timeout_s(self) -> float | None:
        """How long one task may take."""
        return self.whole.timeout_s

    @property
    def max_tasks(self) -> int | None:
        """After how many tasks a worker process is replaced."""
        return self.whole.max_tasks

    @property
    def max_memory(self) -> int | None:
        """Above how many bytes a worker process is replaced."""
        return self.whole.max_memory

    def size_hint(self) -> int | None:
        """How many tasks are left to pull at the most."""
        return 0 if self.closed else self.whole.size_hint()

    def close(self) -> None:
        """Take no more."""
        self.closed = True

    def pull(self) -> tuple[int, Any]:
        """Take the next task of the whole."""
        # The whole may wait before it gives one (a rate, a retry, a slow iterator). All of a hundred green threads
        # that wait in there would get a task, long after this job was closed.
        while self._pulling:
            turn = eventlet.event.Event()
            self._waiting.append(turn)
            try:
                turn.wait()
            except BaseException:
                if turn in self._waiting:
                    self._waiting.remove(turn)
                else:
                    self._pass_on()
                raise
        if self.closed:
            self._pass_on()
            raise StopIteration
        self._pulling = True
        try:
            index, item = self.whole.pull()
        finally:
            self._pulling = False
            self._pass_on()
        self.pulled += 1
        if self.on_pull is not None:
            self.on_pull(item)
        return index, item

    def _pass_on(self) -> None:
        if self._waiting and not self._pulling:
            self._waiting.pop(0).send(None)

    def succeed(self, index: int, started_s: float, ended_s: float, value: Any) -> None:
        """Report a value to the whole."""
        self.whole.succeed(index, started_s, ended_s, value)
        if self.on_end is not None:
            self.on_end(started_s, ended_s, value, True)

    def fail(self, index: int, started_s: float, ended_s: float, error: BaseException) -> None:
        """Report an exception to the whole."""
        self.whole.fail(index, started_s, ended_s, error)
        if self.on_end is not None:
            self.on_end(started_s, ended_s, error, False)

    def write(self, stream: str, text: str, index: int | None = None) -> None:
        """Print what a task printed."""
        self.whole.write(stream, text, index)

    def note_block(self, block: Block) -> None:
        """Report a block in another process to the whole."""
        self.whole.note_block(block)
