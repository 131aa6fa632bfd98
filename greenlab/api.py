"""What Python code calls: `greenlab.run`, `spawn`, `start`, `stop`. Puts the rooms together.

Must not import at the top: matplotlib, ipywidgets, IPython.
"""

from __future__ import annotations

import inspect
import math
import operator
from numbers import Real
from typing import TYPE_CHECKING, Any

from greenlab import greening, hub, patched, pools
from greenlab import runs as _runs
from greenlab.errors import SourceError, UsageError
from greenlab.hub.watchdog import watchdog_of
from greenlab.runs import Digest, Ledger, Run
from greenlab.runs.auto import get_pool
from greenlab.runs.timeline import Tracing
from greenlab.runs.tracebacks import message_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from greenlab.hub import GuestHub, Task
    from greenlab.runs import Listing
    from greenlab.runs.listing import Killed
    from greenlab.runs.timeline import Timeline

__all__ = ["native", "offload", "prepare", "run", "spawn", "start", "stop", "timeline_figure", "wait_async"]

native = greening.native


def start(*, blocked_after: float | None = None) -> GuestHub:
    """Start the hub in this thread and green the standard library for it. Twice is the same as once.

    In a running asyncio loop (a Jupyter kernel) the hub becomes the loop's guest; elsewhere it turns while this
    thread waits for something green.

    Args:
        blocked_after: seconds that one green thread may hold the hub before it is reported as blocked (0.1 at first;
            `math.inf` reports nothing); None leaves it as it is.

    Returns:
        the hub.

    Raises:
        UsageError: greenlab has been started in another thread, or somebody else has patched the process.
    """
    patched.refuse()
    if not greening.may_green():
        raise UsageError("greenlab runs in one thread, and this is another one: call it where it was started")
    new = hub.current() is None
    here = hub.start()
    try:
        greening.green(here)
        watchdog = watchdog_of(here)
    except BaseException:
        if new:
            hub.stop()
        raise
    if blocked_after is not None:
        watchdog.after_s = blocked_after
    return here


def stop() -> None:
    """Put every patched object back, end worker processes and the hub. What still ran is abandoned."""
    hub.stop()


def spawn(func: Callable[..., Any], *args: Any, **kw: Any) -> Task:
    """Run `func(*args, **kw)` in the background on the hub.

    Returns:
        a `Task`: eventlet's `GreenThread` (`wait()`, `kill()`, `dead`, `link()`) that can also be awaited.

    Raises:
        UsageError: `func` is not callable, or the caller is not on the hub's thread.
    """
    return hub.spawn(start(), func, *args, **kw)


def offload(func: Callable[..., Any], *args: Any, pool: str = "prefork") -> Any:
    """Run one call elsewhere, from a green task, and wait for it cooperatively: fetch green, parse in a process.

    Args:
        func: what to call.
        args: its arguments; with prefork they travel to a worker process, and the value travels back.
        pool: "prefork", for what computes, or "threads" (an OS thread), for what blocks: files, sqlite, C libraries.

    Returns:
        what the call returns; its exception is raised.

    Raises:
        UsageError: no such pool, or nothing to call.
        NotSendableError: the function, an argument or the value cannot travel.
        WorkerLostError: the worker died.
    """
    from greenlab.pools.offload import offload as run_elsewhere

    return run_elsewhere(start(), func, args, pool)


def wait_async(awaitable: Awaitable[Any]) -> Any:
    """Wait, in a green task, for a coroutine or future of the notebook's event loop.

    Returns:
        its result; its exception is raised.

    Raises:
        UsageError: the loop cannot run: a cell waits, or there is none; or the caller is a cell, which uses await.
    """
    return hub.wait_async(start(), awaitable)


def ps() -> Listing:
    """List what runs now: background tasks, runs and their tasks, each with state, age and where it stands."""
    return _runs.list_tasks(start())


def kill(*ids: int | str) -> Killed:
    """Kill background tasks and tasks of runs, and cancel runs.

    Args:
        ids: as `ps` lists them: 3 for a task or a run, "3.17" for task 17 of run 3.

    Returns:
        a list of the ids that were killed, which shows as a sentence; what had ended meanwhile is not among them.

    Raises:
        UsageError: something is no id; nothing was killed.
    """
    return _runs.kill(start(), ids)


