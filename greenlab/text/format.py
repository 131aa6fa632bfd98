"""Formats of numbers for reports and messages. Imports nothing of greenlab."""

from __future__ import annotations

import math
from typing import Any

ALIKE = 0.10
"""Throughputs that were measured once and differ by less are called the same."""
_RATIO_DIGITS = 4


def with_article(value: Any) -> str:
    """Return the name of a value's type with its article, for messages: `a list`, `an int`."""
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the singular or the plural: `1 task`, `2,000 tasks`."""
    return f"{number:,} {plural(noun, number)}"


def plural(noun: str, number: int) -> str:
    """Return a noun as it stands after a number: `task` after 1, otherwise `tasks`."""
    return noun if number == 1 else f"{noun}es" if noun.endswith(("s", "ch")) else f"{noun}s"


def seconds(value: float) -> str:
    """Format a duration in seconds with a unit that suits it: 12 µs, 3.4 ms, 120 ms, 2.31 s; nan is "none"."""
    if value != value:  # noqa: PLR0124 (nan)
        return "none"
    if value < 0.001:
        return f"{value * 1e6:.0f} µs"
    if value < 1:
        return f"{value * 1e3:.{1 if value < 0.1 else 0}f} ms"
    return f"{value:.2f} s"


def rate(value: float) -> str:
    """Format a throughput in tasks/s."""
    return (
        f"{value:,.0f} tasks/s" if value >= 100 else f"{value:,.2g} tasks/s" if value < 10 else f"{value:.1f} tasks/s"
    )


def times(ratio: float) -> str:
    """Format a ratio of 1 or more, without more digits than a measurement has: 1.03 times, 3.4 times, 1,200 times.

    A ratio above 1 is never written as 1, down to 1.0001.
    """
    if not math.isfinite(ratio):
        return "infinitely many times"
    if round(ratio, 1) >= 10:
        return f"{round(ratio, 1 - math.floor(math.log10(ratio))):,.0f} times"
    if ratio >= 1.3:
        return f"{ratio:.1f} times"
    more = max(ratio - 1, 10**-_RATIO_DIGITS)
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
