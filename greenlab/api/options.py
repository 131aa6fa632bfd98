"""The options of a run, declared once: `run`, the magics' parser, completion and help, `rerun` and `resume` read them.

Guarantees: a `RunOptions` that exists is valid: its numbers make sense, its switches are bools (`live` may
be None), its pool exists and can keep what is asked of it.

Must not import: runs, live, magics.
"""

from __future__ import annotations

import dataclasses
import inspect
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final, Self

from greenlab import pools
from greenlab.checks import did_you_mean, positive_number, switch, whole_number
from greenlab.errors import SourceError, UsageError
from greenlab.text.format import with_article
from greenlab.text.tracebacks import message_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["FLAGS", "Flag", "RunOptions", "check_task", "items_of", "pool_names"]

_MIB: Final = 1 << 20


@dataclass(frozen=True)
class Flag:
    """How an option is written on a magic's line.

    Attributes:
        names: its short and long forms, the long one last.
        kind: "whole" (a whole number), "positive" (a number above 0), "pool" (a pool's name) or "switch" (no value).
        help: what it does, in a few words.
        metavar: what its value is called in the help; empty for a switch.
        least: the lowest whole number.
        negated: whether the flag turns the option off.
    """

    names: tuple[str, ...]
    kind: str
    help: str
    metavar: str = ""
    least: int = 1
    negated: bool = False


def _option(default: Any, *names: str, **how: Any) -> Any:
    return field(default=default, metadata={"flag": Flag(names, **how)})


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """The options of a run, checked. See `greenlab.run` for what each means.

    Raises:
        UsageError: an option makes no sense, or the pool cannot keep it; the message says what to write.
    """

    concurrency: int = _option(
        100, "-c", "--concurrency", kind="whole", metavar="N", help="tasks in flight (default 100)"
    )
    workers: int | None = _option(
        None, "-w", "--workers", kind="whole", metavar="N",
        help="worker processes of prefork, hybrid and auto (default: one a core)",
    )  # fmt: skip
    pool: str = _option("green", "-p", "--pool", kind="pool", metavar="NAME", help=f"one of {', '.join(pools.NAMES)}")
    timeout: float | None = _option(
        None, "--timeout", kind="positive", metavar="S", help="seconds that one task may take"
    )
    retries: int = _option(
        0, "--retries", kind="whole", least=0, metavar="N", help="tries after a failure, with back-off and jitter"
    )
    rate: float | None = _option(
        None, "--rate", kind="positive", metavar="R", help="tasks started a second (open loop)"
    )
    fail_fast: bool = _option(False, "-x", "--fail-fast", kind="switch", help="stop and raise at the first failure")
    discard: bool = _option(False, "--discard", kind="switch", help="keep counts and latencies only, no results")
    max_tasks: int | None = _option(
        None, "--max-tasks", kind="whole", metavar="N", help="replace a prefork worker after N tasks"
    )
    max_memory: float | None = _option(
        None, "--max-memory", kind="positive", metavar="MIB",
        help="replace a prefork worker above so many MiB of memory",
    )  # fmt: skip
    live: bool | None = _option(None, "--no-live", kind="switch", negated=True, help="no live view")
    trace: bool = _option(False, "--trace", kind="switch", help="record every switch of the hub, for run.timeline()")

    def __post_init__(self) -> None:
        pools.check_name(self.pool)
        for name, flag in FLAGS.items():
            value = getattr(self, name)
            if value is None and _DEFAULTS[name] is None:
                continue
            if flag.kind == "whole":
                object.__setattr__(self, name, whole_number(name, value, flag.least))
            elif flag.kind == "positive":
                object.__setattr__(self, name, positive_number(name, value))
            elif flag.kind == "switch":
                object.__setattr__(self, name, switch(name, value))
        pools.check_promises(self.pool, [name for name in pools.PROMISES if getattr(self, name) is not None])

    @classmethod
    def of(cls, **options: Any) -> Self:
        """Return the options of a run: those that are given, and the defaults of the others.

        Raises:
            UsageError: there is no such option, or one makes no sense.
        """
        _refuse_unknown(options)
        return cls(**options)

    def changed(self, **options: Any) -> Self:
        """Return these options with some changed.

        Raises:
            UsageError: there is no such option, or one makes no sense; or another pool cannot keep what was asked of
                the one before.
        """
        _refuse_unknown(options)
        pool = options.get("pool", self.pool)
        for name, (_, why) in pools.PROMISES.items():
            value = getattr(self, name)
            if name not in options and value is not None and name not in pools.spec_of(pool).promises:
                raise UsageError(f"the {pool} pool {why}, and this run has {name}={value!r}: add {name}=None")
        return dataclasses.replace(self, **options)

    @property
    def processes(self) -> int:
        """How many worker processes a pool that has some may use."""
        return self.workers or pools.count_cores()

    @property
    def width(self) -> int:
        """How many tasks may be in flight."""
        return pools.width(self.pool, self.concurrency, self.processes)

    @property
    def max_bytes(self) -> int | None:
        """`max_memory` in bytes."""
        return None if self.max_memory is None else int(Fraction(self.max_memory) * _MIB)


