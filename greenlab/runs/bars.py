"""The tasks of a run of few, one by one: what each is called, when it began and ended, and how.

Guarantees: no code of the items' own runs for a name; what does not print by itself is called by its index.

Must not import: live, magics.
"""

from __future__ import annotations

from math import nan
from typing import TYPE_CHECKING, Any, Final

from greenlab.pools.protocol import TaskSpan
from greenlab.runs.ledger import CANCELLED, FAILED, OK, PENDING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from greenlab.runs.ledger import Ledger

STATES: Final = {OK: "succeeded", FAILED: "failed", CANCELLED: "cancelled"}
_MOST_CHARS: Final = 300
_MARKS: Final = "/ =,"
_SHARED_CHARS: Final = 8
"""A beginning that all names share is left out if it is so long: it tells none of them from another."""


def bars_of(ledger: Ledger, begun_s: Mapping[int, float], since_s: float, until_s: float) -> list[TaskSpan]:
    """Return the tasks of a run in the order in which they began; those whose start is not known come last.

    Args:
        ledger: the run's records.
        begun_s: when the tasks in flight began, or those that were cut short, by index.
        since_s: when the run began: what a run before it has done, which this one resumes, is left out.
        until_s: when it ended, or now.
    """
    found = []
    for index, state in enumerate(ledger.state):
        start_s, end_s, outcome = ledger.started_s[index], ledger.ended_s[index], STATES.get(state, "running")
        if state == CANCELLED or (state == PENDING and index in begun_s):
            start_s, end_s = begun_s.get(index, nan), until_s
        if end_s >= since_s:
            found.append((index, start_s, end_s, outcome))
    names = _names([index for index, *_ in found], ledger)
    bars = [TaskSpan(name, *one[1:]) for name, one in zip(names, found, strict=True)]
    return sorted(bars, key=lambda bar: (bar.start_s != bar.start_s, bar.start_s))


def _names(indexes: Sequence[int], ledger: Ledger) -> list[str]:
    texts = [_text(index, ledger) for index in indexes]
    shared = _shared_start(texts) if all(texts) and len(texts) > 1 else ""
    last = max(shared.rfind(mark) for mark in _MARKS)
    cut = max(shared.rfind(mark, 0, max(last, 0)) for mark in _MARKS) + 1  # its last part stays: `…feeds/7`
    if cut >= _SHARED_CHARS:
        texts = [f"…{text[cut:]}" for text in texts]
    return [f"{index}  {text}" if text else f"task {index}" for index, text in zip(indexes, texts, strict=True)]


def _shared_start(texts: Sequence[str]) -> str:
    # All that the first and the last of them in order share, every one between them shares.
    first, last = min(texts), max(texts)
    size = next((at for at, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), len(first))
    return first[:size]


def _text(index: int, ledger: Ledger) -> str:
    """Return an item as text; empty for one that is its own index, is not kept, or does not print in a line."""
    try:
        text = _printed(ledger.source.items[index])
    except IndexError:
        return ""
    return "" if text == str(index) else text


def _printed(item: Any) -> str:
    # By its exact type: the __str__ of a subclass may do anything.
    if type(item) is str:
        return " ".join(item[:_MOST_CHARS].split())
    if type(item) in {int, float, bool}:
        return str(item)[:_MOST_CHARS]
    if type(item) is tuple and 0 < len(item) <= 4:
        parts = [_printed(part) for part in item]
        return ", ".join(parts) if all(parts) else ""
    return ""
