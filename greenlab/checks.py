"""Checks of numbers, switches and names, one each, for options, arguments and magics alike.

Guarantees: numbers and truth values of other libraries (NumPy's) are accepted, and a mistake is a `UsageError` of one
line that says what to write.

Must not import: anything of greenlab but errors.
"""

from __future__ import annotations

import difflib
import math
import operator
from numbers import Real
from typing import TYPE_CHECKING, Any

from greenlab.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["did_you_mean", "nearest", "positive_number", "switch", "whole_number"]


def whole_number(name: str, value: Any, least: int) -> int:
    """Return a whole number as an int.

    Args:
        name: what the number is called, for the message.
        value: an int, or what `operator.index` takes, such as `numpy.int64`; no bool.
        least: the lowest number that is accepted.

    Raises:
        UsageError: it is no whole number, too low, or more than a float can hold.
    """
    try:
        number = least - 1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = least - 1
    _refuse_beyond_floats(name, number)
    if number < least:
        raise UsageError(f"{name} must be a whole number of {least} or more, not {value!r}")
    return number


def positive_number(name: str, value: Any, *, infinite: bool = False) -> float:
    """Return a number above 0, an int as an int.

    Args:
        name: what the number is called, for the message.
        value: any real number but a bool.
        infinite: whether `math.inf` is accepted.

    Raises:
        UsageError: it is no such number, or more than a float can hold.
    """
    real = isinstance(value, Real) and not isinstance(value, bool)
    if real:
        _refuse_beyond_floats(name, value)
    if not real or not (0 < value < math.inf or (infinite and value == math.inf)):
        raise UsageError(f"{name} must be a number greater than 0, not {value!r}")
    return value if isinstance(value, (int, float)) else float(value)


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the known word that is nearest to one; empty if none is near."""
    return next(iter(difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)), "")


def switch(name: str, value: Any) -> bool:
    """Return whether something is on, as a bool.

    Args:
        name: what is on or off, for the message.
        value: a bool, also one of NumPy's.

    Raises:
        UsageError: it is anything else: of a text such as "no" nobody can tell which of both it means.
    """
    if isinstance(value, bool):
        return value
    if getattr(getattr(value, "dtype", None), "kind", "") == "b" and getattr(value, "ndim", None) == 0:
        return bool(value)
    raise UsageError(f"{name} must be True or False, not {value!r}")


def _refuse_beyond_floats(name: str, value: Any) -> None:
    """Refuse what no float can hold: clocks and time limits are floats, and its digits would fill the screen."""
    try:
        float(value)
    except OverflowError:
        raise UsageError(f"{name} must be a number that a float can hold, and this one has too many digits") from None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a hint at the known word that is nearest, to stand before the end of a message; empty if none is near."""
    near = nearest(word, known)
    return f"; did you mean {near}?" if near else ""
