"""The picture of a run: what is drawn, compared by content."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import textwrap
from array import array
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from live_doubles import FakeRun, columns, facts, gids, part, records, samples, written
from matplotlib.colors import to_rgba
from matplotlib.text import Text
from PIL import Image

from greenlab.live import POOL_COLORS, static_figure, words
from greenlab.live.drawing import curves, run_figure, style
from greenlab.live.snapshot import Records, Samples


def test_every_axis_names_its_unit() -> None:
    drawn = run_figure.draw(curves.picture_of(records(500, 2.0)))
    assert ["throughput, tasks/s", "in flight, tasks", "latency, ms"] == [a.get_ylabel() for a in drawn.axes]
    assert "time since the start, s" == drawn.axes[-1].get_xlabel()
    assert "mean of each 50 ms" in written(drawn)


@pytest.mark.parametrize(("elapsed_s", "unit"), [(0.01, "ms"), (50.0, "s"), (900.0, "min"), (9000.0, "h")])
def test_the_time_axis_has_a_unit_that_suits_the_run(elapsed_s: float, unit: str) -> None:
    axes = run_figure.draw(curves.picture_of(records(100, elapsed_s))).axes[-1]
    assert f"time since the start, {unit}" == axes.get_xlabel()
    size_s = {"ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}[unit]
    assert elapsed_s == pytest.approx(axes.get_xlim()[1] * size_s)


def test_the_curve_drawn_is_the_curve_computed() -> None:
    picture = curves.picture_of(records(500, 2.0))
    axes = run_figure.draw(picture).axes[0]
    line = part(axes, "throughput")
    assert list(picture.throughput) == list(line.get_data().values)
    assert max(picture.throughput) < axes.get_ylim()[1]


def test_the_limit_of_concurrency_is_a_line_at_its_height() -> None:
    axes = run_figure.draw(curves.picture_of(records(500, 2.0, concurrency=123))).axes[1]
    limit = part(axes, "limit")
    assert [123, 123] == list(limit.get_ydata())
    assert axes.get_ylim()[1] > 123


def test_the_title_says_the_numbers_that_a_saved_picture_is_read_for() -> None:
    said = written(run_figure.draw(curves.picture_of(records(500, 2.0, failed=3))))
    assert {
        "green",
        "url in feeds",
        "-c 4",
        "500 tasks",
        "2 s",
        "250 tasks/s",
        "p50 200 ms",
        "p99 200 ms",
    } <= set(said)
    assert "3 failed" in said


def test_a_live_picture_has_no_title_when_a_header_says_it() -> None:
    assert "url in feeds" not in written(run_figure.draw(curves.picture_of(samples())))


def test_failures_are_red_and_absent_when_there_are_none() -> None:
    assert {"failed", "failed area"}.isdisjoint(
        gids(run_figure.draw(curves.picture_of(records(500, 2.0))), "throughput")
    )
    drawn = run_figure.draw(curves.picture_of(records(500, 2.0, failed=60)))
    assert {"failed", "failed area"} <= gids(drawn, "throughput")
    red = part(drawn.axes[0], "failed")
    assert to_rgba(words.RED) == red.get_edgecolor()


def test_one_failure_among_very_many_tasks_is_marked() -> None:
    noted = columns((2.0, 4000, 0, 4), (2.25, 4500, 1, 4), (10.0, 20_000, 1, 0))
    few = replace(records(20_000, 10.0, failed=1), columns=noted)
    axes = run_figure.draw(curves.picture_of(few)).axes[0]
    marks = part(axes, "failures")
    assert all(1.9 < t < 2.4 for t in marks.get_xdata())
    assert len(marks.get_xdata()) > 0


def test_a_few_failures_are_not_drawn_as_more_than_they_are() -> None:
    noted = columns((0.25, 100, 2, 4), (0.5, 200, 2, 4), (0.75, 300, 3, 4), (1.0, 400, 3, 0))
    few = curves.picture_of(replace(records(400, 1.0, failed=3), columns=noted))
    assert 3 == pytest.approx(float(np.sum(few.errors * np.diff(few.error_edges_s))))
    axes = run_figure.draw(few).axes[0]
    assert [0.125, 0.625] == pytest.approx(list(part(axes, "failures").get_xdata()))


def test_a_blocked_hub_is_shaded_in_every_panel() -> None:
    drawn = run_figure.draw(curves.picture_of(records(500, 2.0, blocked=((0.5, 1.25),))))
    for axes in drawn.axes:
        shade = part(axes, "blocked")
        assert (0.5, 0.75) == pytest.approx((shade.get_x(), shade.get_width()))
    assert "hub blocked" in written(drawn)
    assert "hub blocked 750 ms" in written(drawn)


def test_a_picture_that_stands_alone_names_the_line_that_held_the_hub() -> None:
    line = "0.75 s at line 3 of Cell In[2], in parse: CPU, task 7, 9 waited behind it"
    trouble = {"failed": 2, "error_types": (("ValueError", 2),), "blocked": ((0.5, 1.25),)}
    bad = records(500, 2.0, blocked_lines=(line,), titled=True, **trouble)
    drawn = run_figure.draw(curves.picture_of(bad))
    assert {"2 ValueError", f"blocked: {line}"} <= set(written(drawn))
    without = run_figure.draw(curves.picture_of(records(500, 2.0, titled=True, **trouble)))
    assert drawn.get_size_inches()[1] > without.get_size_inches()[1]
    long = run_figure.draw(curves.picture_of(records(500, 2.0, blocked_lines=(line * 3,), titled=True)))
    page = long.get_window_extent()
    assert all(text.get_window_extent().x1 < page.x1 for text in long.texts)


@pytest.mark.parametrize("count", [0, 1])
def test_runs_of_no_task_or_one_are_drawn(count: int) -> None:
    drawn = run_figure.draw(curves.picture_of(records(count, 0.01)))
    assert count == sum(axes.get_label() == "latency" for axes in drawn.axes)
    assert style.to_png(drawn).startswith(b"\x89PNG")


def test_a_png_has_its_scale_and_a_card_that_hides_the_page_behind_it() -> None:
    picture = curves.picture_of(records(100, 1.0))
    width, height = run_figure.size_px(picture)
    png = style.to_png(run_figure.draw(picture, 2.0))
    assert (2 * width, 2 * height) == struct.unpack("!II", png[16:24])
    drawn: Any = run_figure.draw(picture, 1.0)
    drawn.canvas.draw()
    alpha = np.asarray(drawn.canvas.buffer_rgba())[:, :, 3]
    assert 0 == alpha[0, 0]
    assert 255 == alpha[height // 2].min(initial=255, where=np.arange(width) % (width - 1) > 1)


def test_nothing_that_is_written_leaves_the_card() -> None:
    long = records(500, 2.0, label="x" * 300, failed=499, blocked=((0.5, 1.25),), concurrency=1_000_000, pool="prefork")
    drawn = run_figure.draw(curves.picture_of(long), 1.0)
    drawn.canvas.draw()
    width, height = run_figure.size_px(curves.picture_of(long))
    for text in drawn.findobj(Text):
        box = text.get_window_extent()
        if text.get_text() and text.get_visible():
            assert -1 < box.x0 <= box.x1 < width + 1, text
            assert -1 < box.y0 <= box.y1 < height + 1, text


def test_each_pool_has_a_colour_of_its_own() -> None:
    assert {"green", "threads", "prefork", "hybrid", "celery", "auto"} == set(POOL_COLORS)
    assert len(POOL_COLORS) == len(set(POOL_COLORS.values()))
    drawn = run_figure.draw(curves.picture_of(records(9, 1.0, pool="threads")))
    line = part(drawn.axes[0], "throughput")
    assert to_rgba(POOL_COLORS["threads"]) == line.get_edgecolor()


def test_a_figure_of_a_run_is_drawn_without_a_view() -> None:
    run = FakeRun(done=8)
    run.end(2.0)
    assert "8 tasks" in written(static_figure(run))


def test_a_notebook_shows_a_figure_at_its_size_without_pyplot() -> None:
    run = FakeRun(done=8)
    run.end(2.0)
    png, size = static_figure(run)._repr_png_()  # type: ignore[attr-defined]
    assert (2 * size["width"], 2 * size["height"]) == struct.unpack("!II", png[16:24])


def test_importing_the_room_imports_nothing_heavy() -> None:
    heavy = "matplotlib", "numpy", "ipywidgets", "IPython"
    code = f"import sys, greenlab.live; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "[]" == done.stdout.strip()


def test_drawing_leaves_pyplot_and_the_style_of_the_user_alone() -> None:
    code = """
        import sys, matplotlib
        matplotlib.rcParams["font.size"] = 33
        from greenlab.live.drawing import curves
        from greenlab.live.drawing import run_figure
        from greenlab.live.snapshot import Columns, Facts, Records
        facts = Facts("green", "x", 1, 0, 0, 0, 1.0, (), False, True)
        drawn = run_figure.draw(curves.picture_of(Records(facts, 0.0, [], [], Columns())))
        small = drawn.texts[0].get_fontsize() < 12
        print("matplotlib.pyplot" in sys.modules, matplotlib.rcParams["font.size"], small)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert "False 33.0 True" == done.stdout.strip()


