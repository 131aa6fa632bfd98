"""The ledger of a run that discards its results: counts and a histogram, nothing that grows with the tasks.

Guarantees: memory is flat however many tasks there are, also for an endless iterator: items are kept while they are
in flight, and of failures the first `KEPT`; percentiles are right to within 2 %.

Must not import: live, magics, a concrete pool.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Self

from greenlab.errors import CancelledError, UsageError
from greenlab.runs.latency import Histogram
from greenlab.runs.ledger import Ledger
from greenlab.text.format import counted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from greenlab.runs.items import Items
    from greenlab.runs.latency import Latency
    from greenlab.text.tracebacks import Raised

KEPT = 100
"""So many failures are kept, with their items."""


class AggregateLedger(Ledger):
    """A `Ledger` without columns: `values`, `state`, `started_s` and `ended_s` stay empty."""

    _KEEPS_ITEMS = False

    def __init__(self, func: Any, items: Iterable[Any] | Items, **settings: Any) -> None:
        super().__init__(func, items, **settings)
        self.cancelled = 0
        self._histogram = Histogram()
        self._in_flight: dict[int, Any] = {}
        self._intended_s: dict[int, float] = {}
        self._failed: dict[int, Any] = {}
        self._resumed_items: dict[int, Any] = {}  # of a resumed run, until they are in flight
        self._resumed = False

    def resumed(self, **changes: Any) -> Self:
        """Return a ledger for the tasks that have not succeeded; counts go on.

        Raises:
            UsageError: more tasks failed than were kept; or this run was resumed before, and the rest of its iterator's
                items went to that run.
        """
        if self.failed > len(self._failed):
            raise UsageError(
                f"{counted(self.failed, 'task')} failed, and a run that discards its results keeps the first {KEPT}: "
                "run it again, without discard"
            )
        if self._resumed and not self.source.complete:
            raise UsageError("this run was resumed before, and keeps no items: resume the run which that returned")
        self._resumed = True
        new = self._empty_copy(**changes)
        new._histogram = self._histogram
        new._resumed_items = {**self._failed, **self._in_flight}
        new._resume_first.extend(sorted(new._resumed_items))
        new._cursor = self._cursor
        new.pulled = new.done = new.done_before = self.done - self.failed
        return new

    def _open_record(self, index: int, item: Any) -> None:
        self._in_flight[index] = item

    def _item(self, index: int) -> Any:
        return self._in_flight[index] if index in self._in_flight else self._resumed_items.pop(index)

    def _set_intended_start(self, index: int, start_s: float) -> None:
        self._intended_s[index] = start_s

    def succeed(self, index: int, started_s: float, ended_s: float, value: Any) -> None:  # noqa: ARG002
        """Count a task, and forget its value."""
        del self._in_flight[index]
        self._histogram.add(ended_s - self._intended_s.pop(index, started_s))
        self.done += 1
        if self.retries:
            self._notify()

    def _record_failure(self, index: int, started_s: float, ended_s: float, error: BaseException) -> None:
        item = self._in_flight.pop(index)
        self._histogram.add(ended_s - self._intended_s.pop(index, started_s))
        if len(self._failed) < KEPT:
            self._failed[index] = item
            self._keep_error(index, error)

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
        """Return the latency of the tasks that have ended, to within 2 %."""
        return self._histogram.latency()

    def first_failure(self) -> tuple[int, Raised] | None:
        """Return the first task that failed, with its exception."""
        return next(((index, self.raised(index)) for index in self._failed), None)
