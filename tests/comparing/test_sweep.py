"""Sweeps: what a point measures, the fitted law, the advice and its refusals, the picture."""

from __future__ import annotations

import heapq
import random
import re
import time
from typing import TYPE_CHECKING, Any

import matplotlib.text
import psutil
import pytest

import greenlab
from greenlab import UsageError
from greenlab.comparing import recommend, steady_state, sweep_report, usl
from greenlab.comparing.sweep import MOST_TASKS, RepeatedItems, Sweep
from greenlab.hub import eventlet
from greenlab.live.drawing import sweep_figure
from greenlab.live.series_snapshot import snapshot_of

if TYPE_CHECKING:
    from collections.abc import Callable

NAN = float("nan")


def closed_loop(
    clients: int, servers: int, service_s: float, seconds: float, *, spread: float = 0.0, failed: int = 0
) -> steady_state.Point:
    """Simulate `clients` that each wait for one of `servers`, first come first served, without any clock."""
    rng = random.Random(clients)
    free, ready = [0.0] * servers, [(0.0, client) for client in range(clients)]
    starts_s, ends_s = [], []
    while ready:
        now, client = heapq.heappop(ready)
        if now > seconds:
            continue
        begin = max(now, heapq.heappop(free))
        end = begin + service_s * (rng.lognormvariate(0, spread) if spread else 1.0)
        heapq.heappush(free, end)
        heapq.heappush(ready, (end, client))
        starts_s.append(now)
        ends_s.append(end)
    kinds = [("OSError", failed)] if failed else []
    return steady_state.measure(
        clients, starts_s, ends_s, seconds, failed=failed, elapsed_s=max(ends_s), error_types=kinds
    )


def points(
    *rates: float, widths: tuple[int, ...] = (1, 10, 100, 1000), noise: float = 0.01
) -> list[steady_state.Point]:
    """Points with these throughputs, and the latencies that Little's law gives them."""
    return [
        steady_state.Point(
            width, 10_000, 0, 9_000, rate, rate * noise, (rate,) * 10, width / rate, greenlab.runs.Latency(), width, 5.0
        )
        for width, rate in zip(widths, rates, strict=True)
    ]


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


# -- real runs -----------------------------------------------------------------------------------------------


def test_the_knee_of_a_real_sweep_is_where_the_server_is_full(started: Any) -> None:
    server = eventlet.semaphore.Semaphore(8)
    asked = []

    def fetch(item: int) -> None:
        asked.append(item)
        with server:
            time.sleep(0.01)

    sweep = greenlab.sweep(fetch, iter(range(30)), concurrency=(32, 1, 4, 8, 16, 2), seconds=0.8)
    assert (1, 2, 4, 8, 16, 32) == sweep.concurrencies == tuple(point.concurrency for point in sweep.points)
    assert [] == sweep.missing
    assert sweep.concurrency is not None
    # The true value is 8; another process that takes the processor for a while may blur it.
    assert 5 <= sweep.concurrency <= 16
    assert [*range(10), *range(30), 0, 1] == asked[:42]


def test_what_starves_is_seen_by_littles_law(started: Any) -> None:
    server = eventlet.semaphore.Semaphore(1)

    def first_ones_only(_: int) -> None:
        # Whoever finds it taken waits to the end of the run, as with a lock that is never fair.
        if not server.acquire(blocking=False):
            time.sleep(0.6)
            return
        time.sleep(0.005)
        server.release()

    sweep = greenlab.sweep(first_ones_only, count=10, concurrency=[20], seconds=0.5)
    assert "Little's law" in repr(sweep)
    assert "Little's law holds" not in repr(sweep)


def test_a_pool_that_does_not_keep_tasks_in_flight_is_told(started: Any) -> None:
    sweep = greenlab.sweep(lambda _: sum(range(2000)), count=10, concurrency=(1, 10), seconds=0.1)
    assert "the pool or the items did not keep so many in flight: " in repr(sweep)
    assert re.search(r"[\d.]+ of 10\n", repr(sweep))


def burn(x: int) -> int:
    return sum(range(20_000)) + x


def test_of_prefork_the_workers_are_swept_and_leave_when_their_point_is_over(started: Any) -> None:
    before = psutil.Process().children(recursive=True)
    sweep = greenlab.sweep(burn, count=100, pool="prefork", concurrency=(1, 2), seconds=0.3, warm_up=2)
    assert [1, 2] == [point.concurrency for point in sweep.points]
    assert all(point.counted for point in sweep.points)
    assert "-w" == sweep.option
    left = [child for child in psutil.Process().children(recursive=True) if child not in before]
    assert [] == [child for child in left if child.status() != "zombie"]


