"""How much concurrency is enough, by a sweep's points: the fit of the knee and of the advised concurrency.

Two concurrencies are returned:

* the *knee*, N* = X_max · R_1: where, by Little's law, tasks without any queueing would already give the highest
  throughput; below it concurrency is nearly free, above it tasks mostly wait for each other. (E. Lazowska et al.,
  Quantitative System Performance, 1984, chapter 5; X/R, the power, is highest there: L. Kleinrock, Power and
  Deterministic Rules of Thumb for Probabilistic Problems in Computer Communications, 1979.)
* the *advised* one: the least that gives `SHARE` of the highest throughput. It is read off the fitted law, and kept
  within what was measured: not below `SHARE` of the knee, which Little's law rules out, above the last measured point
  that falls short, and not above the first that does not. (The law bends gently; a server with a hard limit does not.)

Its interval does not trust the law, which is one shape of many: between two concurrencies that were tried the true
curve may bend anywhere. See `likely_interval`.

Nothing is concluded beyond the highest concurrency that was tried, nor from points that are too few or too noisy.

Must not import: live, magics; numpy and scipy before something is fitted.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from math import ceil, floor, isnan
from typing import TYPE_CHECKING, Any

from greenlab.comparing import usl
from greenlab.text.format import counted, times_as

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from greenlab.comparing.steady_state import Point
    from greenlab.comparing.usl import Usl

SHARE = 0.95
LEAST_POINTS = usl.PARAMETERS + 1
LEAST_TASKS, LEAST_ROUNDS = 20, 2
"""Tasks, and rounds of as many tasks as the concurrency, that must end between a point's ramps."""
MOST_FAILED = 0.01
MISFIT = 0.05
"""A law that is farther off the points than this, and than they are known, is not theirs."""
RISING = 0.2
"""If the curve's elasticity at the highest concurrency is above this, it has not reached its maximum."""
_RESAMPLES = 1000
_QUANTILES = (0.05, 0.95)
_ALIKE = 2 * 2**0.5
"""So many standard errors are between two points that differ by twice that of their difference."""
_LEAST_FREEDOM = 3
"""Degrees of freedom of a point's error that are assumed at the least: of two batches it could be anything."""


@dataclass(frozen=True)
class Recommendation:
    """What follows from a sweep.

    Attributes:
        concurrency: the advised concurrency, or None.
        interval: where it lies nine times out of ten, its lowest and its highest value; or None.
        knee: the concurrency at which tasks begin to wait for each other more than throughput gains, or None.
        law: the fitted law, or None.
        law_holds: whether the law describes the points, so that conclusions can be drawn from its figures.
        missing: what is missing for an advice, a sentence each.
    """

    concurrency: int | None = None
    interval: tuple[int, int] | None = None
    knee: int | None = None
    law: Usl | None = None
    law_holds: bool = False
    missing: tuple[str, ...] = ()


def recommend_concurrency(points: Sequence[Point], asked: int = 0) -> Recommendation:
    """Fit the law to a sweep's points and advise a concurrency, or return what is missing.

    Args:
        points: what has been measured, ascending by concurrency.
        asked: how many concurrencies were to be tried, if an interrupt came before all had been.
    """
    missing = _too_little_data(points, asked)
    usable = [point for point in points if point.counted and point.throughput > 0]
    if not usl.have_scipy():
        return Recommendation(missing=(*missing, "the fit needs scipy: pip install scipy"))
    if len({point.concurrency for point in usable}) < usl.PARAMETERS:
        return Recommendation(missing=missing or (_more_points(points, asked),))
    errors = [_error(point) for point in usable]
    columns = [point.concurrency for point in usable], [point.throughput for point in usable], errors
    law = usl.fit(*columns)
    missing = missing or _inconclusive(usable, law)
    if missing:
        return Recommendation(law=law, law_holds=_holds(usable, law), missing=missing)
    return _advise(usable, law)


def likely_interval(points: Sequence[Point]) -> tuple[int, int]:
    """Return where the least concurrency lies that gives `SHARE` of the highest throughput, nine times out of ten.

    It is above the last point that falls short, and not above the first that does not: no fit can tell where between
    the two. Which points these are is as sure as the points are: they are drawn anew, some hundreds of times, each
    with its own error (Student's t, for the standard error is an estimate too), and what nine draws in ten allow is
    returned. If one task at a time was tried, Little's law narrows it: N tasks in flight do at most N times as much.

    Args:
        points: ascending by concurrency, each with a throughput above 0.
    """
    import numpy as np

    tried = np.array([point.concurrency for point in points])
    freedom = np.array([max(len(point.batches) - 1, _LEAST_FREEDOM) for point in points])
    errors = np.array([_error(point) for point in points])
    off = np.random.default_rng(0).standard_t(freedom, (_RESAMPLES, len(points))) * errors
    drawn = np.array([point.throughput for point in points]) * np.exp(off)
    highest = drawn.max(axis=1, keepdims=True)
    high = tried[np.argmax(drawn >= SHARE * highest, axis=1)]
    top = _mean_of_the_highest(drawn, errors)
    enough_at = np.argmax(drawn >= SHARE * top, axis=1)
    low = np.where(enough_at > 0, tried[enough_at - 1], 1)
    if tried[0] == 1:
        low = np.clip(SHARE * top[:, 0] * points[0].mean_s * np.exp(off[:, 0]), low, tried[enough_at])
    lowest = np.quantile(low, _QUANTILES[0], method="inverted_cdf")
    return _round(float(lowest), floor), int(np.quantile(high, _QUANTILES[1], method="inverted_cdf"))


