"""What Python code calls: `greenlab.run`, `spawn`, `start`, `stop`. Puts the rooms together.

Must not import at the top: matplotlib, ipywidgets, IPython.
"""

from __future__ import annotations

import contextlib
import functools
import math
from typing import TYPE_CHECKING, Any

from greenlab import greening, hub, pools
from greenlab.errors import UsageError
from greenlab.runs import Ledger, Run

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from greenlab.hub import GuestHub, Task
    from greenlab.probes import Answers, Verdict

__all__ = ["check", "native", "offload", "prepare", "run", "spawn", "start", "stop", "wait_async"]

native = greening.native


def start() -> GuestHub:
    """Start the hub in this thread and green the standard library for it. Twice is the same as once.

    In a running asyncio loop (a Jupyter kernel) the hub becomes the loop's guest; elsewhere it turns while this
    thread waits for something green.

    Returns:
        the hub.

    Raises:
        UsageError: greenlab has been started in another thread.
    """
    if not greening.may_green():
        raise UsageError("greenlab runs in one thread, and this is another one: call it where it was started")
    here = hub.start()
    greening.green(here)
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


def check(
    what: Any = None, *more: Any, times: int | None = None, limit: float | None = None, name: str | None = None
) -> Verdict | Answers:
    """Tell whether a call, or a library, cooperates under greenlab.

    A call is made **for real**, up to `times` times, in a fresh process: natively, in a green task, and in several at
    once. What it uses of this process is copied there; what it returns or prints is dropped. A library is looked up in
    a table of what was measured before.

    Args:
        what: a function, called with what follows; or a library, its name or the module; nothing: all that is loaded.
        more: the function's arguments, or more libraries.
        times: how often the function is called at the most, 5 or more; by default, 12. A short call needs many.
        limit: seconds that one call may take before it is stopped; by default, 10.
        name: what the verdict calls it; by default, the function's name.

    Returns:
        for a function a `Verdict`: `kind`, `cooperates`, `reasons`, `fix`, `figures`; for libraries a list of answers.

    Raises:
        UsageError: it is neither; there is no such library; an option makes no sense.
    """
    from greenlab import probes

    times = probes.TIMES if times is None else times
    limit = probes.LIMIT_S if limit is None else limit
    if what is None:
        return probes.look_around()
    if callable(what):
        if not isinstance(times, int) or isinstance(times, bool) or times < probes.LEAST_TIMES:
            raise UsageError(f"times must be a whole number of {probes.LEAST_TIMES} or more, not {times!r}")
        if not isinstance(limit, (int, float)) or isinstance(limit, bool) or not 0 < limit < math.inf:
            raise UsageError(f"limit must be a number greater than 0, not {limit!r}")
        call = functools.partial(what, *more) if more else what
        return probes.probe(call, name or str(getattr(what, "__name__", "call")), times=times, limit_s=limit)
    names = [each if isinstance(each, str) else getattr(each, "__name__", None) for each in (what, *more)]
    if not all(isinstance(each, str) for each in names):
        raise UsageError(f"check takes a function and its arguments, or libraries, not {_a(what)}: check(fetch, url)")
    return probes.look_up(names)  # type: ignore[arg-type] # they are strings


def wait_async(awaitable: Awaitable[Any]) -> Any:
    """Wait, in a green task, for a coroutine or future of the notebook's event loop.

    Returns:
        its result; its exception is raised.

    Raises:
        UsageError: the loop cannot run: a cell waits, or there is none; or the caller is a cell, which uses await.
    """
    return hub.wait_async(start(), awaitable)


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
    live: bool | None = None,
) -> Run:
    """Run `func(item)` once for each item, in a pool, and wait.

    Args:
        func: the task. What it returns is the task's result.
        items: any iterable, also a lazy one: it is asked only as fast as tasks start.
        count: instead of items, how many times: `func` gets 0, 1, 2 …
        pool: "green" (green threads here) or "prefork" (worker processes).
        concurrency: tasks in flight; prefork holds one a worker.
        workers: processes of the prefork pool; by default, as many as there are cores.
        timeout: seconds that one task may take; then it fails with `TaskTimeoutError`.
        retries: how often a failed task is tried again, after an exponential back-off with jitter.
        rate: tasks started a second at the most (open loop); latency then counts from the intended start.
        fail_fast: whether the first failure stops the run and raises.
        live: whether to show the live view; by default, in a notebook only.

    Returns:
        the `Run`, ended. A failed task does not raise here, but where its result is read.

    Raises:
        UsageError: an option makes no sense; the message says what to write.
        RunError: every task failed, or one did with `fail_fast`; its attribute `run` has the outcomes.
        SourceError: the items' iterator raised.
        NotSendableError: the function cannot be sent to worker processes; the message names what is in the way.
    """
    made = prepare(
        func, items, count=count, pool=pool, concurrency=concurrency, workers=workers, timeout=timeout,
        retries=retries, rate=rate, fail_fast=fail_fast, live=live,
    )  # fmt: skip
    return made.start().wait().check()