def test_a_sweep_whose_every_task_fails_raises_at_its_first_point(started: Any) -> None:
    calls = []

    def fail(item: int) -> None:
        calls.append(item)
        time.sleep(0.001)
        raise OSError("gone")

    with pytest.raises(greenlab.RunError, match="every task failed"):
        greenlab.sweep(fail, count=5, seconds=0.05, concurrency=(1, 1000))
    assert len(calls) < 200


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"concurrency": ()}, "say which concurrencies"),
        ({"concurrency": (0, 1)}, "1 or more, not 0"),
        ({"concurrency": (1, "x")}, "1 or more, not 'x'"),
        ({"concurrency": (1, 1000), "pool": "prefork"}, "1,000 processes are too many"),
        ({"seconds": 0}, "seconds must be a number greater than 0"),
        ({"warm_up": -1}, "warm_up must be a whole number of 0 or more"),
        ({"timeout": -1}, "timeout must be a number greater than 0"),
        ({"pool": "grn"}, "no pool 'grn'"),
        ({"items": [1], "count": 1}, "once"),
        ({"count": None}, "say what to run over"),
        ({"count": None, "items": iter([])}, "the items are empty"),
    ],
)
def test_a_mistake_is_one_line_before_anything_runs(options: dict[str, Any], says: str) -> None:
    given = {"count": 3, **options}
    with pytest.raises(UsageError) as caught:
        greenlab.sweep(pytest.fail, given.pop("items", None), **given)
    greenlab.stop()
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


# -- how it shows --------------------------------------------------------------------------------------------


def made(given: list[steady_state.Point], pool: str = "green", widths: tuple[int, ...] = ()) -> Sweep:
    sweep = Sweep(
        [1],
        pool=pool,
        concurrencies=widths or [p.concurrency for p in given],
        label="url in urls",
        make_run=pytest.fail,
    )
    sweep.points, sweep.ended = given, True
    return sweep


GOOD = [closed_loop(n, 20, 0.05, 8) for n in (1, 5, 10, 20, 40, 80)]


def test_the_report_names_the_sweep_first_and_says_the_advice_the_law_and_littles_check() -> None:
    text = repr(made(GOOD))
    assert text.startswith("sweep: url in urls in green\n  advised: -c 20")
    assert "one task at a time would give 20" in text
    assert "stand in line" in text
    assert "Little's law holds" in text
    assert ["1", "5", "10", "20", "40", "80"] == [line.split()[0] for line in text.splitlines()[-6:]]
    html = made(GOOD)._repr_mimebundle_()["text/html"]
    assert html.startswith('<div class="greenlab-sweep"><b>sweep: url in urls in green</b>')
    assert "<table" in html


def test_the_report_says_in_plain_words_what_the_law_says_and_symbols_come_on_request() -> None:
    law = usl.Usl(10, 0.05, 0.0005)
    widths = (1, 3, 10, 20, 30, 50, 100)
    sweep = made(points(*(law.throughput(n) for n in widths), widths=widths))
    text = repr(sweep)
    assert "one task at a time would give 10 tasks/s" in text
    assert "for 5.00% of their work tasks stand in line for each other, which limits throughput to 20 times" in text
    assert "beyond 44 in flight they slow each other down" in text
    assert re.search("[λσκ]|X·R", text) is None
    told = sweep.symbols()
    assert {"λ = 10 tasks/s", "σ = 0.05", "κ = 0.0005", "X·R", f"N* = {sweep.knee}  R_1 = 100 ms"} <= {
        symbol for symbol in ("λ = 10 tasks/s", "σ = 0.05", "κ = 0.0005", "X·R", f"N* = {sweep.knee}  R_1 = 100 ms")
        if symbol in told
    }  # fmt: skip


def test_below_its_picture_the_report_leaves_out_what_stands_there() -> None:
    for sweep, said in (
        (made(GOOD), "advised: -c 20"),
        (made(points(10, 90, widths=(1, 10))), "4 concurrencies or more"),
    ):
        assert said in sweep._html(below_picture=False)
        assert any(said in words for words in written(sweep_figure.draw(snapshot_of(sweep)).figure))  # type: ignore[arg-type]
        below = sweep._html(below_picture=True)
        assert said not in below
        assert "Little" in below
        assert "<table" in below


def test_where_the_law_finds_no_queue_and_no_peak_the_report_says_so() -> None:
    widths = (1, 10, 100, 1000)
    sweep = made(points(*(min(n, 900) * 10.0 for n in widths), widths=widths, noise=0.02))
    sweep._recommendation = recommend.Recommendation(law=usl.Usl(10, 1e-18, 1e-18))
    assert [
        "tasks do not stand in line for each other",
        "in what was tried, one more in flight never made it slower",
    ] == (sweep_report.law_words(sweep)[1:3])
    assert "σ = 0," in sweep.symbols()
    assert "could not be fitted" in made(points(10, 90, widths=(1, 10))).symbols()


