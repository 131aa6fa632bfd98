"""A race's picture: how far each pool was when, its names at its lines, and a bar for each."""

from __future__ import annotations

from typing import Any

import matplotlib.text
import numpy as np
import pytest
from race_doubles import raced

from greenlab.live import POOL_COLORS as COLORS
from greenlab.live.displays import alt_text
from greenlab.live.drawing import race_figure, style
from greenlab.live.drawing.card import PANEL_HEAD_PX, Card
from greenlab.live.series_snapshot import RaceSnapshot, RunTimes, SeriesRow, snapshot_of
from greenlab.live.words import sentences

NAN = float("nan")


def written(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]


def parts(axes: Any) -> dict[str, Any]:
    return {client.get_gid(): client for client in axes.get_children() if client.get_gid()}


def test_the_picture_has_a_line_in_its_pools_colour_and_a_bar_for_each_pool() -> None:
    race = raced({"green": [1000, 900, 950], "prefork": [100, 110, 120]})
    figure = race_figure.draw(snapshot_of(race)).figure  # type: ignore[arg-type]
    curves, bars = figure.axes
    found = parts(curves)
    for pool in ("green", "prefork"):
        assert COLORS[pool] == found[pool].get_color()
        assert f"{pool} spread" in found
        assert found[f"{pool} name"].get_text().startswith(f"{pool} ")
    assert [950, 110] == pytest.approx(
        [parts(bars)[f"{pool} whisker"].get_xdata().mean() for pool in race.pools], rel=0.06
    )
    assert "tasks done, share of all" in written(figure)
    assert "time since each run's start, s, logarithmic: equal distances are equal factors" in written(figure)
    assert race.verdict in written(figure)


def test_one_run_a_pool_has_no_band() -> None:
    figure = race_figure.draw(snapshot_of(raced({"green": [100], "prefork": [50]}))).figure  # type: ignore[arg-type]
    assert not any("spread" in gid for gid in parts(figure.axes[0]))


def test_a_line_is_when_each_share_of_the_tasks_was_done() -> None:
    line = race_figure.progress_of((RunTimes([2.0, NAN, 1.0, 4.0], 1, 9.0),), 4)
    assert line is not None
    # Straight from one end to the next; the fourth has not ended.
    assert [0.0, 1.0, 1.5, 2.0, 4.0] == pytest.approx([line.middle_s[at] for at in (0, 50, 75, 100, 150)])
    assert np.all(np.isnan(line.middle_s[151:]))
    assert (4.0, 0.75) == line.end
    assert race_figure.progress_of((RunTimes([], 1, 9.0), RunTimes([NAN], 1, 9.0)), 4) is None


def test_of_very_many_times_each_stands_for_several_tasks() -> None:
    line = race_figure.progress_of((RunTimes([1.0, 2.0], 4, 2.0),), 8)
    assert line is not None
    assert ([1.0, 2.0], (2.0, 1.0)) == ([line.middle_s[100], line.middle_s[200]], line.end)


def test_the_band_lies_between_the_earliest_and_the_latest_run() -> None:
    line = race_figure.progress_of([RunTimes([end_s / 2, end_s], 1, end_s) for end_s in (3.0, 1.0, 2.0)], 2)
    assert line is not None
    assert (1.0, 2.0, 3.0) == (line.early_s[-1], line.middle_s[-1], line.late_s[-1])
    assert 3.0 == race_figure.span_of([line]).high_s


def ending(end_s: float) -> race_figure.Progress:
    line = race_figure.progress_of((RunTimes([end_s / 2, end_s], 1, end_s),), 2)
    assert line is not None
    return line


def test_time_is_logarithmic_where_pools_are_far_apart_and_ends_with_the_slowest() -> None:
    near, far = race_figure.span_of([ending(1.0), ending(4.0)]), race_figure.span_of([ending(1.0), ending(60.0)])
    assert (0.0, 4.0, False) == near
    assert 0.25 == near.at(1.0)
    assert (0.05, 60.0, True) == far
    assert [0.0, 1.0] == pytest.approx([far.at(0.05), far.at(60.0)])
    # The fastest has two fifths of the axis, where a linear one would leave it a sixtieth.
    assert 0.42 == pytest.approx(far.at(1.0), abs=0.01)
    assert (0.0, 1.0, False) == race_figure.span_of([])


def test_a_pool_of_which_nothing_has_ended_makes_no_axis() -> None:
    begun = race_figure.progress_of((RunTimes([1e-3], 1, 1.0),), 10_000)
    assert begun is not None
    assert (0.0, 0.0) == begun.end
    assert (0.0, 3.0, False) == race_figure.span_of([begun, ending(3.0)])


@pytest.mark.parametrize(
    ("at_px", "rows"),
    [([], []), ([100], [0]), ([100, 300], [0, 0]), ([100, 150], [0, 1]), ([100, 150, 190], [0, 1, 2]),
     ([100, 150, 260], [0, 1, 0]), ([100, 100], [0, 1])],
)  # fmt: skip
def test_a_flag_stands_above_those_whose_poles_it_would_cover(at_px: list[float], rows: list[int]) -> None:
    assert rows == race_figure.flag_rows(at_px, [100] * len(at_px))


