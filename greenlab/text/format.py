"""Formats of numbers for reports and messages. Imports nothing of greenlab."""

from __future__ import annotations

from typing import Any


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
