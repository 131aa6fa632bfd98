"""The ledger of a run: which tasks there are, and how each of them ended, in columns.

It is the `Job` that a pool sees. Records are arrays indexed by the item's place in the input, not objects: a task
costs 17 bytes beside its value.

Guarantees: each task is counted once; the items' iterator is asked by one green thread at a time, and only as fast
as tasks start; an iterator that raises ends the run, not the process, and the items before that keep their outcomes.

Must not import: live, magics, a concrete pool.
"""

from __future__ import annotations

import heapq
import random
import sys
from array import array
from collections import Counter, deque
from time import perf_counter
from typing import TYPE_CHECKING, Any, Self

import greenlet

from greenlab.errors import CancelledError
from greenlab.hub import eventlet
from greenlab.places import is_machinery
from greenlab.runs.items import Items
from greenlab.runs.latency import Latency, latency_of
from greenlab.text.tracebacks import Raised, cut_traceback

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from greenlab.hub.blocks import Block

PENDING, OK, FAILED, CANCELLED = range(4)
_NAN = float("nan")


class Ledger:
    """The tasks of one run: a `greenlab.pools.protocol.Job`.

    Attributes:
        func: the function of one item.
        source: the items.
        values: results by index; meaningful where `state` is OK.
        state: one byte a task: PENDING, OK, FAILED or CANCELLED.
        started_s, ended_s: `perf_counter` seconds by index; NaN before. With a rate it is the intended
            start, so that the time in which a task waited to start is not hidden.
        errors: exceptions by index.
        traces: their tracebacks as they were when the tasks failed, where they have one: a raise adds to their own.
        error_types: how many failures there are of each exception type.
        pulled, done, failed: how many tasks were taken, ended, and ended badly.
        done_before: how many of those that are done had succeeded before, in the run that this one resumes.
        source_error: what the items' iterator raised, or None.
        streams_at_start: `sys.stdout` and `sys.stderr` as they were when the run began.
        replaced_by: the last task that ended while one of these was replaced, or None.
        first_backoff_s: how long a first retry waits at the most, in seconds; each next one doubles it.
    """

    _KEEPS_ITEMS = True
    kind: str | None = None  # nothing is known of the tasks of a run before it runs

    def __init__(
        self,
        func: Callable[[Any], Any],
        items: Iterable[Any] | Items,
        *,
        concurrency: int,
        timeout_s: float | None = None,
        retries: int = 0,
        rate: float | None = None,
        workers: int = 1,
        max_tasks: int | None = None,
        max_memory: int | None = None,
    ) -> None:
        self.func = func
        self.concurrency = concurrency
        self.workers = workers
        self.max_tasks = max_tasks
        self.max_memory = max_memory
        self.timeout_s = timeout_s
        self.retries = retries
        self.rate = rate
        self.values: list[Any] = []
        self.state = bytearray()
        self.started_s = array("d")
        self.ended_s = array("d")
        self.errors: dict[int, BaseException] = {}
        self.traces: dict[int, TracebackType] = {}
        self.error_types: Counter[str] = Counter()
        self.pulled = self.done = self.done_before = self.failed = 0
        self.source_error: BaseException | None = None
        self.first_backoff_s = 0.1
        self.stopped = False
        self.exhausted = False
        self.on_failure: Callable[[int, BaseException], object] | None = None
        self.on_write: Callable[[str, str, int | None], object] | None = None
        self.on_block: Callable[[Block], object] | None = None
        self.streams_at_start = sys.stdout, sys.stderr
        self.replaced_by: int | None = None
        self.awaited: list[Ledger] = []  # the runs that tasks of this one wait for
        self.source = items if isinstance(items, Items) else Items(items, keep=self._KEEPS_ITEMS)
        self._cursor = 0  # the index of the next new item
        self._resume_first: deque[int] = deque()  # indexes that a resumed run pulls first
        self._retry_heap: list[tuple[float, int]] = []
        self._attempts: dict[int, int] = {}
        self._changed = eventlet.event.Event()
        self._next_start = 0.0
        self._start_lock = eventlet.semaphore.Semaphore(1)
        if retries or rate:
            self.pull = self._pull_paced  # type: ignore[method-assign]

    @property
    def total(self) -> int | None:
        """How many tasks there are in all; None while that is not known."""
        return self.source.total

    def _empty_copy(self, **changes: Any) -> Self:
        """Return an empty ledger with the same source, and the same settings but for some that change."""
        settings: dict[str, Any] = {
            "concurrency": self.concurrency,
            "timeout_s": self.timeout_s,
            "retries": self.retries,
            "rate": self.rate,
            "workers": self.workers,
            "max_tasks": self.max_tasks,
            "max_memory": self.max_memory,
        }
        return type(self)(self.func, self.source, **(settings | changes))

    def resumed(self, **changes: Any) -> Self:
        """Return a ledger for the tasks that have not succeeded: results so far are kept, the rest is pulled again.

        Args:
            changes: settings of the new one that differ from this one's.
        """
        new = self._empty_copy(**changes)
        new.values, new.state = list(self.values), bytearray(self.state)
        new.started_s, new.ended_s = array("d", self.started_s), array("d", self.ended_s)
        new._cursor = self._cursor
        new._resume_first.extend(index for index, state in enumerate(self.state) if state != OK)
        for index in new._resume_first:
            new.state[index] = PENDING
        new.pulled = new.done = new.done_before = len(self.state) - len(new._resume_first)
        return new

    # -- what a pool calls ---------------------------------------------------------------------------------

    def size_hint(self) -> int | None:
        """Return how many tasks are left to pull, None if not known. With retries, failed ones may come again."""
        if self.exhausted:
            return 0
        return None if self.total is None else self.total - self.pulled + len(self._retry_heap)

    def pull(self) -> tuple[int, Any]:
        """Take the next task. See `greenlab.pools.protocol.Job.pull`."""
        if self.stopped:
            raise StopIteration
        if self._resume_first:
            index = self._resume_first.popleft()
            item = self._item(index)
            self._open_record(index, item)
            self.pulled += 1
            return index, item
        if self.source.lock is None:
            return self._next()
        with self.source.lock:
            return self._next()

    def _next(self) -> tuple[int, Any]:
        index = self._cursor
        try:
            item = self.source.at(index)
        except StopIteration:
            self.exhausted = True
            raise
        except BaseException as error:
            if self.stopped:  # thrown into an iterator that waits, because the run ends: no error of the items
                if isinstance(error, greenlet.GreenletExit):
                    raise
                raise StopIteration from None
            # SystemExit and GeneratorExit too: no further item will come, and the run must report that.
            cut_traceback(error, is_machinery)
            self.source_error = error
            self.exhausted = self.stopped = True
            raise StopIteration from None
        self._open_record(index, item)
        # Last: after an interrupt before this line, the next call asks for the same item again.
        self._cursor = index + 1
        self.pulled += 1
        return index, item

    def _open_record(self, index: int, item: Any) -> None:  # noqa: ARG002 (a subclass keeps the item)
        if index >= len(self.state):
            self.values.append(None)
            self.state.append(PENDING)
            self.started_s.append(_NAN)
            self.ended_s.append(_NAN)

    def _item(self, index: int) -> Any:
        return self.source.at(index)

    def _set_intended_start(self, index: int, start_s: float) -> None:
        self.started_s[index] = start_s

    def succeed(self, index: int, started_s: float, ended_s: float, value: Any) -> None:
        """Keep the value of a task."""
        self.values[index] = value
        self.state[index] = OK
        if self.rate is None:
            self.started_s[index] = started_s
        self.ended_s[index] = ended_s
        self.done += 1
        if sys.stdout is not self.streams_at_start[0] or sys.stderr is not self.streams_at_start[1]:
            self.replaced_by = index
        if self.retries:
            self._notify()

    def fail(self, index: int, started_s: float, ended_s: float, error: BaseException) -> None:
        """Keep the exception of a task, or put it back for another try."""
        if self.retries and self._queue_retry(index, error):
            return
        self._record_failure(index, started_s, ended_s, error)
        if sys.stdout is not self.streams_at_start[0] or sys.stderr is not self.streams_at_start[1]:
            self.replaced_by = index
        self.error_types[type(error).__name__] += 1
        self.done += 1
        self.failed += 1
        if self.on_failure is not None:
            self.on_failure(index, error)
        if self.retries:
            self._notify()

    def _record_failure(self, index: int, started_s: float, ended_s: float, error: BaseException) -> None:
        if self.rate is None:
            self.started_s[index] = started_s
        self.ended_s[index] = ended_s
        self.state[index] = FAILED
        self._keep_error(index, error)

    def _keep_error(self, index: int, error: BaseException) -> None:
        cut_traceback(error, is_machinery)
        self.errors[index] = error
        if error.__traceback__ is not None:
            self.traces[index] = error.__traceback__

    def write(self, stream: str, text: str, index: int | None = None) -> None:
        """Print what a task in another process printed."""
        if self.on_write is not None:
            self.on_write(stream, text, index)

    def note_block(self, block: Block) -> None:
        """Report a block in another process to the run."""
        if self.on_block is not None:
            self.on_block(block)

    # -- what a run calls ------------------------------------------------------------------------------------

    def cancel_pending(self) -> None:
        """Mark what was pulled and never ended as cancelled."""
        for index, state in enumerate(self.state):
            if state == PENDING:
                self.state[index] = CANCELLED
                self.errors[index] = CancelledError("the run was cancelled before this task ended")

    def counts(self) -> dict[str, int]:
        """Count tasks pulled: succeeded, failed, cancelled, pending."""
        state = self.state
        return {
            "succeeded": state.count(OK),
            "failed": state.count(FAILED),
            "cancelled": state.count(CANCELLED),
            "pending": state.count(PENDING),
        }

    def latency(self) -> Latency:
        """Return the latency of the tasks that have ended."""
        return latency_of(self.started_s, self.ended_s)

    def raised(self, index: int) -> Raised:
        """Return the exception of a task as it was when the task failed."""
        return Raised(self.errors[index], self.traces.get(index))

    def first_failure(self) -> tuple[int, Raised] | None:
        """Return the failed task that comes first in the input, with its exception."""
        index = self.state.find(FAILED)
        return None if index < 0 else (index, self.raised(index))

    # -- retries and rates ---------------------------------------------------------------------------------

    def _pull_paced(self) -> tuple[int, Any]:
        """Pull as the clock allows: retries when they are due, new tasks at the rate."""
        while not self.stopped:
            now = perf_counter()
            if self._retry_heap and self._retry_heap[0][0] <= now:
                _, index = heapq.heappop(self._retry_heap)
                return index, self._item(index)
            if not self.exhausted:
                try:
                    return self._pull_new(now)
                except StopIteration:
                    continue
            if not self._retry_heap and (not self.retries or self.done >= self.pulled):
                break  # no task in flight can come back as a retry
            wait_s = self._retry_heap[0][0] - now if self._retry_heap else None
            with eventlet.Timeout(wait_s, False):
                self._changed.wait()
        raise StopIteration

    def _pull_new(self, now: float) -> tuple[int, Any]:
        if self.rate is None:
            return Ledger.pull(self)
        # One at a time: a worker that waits for the next start must not keep the others from seeing the end.
        with self._start_lock:
            if self.exhausted or self.stopped:
                raise StopIteration
            start = self._next_start or now
            eventlet.sleep(max(0.0, start - perf_counter()))
            pair = Ledger.pull(self)
            self._next_start = start + 1 / self.rate
        self._set_intended_start(pair[0], start)
        return pair

    def _queue_retry(self, index: int, error: BaseException) -> bool:
        """Queue a failed task for another try, after a back-off that doubles and is spread by jitter."""
        tries = self._attempts.get(index, 0)
        if tries >= self.retries or self.stopped or not isinstance(error, Exception):
            return False
        self._attempts[index] = tries + 1
        # "Full jitter": uniform between 0 and the doubled base, so that tries do not come back in step
        # (M. Brooker, Exponential Backoff And Jitter, AWS Architecture Blog, 2015).
        pause_s = random.uniform(0, self.first_backoff_s * 2**tries)  # noqa: S311 (not for secrets)
        heapq.heappush(self._retry_heap, (perf_counter() + pause_s, index))
        self._notify()
        return True

    def _notify(self) -> None:
        changed, self._changed = self._changed, eventlet.event.Event()
        changed.send(None)