def test_a_live_picture_shows_latency_as_soon_as_it_is_known_and_keeps_its_place_before() -> None:
    unknown, known = curves.picture_of(samples()), curves.picture_of(samples(p50_s=0.1, p99_s=0.2))
    assert run_figure.size_px(unknown) == run_figure.size_px(known)
    axes = run_figure.draw(known).axes[2]
    assert "latency, ms" == axes.get_ylabel()
    assert {0.1} == set(part(axes, "p50").get_data().values)
    assert {0.2} == set(part(axes, "p99").get_data().values)


def test_a_limit_that_was_changed_is_a_step_at_its_time() -> None:
    noted = columns((1.0, 4, 0, 4), (2.0, 8, 0, 9), (3.0, 8, 0, 9))
    noted.limit[1:] = array("q", [4, 9, 9])
    axes = run_figure.draw(curves.picture_of(Samples(facts(running=True, concurrency=9), noted))).axes[1]
    step = part(axes, "limit").get_data()
    assert [4, 9] == list(step.values)
    assert [0, 1, 3] == list(step.edges)
    assert axes.get_ylim()[1] > 9


def test_failures_are_counted_by_type_below_the_numbers() -> None:
    kinds = (("ValueError", 40), ("KeyError", 20), ("OSError", 2), ("TypeError", 1))
    some, none = records(500, 2.0, failed=63, error_types=kinds), records(500, 2.0)
    assert "40 ValueError, 20 KeyError, 2 OSError, 1 other" in written(run_figure.draw(curves.picture_of(some)))
    assert run_figure.size_px(curves.picture_of(some)) > run_figure.size_px(curves.picture_of(none))


