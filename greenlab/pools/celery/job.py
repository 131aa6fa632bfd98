"""A job, as the celery pool sees it: which tasks are on their way, in which message, at which worker.

Guarantees: each task that was pulled is outstanding until it has ended, and in one message at a time.
Must not import: runs, live, magics, celery.
"""

from __future__ import annotations

import math
import uuid
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from greenlab.errors import CancelledError
from greenlab.hub import eventlet
from greenlab.pools.celery import messages, signing
from greenlab.pools.processes import serialization
from greenlab.pools.processes.pace import Pace

if TYPE_CHECKING:
    from greenlab.pools.protocol import Job

_MEMORY_S: Final = 0.25
_AHEAD_S: Final = 0.03
"""For how long ahead a single worker is sent tasks: the way there and back takes some milliseconds."""
_MOST_AHEAD: Final = 4096
MOST_BYTES: Final = 1 << 20
"""Above this, a message is sent though it could hold more tasks."""
MOST_ITEM_BYTES: Final = signing.MOST_BYTES // 2
"""Above this, an item or a result is not sent at all: a message has its envelope, and others' tasks."""


class Message:
    """Tasks that travel together.

    Attributes:
        id: the message's id, which is that of Celery's task.
        tasks: those that have not ended: item, by index.
        worker: the one that has it, once that is known.
        begun: whether its first task has begun.
        sent_s: when it was handed to the broker; infinite before.
        heard_s: when a worker last told something of it; infinite before.
        asked_s: since it was quiet, when workers were last asked what has become of it.
        kill_asked: the tasks that its worker was asked to end.
        redelivered: whether the broker took it back from a worker, and gave it to another one, which refused it.
        denied: the workers that have said that they never got it; they refuse it from then on.
    """

    def __init__(self) -> None:
        self.id = uuid.uuid4().hex
        self.tasks: dict[int, Any] = {}
        self.packed: list[tuple[int, int, int, bytes]] = []
        self.plain: tuple[list[int], list[Any]] = ([], [])
        self.size = 0
        self.worker: str | None = None
        self.begun = False
        self.begun_s = perf_counter()
        self.sent_s = math.inf
        self.heard_s = math.inf
        self.asked_s = -math.inf
        self.kill_asked: set[int] = set()
        self.redelivered = False
        self.denied: set[str] = set()

    def add(self, index: int, item: Any) -> None:
        """Add a task.

        Raises:
            Exception: its item cannot be pickled, or is too large.
        """
        if serialization.is_plain(item):
            size = len(item) if isinstance(item, str | bytes) else 16
            _check_size(size)
            self.plain[0].append(index)
            self.plain[1].append(item)
        else:
            form, buffers, body = messages.flatten(serialization.dump(item))
            size = len(body)
            _check_size(size)
            self.packed.append((index, form, buffers, body))
        self.size += size
        self.tasks[index] = item


def _check_size(size: int) -> None:
    if size > MOST_ITEM_BYTES:
        raise ValueError(f"it has {size >> 20} MiB, more than a message may have")


class ActiveJob:
    """A job that runs now.

    Attributes:
        id: its id.
        job: what the run hands the pool.
        func: its function, pickled.
        kind: what it is sent to: "io" or "cpu".
        waiting: tasks that were pulled and have not been sent: index and item.
        out: messages that are on their way or at a worker, by id.
        killed: what tasks that are being killed will fail with, by index.
        ended_at: workers that have said that nothing of it runs there.
    """

    def __init__(self, job: Job, kind: str) -> None:
        self.id = uuid.uuid4().hex
        self.job = job
        self.func = serialization.dump_function(job.func)
        self.kind = kind
        self.waiting: list[tuple[int, Any]] = []
        self.out: dict[str, Message] = {}
        self.killed: dict[int, BaseException] = {}
        self.ended_at: set[str] = set()
        self.failure: BaseException | None = None
        self._changed = eventlet.event.Event()
        self._pace = Pace(_MEMORY_S)
        self._task_s: float | None = None

    # --- waiting for changes

    def wake(self) -> None:
        """Wake the green threads that wait for a change."""
        changed, self._changed = self._changed, eventlet.event.Event()
        changed.send()

    def wait(self, timeout_s: float | None = None) -> None:
        """Wait for a change."""
        if timeout_s is None:
            self._changed.wait()
            return
        with eventlet.Timeout(timeout_s, False):
            self._changed.wait()

    # --- how much

    @property
    def outstanding(self) -> int:
        """How many tasks were pulled and have not ended."""
        return len(self.waiting) + sum(len(message.tasks) for message in self.out.values())

    def note_ends(self, count: int, duration_s: float) -> None:
        """Measure the pace, and how long tasks take."""
        self._pace.note(count)
        mean_s = duration_s / count
        self._task_s = mean_s if self._task_s is None else self._task_s + 0.3 * (mean_s - self._task_s)

    @property
    def task_s(self) -> float | None:
        """How long a task takes, of late; None before the first has ended."""
        return self._task_s

    @property
    def ahead(self) -> int:
        """How many tasks may be on their way, beyond those that may be in flight."""
        return min(_MOST_AHEAD, int(_AHEAD_S * self._pace.now))

    def tell(self, index: int, started_s: float, ended_s: float, value: Any, error: BaseException | None) -> None:
        """Report to the run how a task ended."""
        if error is None:
            self.job.succeed(index, started_s, ended_s, value)
        else:
            self.job.fail(index, started_s, ended_s, error)

    def fail_now(self, index: int, error: BaseException) -> None:
        """Report to the run that a task failed that runs nowhere."""
        now_s = perf_counter()
        self.tell(index, now_s, now_s, None, error)

    def take_results(
        self, message: Message, offset_s: float, indexes: list[int], starts: list[float], ends: list[float],
        values: list[Any],
    ) -> None:  # fmt: skip
        """Take results that a worker has reported together: those of tasks that were not told of before."""
        duration_s = 0.0
        for index, start_s, end_s, value in zip(indexes, starts, ends, values, strict=True):
            duration_s += end_s - start_s
            if message.tasks.pop(index, self) is not self:
                self.killed.pop(index, None)
                self.tell(index, start_s + offset_s, end_s + offset_s, value, None)
        self.note_ends(len(indexes), duration_s)

    def take_end(
        self, message: Message, offset_s: float, kind: str, index: int, start_s: float, end_s: float,
        packed: tuple[int, int, bytes] | None = None,
    ) -> None:  # fmt: skip
        """Take the end of one task that a worker has reported, if that was not told of before."""
        if message.tasks.pop(index, self) is self:
            return
        self.note_ends(1, end_s - start_s)
        value: Any = None
        error: BaseException | None = self.killed.pop(index, None)
        if kind == messages.KILLED:
            error = error or CancelledError("the task was killed")
        elif packed is not None:
            value, error = _load_end(index, kind, packed)
        self.tell(index, start_s + offset_s, end_s + offset_s, value, error)


def _load_end(index: int, kind: str, packed: tuple[int, int, bytes]) -> tuple[Any, BaseException | None]:
    from greenlab.pools.processes import framing

    return serialization.load_end(index, framing.ERROR if kind == messages.FAILURE else framing.RESULT, *packed)
