"""The report of a run: plain text, HTML and a table. Draws nothing."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from greenlab.errors import UsageError
from greenlab.places import is_machinery, with_cells_named
from greenlab.pools.processes.serialization import RemoteTraceback
from greenlab.pools.registry import spec_of
from greenlab.runs.ledger import CANCELLED, FAILED, OK
from greenlab.text.format import by_type, counted, most_by_type, seconds, speed
from greenlab.text.theme import PICTURE_LINE_CHARS, STYLE
from greenlab.text.tracebacks import lines_of, message_of, traceback_of, visible

if TYPE_CHECKING:
    from greenlab.runs.results import RunResults

_STATES = {OK: "succeeded", FAILED: "failed", CANCELLED: "cancelled"}


def lines(run: RunResults) -> list[str]:
    """Return the lines of the report: the first names the run, the rest are figures and failures."""
    named = spec_of(run.pool).size_name
    width = counted(run.concurrency, "worker") if named == "workers" else f"concurrency {run.concurrency:,}"
    if run.running:
        # All that varies is in one line, which test tools can leave out.
        of = counted(run.done, "task") if run.total is None else f"{run.done:,} of {counted(run.total, 'task')}"
        failed = f", {run.failed:,} failed" if run.failed else ""
        so_far = f"{of}{failed}, {_speed(run)} in {seconds(run.elapsed_s)}, {width}"
        return [f"{run.pool} run of {run.label}: still running", f"  so far: {so_far}"]
    counts = run.counts
    of = f"{counts['succeeded']:,} of " if counts["total"] != counts["succeeded"] else ""
    out = [
        f"{run.pool} run of {run.label}: {of}{counted(counts['total'], 'task')} succeeded",
        f"  {_speed(run)} in {seconds(run.elapsed_s)}, {width}",
        f"  {_latency(run, 'p50', 'p90', 'p99', 'max')}",
        *(f"  {remark}" for remark in _remarks(run)),
    ]
    return [visible(line) for line in out]


def _speed(run: RunResults) -> str:
    return speed(run.throughput, ended=run.done - run.done_before, failed=run.failed)


def _latency(run: RunResults, *names: str) -> str:
    return "latency " + ", ".join(f"{name} {seconds(getattr(run.latency, name))}" for name in names)


def _remarks(run: RunResults, *, below_picture: bool = False) -> list[str]:
    """Return what else there is to say of a run that has ended; below its picture, what that does not say."""
    counts = run.counts
    out = [run.moved] if run.moved else []
    if run.done_before:
        out.append(f"resumed: {counted(run.done_before, 'task')} had succeeded before")
    if run.startup_s > 0.001:
        out.append(f"start-up of the pool, not counted above: {seconds(run.startup_s)}")
    if run.discards:
        out.append("results were discarded, as asked")
    if counts["cancelled"] or run.cancelled:
        cut = f"{counted(counts['cancelled'], 'task')} cut short" if counts["cancelled"] else "no task was in flight"
        out.append(f"cancelled: {cut}")
    blocked = run.blocked_lines
    # A picture names one line, and cuts what is too long for it.
    if not (below_picture and len(blocked) == 1 and len(f"blocked: {blocked[0]}") <= PICTURE_LINE_CHARS):
        out += [f"blocked: {line}" for line in blocked[:3]]
    if len(blocked) > 3:
        out.append(f"blocked at {counted(len(blocked) - 3, 'more line')}, see run.blocked_by_line")
    if run.source_error is not None:
        out.append(f"the items ended early: {message_of(run.source_error)}")
    kinds = by_type(run.error_types.items())
    whole = kinds == most_by_type(run.error_types.items()) and len(kinds) <= PICTURE_LINE_CHARS
    if counts["failed"] and not (below_picture and whole):
        out.append(f"failed: {kinds}")
    return out


def first_traceback(run: RunResults) -> list[str]:
    """Return the lines of the first failed task's traceback, from the task's own first line on; none if none failed."""
    first = run.ledger.first_failure()
    if first is None:
        return []
    index, raised = first
    cause = raised.error.__cause__
    # The traceback in a worker process ends with the error itself.
    trace = lines_of(str(cause)) if isinstance(cause, RemoteTraceback) else traceback_of(raised, is_machinery)
    trace = [with_cells_named(line) for line in trace]
    return [f"  the first, task {index}:", *(f"    {line}" for line in trace)]


def plain(run: RunResults) -> str:
    """Return the plain-text report."""
    return "\n".join(lines(run) + _trace(run))


def rich(run: RunResults, *, below_picture: bool = False) -> str:
    """Return the report as HTML, with the first traceback folded in.

    Args:
        run: the run.
        below_picture: whether its picture stands above it: what that says, with the first failure below it, is left
            out.
    """
    head, *rest = lines(run)
    trace = [] if below_picture else _trace(run)
    if below_picture and run.running:
        rest = []
    elif below_picture:
        figures = [_latency(run, "p90", "max"), *_remarks(run, below_picture=True)]
        head, *rest = [visible(line) for line in (f"{run.pool} run of {run.label}", *figures)]
    folded = (
        f"<details><summary>first failure</summary><pre>{html.escape(chr(10).join(trace))}</pre></details>"
        if trace
        else ""
    )
    body = "<br>".join(html.escape(line.strip()) for line in rest)
    # JupyterLab shows a picture without its alt text, so the report beside it has all that it says.
    said = f' role="group" aria-label="{html.escape("; ".join(line.strip() for line in lines(run)))}"'
    said = said if below_picture else ""
    return f'<div class="greenlab-run"{said}><b>{html.escape(head)}</b><br>{body}{folded}</div>{STYLE}'


def _trace(run: RunResults) -> list[str]:
    # While the run goes on, whether there is one, and which, changes from moment to moment.
    return [] if run.running else first_traceback(run)


def frame(run: RunResults) -> Any:
    """Return a pandas DataFrame, a row a task, indexed by `task`; times count from the run's start, in seconds.

    Columns: state ("succeeded", "failed", "cancelled", "pending"), started_s, ended_s, latency_s, value, error.

    Raises:
        UsageError: pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError:
        raise UsageError("to_pandas needs pandas: pip install pandas") from None
    ledger = run.ledger
    size = len(ledger.state)
    started = [value - run.started_s for value in ledger.started_s]
    ended = [value - run.started_s for value in ledger.ended_s]
    columns = {
        "state": [_STATES.get(state, "pending") for state in ledger.state],
        "started_s": started,
        "ended_s": ended,
        "latency_s": [end - start for start, end in zip(started, ended, strict=True)],
        "value": pd.Series(ledger.values, dtype=object),
        "error": pd.Series([run.errors.get(index) for index in range(size)], dtype=object),
    }
    return pd.DataFrame(columns, index=pd.RangeIndex(size, name="task"))
