"""What is found in the points of a sweep: a steady state, the law, the knee, the advice and its interval."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import pytest
from sweep_doubles import closed_loop, points

from greenlab import UsageError
from greenlab.comparing import recommend, steady_state, usl
from greenlab.comparing.sweep import MOST_TASKS, RepeatedItems

if TYPE_CHECKING:
    from collections.abc import Callable


# -- a point -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clients", [1, 3, 8, 20])
def test_a_points_throughput_is_exact_however_tasks_fall_in_step(clients: int) -> None:
    point = closed_loop(clients, servers=8, service_s=0.125, seconds=8.0)
    # Twenty clients and eight servers: the first twenty ends are no whole number of rounds of eight.
    assert min(clients, 8) / 0.125 == pytest.approx(point.throughput, rel=0.02 if clients == 20 else 1e-9)
    assert clients == pytest.approx(point.in_flight)
    assert clients == pytest.approx(point.by_littles_law, rel=0.02)


def test_the_ramps_do_not_count() -> None:
    # Four at once, a second each; the last round is one slow task that drains alone.
    starts_s = [0.0] * 4 + [1.0] * 4 + [2.0] * 4
    ends_s = [1.0] * 4 + [2.0] * 4 + [3.0, 3.0, 3.0, 60.0]
    point = steady_state.measure(4, starts_s, ends_s, until_s=2.5)
    assert (12, 4, 4.0) == (point.tasks, point.counted, point.throughput)


def test_a_point_that_is_all_ramp_counts_nothing_and_knows_no_error() -> None:
    point = closed_loop(50, servers=50, service_s=1.0, seconds=0.5)
    assert 0 == point.counted
    assert point.relative_error != point.relative_error
    assert steady_state.measure(5, [], [], 1.0).throughput == 0.0


def test_the_standard_error_is_that_of_the_batches() -> None:
    steadily = closed_loop(4, servers=4, service_s=0.1, seconds=20)
    shakily = closed_loop(4, servers=4, service_s=0.1, seconds=20, spread=1.0)
    assert steady_state.LEAST_ERROR == pytest.approx(steadily.relative_error)
    assert shakily.relative_error > 2 * steady_state.LEAST_ERROR


def test_laps_go_round_the_same_items_from_the_first_one_until_their_time_is_over() -> None:
    laps = RepeatedItems("abc", 2, seconds=0.05)
    seen = list(laps)
    assert list("abcabc") == seen[:6]
    assert len(seen) <= MOST_TASKS
    assert laps.until_s <= time.perf_counter()


def test_without_a_time_laps_last_until_enough_tasks_have_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("greenlab.comparing.sweep.SHORTEST_S", 0.0)
    assert 7 * 100 == len(list(RepeatedItems([1], 100, None)))
    assert 50 + 1 == len(list(RepeatedItems([1], 1, None)))


# -- the law -------------------------------------------------------------------------------------------------

LAWS = [
    usl.Usl(10, 0.0, 0.0),
    usl.Usl(10, 0.05, 0.0),
    usl.Usl(250, 0.02, 0.0005),
    usl.Usl(1e5, 0.5, 1e-6),
    usl.Usl(0.3, 0.001, 2e-5),
    usl.Usl(40, 1.0, 0.0),
]
WIDTHS = (1, 2, 5, 10, 30, 100, 300)


@pytest.mark.parametrize("law", LAWS, ids=str)
def test_the_figures_of_a_known_law_are_found_again(law: usl.Usl) -> None:
    found = usl.fit(WIDTHS, [law.throughput(n) for n in WIDTHS], [0.01] * len(WIDTHS))
    assert law.rate == pytest.approx(found.rate, rel=1e-3)
    assert law.contention == pytest.approx(found.contention, rel=1e-2, abs=1e-6)
    assert law.coherency == pytest.approx(found.coherency, rel=1e-2, abs=1e-9)
    assert found.misfit < 1e-3


@pytest.mark.parametrize("law", LAWS, ids=str)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_through_noise_the_fitted_curve_stays_near_the_true_one(law: usl.Usl, seed: int) -> None:
    rng = random.Random(seed)
    noisy = [law.throughput(n) * rng.gauss(1, 0.03) for n in WIDTHS]
    found = usl.fit(WIDTHS, noisy, [0.03] * len(WIDTHS))
    for n in WIDTHS:
        assert law.throughput(n) == pytest.approx(found.throughput(n), rel=0.12)


def test_the_laws_curve_peaks_and_bends_where_its_formulas_say() -> None:
    law = usl.Usl(10, 0.05, 0.001)
    assert law.peak == pytest.approx((0.95 / 0.001) ** 0.5)
    assert law.throughput(law.peak) > max(law.throughput(law.peak * 0.9), law.throughput(law.peak * 1.1))
    step = 1e-6
    slope = (law.throughput(7 + step) / law.throughput(7) - 1) / (step / 7)
    assert slope == pytest.approx(law.elasticity(7), rel=1e-3)
    assert law.throughput(law.least_concurrency(50, 100)) == pytest.approx(50, rel=0.02)


def test_three_figures_need_three_concurrencies() -> None:
    with pytest.raises(UsageError, match="3 concurrencies or more"):
        usl.fit([1, 2, 2], [1, 2, 2], [0.1] * 3)


# -- the advice ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spread", [0.0, 0.5])
@pytest.mark.parametrize(
    ("servers", "widths"),
    [
        (20, (1, 5, 10, 20, 40, 80)),
        (20, (1, 2, 4, 8, 16, 32, 64, 128)),
        (50, (1, 5, 10, 20, 100, 200)),
        (5, (1, 10, 100, 1000)),
    ],
)
def test_of_a_server_with_a_limit_the_knee_is_the_limit_and_the_advice_is_near(
    servers: int, widths: tuple[int, ...], spread: float
) -> None:
    verdict = recommend.recommend_concurrency(
        [closed_loop(n, servers, 0.05, 2 + 4 * n * 0.05 / servers + 50 * 0.05, spread=spread) for n in widths]
    )
    assert () == verdict.missing
    assert verdict.knee == pytest.approx(servers, rel=0.3)
    # As near as the points allow: from the limit to the first of them beyond it.
    beyond = min(n for n in widths if n >= servers)
    assert verdict.concurrency is not None
    assert 0.8 * servers <= verdict.concurrency <= beyond
    low, high = verdict.interval or (0, 0)
    assert low <= verdict.concurrency <= high
    assert low <= 1.05 * servers
    assert high >= 0.95 * servers


def test_of_a_smooth_law_the_advice_is_the_least_concurrency_for_95_percent() -> None:
    law = usl.Usl(10, 0.05, 0.0005)
    widths = (1, 3, 10, 20, 30, 50, 100)
    verdict = recommend.recommend_concurrency(points(*(law.throughput(n) for n in widths), widths=widths))
    best = law.max_throughput(100)
    assert verdict.concurrency is not None
    assert 0.93 * best <= law.throughput(verdict.concurrency) <= 0.98 * best
    assert law.throughput(verdict.concurrency * 0.7) < 0.95 * best


def test_where_more_brings_nothing_the_advice_is_one() -> None:
    verdict = recommend.recommend_concurrency(points(500, 502, 499, 500))
    assert (1, 1) == (verdict.concurrency, verdict.knee)


@pytest.mark.parametrize(
    ("rates", "least"),
    [((105_374, 70_000, 123_397, 121_000), 3), ((100, 100, 100, 125), 5), ((105, 123, 90, 60), 2)],
)
def test_no_concurrency_is_advised_whose_point_clearly_falls_short_of_the_highest(
    rates: tuple[float, ...], least: int
) -> None:
    given = points(*rates, widths=(1, 2, 4, 8))
    verdict = recommend.recommend_concurrency(given)
    assert verdict.concurrency is not None
    assert least <= verdict.concurrency
    low, high = verdict.interval or (0, 0)
    assert low <= verdict.concurrency <= high


def test_more_noise_widens_the_interval() -> None:
    law = usl.Usl(10, 0.05, 0.0005)
    widths = (1, 5, 10, 15, 20, 30, 40, 50, 70, 100)
    rates = [law.throughput(n) for n in widths]

    def width(noise: float) -> float:
        low, high = recommend.recommend_concurrency(points(*rates, widths=widths, noise=noise)).interval or (1, 1)
        return high / low

    assert width(0.01) < width(0.04)


GRIDS = [(1, 10, 100, 1000), (1, 5, 10, 20, 40, 80), (1, 2, 4, 8, 16, 32, 64, 128), (5, 20, 60, 200), (2, 30, 31, 32)]


def limited(n: int) -> float:
    """The throughput of a server with 30 places and no wait before them: its knee is at 30."""
    return min(n, 30) / 0.1


def bending(n: int) -> float:
    return float(usl.Usl(10, 0.05, 0.0005).throughput(n))


def least_enough(curve: Callable[[int], float], widths: tuple[int, ...]) -> int:
    """The least concurrency that gives 95 % of the highest throughput at any that is tried."""
    best = max(curve(n) for n in widths)
    return next(n for n in range(1, widths[-1] + 1) if curve(n) >= recommend.SHARE * best)


@pytest.mark.parametrize("noise", [0.01, 0.05, 0.2])
@pytest.mark.parametrize("curve", [limited, bending])
@pytest.mark.parametrize("widths", GRIDS, ids=str)
def test_the_interval_has_the_true_concurrency_nine_times_out_of_ten(
    widths: tuple[int, ...], curve: Callable[[int], float], noise: float
) -> None:
    rng, held, truth = random.Random(1), 0, least_enough(curve, widths)
    for _ in range(100):
        low, high = recommend.likely_interval(
            points(*(curve(n) * rng.lognormvariate(0, noise) for n in widths), widths=widths, noise=noise)
        )
        held += low <= truth <= high
    assert held >= 88


@pytest.mark.parametrize("curve", [limited, bending])
@pytest.mark.parametrize("widths", GRIDS, ids=str)
def test_the_interval_is_never_narrower_than_the_concurrencies_that_were_tried_allow(
    widths: tuple[int, ...], curve: Callable[[int], float]
) -> None:
    best = max(curve(n) for n in widths)
    enough = next(n for n in widths if curve(n) >= recommend.SHARE * best)
    short = max((n for n in widths if n < enough), default=1)
    # N in flight do at most N times what one does: that alone narrows it without a point.
    by_littles_law = recommend.SHARE * best / curve(1) if widths[0] == 1 else 1.0
    low, high = recommend.recommend_concurrency(
        points(*(curve(n) for n in widths), widths=widths, noise=0.001)
    ).interval or (0, 0)
    assert low <= max(short, by_littles_law)
    assert high >= enough


def test_a_fit_through_points_that_are_far_apart_does_not_narrow_the_interval() -> None:
    # The law bends smoothly through these and would say 150, give or take a little.
    low, high = recommend.recommend_concurrency(points(10, 99, 480, 505, widths=(1, 10, 100, 1000))).interval or (0, 0)
    assert (low <= 100, high >= 100) == (True, True)
    low, high = recommend.recommend_concurrency(
        points(10, 99, 400, 505, widths=(1, 10, 100, 1000), noise=0.23)
    ).interval or (0, 0)
    assert (low <= 100, high) == (True, 1000)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (points(10, 90, widths=(1, 10)), "4 concurrencies or more are needed, not 2"),
        (points(10, 100, 1000, 9900), "still rises at 1,000 in flight, the highest that was tried (9.9 times"),
        (points(90, 110, 100, 95, noise=0.2), "differ by 18%, and one of them is only known to within 20%"),
        ([*points(10, 90, 400, widths=(1, 5, 10)), closed_loop(100, 5, 0.1, 3.0)], "in flight only"),
        (
            [*points(10, 90, 400, widths=(1, 5, 10)), closed_loop(20, 5, 0.01, 3.0, failed=300)],
            "at 20 in flight 300 of",
        ),
    ],
)  # fmt: skip
def test_thin_data_get_no_advice_and_are_told_what_is_missing(given: list[steady_state.Point], says: str) -> None:
    verdict = recommend.recommend_concurrency(given)
    assert verdict.concurrency is None
    assert verdict.interval is None
    assert any(says in sentence for sentence in verdict.missing), verdict.missing


def test_no_points_get_no_advice() -> None:
    assert "needed, not 0" in recommend.recommend_concurrency([]).missing[0]


def test_without_scipy_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "scipy.optimize", None)
    assert ("the fit needs scipy: pip install scipy",) == recommend.recommend_concurrency(
        points(10, 90, 400, 500)
    ).missing
    with pytest.raises(UsageError, match="pip install scipy"):
        usl.fit([1, 2, 3], [1, 2, 3], [0.1] * 3)
