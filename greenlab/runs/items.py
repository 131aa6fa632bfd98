"""The items of a run by index, shared by several runs.

A run, its resumed ones and its reruns share one source; each has its own place in it.

Guarantees: an iterator is asked by one green thread at a time, and only for the next item; its items are kept for
retries, `resume` and `rerun`, unless asked not to. An interrupt between two steps loses no item.

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
        keep: whether to keep the items of an iterator.

    Attributes:
        total: how many items there are, or None while that is not known. A wrong length is
            corrected when the iterator has more items than that, or ends.
        exhausted: whether an iterator was read to its end.
        lock: to be held while an iterator is asked, which may wait for its next item; None for what never waits.
    """

    def __init__(self, items: Iterable[Any], *, keep: bool = True) -> None:
        try:
            self.total: int | None = len(items)  # type: ignore[arg-type]
        except TypeError:
            self.total = None
        self._sequence: Sequence[Any] | None = items if isinstance(items, _SEQUENCES) else None
        self._iterator = iter(items)
        self._keep = keep
        self._kept: list[Any] = []
        self._count = 0
        self.lock: Any = None if isinstance(items, _PLAIN) else eventlet.semaphore.Semaphore(1)
        self.exhausted = self._sequence is not None

    @property
    def complete(self) -> bool:
        """Whether every item can be read by its index."""
        return self._sequence is not None or (self._keep and self.exhausted)

    @property
    def items(self) -> Sequence[Any]:
        """The items that can be read by index."""
        return self._kept if self._sequence is None else self._sequence

    def at(self, index: int) -> Any:
        """Return the item at `index`: one that is kept, or the next one. Call it with `lock` held, if there is one.

        Raises:
            StopIteration: there is none.
            Exception: what the iterator raised.
        """
        if self._sequence is not None:
            if index >= len(self._sequence):
                raise StopIteration
            return self._sequence[index]
        if index < self._count:
            return self._kept[index - self._count]  # from the end: all of them are there, or the last
        try:
            item = next(self._iterator)
        except StopIteration:
            self.exhausted = True
            self.total = self._count  # the length may be another than that of the iteration, as a DataFrame's is
            raise
        if not self._keep:
            self._kept.clear()
        self._kept.append(item)
        self._count += 1
        if self.total is not None and self._count > self.total:
            self.total = None
        return item
