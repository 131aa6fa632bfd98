"""Formats of numbers for reports and messages. Imports nothing of greenlab."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

NOT_KNOWN: Final = "\N{EN DASH}"


def count(value: float) -> str:
    """Format a count or a rate to three digits: 0.25, 4.3, 433, 12,300, 1.25M; a dash if it is not known."""
    if not math.isfinite(value):
        return NOT_KNOWN
    size = abs(value)
    if size >= 999_950:
        return f"{value / 1e6:.3g}M" if size < 999.5e6 else f"{value / 1e6:,.0f}M"
    if size >= 99.95 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"


def duration(seconds: float) -> str:
    """Format a duration to three digits: 12 µs, 3.4 ms, 2.31 s, 3 min 20 s, 2 h 5 min; a dash if it is not known."""
    if not math.isfinite(seconds):
        return NOT_KNOWN
    for limit, size, unit in ((0.9995e-3, 1e-6, "µs"), (0.9995, 1e-3, "ms"), (99.95, 1.0, "s")):
        if seconds < limit:
            return f"{_short(seconds / size)} {unit}"
    whole = round(seconds)
    if whole < 3600:
        return _pair(whole // 60, "min", whole % 60, "s")
    minutes = round(seconds / 60)
    return _pair(minutes // 60, "h", minutes % 60, "min")


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 99.5 or value == int(value) else f"{value:.3g}"


def _pair(big: int, big_unit: str, small: int, small_unit: str) -> str:
    return f"{big} {big_unit} {small} {small_unit}" if small else f"{big} {big_unit}"


_TYPES_NAMED, _NAME_CHARS = 3, 28
ALIKE = 0.10
"""Throughputs that were measured once and differ by less are called the same."""
_RATIO_DIGITS = 4


def with_article(value: Any) -> str:
    """Return the name of a value's type with its article, for messages: `a list`, `an int`."""
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def by_type(counts: Iterable[tuple[str, int]]) -> str:
    """Return how many there are of each type: `40 OSError, 2 KeyError`."""
    return ", ".join(f"{number:,} {name}" for name, number in counts)


def most_by_type(counts: Iterable[tuple[str, int]]) -> str:
    """Return the same for a picture: the three first types, with their names cut, and the rest together."""
    found = list(counts)
    rest = sum(number for _, number in found[_TYPES_NAMED:])
    named = by_type((shortened(name, _NAME_CHARS), number) for name, number in found[:_TYPES_NAMED])
    return f"{named}, {counted(rest, 'other')}" if rest else named


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the singular or the plural: `1 task`, `2,000 tasks`."""
    return f"{number:,} {plural(noun, number)}"


def plural(noun: str, number: int) -> str:
    """Return a noun as it stands after a number: `task` after 1, otherwise `tasks`."""
    if number == 1:
        return noun
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}es" if noun.endswith(("s", "ch")) else f"{noun}s"


def shortened(words: str, most: int) -> str:
    """Return a text, cut to `most` characters with an ellipsis."""
    return words if len(words) <= most else words[: most - 1] + "…"


def how_to_add(extra: str) -> str:
    """Return how to install what an extra of the distribution wants: into where it is installed, or from a checkout."""
    installed = f'pip install "jupyter-greenlab[{extra}]" where greenlab is installed'
    return f'{installed}, or pip install ".[{extra}]" in a checkout'


def seconds(value: float) -> str:
    """Format a duration as `duration` does; nan is "none"."""
    return "none" if math.isnan(value) else duration(value)


def percent(share: float) -> str:
    """Format a share of 0 to 1 as a whole percentage: 33%."""
    return f"{share:.0%}"


def rate(value: float) -> str:
    """Format a throughput in tasks/s, as pictures do."""
    return f"{count(value)} tasks/s"


def speed(value: float, *, ended: int, failed: int) -> str:
    """Format how many tasks ended a second; where all that ended failed, as failures/s: nothing was achieved."""
    return f"{count(value)} failures/s" if failed and failed == ended else rate(value)


def times(ratio: float) -> str:
    """Format a ratio of 1 or more, without more digits than a measurement has: 1.03 times, 3.4 times, 1,200 times.

    A ratio above 1 is never written as 1, down to 1.0001.
    """
    if ratio - 1 < 10**-_RATIO_DIGITS:
        return "1 times"
    if not math.isfinite(ratio):
        return "infinitely many times"
    if round(ratio, 1) >= 10:
        return f"{round(ratio, 1 - math.floor(math.log10(ratio))):,.0f} times"
    if ratio >= 1.3:
        return f"{ratio:.1f} times"
    more = ratio - 1
    return f"{ratio:.{max(2, math.ceil(-math.log10(more)))}f} times"


def times_as(ratio: float, much: str, *, alike: float = 0.0) -> str:
    """Return how two figures compare, for a sentence: `3.4 times as fast as`, `about as much as`, `29% as high as`.

    Args:
        ratio: the first figure divided by the second.
        much: the adjective.
        alike: figures that differ by no more than this share are about the same.
    """
    if 1 / (1 + alike) <= ratio <= 1 + alike or abs(ratio - 1) < 10**-_RATIO_DIGITS:
        return f"about as {much} as"
    if ratio > 1:
        return f"{times(ratio)} as {much} as"
    return f"{_percent(ratio)} as {much} as"


def _percent(ratio: float) -> str:
    """Format a share below 1, which is never written as 100%, nor as 0% unless it is 0."""
    digits = 0
    while digits < _RATIO_DIGITS and ratio > 0 and f"{ratio:.{digits}%}" in {f"{1:.{digits}%}", f"{0:.{digits}%}"}:
        digits += 1
    return f"{ratio:.{digits}%}"
