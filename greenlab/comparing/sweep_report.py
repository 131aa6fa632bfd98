"""The report of a sweep: the advice or why there is none, Little's law, a table. Draws nothing.

Must not import: live, magics, pandas before it is asked for.
"""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any, Protocol

from greenlab.comparing.recommend import SHARE
from greenlab.errors import UsageError
from greenlab.pools.registry import spec_of
from greenlab.text import table
from greenlab.text.format import rate, seconds, times

if TYPE_CHECKING:
    from collections.abc import Sequence

    from greenlab.comparing.recommend import Recommendation
    from greenlab.comparing.steady_state import Point
    from greenlab.comparing.usl import Usl


class SweepFacts(Protocol):
    """A sweep, as its report reads it. See `greenlab.comparing.sweep.Sweep`."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def pool(self) -> str: ...  # noqa: D102
    @property
    def points(self) -> Sequence[Point]: ...  # noqa: D102
    @property
    def concurrencies(self) -> Sequence[int]: ...  # noqa: D102
    @property
    def recommendation(self) -> Recommendation: ...  # noqa: D102
    @property
    def law(self) -> Usl | None: ...  # noqa: D102
    @property
    def missing(self) -> list[str]: ...  # noqa: D102
    @property
    def interval(self) -> tuple[int, int] | None: ...  # noqa: D102
    @property
    def stage(self) -> str: ...  # noqa: D102
    @property
    def ended(self) -> bool: ...  # noqa: D102
    @property
    def interrupted(self) -> bool: ...  # noqa: D102


TOLERANCE = 0.1
"""Where the tasks in flight, or throughput times latency, differ from the concurrency by more, the report says so."""

WIDE = 1.5
"""An interval is wide when its ends are farther apart than this factor."""

NEGLIGIBLE = 0.001
"""A share of the work that is below this is said not to be there, and so is what is left of all of it."""

_HEADER = ("in flight", "tasks", "throughput", "p50", "p99", "throughput × latency", "errors")


def option(sweep: SweepFacts) -> str:
    """Return the option that sets the concurrency: `-c`, or `-w` of prefork, which holds one task a worker."""
    return spec_of(sweep.pool).size_flag


def advice(sweep: SweepFacts) -> str:
    """Return a sentence: which concurrency is enough, or that there is no advice."""
    recommendation = sweep.recommendation
    if recommendation.concurrency is None or recommendation.interval is None:
        if not sweep.ended:
            return sweep.stage
        return f"no advice, for {'it was interrupted' if sweep.interrupted else 'something is missing'}"
    low, high = recommendation.interval
    between = f" ({low:,} to {high:,})" if low < high else ""
    return (
        f"advised: {option(sweep)} {recommendation.concurrency:,}{between}, the least that gives {SHARE:.0%} of the "
        f"highest throughput; tasks begin to wait for each other at {recommendation.knee:,}, the knee"
    )


def law_words(sweep: SweepFacts) -> list[str]:
    """Return what the fitted law says, a line of plain words each; none without a law. `symbols` has its figures."""
    law = sweep.law
    if law is None:
        return []
    if not sweep.recommendation.law_holds:
        return [
            f"a law fitted to the points is {law.misfit:.0%} off, too far to conclude from; symbols() has its figures"
        ]
    found = [f"one task at a time would give {rate(law.rate)}"]
    knee = sweep.recommendation.knee
    if law.contention > 1 - NEGLIGIBLE:
        found.append("tasks stand in line for each other all the time, so that more in flight do not raise throughput")
    elif law.contention >= NEGLIGIBLE:
        most = f"which limits throughput to {times(1 / law.contention)} that, however many are in flight"
        found.append(f"for {law.contention:.2%} of their work tasks stand in line for each other, {most}")
    elif knee is None or knee >= sweep.concurrencies[-1]:  # from the knee on they wait for each other
        found.append("tasks do not stand in line for each other")
    if law.peak <= sweep.concurrencies[-1]:
        found.append(f"beyond {law.peak:,.0f} in flight they slow each other down by more than one more task adds")
    else:
        found.append("in what was tried, one more in flight never made it slower")
    found.append(f"this is by a law fitted to the points, which are {law.misfit:.0%} off; symbols() has its figures")
    return found


def symbols(sweep: SweepFacts) -> str:
    """Return the formulas behind the report, and their symbols with the figures of this sweep, a line each."""
    law, recommendation = sweep.law, sweep.recommendation
    lines = [
        "Little's law: L = X·R. L tasks are in flight, where X tasks end a second and each takes R seconds on average;",
        "the table's column throughput × latency is X·R, and should be what is in flight.",
    ]
    if recommendation.knee is not None:
        first = sweep.points[0]
        alone = f"R_1 = {seconds(first.mean_s)}, the mean latency at {first.concurrency:,} in flight"
        lines += [
            "Knee: N* = X_max · R_1, the tasks in flight that would give the highest throughput if none ever waited.",
            f"  N* = {recommendation.knee:,}  {alone}",
        ]
    if law is None:
        return "\n".join([*lines, "The Universal Scalability Law could not be fitted: too few points."])
    return "\n".join(
        [
            *lines,
            "Universal Scalability Law: X(N) = λN / (1 + σ(N − 1) + κN(N − 1)), with N tasks in flight.",
            f"  λ = {rate(law.rate)}: the throughput of one task at a time",
            f"  σ = {_figure(law.contention)}, contention: the share of the work for which tasks stand in line",
            f"  κ = {_figure(law.coherency)}, coherency: what each pair of tasks costs, as a share of one task's time",
            f"  the points are {law.misfit:.0%} off the curve (root mean square)",
            "(J. D. C. Little, Operations Research 9, 1961; E. Lazowska et al., Quantitative System Performance, 1984;",
            "N. J. Gunther, Guerrilla Capacity Planning, 2007)",
        ]
    )


def _figure(value: float) -> str:
    """Format a share in two digits; what is left of zero by the fit's arithmetic is zero."""
    return f"{value:.2g}" if value >= 1e-9 else "0"


