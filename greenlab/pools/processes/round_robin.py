"""Whose turn it is: the jobs that run now in a pool of worker processes, in the order in which they are served.

A job that has been given a batch of work goes to the end. So jobs that run at the same time take turns at the workers,
batch by batch. (The green pool shares out time instead, of which a hub knows how much it gave to whom: see
`greenlab.pools.fair_scheduler`. Here the time passes in other processes.)

Guarantees: nothing here waits. To iterate is safe while jobs come, go or have their turn.

Must not import: runs, live, magics, a concrete pool.
"""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING, Generic, TypeVar

from greenlab.pools.processes.job import ActiveJob

if TYPE_CHECKING:
    from collections.abc import Iterator

A = TypeVar("A", bound=ActiveJob)


class RoundRobin(Generic[A]):
    """Jobs in the order of whose turn it is; the first one is next."""

    def __init__(self) -> None:
        self._by_number: dict[int, A] = {}
        self._queue: list[A] = []

    def __len__(self) -> int:
        return len(self._queue)

    def __iter__(self) -> Iterator[A]:
        return iter(self._queue.copy())

    def get(self, number: int) -> A | None:
        """Return the job with a number, or None if it has ended."""
        return self._by_number.get(number)

    def add(self, active: A) -> None:
        """Put a job that begins at the end."""
        self._by_number[active.number] = active
        self._queue.append(active)

    def remove(self, active: A) -> None:
        """Forget a job that has ended."""
        del self._by_number[active.number]
        self._queue.remove(active)

    def had_turn(self, active: A) -> None:
        """Put a job to the end: it was given work."""
        if len(self._queue) > 1 and active.number in self._by_number:
            self._queue.remove(active)
            self._queue.append(active)

    def before(self, active: A) -> Iterator[A]:
        """Return the jobs whose turn comes before this one's."""
        return takewhile(lambda other: other is not active, self._queue)