def test_a_figure_that_is_drawn_again_is_as_if_it_were_new() -> None:
    drawer = run_figure.Redrawer(1.0)
    before = curves.picture_of(samples(elapsed_s=300.0, failed=3, blocked=((0.5, 1.25),)))
    now = curves.picture_of(samples(elapsed_s=9.0, p50_s=0.01, p99_s=0.02))
    kept = drawer.draw(before)
    again, new = drawer.draw(now), run_figure.draw(now, 1.0)
    assert kept is again
    assert written(new) == written(again)
    assert style.to_png(new) == style.to_png(again)


def test_a_figure_of_another_size_is_a_new_one() -> None:
    drawer = run_figure.Redrawer(1.0)
    kept = drawer.draw(curves.picture_of(samples()))
    titled = curves.picture_of(replace(samples(), facts=facts(running=True)))
    assert kept is not drawer.draw(titled)
    assert "url in feeds" in written(drawer.draw(titled))


def test_a_png_holds_the_pixels_that_were_drawn() -> None:
    drawn: Any = run_figure.draw(curves.picture_of(samples()), 1.0)
    decoded = np.asarray(Image.open(io.BytesIO(style.to_png(drawn))))
    assert np.array_equal(np.asarray(drawn.canvas.buffer_rgba()), decoded)


def test_before_a_task_has_ended_the_axes_have_no_figure_but_zero_and_that_is_said() -> None:
    noted = columns((0.25, 0, 0, 4), (2.0, 0, 0, 4))
    drawn = run_figure.draw(curves.picture_of(Samples(facts(running=True, done=0, total=200), noted)))
    throughput, in_flight, latency = drawn.axes
    for axes in (throughput, latency):
        assert [0] == list(axes.get_yticks())
    assert [0, 2, 4] == [tick for tick in in_flight.get_yticks() if tick <= 4], "tasks are whole numbers"
    assert "no task has ended yet" in written(drawn)
    assert not [words for words in written(drawn) if "µs" in words]


def test_a_run_that_ended_before_any_of_its_tasks_shows_no_throughput_and_says_why() -> None:
    noted = columns((0.25, 0, 0, 4), (2.0, 0, 0, 4))
    stopped = Records(facts(done=0, cut_by="it was stopped"), 0.0, [], [], noted)
    drawn = run_figure.draw(curves.picture_of(stopped))
    assert ["in flight"] == [axes.get_label() for axes in drawn.axes]
    assert "no task has ended: it was stopped" in written(drawn)
    assert not [words for words in written(drawn) if "tasks/s" in words]


