"""What the arguments of the lab's servers must be like.

Must not import: anything of greenlab but errors.
"""

from __future__ import annotations

import math

from greenlab.errors import UsageError

MAX_DELAY_S = 3600.0


def check_whole(name: str, value: object, wanted: str, *, low: int | None = None, high: int | None = None) -> None:
    """Raise a `UsageError` that says what is wanted unless `value` is a whole number between `low` and `high`."""
    if (
        not isinstance(value, int)
        or isinstance(value, bool)
        or (low is not None and value < low)
        or (high is not None and value > high)
    ):
        raise UsageError(f"{name} is {value!r}: give a whole number, {wanted}")


def check_seconds(name: str, value: object) -> None:
    """Raise a `UsageError` unless `value` is a number of seconds, 0 to `MAX_DELAY_S`."""
    if (
        not isinstance(value, int | float)
        or isinstance(value, bool)
        or not math.isfinite(value)
        or not 0 <= value <= MAX_DELAY_S
    ):
        raise UsageError(f"{name} is {value!r}: give seconds, 0 to {MAX_DELAY_S:g}")