def _mean_of_the_highest(rates: Any, errors: Any) -> Any:
    """Return the mean of those throughputs of each row that are like its highest, which itself is high by chance."""
    import numpy as np

    weights = np.where(rates >= rates.max(axis=1, keepdims=True) * np.exp(-_ALIKE * errors), errors**-2.0, 0.0)
    return (rates * weights).sum(axis=1, keepdims=True) / weights.sum(axis=1, keepdims=True)


def _holds(points: Sequence[Point], law: Usl) -> bool:
    return law.misfit <= max(MISFIT, *(_error(point) for point in points))


def _highest(points: Sequence[Point], law: Usl) -> float:
    """Return the highest throughput: the law's, which is not high by chance, but no more than was measured."""
    import numpy as np

    if _holds(points, law):
        return min(law.max_throughput(points[-1].concurrency), max(point.throughput for point in points))
    rates, errors = [point.throughput for point in points], [_error(point) for point in points]
    return float(_mean_of_the_highest(np.array([rates]), np.array(errors))[0, 0])


def _above_the_last_short(points: Sequence[Point], enough: float) -> float:
    """Return the least concurrency for a throughput that the last point which clearly falls short of it allows.

    Between that one and the next, which gives it, throughput is taken to rise in proportion.
    """
    least = 1.0
    for point, after in itertools.pairwise(points):
        if point.throughput >= enough:
            break
        if point.throughput * (1 + 2 * _error(point)) < enough:
            missing = (enough - point.throughput) / max(after.throughput - point.throughput, 1e-9)
            least = point.concurrency + min(missing, 1.0) * (after.concurrency - point.concurrency)
    return least


def _advise(points: Sequence[Point], law: Usl) -> Recommendation:
    first, highest = points[0], points[-1].concurrency
    measured = max(point.throughput for point in points)

    def enough(fitted: Usl) -> float:
        # Between two points the law may promise more than was measured at any.
        return fitted.least_concurrency(SHARE * min(fitted.max_throughput(highest), measured), highest)

    top = _highest(points, law)
    knee = max(top * first.mean_s, 1.0)
    least = min(SHARE * knee, highest)
    most = next((point.concurrency for point in points if point.throughput >= SHARE * top), highest)
    advised = min(max(enough(law), least), max(most, least))
    if advised <= max((point.concurrency for point in points if point.concurrency < most), default=0):
        advised = max(advised, _above_the_last_short(points, SHARE * top))
    low, high = likely_interval(points)
    return Recommendation(
        concurrency=_round(advised),
        interval=(min(low, _round(advised)), max(high, _round(advised))),
        knee=_round(min(knee, highest), round),
        law=law,
        law_holds=_holds(points, law),
    )


def _too_little_data(points: Sequence[Point], asked: int) -> tuple[str, ...]:
    """Return sentences on too few points, points of too few tasks, and points with failed tasks."""
    found = []
    if len({point.concurrency for point in points}) < LEAST_POINTS:
        found.append(_more_points(points, asked))
    for point in points:
        least = max(LEAST_TASKS, LEAST_ROUNDS * point.concurrency)
        if point.failed > MOST_FAILED * point.tasks:
            kinds = ", ".join(f"{count:,} {name}" for name, count in point.error_types)
            found.append(
                f"at {point.concurrency:,} in flight {point.failed:,} of {counted(point.tasks, 'task')} failed "
                f"({kinds}): fix that, or leave this concurrency out"
            )
        elif point.counted < least:
            need_s = point.elapsed_s * (least + point.concurrency) / max(point.counted, 1)
            found.append(
                f"at {point.concurrency:,} in flight only {counted(point.counted, 'task')} ended between the ramps, "
                f"and {least:,} are needed: --seconds {_round(max(need_s, 1)):,}"
            )
    return tuple(found)


def _more_points(points: Sequence[Point], asked: int) -> str:
    have = len({point.concurrency for point in points})
    if have < asked >= LEAST_POINTS:
        return f"{have} of {counted(asked, 'concurrency')} had been tried, and {LEAST_POINTS} or more are needed"
    return f"{LEAST_POINTS} concurrencies or more are needed, not {have}: such as -c 1,10,100,1000"


def _inconclusive(points: Sequence[Point], law: Usl) -> tuple[str, ...]:
    """Return why enough points may still allow no advice: noise, or a maximum that was not reached."""
    rates = [point.throughput for point in points]
    noise = max(_error(point) for point in points)
    differs = 1 - min(rates) / max(rates)
    if noise > 0.05 and differs < 3 * noise:
        return (
            (
                f"the throughputs differ by {differs:.0%}, and one of them is only known to within {noise:.0%}: "
                "--seconds 10 or more, on a quieter machine"
            ),
        )
    last, before = points[-1], points[-2]
    if law.elasticity(last.concurrency) > RISING and last.throughput > 1.05 * before.throughput:
        rises = times_as(last.throughput / before.throughput, "high")
        return (
            (
                f"the throughput still rises at {last.concurrency:,} in flight, the highest that was tried "
                f"({rises} at {before.concurrency:,}): go on to {_round(10 * last.concurrency):,}"
            ),
        )
    return ()


def _error(point: Point) -> float:
    return 0.1 if isnan(point.relative_error) else point.relative_error


def _round(value: float, how: Callable[[float], float] = ceil) -> int:
    """Round to two digits, upwards by default: no third one is known."""
    step: int = 10 ** max(len(str(int(value))) - 2, 0)
    return max(int(how(round(value / step, 6)) * step), 1)
