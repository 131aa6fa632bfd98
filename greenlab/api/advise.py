"""Choosing a pool: `greenlab.advise` for a whole run, `task` and `route` for single calls.

Must not import at the top: matplotlib, ipywidgets, IPython.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from greenlab import pools
from greenlab.advising.trials import AT_ONCE, ENOUGH_S, MOST_SAMPLE, SAMPLE, SECONDS, Advisor, SamplingPool
from greenlab.api.options import check_task, items_of
from greenlab.api.run import prepare
from greenlab.api.session import start
from greenlab.api.views import progress_lines_for
from greenlab.checks import positive_number, whole_number
from greenlab.comparing.series import read_once
from greenlab.pools.routes import Routed, routes_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from greenlab.advising.advice import Advice
    from greenlab.runs import Run
    from greenlab.runs.resource_usage import UsageMeter

__all__ = ["advise", "route", "task"]

P = ParamSpec("P")
R = TypeVar("R")


def advise(
    func: Callable[[Any], Any],
    items: Iterable[Any] | None = None,
    *,
    count: int | None = None,
    sample: int | None = None,
    seconds: float = SECONDS,
    timeout: float | None = None,
    label: str | None = None,
    live: bool | None = None,
) -> Advice:
    """Advise which pool suits these tasks, how many in flight and how many workers, with reasons.

    The first items are run **for real**: once in green, where it is measured for how long a task computes, blocks and
    waits, and whether it keeps the GIL; and once in each pool that is plausible by that, a few of them twice. Tasks
    that change something change it as often.

    Args:
        func: the task.
        items: what it is to run over. Of an iterator only the first items are read.
        count: instead of items, how many times, as in `run`.
        sample: how many items to run; by default 20, and up to 500 if they are short.
        seconds: after so long the sample, and each trial, begins no further task.
        timeout: seconds that one task may take.
        label: the name of the runs in lists.
        live: whether a line in a terminal shows what is tried; by default, in IPython.

    Returns:
        the `Advice`: `pool`, `concurrency`, `workers`, `reasons`, `sure`, `evidence`; `advice.options` are those of
        `greenlab.run`.

    Raises:
        UsageError: an option makes no sense; the message says what to write.
        RunError: every task of the sample failed.
        SourceError: the items' iterator raised.
        SeriesInterrupted: it was interrupted; its attribute `run` is the run that was going on.
    """
    if sample is not None:
        sample = whole_number("sample", sample, 1)
    seconds = positive_number("seconds", seconds)
    check_task(func)
    source = items_of(items, count)
    taken = read_once(source, sample or MOST_SAMPLE)[: sample or MOST_SAMPLE]
    options: dict[str, Any] = {"timeout": timeout, "label": label, "live": False}

    def make_sample(items: Sequence[Any], least: int) -> tuple[Run, SamplingPool]:
        here = start()
        pool = SamplingPool(here, pools.get(here, "green"), least, 0.0 if sample else ENOUGH_S)
        return prepare(func, items, runner=pool, concurrency=AT_ONCE, **options), pool

    def make_run(meter: UsageMeter, **sizes: Any) -> Run:
        return prepare(func, observers=(meter,), **sizes, **options)

    return Advisor(
        items=taken,
        least=sample or SAMPLE,
        tasks=_length(source),
        cores=pools.count_cores(),
        seconds=seconds,
        make_sample=make_sample,
        make_run=make_run,
        label=label or str(getattr(func, "__name__", "tasks")),
        observers=progress_lines_for(start(), live),
    ).run()


@overload
def task(func: Callable[P, R], /) -> Routed[P, R]: ...
@overload
def task(*, pool: str | None = None) -> Callable[[Callable[P, R]], Routed[P, R]]: ...
def task(func: Any = None, /, *, pool: str | None = None) -> Any:
    """Route a function: `@greenlab.task(pool="prefork")` above it, or `@greenlab.task` and a pattern, see `route`.

    A call from green code, a green task or a cell, then runs in a worker process or an OS thread, and the caller waits
    cooperatively. Everywhere else, and as `f.local(...)`, it is the plain function.

    Args:
        func: the function, if the decorator stands without brackets.
        pool: "prefork", for what computes; "threads", for what blocks; "green", here; by default, as `route` says.

    Raises:
        UsageError: no such pool, or nothing to call.
    """
    if func is not None:
        return Routed(func)
    if pool is not None:
        from greenlab.pools.routes import check_place

        check_place(pool)
    return lambda func: Routed(func, pool)


def route(patterns: Mapping[str, str] | None = None) -> dict[str, str]:
    """Set where tasks without a pool of their own go, by their names: `greenlab.route({"parse_*": "prefork"})`.

    Args:
        patterns: pools by pattern, as for file names, of the function's name, with its module's or without; the first
            one that matches counts. They replace those that were set before: {} removes all. None leaves them.

    Returns:
        the patterns that are set now, until `greenlab.stop()`.

    Raises:
        UsageError: something is no pattern, or no pool that calls can go to.
    """
    routes = routes_of(start())
    if patterns is not None:
        routes.replace(patterns)
    return dict(routes.table)


def _length(items: Iterable[Any]) -> int | None:
    try:
        return len(items)  # type: ignore[arg-type]
    except TypeError:
        return None
