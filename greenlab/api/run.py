"""`greenlab.run`: a run of tasks in one pool. `run.resume` and `run.rerun` come back here.

Must not import: magics; at the top: matplotlib, ipywidgets, IPython.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from greenlab.advising.auto_pool import get_pool
from greenlab.api.options import RunOptions, check_task, items_of
from greenlab.api.session import start
from greenlab.api.views import report_maker, run_figure, timeline_figure, views_for
from greenlab.errors import UsageError
from greenlab.runs import AggregateLedger, Ledger, Run
from greenlab.tracing.timeline import Tracing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from greenlab.pools.protocol import Pool

__all__ = ["prepare", "run"]


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
            (processes with a hub each), or "auto", which begins in green and moves the rest to the pool that suits it.
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
        live: whether to show how far the run is: the live view in a notebook, a line in a terminal or a log. By
            default, in a notebook and in IPython; not in scripts.
        trace: whether to record every switch of the hub, for `run.timeline()`.

    Returns:
        the `Run`, ended. A failed task does not raise here, but where its result is read, unless every task
            failed.

    Raises:
        UsageError: an option makes no sense; the message says what to write.
        RunError: every task failed, or one did with `fail_fast`; its attribute `run` has the outcomes.
        SourceError: the items' iterator raised; its attribute `run` has the outcomes of the tasks that had begun.
        NotSendableError: the function cannot be sent to worker processes; the message names what is in the way.
    """
    __tracebackhide__ = True  # IPython leaves such frames out
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
    resumes: Ledger | None = None,
    observers: Sequence[Any] = (),
    runner: Pool | None = None,
    **options: Any,
) -> Run:
    """Return the run that `run` would make, without starting it. See `run` for the options.

    Args:
        func: the task.
        items: what to run it on.
        count: instead of items, how many times.
        label: the name of the run in views and reports.
        resumes: instead of items, the ledger of the run that is resumed.
        observers: further observers of the run, see `greenlab.runs.observers`.
        runner: the pool that runs the tasks, instead of the one that is called `pool`.
        options: the others of `run`.
    """
    chosen = RunOptions.of(**options)
    check_task(func)
    settings: dict[str, Any] = {
        "concurrency": chosen.width,
        "workers": chosen.processes,
        "timeout_s": chosen.timeout,
        "retries": chosen.retries,
        "rate": chosen.rate,
        "max_tasks": chosen.max_tasks,
        "max_memory": chosen.max_bytes,
    }
    if resumes is None:
        ledger = (AggregateLedger if chosen.discard else Ledger)(func, items_of(items, count), **settings)
    elif chosen.discard != isinstance(resumes, AggregateLedger):
        raise UsageError("a run that is resumed keeps or discards its results as it did before: leave out discard")
    else:
        ledger = resumes.resumed(**settings)
    here = start()
    pool = runner or get_pool(here, chosen.pool)
    name = label or str(getattr(func, "__name__", "tasks"))

    def repeated(resumes: Ledger | None, items: Iterable[Any], label: str, changes: dict[str, Any]) -> Run:
        __tracebackhide__ = True
        made = prepare(func, items, resumes=resumes, label=label, **vars(chosen.changed(**changes)))
        return made.complete()

    return Run(
        here,
        pool,
        ledger,
        label=name,
        fail_fast=chosen.fail_fast,
        observers=(
            *observers,
            *([Tracing(here, timeline_figure)] if chosen.trace else []),
            *views_for(here, chosen.live),
        ),
        make_repeated=repeated,
        figure=run_figure,
        make_report=report_maker(),
    )