FLAGS: Final[dict[str, Flag]] = {option.name: option.metadata["flag"] for option in dataclasses.fields(RunOptions)}
"""How each option is written on a magic's line, by its name."""
_DEFAULTS: Final[dict[str, Any]] = {option.name: option.default for option in dataclasses.fields(RunOptions)}


def _refuse_unknown(options: Iterable[str]) -> None:
    for name in options:
        if name not in FLAGS:
            raise UsageError(f"there is no option {name!r}: use {', '.join(FLAGS)}{did_you_mean(name, FLAGS)}")


def check_task(func: Any) -> None:
    """Raise for what cannot be the function of a task.

    Raises:
        UsageError: it is not callable, or a coroutine function.
    """
    if not callable(func):
        raise UsageError(
            f"the task must be a function of one item, not {with_article(func)}: write run(f, items), not run(f(x))"
        )
    called = func if inspect.isroutine(func) else getattr(func, "__call__", func)  # noqa: B004
    if any(kind(each) for kind in (inspect.iscoroutinefunction, inspect.isasyncgenfunction) for each in (func, called)):
        raise UsageError(
            f"{getattr(func, '__name__', 'the task')} is a coroutine function, and what it returns would never be "
            "awaited: a task is blocking code, so write def without async, and call blocking functions in it"
        )


def items_of(items: Iterable[Any] | None, count: int | None) -> Iterable[Any]:
    """Return what the tasks run over.

    Raises:
        UsageError: there is nothing to run over, or too much.
        SourceError: the items' own `__iter__` or `__len__` raised.
    """
    if (items is None) == (count is None):
        raise UsageError("say what to run over, once: items, or count=N for N tasks")
    if count is not None:
        return range(whole_number("count", count, 1))
    try:
        iter(items)  # type: ignore[arg-type]
    except TypeError:
        raise UsageError(
            f"the items must be iterable, and {with_article(items)} is not: a list, or count=N for N tasks"
        ) from None
    except Exception as error:
        raise SourceError(f"the items cannot be iterated over: {message_of(error)}") from error
    try:
        size = len(items)  # type: ignore[arg-type]
    except TypeError:
        size = None
    except Exception as error:
        raise SourceError(f"the number of the items cannot be read: {message_of(error)}") from error
    if size == 0:
        raise UsageError("there is nothing to run: the items are empty")
    return items  # type: ignore[return-value]


def pool_names(names: Sequence[str] | str) -> tuple[str, ...]:
    """Return the names of pools, each once, from a sequence of them or a text with commas.

    Raises:
        UsageError: one is no pool, or there is none.
    """
    found = tuple(dict.fromkeys(names.split(",") if isinstance(names, str) else names))
    for name in found:
        pools.check_name(name)
    if not found:
        raise UsageError(f"name the pools that race, such as {','.join(pools.LOCAL[:-1])}")
    return found