def prepare(
    func: Callable[[Any], Any],
    items: Iterable[Any] | None = None,
    *,
    count: int | None = None,
    label: str | None = None,
    ledger: Ledger | None = None,
    **options: Any,
) -> Run:
    """Make the run that `run` would, without starting it. See `run` for the options.

    Args:
        func: the task.
        items: what to run it on.
        count: instead of items, how many times.
        label: what the run is called in views and reports.
        ledger: instead of items, a ledger that was begun (a resumed run).
        options: the others of `run`.
    """
    settings = {**_DEFAULTS, **options}
    unknown = settings.keys() - _DEFAULTS.keys()
    if unknown:
        raise UsageError(f"there is no option {min(unknown)!r}: use {', '.join(_DEFAULTS)}")
    if not callable(func):
        raise UsageError(f"the task must be a function of one item, not {_a(func)}: write run(f, items), not run(f(x))")
    _check(settings)
    if ledger is None:
        source = _source(items, count)
        ledger = Ledger(
            func,
            source,
            concurrency=settings["concurrency"],
            timeout_s=settings["timeout"],
            retries=settings["retries"],
            rate=settings["rate"],
        )
    here = start()
    pool = pools.get(here, settings["pool"], settings["workers"])
    ledger.concurrency = getattr(pool, "workers", settings["concurrency"])
    name = label or str(getattr(func, "__name__", "tasks"))

    def again(ledger: Ledger | None, items: Iterable[Any], **changes: Any) -> Run:
        new = {"label": name, **settings, **changes}
        made = prepare(func, items, ledger=ledger, **new)
        return made.start().wait().check()

    return Run(
        here,
        pool,
        ledger,
        label=name,
        fail_fast=settings["fail_fast"],
        observers=_views(here, settings["live"]),
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
    "live": None,
}


def _check(settings: dict[str, Any]) -> None:
    """Refuse values that make no sense, before anything starts."""
    pools.check_name(settings["pool"])
    for name, least in (("concurrency", 1), ("workers", 1), ("retries", 0)):
        value = settings[name]
        if value is None and name == "workers":
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise UsageError(f"{name} must be a whole number of {least} or more, not {value!r}")
    for name in ("timeout", "rate"):
        value = settings[name]
        if value is None:
            continue
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < math.inf:
            raise UsageError(f"{name} must be a number greater than 0, not {value!r}")


def _source(items: Iterable[Any] | None, count: int | None) -> Iterable[Any]:
    """Give what the tasks run over.

    Raises:
        UsageError: there is nothing to run over, or too much.
    """
    if (items is None) == (count is None):
        raise UsageError("say what to run over, once: items, or count=N for N tasks")
    if count is not None:
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise UsageError(f"count must be a whole number of 1 or more, not {count!r}")
        return range(count)
    try:
        iter(items)  # type: ignore[arg-type]
    except TypeError:
        raise UsageError(
            f"the items must be iterable, and {_a(items)} is not: a list, or count=N for N tasks"
        ) from None
    with contextlib.suppress(TypeError):
        if not len(items):  # type: ignore[arg-type]
            raise UsageError("there is nothing to run: the items are empty")
    return items  # type: ignore[return-value]


def _views(here: GuestHub, live: bool | None) -> Sequence[Any]:
    if live is None:
        live = _in_notebook()
    if not live:
        return ()
    from greenlab.live import Artist, View

    return (View(here.call_soon_threadsafe, artist=here.keep("artist", Artist)),)


def start_with(artist: Any) -> GuestHub:
    """Start, and keep the process that draws, if it was started before; close it where there is one already."""
    try:
        here = start()
        if artist is not None and here.keep("artist", lambda: artist) is not artist:
            artist.close()
    except BaseException:
        if artist is not None:
            artist.close()
        raise
    return here


def _in_notebook() -> bool:
    import sys

    if "IPython" not in sys.modules:
        return False
    from IPython import get_ipython

    return getattr(get_ipython(), "kernel", None) is not None


def _figure(run: Run) -> Any:
    from greenlab.live import static_figure

    return static_figure(run)


def _a(value: Any) -> str:
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"
