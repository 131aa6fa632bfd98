"""Comparing pools and concurrencies: `greenlab.race` and `greenlab.sweep`.

Must not import at the top: matplotlib, ipywidgets, IPython, numpy, scipy.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from greenlab import pools
from greenlab.api.options import RunOptions, check_task, items_of, pool_names
from greenlab.api.run import prepare
from greenlab.api.session import start
from greenlab.api.views import series_views_for
from greenlab.checks import positive_number, switch, whole_number
from greenlab.comparing.race import Race
from greenlab.comparing.series import Series, read_once
from greenlab.comparing.sweep import MOST_TASKS, Sweep
from greenlab.errors import UsageError
from greenlab.pools import count_cores

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from greenlab.pools import PoolSpec
    from greenlab.runs import Run

__all__ = ["POOLS", "prepare_race", "prepare_sweep", "race", "sweep"]

POOLS = tuple(name for name in pools.LOCAL if name != pools.AUTO)
"""The pools of a race by default: those that run on this machine."""
CONCURRENCIES = (1, 10, 100, 1000)
_MOST_WORKERS = 64


def race(
    func: Callable[[Any], Any],
    items: Iterable[Any] | None = None,
    *,
    pools: Sequence[str] = POOLS,
    repeat: int = 1,
    warm_up: int | None = None,
    count: int | None = None,
    concurrency: int = 100,
    workers: int | None = None,
    timeout: float | None = None,
    retries: int = 0,
    rate: float | None = None,
    fail_fast: bool = False,
    max_tasks: int | None = None,
    max_memory: float | None = None,
    live: bool | None = None,
) -> Race:
    """Run the same tasks in several pools, one pool after another, and compare them.

    Every pool runs every task `repeat` times, and a few once more beforehand: tasks that change something change it
    as often.

    Args:
        func: the task.
        items: what to run it on. An iterator is read once, before the race.
        pools: names of pools; by default all that run on this machine.
        repeat: how often each pool runs; from three times on, the spread tells chance from difference.
        warm_up: how many tasks a pool runs before anything counts; by default ten.
        count: as in `run`, and so are the options below.
        concurrency: tasks in flight; prefork holds one a worker.
        workers: processes of the pools that have some.
        timeout: seconds that one task may take.
        retries: how often a failed task is tried again.
        rate: tasks started a second at the most.
        fail_fast: whether the first failure stops the race and raises.
        max_tasks: replace a prefork worker after so many tasks.
        max_memory: replace a prefork worker when its resident memory exceeds so many MiB.
        live: whether to show the race while it goes on; by default, in a notebook and in IPython.

    Returns:
        the `Race`, ended. A pool that failed as a whole has its reason there.

    Raises:
        UsageError: an option makes no sense; the message says what to write.
        RunError: every pool failed, or a task did with `fail_fast`.
        SourceError: the items' iterator raised.
        SeriesInterrupted: the race was interrupted; its attribute `run` is the race so far.
    """
    made = prepare_race(
        func, items, pools=pools, repeat=repeat, warm_up=warm_up, count=count, concurrency=concurrency,
        workers=workers, timeout=timeout, retries=retries, rate=rate, fail_fast=fail_fast, max_tasks=max_tasks,
        max_memory=max_memory, live=live,
    )  # fmt: skip
    return made.run()


def sweep(
    func: Callable[[Any], Any],
    items: Iterable[Any] | None = None,
    *,
    concurrency: Sequence[int] | None = None,
    pool: str = "green",
    seconds: float | None = None,
    warm_up: int | None = None,
    count: int | None = None,
    workers: int | None = None,
    timeout: float | None = None,
    retries: int = 0,
    fail_fast: bool = False,
    max_tasks: int | None = None,
    max_memory: float | None = None,
    live: bool | None = None,
) -> Sweep:
    """Run the same tasks at several concurrencies, and advise how many in flight are enough.

    At every concurrency the items are repeated, from the first one on, until the time is over: tasks that change
    something change it as often as they are run.

    Args:
        func: the task.
        items: what to run it on. An iterator is read once, before the sweep.
        concurrency: the concurrencies to try; four or more for an advice. By default 1, 10, 100 and 1,000; of
            prefork, where it is the number of workers, 1, 2, 4 … up to four a core.
        pool: the pool's name.
        seconds: how long to try each one; by default two to ten seconds, until enough tasks have ended.
        warm_up: how many tasks run before anything counts; by default ten.
        count: as in `run`, and so are the options below: the items are 0, 1, 2 … below it.
        workers: processes of the hybrid pool.
        timeout: seconds that one task may take.
        retries: how often a failed task is tried again.
        fail_fast: whether the first failure stops the sweep and raises.
        max_tasks: replace a prefork worker after so many tasks.
        max_memory: replace a prefork worker when its resident memory exceeds so many MiB.
        live: whether to show the sweep while it goes on; by default, in a notebook and in IPython.

    Returns:
        the `Sweep`, ended. Its `concurrency` is the advised one, or None, and then `missing` says why.

    Raises:
        UsageError: an option makes no sense; the message says what to write.
        RunError: every task failed, or one did with `fail_fast`.
        SourceError: the items' iterator raised.
        NotSendableError: the function cannot be sent to worker processes.
        SeriesInterrupted: the sweep was interrupted; its attribute `run` is the sweep so far.
    """
    made = prepare_sweep(
        func, items, concurrency=concurrency, pool=pool, seconds=seconds, warm_up=warm_up, count=count,
        workers=workers, timeout=timeout, retries=retries, fail_fast=fail_fast, max_tasks=max_tasks,
        max_memory=max_memory, live=live,
    )  # fmt: skip
    return made.run()


def prepare_race(
    func: Callable[[Any], Any],
    items: Iterable[Any] | None = None,
    *,
    pools: Sequence[str] = POOLS,
    repeat: int = 1,
    warm_up: int | None = None,
    count: int | None = None,
    label: str | None = None,
    live: bool | None = None,
    **options: Any,
) -> Race:
    """Return the race that `race` would run, without starting it."""
    named = pool_names(pools)
    repeat = whole_number("repeat", repeat, 1)
    if warm_up is not None:
        warm_up = whole_number("warm_up", warm_up, 0)
    if live is not None:
        live = switch("live", live)
    chosen = {pool: RunOptions.of(**{**options, "pool": pool, "live": False}) for pool in named}
    check_task(func)
    source = read_once(items_of(items, count))

    def make_run(pool: str, items: Iterable[Any], observers: Sequence[Any]) -> Run:
        return prepare(func, items, observers=observers, label=label, **vars(chosen[pool]))

    return Race(
        source,
        pools=named,
        repeat=repeat,
        label=label or _label(func),
        make_run=make_run,
        warm_up=warm_up,
        observers=series_views_for(start(), live),
        figure=_static_figure,
    )


def prepare_sweep(
    func: Callable[[Any], Any],
    items: Iterable[Any] | None = None,
    *,
    concurrency: Sequence[int] | None = None,
    pool: str = "green",
    seconds: float | None = None,
    warm_up: int | None = None,
    count: int | None = None,
    label: str | None = None,
    live: bool | None = None,
    **options: Any,
) -> Sweep:
    """Return the sweep that `sweep` would run, without starting it."""
    spec = pools.spec_of(pool)
    if spec.make is None:
        raise UsageError(f"a sweep is of one pool, and {pool} goes from one to another: name the pool")
    if options.get("rate") is not None:
        raise UsageError("a sweep keeps a number of tasks in flight, and a rate would set another: leave it out")
    if warm_up is not None:
        warm_up = whole_number("warm_up", warm_up, 0)
    if seconds is not None:
        seconds = positive_number("seconds", seconds)
    if live is not None:
        live = switch("live", live)
    widths = _widths(spec, concurrency)
    chosen = RunOptions.of(**{**options, "pool": pool, "live": False})
    check_task(func)
    source = read_once(items_of(items, count), MOST_TASKS)

    processes = _OwnWorkers()

    def make_run(_pool: str, items: Iterable[Any], observers: Sequence[Any], concurrency: int) -> Run:
        sized = chosen.changed(**{spec.size_name: concurrency})
        run = prepare(func, items, observers=observers, label=label, **vars(sized))
        processes.add(run)
        return run

    return Sweep(
        source,
        pool=pool,
        concurrencies=widths,
        seconds=seconds,
        own_workers=processes.closing if spec.task_a_worker else None,
        label=label or _label(func),
        make_run=make_run,
        warm_up=warm_up,
        observers=series_views_for(start(), live),
        figure=_static_figure,
    )


class _OwnWorkers:
    """Ends the processes that a point of a sweep has started; those that were there before stay."""

    def __init__(self) -> None:
        self._cold: list[Any] = []

    def add(self, run: Run) -> None:
        """Note the run's pool before it starts, if it has no processes yet."""
        if not run._pool.pids:
            self._cold.append(run._pool)

    @contextlib.contextmanager
    def closing(self) -> Iterator[None]:
        """End, after the `with` block, the processes that were started in it."""
        try:
            yield
        finally:
            while self._cold:
                self._cold.pop().close()


def _widths(spec: PoolSpec, wanted: Sequence[int] | None) -> Sequence[int]:
    if wanted is None:
        if not spec.task_a_worker:
            return CONCURRENCIES
        return list(itertools.takewhile(lambda many: many <= max(4 * count_cores(), 8), (2**k for k in range(7))))
    widths = [wanted] if not isinstance(wanted, Iterable) else list(wanted)
    if not widths:
        raise UsageError("say which concurrencies to try, such as 1, 10, 100, 1000")
    widths = [whole_number("concurrency", width, 1) for width in widths]
    if spec.task_a_worker and max(widths) > _MOST_WORKERS:
        raise UsageError(
            f"{spec.name} holds one task a process, and {max(widths):,} processes are too many: "
            f"{_MOST_WORKERS} at the most"
        )
    return widths


def _label(func: Callable[..., Any]) -> str:
    return str(getattr(func, "__name__", "tasks"))


def _static_figure(series: Series) -> Any:
    from greenlab.live import series_view

    return series_view.static_figure(series)
