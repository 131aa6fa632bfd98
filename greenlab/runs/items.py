"""The items of a run, each by its index, whichever of several runs asks first.

A run, its resumed ones and its reruns share one source; each has its own place in it.

Guarantees: an iterator is asked by one green thread at a time, and only for the next item; what it gave is kept for
those who come later (retries, resume, rerun), unless asked not to. An interrupt between two steps loses no item.

Must not import: live, magics, pools.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from greenlab.hub import eventlet

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# Iterating over these runs no Python code, so nothing can switch in the middle of `next`.
_PLAIN = (list, tuple, range, dict, set, frozenset, str, bytes)
_SEQUENCES = (list, tuple, range)


class Items:
    """Items by index.

    Args:
        items: any iterable. A list, tuple or range is read by index, and not copied.
        keep: whether to keep what an iterator gives.

    Attributes:
        total: how many items there are, or None while that is not known. What a length promised is put right when the
            iterator gives more, or ends.
        exhausted: whether an iterator was read to its end.
        lock: held by who asks an iterator, which may wait before it gives; None for what never waits.
    """

    def __init__(self, items: Iterable[Any], *, keep: bool = True) -> None:
        try:
            self.total: int | None = len(items)  # type: ignore[arg-type]
        except TypeError:
            self.total = None
        self._sequence: Sequence[Any] | None = items if isinstance(items, _SEQUENCES) else None
        self._iterator = iter(items)
        self._keep = keep
        self._given: list[Any] = []
        self._count = 0
        self.lock: Any = None if isinstance(items, _PLAIN) else eventlet.semaphore.Semaphore(1)
        self.exhausted = self._sequence is not None

    @property
    def complete(self) -> bool:
        """Whether every item is at hand."""
        return self._sequence is not None or (self._keep and self.exhausted)

    @property
    def items(self) -> Sequence[Any]:
        """The items at hand."""
        return self._given if self._sequence is None else self._sequence

    def at(self, index: int) -> Any:
        """Give the item at `index`: one that is kept, or the next. To be called with `lock` held, if there is one.

        Raises:
            StopIteration: there is none.
            Exception: what the iterator raised.
        """
        if self._sequence is not None:
            if index >= len(self._sequence):
                raise StopIteration
            return self._sequence[index]
        if index < self._count:
            return self._given[index - self._count]  # from the end: all of them are there, or the last
        try:
            item = next(self._iterator)
        except StopIteration:
            self.exhausted = True
            self.total = self._count  # a length may have promised other than the iterator gives, as a DataFrame's does
            raise
        if not self._keep:
            self._given.clear()
        self._given.append(item)
        self._count += 1
        if self.total is not None and self._count > self.total:
            self.total = None
        return item