def test_a_run_that_could_not_begin_has_no_empty_panels_but_the_reason() -> None:
    refused = Records(facts(done=0, begun=False, cut_by="cannot send 'lock'"), 0.0, [], [], columns())
    drawn = run_figure.draw(curves.picture_of(refused))
    assert [] == drawn.axes
    assert "no task has begun: cannot send 'lock'" in written(drawn)
    assert style.to_png(drawn).startswith(b"\x89PNG")


@pytest.mark.parametrize("done_before", [0, 500])
def test_the_rate_of_a_run_in_which_every_task_failed_is_one_of_failures(done_before: int) -> None:
    made = records(2000, 0.08, failed=2000, error_types=(("ValueError", 2000),))
    resumed = replace(made, facts=replace(made.facts, done=2000 + done_before, done_before=done_before))
    drawn = run_figure.draw(curves.picture_of(resumed))
    assert "25,000 failures/s" in written(drawn)
    assert not [words for words in written(drawn) if words.startswith("mean 25")]
    partly = run_figure.draw(curves.picture_of(records(2000, 0.08, failed=1000, error_types=(("ValueError", 1000),))))
    assert {"25,000 tasks/s", "mean 25,000"} <= set(written(partly))


def test_failures_stand_where_they_were_and_where_none_is_there_is_no_line() -> None:
    all_ = records(400, 1.0, failed=100)
    late = replace(all_, failures=bytes(index >= 300 for index in range(400)))
    picture = curves.picture_of(late)
    assert list(picture.edges_s) == list(picture.error_edges_s)
    before = sorted(late.ends_s)[300]
    assert 100 == pytest.approx(float(np.sum(picture.errors * np.diff(picture.edges_s))))
    early = picture.edges_s[1:] < before
    assert not picture.errors[early].any()
    line = part(run_figure.draw(picture).axes[0], "failed").get_data().values
    assert np.isnan(line[early]).all()


def test_the_limit_of_a_pool_that_allows_fewer_is_drawn_and_not_said_to_be_what_was_asked_for() -> None:
    noted = columns((1.0, 4, 0, 4), (2.0, 8, 0, 2), (3.0, 8, 0, 2))
    noted.limit[1:] = array("q", [10, 2, 2])
    drawn = run_figure.draw(curves.picture_of(Samples(facts(pool="auto", concurrency=100), noted)))
    axes = drawn.axes[1]
    assert [10, 2] == list(part(axes, "limit").get_data().values)
    assert axes.get_ylim()[1] < 20
    assert "limit" in written(drawn)
    assert "limit -c 100" not in written(drawn)


def test_a_limit_far_above_what_is_in_flight_is_said_and_not_drawn() -> None:
    drawn = run_figure.draw(curves.picture_of(records(500, 2.0, concurrency=1000)))
    axes = drawn.axes[1]
    assert "limit" not in gids(drawn, "in flight")
    assert "limit -c 1,000, beyond the axis" in written(drawn)
    assert max(part(axes, "in flight").get_data().values) < axes.get_ylim()[1] < 200


def test_where_nobody_has_looked_and_nothing_was_kept_what_was_in_flight_is_left_out() -> None:
    seen = columns((0.5, 900, 0, 4), (2.0, 2000, 0, 0))
    unseen = columns((2.0, 2000, 0, 0))
    shown = [
        [axes.get_label() for axes in run_figure.draw(curves.picture_of(Samples(facts(done=2000), noted))).axes]
        for noted in (seen, unseen)
    ]
    assert [["throughput", "in flight"], ["throughput"]] == shown


def test_a_limit_that_was_changed_without_anybody_looking_is_not_drawn() -> None:
    drawn = run_figure.draw(
        curves.picture_of(replace(records(400, 2.0, pool="auto"), columns=columns((2.0, 8, 0, 0), limit=2)))
    )
    assert not [words for words in written(drawn) if words.startswith("limit")]


def test_what_a_picture_shows_is_said_in_words() -> None:
    drawn = run_figure.draw(curves.picture_of(records(500, 2.0, failed=3, error_types=(("ValueError", 3),))))
    said = "green run of url in feeds: 500 tasks, 2 s, 250 tasks/s, p50 200 ms, p99 200 ms, 3 failed; 3 ValueError"
    assert said == drawn.alt
    assert said == drawn._repr_png_()[1]["alt"]
