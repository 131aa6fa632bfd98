"""The ledger of a run: what is to do, and how each task ended, in columns.

It is the `Job` that a pool sees. Records are arrays indexed by the item's place in the input, not objects: a task
costs 17 bytes beside its value.

Guarantees: each task is counted once; the items' iterator is asked by one green thread at a time, and only as fast
as tasks start; an iterator that raises ends the run, not the process, and what it gave before stays.

Must not import: live, magics, a concrete pool.
"""

from __future__ import annotations

import heapq
import itertools
import random
from array import array
from collections import Counter
from time import perf_counter
from typing import TYPE_CHECKING, Any

from greenlab.errors import CancelledError
from greenlab.hub import eventlet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

PENDING, OK, FAILED, CANCELLED = range(4)
_NAN = float("nan")
# Iterating over these runs no Python code, so nothing can switch in the middle of `next`.
_PLAIN = (list, tuple, range, dict, set, frozenset, str, bytes)
_FIRST_BACKOFF_S = 0.1


class Ledger:
    """The tasks of one run: a `greenlab.pools.protocol.Job`.

    Attributes:
        func: the function of one item.
        items: what was pulled so far, by index (the input itself where it is a sequence).
        values: results by index; meaningful where `state` is OK.
        state: one byte a task: PENDING, OK, FAILED or CANCELLED.
        started_s, ended_s: `perf_counter` seconds by index; NaN before. With a rate, a task starts when it was
            meant to start, so that waiting to start is not hidden.
        errors: exceptions by index.
        error_types: how many failures there are of each exception type.
        pulled, done, failed: how many tasks were taken, ended, and ended badly.
        source_error: what the items' iterator raised, or None.
    """

    def __init__(
        self,
        func: Callable[[Any], Any],
        items: Iterable[Any],
        *,
        concurrency: int,
        timeout_s: float | None = None,
        retries: int = 0,
        rate: float | None = None,
    ) -> None:
        self.func = func
        self.concurrency = concurrency
        self.timeout_s = timeout_s
        self.retries = retries
        self.rate = rate
        self.values: list[Any] = []
        self.state = bytearray()
        self.started_s = array("d")
        self.ended_s = array("d")
        self.errors: dict[int, BaseException] = {}
        self.error_types: Counter[str] = Counter()
        self.pulled = self.done = self.failed = 0
        self.source_error: BaseException | None = None
        self.stopped = False
        self.exhausted = False
        self.on_failure: Callable[[int, BaseException], object] | None = None
        self.on_write: Callable[[str, str], object] | None = None
        try:
            self.total: int | None = len(items)  # type: ignore[arg-type]
        except TypeError:
            self.total = None
        # A sequence can be asked again for an item; of anything else what is pulled is kept, for retries and resume.
        self._kept: list[Any] | None = None if isinstance(items, (list, tuple, range)) else []
        self.items: Any = items if self._kept is None else self._kept
        self._pairs: Iterator[tuple[int, Any]] = enumerate(items)
        self._source_lock = None if isinstance(items, _PLAIN) else eventlet.semaphore.Semaphore(1)
        self._retry_heap: list[tuple[float, int]] = []
        self._attempts: dict[int, int] = {}
        self._changed = eventlet.event.Event()
        self._next_start = 0.0
        self._pace = eventlet.semaphore.Semaphore(1)
        if retries or rate:
            self.pull = self._pull_paced  # type: ignore[method-assign]

    def resumed(self) -> Ledger:
        """Make the ledger that does what this one has not: its results are kept, the rest is pulled again."""
        new = Ledger(
            self.func,
            (),
            concurrency=self.concurrency,
            timeout_s=self.timeout_s,
            retries=self.retries,
            rate=self.rate,
        )
        new.total, new.items, new._kept, new._source_lock = (
            self.total,
            self.items,
            self._kept,
            self._source_lock,
        )
        new.values, new.state = list(self.values), bytearray(self.state)
        new.started_s, new.ended_s = array("d", self.started_s), array("d", self.ended_s)
        redo = [index for index, state in enumerate(self.state) if state != OK]
        for index in redo:
            new.state[index] = PENDING
        new.pulled = new.done = len(self.state) - len(redo)
        new._pairs = itertools.chain([(index, self.items[index]) for index in redo], self._pairs)
        return new

    # -- what a pool calls ---------------------------------------------------------------------------------

    def size_hint(self) -> int | None:
        """Tasks left to pull, or None. With retries, failed ones may come again."""
        if self.exhausted:
            return 0
        return None if self.total is None else self.total - self.pulled + len(self._retry_heap)

    def pull(self) -> tuple[int, Any]:
        """Take the next task. See `greenlab.pools.protocol.Job.pull`."""
        if self.stopped:
            raise StopIteration
        if self._source_lock is not None:
            with self._source_lock:
                return self._next()
        return self._next()

    def _next(self) -> tuple[int, Any]:
        try:
            pair = next(self._pairs)
        except StopIteration:
            self.exhausted = True
            raise
        except Exception as error:
            self.source_error = error
            self.exhausted = self.stopped = True
            raise StopIteration from None
        index = pair[0]
        if index >= len(self.state):
            self.values.append(None)
            self.state.append(PENDING)
            self.started_s.append(_NAN)
            self.ended_s.append(_NAN)
            if self._kept is not None:
                self._kept.append(pair[1])
        self.pulled += 1
        return pair

    def succeed(self, index: int, started_s: float, ended_s: float, value: Any) -> None:
        """Keep the value of a task."""
        self.values[index] = value
        self.state[index] = OK
        if self.rate is None:
            self.started_s[index] = started_s
        self.ended_s[index] = ended_s
        self.done += 1
        if self.retries:
            self._notify()

    def fail(self, index: int, started_s: float, ended_s: float, error: BaseException) -> None:
        """Keep the exception of a task, or put it back for another try."""
        if self.retries and self._again(index, error):
            return
        if self.rate is None:
            self.started_s[index] = started_s
        self.ended_s[index] = ended_s
        self.state[index] = FAILED
        self.errors[index] = error
        self.error_types[type(error).__name__] += 1
        self.done += 1
        self.failed += 1
        if self.on_failure is not None:
            self.on_failure(index, error)
        if self.retries:
            self._notify()

    def write(self, stream: str, text: str) -> None:
        """Show what a task in another process printed."""
        if self.on_write is not None:
            self.on_write(stream, text)

    # -- the run's side ------------------------------------------------------------------------------------

    def cancel_pending(self) -> int:
        """Mark what was pulled and never ended as cancelled; tell how many."""
        count = 0
        for index, state in enumerate(self.state):
            if state == PENDING:
                self.state[index] = CANCELLED
                self.errors[index] = CancelledError("the run was cancelled before this task ended")
                count += 1
        return count

    # -- retries and rates ---------------------------------------------------------------------------------

    def _pull_paced(self) -> tuple[int, Any]:
        """Pull with an eye on the clock: retries when they are due, new tasks at the rate."""
        while not self.stopped:
            now = perf_counter()
            if self._retry_heap and self._retry_heap[0][0] <= now:
                _, index = heapq.heappop(self._retry_heap)
                return index, self.items[index]
            if not self.exhausted:
                try:
                    return self._pull_new(now)
                except StopIteration:
                    continue
            if not self._retry_heap and (not self.retries or self.done >= self.pulled):
                break  # nothing that is in flight can come back
            wait_s = self._retry_heap[0][0] - now if self._retry_heap else None
            with eventlet.Timeout(wait_s, False):
                self._changed.wait()
        raise StopIteration

    def _pull_new(self, now: float) -> tuple[int, Any]:
        if self.rate is None:
            return Ledger.pull(self)
        # One at a time: whoever waits for the next start must not keep the others from seeing the end.
        with self._pace:
            if self.exhausted or self.stopped:
                raise StopIteration
            start = self._next_start or now
            eventlet.sleep(max(0.0, start - perf_counter()))
            pair = Ledger.pull(self)
            self._next_start = start + 1 / self.rate
        self.started_s[pair[0]] = start
        return pair

    def _again(self, index: int, error: BaseException) -> bool:
        """Queue a failed task for another try, after a back-off that doubles and is spread by jitter."""
        tried = self._attempts.get(index, 0)
        if tried >= self.retries or self.stopped or not isinstance(error, Exception):
            return False
        self._attempts[index] = tried + 1
        # "Full jitter": uniform between 0 and the doubled base, so that tries do not come back in step
        # (M. Brooker, Exponential Backoff And Jitter, AWS Architecture Blog, 2015).
        pause_s = random.uniform(0, _FIRST_BACKOFF_S * 2**tried)  # noqa: S311 (not for secrets)
        heapq.heappush(self._retry_heap, (perf_counter() + pause_s, index))
        self._notify()
        return True

    def _notify(self) -> None:
        changed, self._changed = self._changed, eventlet.event.Event()
        changed.send(None)
