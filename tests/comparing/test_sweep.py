"""Sweeps: throughput and latency against concurrency, in real runs; their report, table and picture."""

from __future__ import annotations

import re
import time
from typing import Any

import matplotlib.text
import psutil
import pytest
from sweep_doubles import closed_loop, points

import greenlab
from greenlab import UsageError
from greenlab.api import compare
from greenlab.comparing import recommend, steady_state, sweep_report, usl
from greenlab.comparing.sweep import Sweep
from greenlab.hub import eventlet
from greenlab.live.drawing import sweep_figure
from greenlab.live.series_snapshot import snapshot_of

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


def test_a_sweep_knows_how_far_it_is(started: Any) -> None:
    seen: list[tuple[str, float]] = []

    class Observer:
        def series_started(self, sweep: Sweep) -> None:
            self.sweep = sweep

    watching = Observer()

    def task(_: int) -> None:
        time.sleep(0.005)
        seen.append((watching.sweep.stage, watching.sweep.share))

    sweep = compare.prepare_sweep(task, count=5, concurrency=(1, 2, 4, 1000), seconds=0.05, live=False)
    sweep._observers.add(watching)
    sweep.run()
    stages = list(dict.fromkeys(stage for stage, _ in seen))
    measured = ["1 in flight, 1 of 4", "2 in flight, 2 of 4", "4 in flight, 3 of 4", "1,000 in flight, 4 of 4"]
    assert ["1 in flight, 1 of 4, warming up", *measured] == stages
    for number, stage in enumerate(measured):
        shares = [share for name, share in seen if name == stage]
        assert sorted(shares) == shares
        assert number / 4 <= shares[0] <= shares[-1] <= (number + 1) / 4
    assert 1.0 == sweep.share


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
    assert "a law fitted to the points is" in text
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
    sweep._recommendation = recommend.Recommendation(law=usl.Usl(10, 1e-18, 1e-18), law_holds=True)
    assert [
        "tasks do not stand in line for each other",
        "in what was tried, one more in flight never made it slower",
    ] == (sweep_report.law_words(sweep)[1:3])
    assert "σ = 0," in sweep.symbols()
    assert "could not be fitted" in made(points(10, 90, widths=(1, 10))).symbols()


def test_the_report_draws_no_conclusion_from_a_law_that_is_far_off_the_points() -> None:
    sweep = made(points(94.4, 186, 368, 359, widths=(1, 2, 4, 8)))  # a server of four places: its law peaks at 7
    assert 4 == sweep.concurrency == sweep.knee
    words = sweep_report.law_words(sweep)
    assert ["a law fitted to the points is 7% off, too far to conclude from; symbols() has its figures"] == words
    assert "7% off the curve" in sweep.symbols()


def test_beyond_the_knee_the_report_does_not_say_that_nobody_waits() -> None:
    sweep = made(points(10, 20, 40, 80, widths=(1, 2, 4, 8)))
    law = usl.Usl(10, 0.0, 0.01)
    for knee, says in ((3, False), (8, True), (None, True)):
        sweep._recommendation = recommend.Recommendation(law=law, law_holds=True, knee=knee)
        assert says == ("tasks do not stand in line for each other" in sweep_report.law_words(sweep))


def test_where_all_of_the_work_is_done_one_after_another_the_report_says_it_in_words() -> None:
    sweep = made(points(500, 502, 499, 500))
    sweep._recommendation = recommend.Recommendation(law=usl.Usl(500, 0.9999, 0.0), law_holds=True)
    said = "tasks stand in line for each other all the time, so that more in flight do not raise throughput"
    assert said == sweep_report.law_words(sweep)[1]
    assert "100.00%" not in repr(sweep)


def test_a_wide_interval_is_followed_by_what_narrows_it() -> None:
    sweep = made([closed_loop(n, 50, 0.05, 8) for n in (1, 10, 100, 1000)])
    low, high = sweep.interval or (0, 0)
    assert high > 1.5 * low
    assert f"to narrow it down: -c 1,{low}," in repr(sweep)


def test_an_interrupted_sweep_says_what_has_not_run() -> None:
    sweep = made(GOOD[:2], widths=(1, 5, 10, 20, 40))
    sweep.interrupted = True
    assert "  10         interrupted" in repr(sweep)
    assert ["20", "40"] == [line.split()[0] for line in repr(sweep).splitlines() if line.endswith("did not run")]
    assert "no figures for 10, 20, 40 in flight" in sweep._interrupt_message()
    sweep.points = GOOD[:5]
    assert "the sweep was interrupted: all had been tried; what has ended" == sweep._interrupt_message()


def test_an_interrupted_sweep_does_not_advise_what_was_asked_for_anyway() -> None:
    sweep = made([], widths=(1, 5, 10, 20))
    sweep.interrupted = True
    assert "no advice, for it was interrupted" == sweep.advice
    assert ["0 of 4 concurrencies had been tried, and 4 or more are needed"] == sweep.missing
    few = made(GOOD[:1], widths=(1, 5))
    few.interrupted = True
    assert ["4 concurrencies or more are needed, not 1: such as -c 1,10,100,1000"] == few.missing


def test_an_interrupted_sweep_is_advised_by_the_points_that_it_has() -> None:
    sweep = made(GOOD[:5], widths=(1, 5, 10, 20, 40, 80))
    sweep.interrupted = True
    assert sweep.advice.startswith("advised: -c 20")


def test_the_words_of_a_picture_without_advice_run_on_without_a_stray_colon() -> None:
    figure = sweep_figure.draw(snapshot_of(made(points(10, 90, widths=(1, 10))))).figure  # type: ignore[arg-type]
    assert "; no advice, for something is missing; 4 concurrencies or more are needed" in figure.alt


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
