"""The options of a run: their defaults, and what is refused before anything starts.

Must not import: runs, live, magics.
"""

from __future__ import annotations

import inspect
import math
import operator
from numbers import Real
from typing import TYPE_CHECKING, Any

from greenlab import pools
from greenlab.errors import SourceError, UsageError
from greenlab.text.format import a_thing
from greenlab.text.tracebacks import message_of

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["DEFAULTS", "check_options", "items_of"]

DEFAULTS: dict[str, Any] = {
    "pool": "green",
    "concurrency": 100,
    "workers": None,
    "timeout": None,
    "retries": 0,
    "rate": None,
    "fail_fast": False,
    "discard": False,
    "max_tasks": None,
    "max_memory": None,
    "live": None,
    "trace": False,
}


_MIB = 1 << 20


def check_options(settings: dict[str, Any]) -> None:
    """Refuse values that make no sense, before anything starts."""
    pools.check_name(settings["pool"])
    for name, least in (("concurrency", 1), ("workers", 1), ("retries", 0), ("max_tasks", 1)):
        value = settings[name]
        if value is None and DEFAULTS[name] is None:
            continue
        settings[name] = _whole(name, value, least)
    for name in ("timeout", "rate", "max_memory"):
        value = settings[name]
        if value is None:
            continue
        real = isinstance(value, Real) and not isinstance(value, bool)
        if not real or not 0 < value < math.inf:
            raise UsageError(f"{name} must be a number greater than 0, not {value!r}")


def _whole(name: str, value: Any, least: int) -> int:
    """Return a whole number as an int: NumPy's too, and whatever else `operator.index` takes."""
    try:
        number = least - 1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = least - 1
    if number < least:
        raise UsageError(f"{name} must be a whole number of {least} or more, not {value!r}")
    return number


def check_task(func: Any) -> None:
    """Refuse what cannot be the function of a task.

    Raises:
        UsageError: it is not callable, or a coroutine function.
    """
    if not callable(func):
        raise UsageError(
            f"the task must be a function of one item, not {a_thing(func)}: write run(f, items), not run(f(x))"
        )
    called = func if inspect.isroutine(func) else getattr(func, "__call__", func)  # noqa: B004
    if any(kind(each) for kind in (inspect.iscoroutinefunction, inspect.isasyncgenfunction) for each in (func, called)):
        raise UsageError(
            f"{getattr(func, '__name__', 'the task')} is a coroutine function, and nobody would await what it returns: "
            "a task is blocking code, so write def without async, and call blocking functions in it"
        )


def items_of(items: Iterable[Any] | None, count: int | None) -> Iterable[Any]:
    """Give what the tasks run over.

    Raises:
        UsageError: there is nothing to run over, or too much.
        SourceError: the items' own `__iter__` or `__len__` raised.
    """
    if (items is None) == (count is None):
        raise UsageError("say what to run over, once: items, or count=N for N tasks")
    if count is not None:
        return range(_whole("count", count, 1))
    try:
        iter(items)  # type: ignore[arg-type]
    except TypeError:
        raise UsageError(
            f"the items must be iterable, and {a_thing(items)} is not: a list, or count=N for N tasks"
        ) from None
    except Exception as error:
        raise SourceError(f"the items cannot be iterated over: {message_of(error)}") from error
    try:
        size = len(items)  # type: ignore[arg-type]
    except TypeError:
        size = None
    except Exception as error:
        raise SourceError(f"the items do not tell how many they are: {message_of(error)}") from error
    if size == 0:
        raise UsageError("there is nothing to run: the items are empty")
    return items  # type: ignore[return-value]
