"""The ledger of a run that discards its results: counts and a histogram, nothing that grows with the tasks.

Guarantees: memory is flat however many tasks there are, also for an endless iterator: items are kept while they are
in flight, and of failures the first `KEPT`; percentiles are right to within 2 %, for latencies are counted in buckets
whose width is that share of them (the idea of HdrHistogram; G. Tene, 2012).

Must not import: live, magics, a concrete pool.
"""

from __future__ import annotations

import itertools
from array import array
from math import ceil, log2
from typing import TYPE_CHECKING, Any, Self

from greenlab.errors import CancelledError, UsageError
from greenlab.runs.latency import Latency
from greenlab.runs.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Iterable

    from greenlab.runs.items import Items

KEPT = 100
"""How many failures are kept, with their items."""
_STEPS = 35  # buckets an octave: 2 ** (1 / 35) is 1.02
_LEAST_S = 2.0**-30  # a nanosecond, about
_BUCKETS = 60 * _STEPS  # up to 2 ** 30 s


class Histogram:
    """Counts of latencies in buckets of equal ratio."""

    def __init__(self) -> None:
        self._counts = array("Q", bytes(8 * _BUCKETS))
        self._total = 0
        self._max_s = 0.0

    def add(self, latency_s: float) -> None:
        """Count one."""
        self._counts[min(max(0, int(log2(max(latency_s, _LEAST_S) / _LEAST_S) * _STEPS)), _BUCKETS - 1)] += 1
        self._total += 1
        self._max_s = max(self._max_s, latency_s)

    def latency(self) -> Latency:
        """Give the percentiles, each the middle of its bucket; the maximum is exact."""
        if not self._total:
            return Latency()
        sums = list(itertools.accumulate(self._counts))

        def rank(share: float) -> float:
            wanted = ceil(share * self._total)
            bucket = next(i for i, sum_ in enumerate(sums) if sum_ >= wanted)
            return min(float(_LEAST_S * 2.0 ** ((bucket + 0.5) / _STEPS)), self._max_s)

        return Latency(rank(0.50), rank(0.90), rank(0.99), self._max_s)


class AggregateLedger(Ledger):
    """A `Ledger` without columns: `values`, `state`, `started_s` and `ended_s` stay empty."""

    _KEEPS_ITEMS = False

    def __init__(self, func: Any, items: Iterable[Any] | Items, **settings: Any) -> None:
        super().__init__(func, items, **settings)
        self.cancelled = 0
        self._histogram = Histogram()
        self._in_flight: dict[int, Any] = {}
        self._meant_s: dict[int, float] = {}
        self._failed: dict[int, Any] = {}
        self._again_items: dict[int, Any] = {}  # of a resumed run, until they are in flight
        self._resumed = False

    def resumed(self) -> Self:
        """Make the ledger that does the rest; counts go on.

        Raises:
            UsageError: more tasks failed than were kept; or the items, of which none are kept, went to a resumed run.
        """
        if self.failed > len(self._failed):
            raise UsageError(
                f"{self.failed:,} tasks failed, and a run that discards its results keeps the first {KEPT}: "
                "run it again, without discard"
            )
        if self._resumed and not self.source.complete:
            raise UsageError("this run was resumed before, and keeps no items: resume the run that this gave")
        self._resumed = True
        new = self._like()
        new._histogram = self._histogram
        new._again_items = {**self._failed, **self._in_flight}
        new._redo.extend(sorted(new._again_items))
        new._cursor = self._cursor
        new.pulled = new.done = self.done - self.failed
        return new

    def _open_record(self, index: int, item: Any) -> None:
        self._in_flight[index] = item

    def _item(self, index: int) -> Any:
        return self._in_flight[index] if index in self._in_flight else self._again_items.pop(index)

    def _mean_to_start(self, index: int, start_s: float) -> None:
        self._meant_s[index] = start_s

    def succeed(self, index: int, started_s: float, ended_s: float, value: Any) -> None:  # noqa: ARG002
        """Count a task, and forget its value."""
        del self._in_flight[index]
        self._histogram.add(ended_s - self._meant_s.pop(index, started_s))
        self.done += 1
        if self.retries:
            self._notify()

    def _record_failure(self, index: int, started_s: float, ended_s: float, error: BaseException) -> None:
        item = self._in_flight.pop(index)
        self._histogram.add(ended_s - self._meant_s.pop(index, started_s))
        if len(self._failed) < KEPT:
            self._failed[index] = item
            self.errors[index] = error

    def cancel_pending(self) -> None:
        """Count what was pulled and never ended as cancelled."""
        self.cancelled = len(self._in_flight)
        for index in itertools.islice(self._in_flight, KEPT):
            self.errors[index] = CancelledError("the run was cancelled before this task ended")

    def counts(self) -> dict[str, int]:
        """Count tasks pulled: succeeded, failed, cancelled, pending."""
        return {
            "succeeded": self.done - self.failed,
            "failed": self.failed,
            "cancelled": self.cancelled,
            "pending": 0 if self.cancelled else self.pulled - self.done,
        }

    def latency(self) -> Latency:
        """Give the latency of the tasks that have ended, to within 2 %."""
        return self._histogram.latency()

    def first_failure(self) -> tuple[int, BaseException] | None:
        """Give the first task that failed, with its exception."""
        return next(((index, self.errors[index]) for index in self._failed), None)