def run(
    func: Callable[[Any], Any],
    items: Iterable[Any] | None = None,
    *,
    count: int | None = None,
    pool: str = "green",
    concurrency: int = 100,
    workers: int | None = None,
    timeout: float | None = None,
    retries: int = 0,
    rate: float | None = None,
    fail_fast: bool = False,
    discard: bool = False,
    max_tasks: int | None = None,
    max_memory: float | None = None,
    live: bool | None = None,
    trace: bool = False,
) -> Run:
    """Run `func(item)` once for each item, in a pool, and wait.

    Args:
        func: the task. What it returns is the task's result.
        items: any iterable, also a lazy one: it is asked only as fast as tasks start.
        count: instead of items, how many times: `func` gets 0, 1, 2 …
        pool: "green" (green threads here), "threads" (OS threads), "prefork" (worker processes), "hybrid"
            (processes with a hub each), or "auto", which begins in green and moves what is left to where it belongs.
        concurrency: tasks in flight, of hybrid in all its processes together; prefork holds one a worker.
        workers: processes of the prefork, hybrid and auto pools; by default, as many as there are cores.
        timeout: seconds that one task may take; then it fails with `TaskTimeoutError`, which is raised in it where
            it waits (green, hybrid), where it stands (prefork, whose worker is replaced if it goes on), or when its
            call returns (threads; it counts as failed at once).
        retries: how often a failed task is tried again, after an exponential back-off with jitter.
        rate: tasks started a second at the most (open loop); latency then counts from the intended start.
        fail_fast: whether the first failure stops the run and raises.
        discard: whether to keep counts and latencies only: memory stays flat however many tasks there are.
        max_tasks: replace a prefork worker after so many tasks.
        max_memory: replace a prefork worker when its resident memory exceeds so many MiB.
        live: whether to show the live view; by default, in a notebook only.
        trace: whether to record every switch of the hub, for `run.timeline()`.

    Returns:
        the `Run`, ended. A failed task does not raise here, but where its result is read.

    Raises:
        UsageError: an option makes no sense; the message says what to write.
        RunError: every task failed, or one did with `fail_fast`; its attribute `run` has the outcomes.
        SourceError: the items' iterator raised; its attribute `run` has the outcomes of the tasks that had begun.
        NotSendableError: the function cannot be sent to worker processes; the message names what is in the way.
    """
    made = prepare(
        func, items, count=count, pool=pool, concurrency=concurrency, workers=workers, timeout=timeout,
        retries=retries, rate=rate, fail_fast=fail_fast, discard=discard, max_tasks=max_tasks, max_memory=max_memory,
        live=live, trace=trace,
    )  # fmt: skip
    return made.complete()


def prepare(
    func: Callable[[Any], Any],
    items: Iterable[Any] | None = None,
    *,
    count: int | None = None,
    label: str | None = None,
    ledger: Ledger | None = None,
    observers: Sequence[Any] = (),
    **options: Any,
) -> Run:
    """Make the run that `run` would, without starting it. See `run` for the options.

    Args:
        func: the task.
        items: what to run it on.
        count: instead of items, how many times.
        label: what the run is called in views and reports.
        ledger: instead of items, a ledger that was begun (a resumed run).
        observers: who else hears of the run, see `greenlab.runs.observers`.
        options: the others of `run`.
    """
    settings = {**_DEFAULTS, **options}
    unknown = settings.keys() - _DEFAULTS.keys()
    if unknown:
        raise UsageError(f"there is no option {min(unknown)!r}: use {', '.join(_DEFAULTS)}")
    check_task(func)
    _check(settings)
    pools.check_options(settings["pool"], settings)
    workers = settings["workers"] or pools.count_cores()
    if ledger is None:
        memory = settings["max_memory"]
        ledger = (Digest if settings["discard"] else Ledger)(
            func,
            _source(items, count),
            concurrency=settings["concurrency"],
            timeout_s=settings["timeout"],
            retries=settings["retries"],
            rate=settings["rate"],
            max_tasks=settings["max_tasks"],
            max_memory=None if memory is None else int(memory * _MIB),
        )
    here = start()
    pool = get_pool(here, settings["pool"])
    ledger.workers = workers
    ledger.concurrency = pools.width(settings["pool"], settings["concurrency"], workers)
    name = label or str(getattr(func, "__name__", "tasks"))

    def again(ledger: Ledger | None, items: Iterable[Any], **changes: Any) -> Run:
        new = {"label": name, **settings, **changes}
        made = prepare(func, items, ledger=ledger, **new)
        return made.complete()

    return Run(
        here,
        pool,
        ledger,
        label=name,
        fail_fast=settings["fail_fast"],
        observers=(
            *observers,
            *_views(here, settings["live"]),
            *([Tracing(here, timeline_figure)] if settings["trace"] else []),
        ),
        again=again,
        figure=_figure,
    )


_DEFAULTS: dict[str, Any] = {
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


def _check(settings: dict[str, Any]) -> None:
    """Refuse values that make no sense, before anything starts."""
    pools.check_name(settings["pool"])
    for name, least in (("concurrency", 1), ("workers", 1), ("retries", 0), ("max_tasks", 1)):
        value = settings[name]
        if value is None and _DEFAULTS[name] is None:
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


def _source(items: Iterable[Any] | None, count: int | None) -> Iterable[Any]:
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


def _views(here: GuestHub, live: bool | None) -> Sequence[Any]:
    if live is None:
        live = _in_notebook()
    if not live:
        return ()
    from greenlab.live import Artist, View

    return (View(here.call_soon_threadsafe, artist=here.keep("artist", Artist)),)


def _in_notebook() -> bool:
    import sys

    if "IPython" not in sys.modules:
        return False
    from IPython import get_ipython

    return getattr(get_ipython(), "kernel", None) is not None


def _figure(run: Run) -> Any:
    from greenlab.live import static_figure

    return static_figure(run)


def timeline_figure(timeline: Timeline) -> Any:
    """Draw a timeline: what a `Tracing` is given, for runs does not draw."""
    from greenlab.live.timeline_figure import draw

    return draw(timeline)


def a_thing(value: Any) -> str:
    """Name the type of a value with its article, for messages."""
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"
