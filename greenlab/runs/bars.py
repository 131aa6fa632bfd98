"""The tasks of a short run, one by one: what each is called, when it began and ended, and how.

Guarantees: no code of the items' own runs for a name; what does not print by itself is called by its index.

Must not import: live, magics.
"""

from __future__ import annotations

from math import nan
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from greenlab.runs.ledger import CANCELLED, FAILED, OK

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from greenlab.runs.ledger import Ledger

STATES: Final = {OK: "succeeded", FAILED: "failed", CANCELLED: "cancelled"}
_MOST_CHARS: Final = 300
_MARKS: Final = "/ =,"
_SHARED_CHARS: Final = 8
"""A beginning that all names share is left out if it is so long: it tells none of them from another."""


class TaskBar(NamedTuple):
    """A task that began.

    Attributes:
        name: what it is called: its index, and its item where that prints.
        start_s, end_s: `time.perf_counter()` seconds; nan where the start of a cancelled task is not known.
        outcome: "succeeded", "failed" or "cancelled".
    """

    name: str
    start_s: float
    end_s: float
    outcome: str


def bars_of(ledger: Ledger, cut_s: Mapping[int, float], since_s: float, ended_s: float) -> list[TaskBar]:
    """Return the tasks of a run in the order in which they began; those whose start is not known come last.

    Args:
        ledger: the run's records.
        cut_s: when tasks that were cut short began, by index.
        since_s: when the run began: what a run before it has done, which this one resumes, is left out.
        ended_s: when it ended.
    """
    found = []
    for index, state in enumerate(ledger.state):
        start_s, end_s = ledger.started_s[index], ledger.ended_s[index]
        if state == CANCELLED:
            start_s, end_s = cut_s.get(index, nan), ended_s
        if state in STATES and end_s >= since_s:
            found.append((index, start_s, end_s, STATES[state]))
    names = _names([index for index, *_ in found], ledger)
    bars = [TaskBar(name, one[1], one[2], one[3]) for name, one in zip(names, found, strict=True)]
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
