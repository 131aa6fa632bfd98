"""Blocks: times in which one green thread held the hub, and their words. Plain data: `hold` makes them.

Must not import: greening, pools, runs, live, magics.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from greenlab.places import format_place
from greenlab.text.format import duration

if TYPE_CHECKING:
    from collections.abc import Iterable

    from greenlab.places import Place

_WORTH_A_WORD = 0.2


@dataclass(frozen=True)
class Block:
    """A time in which nothing could switch.

    Attributes:
        started_s, ended_s: `time.perf_counter()` seconds, as the hub read them when it went on.
        filename, lineno, function: the user's line that held the hub, as most of the samples say.
        cpu_s: how long the hub's thread computed meanwhile, seconds; None where the system does not say.
        queued_s: how long it was ready to go on, and had no processor or not the GIL, seconds.
        who: who held it, such as "task 3", "Task 7 (fetch)", "the cell".
        index: the index of the task within its run, if it was one of a run's.
        waiting: green threads that could have gone on (their time had come, or their socket was ready) when the
            block was last looked at.
        worker: the process id of the worker whose hub it was, or the name of a Celery worker; None for the hub here.
    """

    started_s: float
    ended_s: float
    filename: str
    lineno: int
    function: str
    cpu_s: float | None = None
    queued_s: float = 0.0
    who: str = ""
    index: int | None = None
    waiting: int = 0
    worker: int | str | None = None

    @property
    def duration_s(self) -> float:
        """How long, in seconds."""
        return self.ended_s - self.started_s

    @property
    def kind(self) -> str:
        """What the line did meanwhile: "CPU", "waiting", "CPU and waiting"; nothing where that is not known."""
        return kind_of(self.cpu_s, self.duration_s - self.queued_s)

    @property
    def place(self) -> str:
        """The line and its function, in words."""
        return format_place((self.filename, self.lineno, self.function))

    def __str__(self) -> str:
        who = self.who if self.worker is None else f"{self.who} in worker {self.worker}".lstrip()
        waiting = f"{self.waiting:,} waited behind it" if self.waiting else ""
        more = [self.kind, _queued_words(self.queued_s, self.duration_s), who, waiting]
        rest = ", ".join(part for part in more if part)
        return f"{duration(self.duration_s)} at {self.place}" + (f": {rest}" if rest else "")


def kind_of(cpu_s: float | None, duration_s: float) -> str:
    """Return in a word how a time was spent: "CPU", "waiting" or "CPU and waiting"; nothing where that is not known."""
    if cpu_s is None or duration_s <= 0:
        return ""
    part = cpu_s / duration_s
    return "CPU" if part > 0.8 else "waiting" if part < 0.2 else "CPU and waiting"


def _queued_words(queued_s: float, duration_s: float) -> str:
    """Return how long others had the processor, if that was long: with less to do elsewhere it would be shorter."""
    return f"{duration(queued_s)} of it without a processor" if queued_s > _WORTH_A_WORD * duration_s else ""


def by_line(blocks: Iterable[Block]) -> dict[str, float]:
    """Add up how long each line held the hub, in seconds, the longest first."""
    return {group[0].place: _total_s(group) for group in _grouped(blocks)}


def folded(blocks: Iterable[Block]) -> list[str]:
    """Return a line of text for each line of code that blocked, the longest in all first."""
    return [_folded_line(group) for group in _grouped(blocks)]


def _grouped(blocks: Iterable[Block]) -> list[list[Block]]:
    """Put blocks at one line of code together, the longest in all first. The live view asks twice a second."""
    words: dict[Place, str] = {}
    groups: dict[str, list[Block]] = {}
    for block in blocks:
        where = block.filename, block.lineno, block.function
        place = words.get(where)
        if place is None:
            place = words[where] = format_place(where)
        groups.setdefault(place, []).append(block)
    return sorted(groups.values(), key=_total_s, reverse=True)


def _total_s(group: list[Block]) -> float:
    return sum(block.duration_s for block in group)


def _folded_line(group: list[Block]) -> str:
    first = group[0]
    if len(group) == 1:
        return str(first)
    total_s = _total_s(group)
    cpu_s = None if any(block.cpu_s is None for block in group) else sum(block.cpu_s or 0.0 for block in group)
    more = [f"{duration(total_s)} in all"]
    queued_s = sum(block.queued_s for block in group)
    more += [part for part in (kind_of(cpu_s, total_s - queued_s), _queued_words(queued_s, total_s)) if part]
    if waiting := max(block.waiting for block in group):
        more.append(f"up to {waiting:,} waited behind it")
    return f"{len(group):,} × at {first.place}: {', '.join(more)}"