@pytest.mark.parametrize(
    ("fast_s", "factors"),
    [(1.0, (1, 1.01, 1.02, 1.03)), (40.0, (1, 2, 2.1, 10)), (0.002, (1, 10, 60, 61)), (1.0, (1, 1, 1, 1))],
)
def test_the_names_stand_at_the_ends_of_their_lines_and_clear_of_each_other(
    fast_s: float, factors: tuple[float, ...]
) -> None:
    race = raced({pool: [100 / (fast_s * factor)] for pool, factor in zip(COLORS, factors, strict=False)})
    figure = race_figure.draw(snapshot_of(race)).figure  # type: ignore[arg-type]
    axes = figure.axes[0]
    found = parts(axes)
    boxes = []
    for pool in race.pools:
        name, pole, dot = (found[f"{pool} {what}"] for what in ("name", "pole", "end"))
        assert found[pool].get_xdata()[-1] == pole.get_xdata()[0] == dot.get_xdata()[0]
        box, at = name.get_window_extent(), axes.transData.transform((pole.get_xdata()[0], 1))[0]
        assert 0 < at - box.x1 < 12 * figure.dpi / 100
        boxes.append(box)
        # No pole goes through a name.
        for other in race.pools:
            across = found[f"{other} name"].get_window_extent()
            (x, top) = axes.transData.transform((pole.get_xdata()[1], pole.get_ydata()[1]))
            assert not (across.x0 < x < across.x1 and top > across.y0), (pool, other)
    for at, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[at + 1 :])
    assert axes.get_xlim()[1] == pytest.approx(max(found[pool].get_xdata()[-1] for pool in race.pools))


@pytest.mark.parametrize(("end_s", "done", "align"), [(0.9, 0.5, "right"), (1e-3, 0.0, "left")])
def test_the_name_of_a_pool_that_runs_stands_beside_its_line(end_s: float, done: float, align: str) -> None:
    rows = (
        SeriesRow("green", (RunTimes([0.5, 1.0], 500, 1.0),), None, (2.0,), "", False),
        SeriesRow("prefork", (), RunTimes([end_s], max(1, 1000 * done), end_s), (), "runs now", False),
    )
    axes = race_figure.draw(RaceSnapshot("x", "", (), rows, 1000)).figure.axes[0]
    name = parts(axes)["prefork name"]
    assert ("prefork", align, (end_s if done else 0.0, done)) == (name.get_text(), name.get_ha(), name.xy)


@pytest.mark.parametrize(
    "lanes",
    [
        (SeriesRow("green", (), None, (), "", False),),
        (SeriesRow("green", (), RunTimes([0.1, 0.2], 1, 0.3), (), "runs now", False),),
        (
            SeriesRow("green", (), None, (), "failed: " + "x" * 400, True),
            SeriesRow("prefork", (), None, (), "not run", False),
        ),
        tuple(
            SeriesRow(p, (RunTimes([0.5, 1], 1, 1.0),), None, (2.0,), "p50 1 ms, p99 2 ms", False) for p in COLORS
        ),
    ],
)  # fmt: skip
def test_whatever_a_race_has_so_far_is_drawn_and_nothing_written_leaves_the_card(lanes: tuple[SeriesRow, ...]) -> None:
    lines = ((("a long sentence about who won " * 8), False), ("▲ and a warning " * 12, True))
    figure = race_figure.draw(RaceSnapshot("url in " + "u" * 80, "so far", lines, lanes, 2)).figure
    page = figure.bbox
    boxes = []
    for text in figure.findobj(matplotlib.text.Text):
        if text.get_text() and text.get_visible():
            box = text.get_window_extent()
            assert page.x0 <= box.x0, text.get_text()
            assert box.x1 <= page.x1, text.get_text()
            if (text.get_gid() or "").endswith(" name"):
                boxes.append(box)
    for at, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[at + 1 :])


def test_only_a_sample_of_very_many_times_is_taken() -> None:
    race = raced({"green": [100]}, tasks=50_000)
    source: Any = snapshot_of(race)
    (trace,) = source.rows[0].runs
    assert len(trace.ends_s) <= 20_000
    assert 50_000 == pytest.approx(len(trace.ends_s) * trace.weight, rel=0.01)


def test_a_race_in_which_every_pool_failed_has_no_empty_panel_of_progress() -> None:
    rows = (SeriesRow("green", (), None, (), "failed: every task failed", True),)
    begun, ended = (race_figure.draw(RaceSnapshot("x", "", (), rows, 40, done)).figure for done in (False, True))
    assert ["progress", "bars"] == [axes.get_label() for axes in begun.axes]
    assert ["bars"] == [axes.get_label() for axes in ended.axes]
    assert "tasks done, share of all" not in written(ended)
    assert "failed: every task failed" in written(ended)


def test_a_figure_at_the_upper_end_of_a_panel_does_not_touch_its_caption() -> None:
    with style.plain_style():
        card = Card(PANEL_HEAD_PX + 100, [], 1.0)
        axes = card.panel("throughput", 80, "throughput, tasks/s")
        axes.set_ylim(0, 100)
        axes.set_yticks([0, 100])
    card.figure.canvas.draw()
    (caption,) = [text for text in card.figure.texts if text.get_gid() == "quantity"]
    assert axes.get_yticklabels()[-1].get_window_extent().y1 <= caption.get_window_extent().y0 + 1


def test_in_words_what_is_missing_follows_its_colon() -> None:
    assert "no advice: at 1, 8 of 20; at 2, 9 of 20" == sentences(["no advice:", "at 1, 8 of 20", "at 2, 9 of 20"])
    assert "x; no advice: at 1" == alt_text("x\n  no advice:\n  at 1")