def test_a_wide_interval_is_followed_by_what_narrows_it() -> None:
    sweep = made([closed_loop(n, 50, 0.05, 8) for n in (1, 10, 100, 1000)])
    low, high = sweep.interval or (0, 0)
    assert high > 1.5 * low
    assert f"to narrow it down: -c 1,{low}," in repr(sweep)


def test_an_interrupted_sweep_says_what_has_not_run() -> None:
    sweep = made(GOOD[:2], widths=(1, 5, 10))
    sweep.interrupted = True
    assert "  10         interrupted" in repr(sweep)
    assert "no figures for 10 in flight" in sweep._interrupt_message()


def test_the_table_has_a_row_a_concurrency() -> None:
    frame = made(GOOD).to_pandas()
    assert [1, 5, 10, 20, 40, 80] == list(frame["concurrency"])
    assert {"throughput", "error", "p50_s", "p99_s", "in_flight", "by_littles_law", "fitted"} <= set(frame.columns)


def by_gid(axes: Any, gid: str) -> list[Any]:
    return [artist for artist in axes.get_children() if artist.get_gid() == gid]


def written(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]


def test_the_picture_has_points_law_advice_and_units() -> None:
    sweep = made([closed_loop(n, 50, 0.05, 8) for n in (1, 10, 100, 1000)])
    figure = sweep_figure.draw(snapshot_of(sweep)).figure  # type: ignore[arg-type]
    top, low = figure.axes
    assert "log" == top.get_xscale() == low.get_xscale()
    (line,) = by_gid(top, "advised")
    assert sweep.concurrency == line.get_xdata()[0]
    law = sweep.law
    assert law is not None
    (curve,) = by_gid(top, "law")
    assert law.throughput(curve.get_xdata()[-1]) == pytest.approx(curve.get_ydata()[-1])
    (p50,) = by_gid(low, "p50")
    assert [point.latency.p50 for point in sweep.points] == list(p50.get_ydata())
    (interval,) = by_gid(low, "interval")
    assert sweep.interval == (interval.get_x(), interval.get_x() + interval.get_width())
    words = written(figure)
    assert {"throughput, tasks/s", "latency, s", "tasks in flight, -c", f"advised -c {sweep.concurrency}"} <= set(words)


def test_a_sweep_without_advice_is_drawn_with_the_reasons_and_without_lines() -> None:
    sweep = made(points(10, 90, widths=(1, 10)))
    figure = sweep.__class__.plot  # drawn by hand: this one was not made by greenlab.sweep
    with pytest.raises(UsageError, match=r"greenlab\.sweep"):
        figure(sweep)
    drawn = sweep_figure.draw(snapshot_of(sweep)).figure  # type: ignore[arg-type]
    assert [] == by_gid(drawn.axes[0], "advised")
    assert any("4 concurrencies or more" in words for words in written(drawn))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_sweep_that_goes_on_is_drawn_over_all_that_it_will_try(count: int) -> None:
    sweep = made(GOOD[:count], widths=(1, 5, 10, 20, 40, 80))
    sweep.ended = False
    drawn = sweep_figure.draw(snapshot_of(sweep)).figure  # type: ignore[arg-type]
    assert drawn.axes[0].get_xlim()[1] > 80
    assert count == sum(1 for words in ("point 1", "point 5", "point 10") if _has_point(drawn.axes[0], words))


def _has_point(axes: Any, gid: str) -> bool:
    return any(line.get_gid() == gid for line in axes.lines)


def test_nothing_that_is_written_leaves_the_card() -> None:
    for given in (GOOD, points(500, 502, 499, 500), [closed_loop(n, 50, 0.05, 8) for n in (1, 10, 100, 1000)]):
        figure = sweep_figure.draw(snapshot_of(made(given))).figure  # type: ignore[arg-type]
        page = figure.bbox
        for text in figure.findobj(matplotlib.text.Text):
            if text.get_text() and text.get_visible():
                box = text.get_window_extent()
                assert page.x0 - 1 <= box.x0, text.get_text()
                assert box.x1 <= page.x1 + 1, text.get_text()


def test_littles_law_tells_the_two_ways_in_which_a_point_is_unsteady() -> None:
    (few,) = points(10, widths=(10,))
    assert [
        "Little's law holds: throughput × mean latency is what was in flight, to within 10%"
    ] == sweep_report.check_littles_law([few])
    (unkept,) = sweep_report.check_littles_law([few, _with(few, in_flight=3.0)])
    assert unkept.endswith("did not keep so many in flight: 3 of 10")
    (unsteady,) = sweep_report.check_littles_law([few, _with(few, mean_s=0.5), _with(few, mean_s=0.2)])
    assert "is not what was in flight: 5 of 10, 2 of 10;" in unsteady
    assert [] == sweep_report.check_littles_law([])


def _with(point: steady_state.Point, **changes: Any) -> steady_state.Point:
    from dataclasses import replace

    return replace(point, **changes)