def check_littles_law(points: Sequence[Point]) -> list[str]:
    """Return a sentence on each deviation of the points from Little's law, or one that it holds."""
    counted = [point for point in points if point.counted]
    too_few = [point for point in counted if point.in_flight < (1 - TOLERANCE) * point.concurrency]
    unsteady = [
        point
        for point in counted
        if point not in too_few and abs(point.by_littles_law - point.in_flight) > TOLERANCE * point.in_flight
    ]
    found = []
    if too_few:
        where = ", ".join(f"{point.in_flight:,.3g} of {point.concurrency:,}" for point in too_few)
        found.append(f"Little's law: the pool or the items did not keep so many in flight: {where}")
    if unsteady:
        where = ", ".join(f"{point.by_littles_law:,.3g} of {point.concurrency:,}" for point in unsteady)
        found.append(
            f"Little's law: throughput × latency is not what was in flight: {where}; no steady state, or some tasks "
            "wait while others overtake them, so trust the latency least"
        )
    if counted and not found:
        found.append(f"Little's law holds: throughput × mean latency is what was in flight, to within {TOLERANCE:.0%}")
    return found


def notes(sweep: SweepFacts) -> list[str]:
    """Return the lines below the advice and what is missing for one: how to narrow it down, the law, Little's check."""
    found = []
    if sweep.interval is not None and sweep.interval[1] > WIDE * sweep.interval[0]:
        found.append(f"to narrow it down: {option(sweep)} {_closer_concurrencies(sweep, *sweep.interval)}")
    return found + law_words(sweep) + check_littles_law(sweep.points)


def _closer_concurrencies(sweep: SweepFacts, low: int, high: int) -> str:
    """Return the concurrencies of a closer sweep: one below the interval, three in it, one above."""
    wanted = {sweep.concurrencies[0], low, round((low * high) ** 0.5), high, 2 * high}
    return ",".join(str(value) for value in sorted(wanted))


def rows(sweep: SweepFacts) -> list[list[str]]:
    """Return a row of the table for each concurrency."""
    done = [_row(point) for point in sweep.points]
    if not sweep.ended:
        return done
    left = [f"{value:,}" for value in sweep.concurrencies[len(sweep.points) :]]
    cut = 1 if sweep.interrupted else 0
    return done + [[value, "interrupted"] for value in left[:cut]] + [[value, "did not run"] for value in left[cut:]]


def _row(point: Point) -> list[str]:
    error = point.relative_error
    error_text = f" ± {error:.0%}" if error == error else ""  # noqa: PLR0124 (nan: not known)
    return [
        f"{point.concurrency:,}",
        f"{point.tasks:,}",
        f"{rate(point.throughput)}{error_text}",
        seconds(point.latency.p50),
        seconds(point.latency.p99),
        f"{point.by_littles_law:,.3g}",
        ", ".join(f"{count:,} {name}" for name, count in point.error_types) or "0",
    ]


def plain(sweep: SweepFacts) -> str:
    """Return the plain-text report."""
    below = [f"  {note}" for note in [*_missing(sweep), *notes(sweep)]]
    return "\n".join([sweep.name, f"  {advice(sweep)}", *below, *table.plain(_HEADER, rows(sweep))])


def _missing(sweep: SweepFacts) -> list[str]:
    return list(sweep.missing) if sweep.ended else []


def rich(sweep: SweepFacts, *, below_picture: bool = False) -> str:
    """Return the report as HTML.

    Args:
        sweep: the sweep.
        below_picture: whether its picture, which says the advice or what is missing for one, stands above it.
    """
    said = [] if below_picture else [advice(sweep), *_missing(sweep)]
    words = "".join(f"<br>{html.escape(text)}" for text in [*said, *notes(sweep)])
    return (
        f'<div class="greenlab-sweep"><b>{html.escape(sweep.name)}</b>{words}{table.rich(_HEADER, rows(sweep))}</div>'
    )


def frame(sweep: SweepFacts) -> Any:
    """Return a pandas DataFrame, a row a concurrency; times in seconds, of the tasks between the ramps.

    Raises:
        UsageError: pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError:
        raise UsageError("to_pandas needs pandas: pip install pandas") from None
    law = sweep.law
    return pd.DataFrame(
        [
            {
                "concurrency": point.concurrency,
                "tasks": point.tasks,
                "counted": point.counted,
                "failed": point.failed,
                "throughput": point.throughput,
                "error": point.error,
                "mean_s": point.mean_s,
                "p50_s": point.latency.p50,
                "p90_s": point.latency.p90,
                "p99_s": point.latency.p99,
                "in_flight": point.in_flight,
                "by_littles_law": point.by_littles_law,
                "fitted": float(law.throughput(point.concurrency)) if law else float("nan"),
            }
            for point in sweep.points
        ]
    )
