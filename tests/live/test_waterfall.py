"""The picture of a run of few tasks: a bar a task."""

from __future__ import annotations

import itertools
import math
import pickle
from dataclasses import replace
from typing import Any

import pytest
from live_doubles import FakeRun, columns, part, records, written
from matplotlib.colors import to_rgba
from matplotlib.text import Text

from greenlab.live import POOL_COLORS, static_figure, words
from greenlab.live.drawing import style, waterfall
from greenlab.live.drawing.server import DrawingServer
from greenlab.live.snapshot import Samples, facts_of, records_of, samples_of
from greenlab.pools.protocol import TaskSpan

BARS = (
    TaskSpan("0  …/feeds/0", 0.0, 0.5, "succeeded"),
    TaskSpan("1  …/feeds/1", 0.1, 0.3, "failed"),
    TaskSpan("2  …/feeds/2", 0.2, 0.6, "cancelled"),
    TaskSpan("task 3", math.nan, 0.6, "cancelled"),
)


def source(bars: tuple[TaskSpan, ...] = BARS, **changes: Any) -> Any:
    return replace(records(len(bars), 0.6, **changes), bars=bars)


def tasks_of(count: int) -> list[TaskSpan]:
    return [TaskSpan(f"task {i}", 100.0 + i / 1000, 100.4, "succeeded") for i in range(count)]


def ended(count: int, elapsed_s: float) -> FakeRun:
    run = FakeRun(done=count, total=count, tasks=tasks_of(count))
    run.end(elapsed_s)
    return run


@pytest.mark.parametrize(
    ("count", "elapsed_s", "shown"),
    [(29, 60.0, True), (30, 60.0, False), (30, 0.9, True), (60, 0.9, True), (61, 0.9, False)],
)  # fmt: skip
def test_few_tasks_or_a_short_run_have_a_bar_each_and_more_have_curves(
    count: int, elapsed_s: float, shown: bool
) -> None:
    run = ended(count, elapsed_s)
    assert (count if shown else 0) == len(records_of(run).bars or ())
    assert (["tasks"] if shown else ["throughput", "in flight", "latency"]) == [
        axes.get_label() for axes in static_figure(run).axes
    ]


def going(total: int | None, **changes: Any) -> FakeRun:
    tasks = [TaskSpan("task 0", 100.0, 100.4, "succeeded"), TaskSpan("task 1", 100.2, 100.6, "running")]
    times: dict[str, Any] = {"starts_s": [0.0, math.nan], "ends_s": [0.4, math.nan]}
    return FakeRun(done=1, in_flight=1, elapsed_s=0.6, total=total, tasks=tasks, **times, **changes)


def samples(run: FakeRun) -> Samples:
    return samples_of(run, facts_of(run, titled=False), columns((0.6, run.done, 0, run.in_flight)))


@pytest.mark.parametrize(("total", "shown"), [(2, True), (29, True), (30, False), (None, False)])
def test_a_run_that_goes_on_has_bars_where_there_will_be_few(total: int | None, shown: bool) -> None:
    run = going(total)
    assert shown is samples(run).has_bars
    assert shown is records_of(run).has_bars
    assert shown is ("tasks" in [axes.get_label() for axes in static_figure(run).axes])


def test_a_run_that_goes_on_has_its_rows_from_the_start_so_that_the_page_does_not_move() -> None:
    run = going(8)
    late, early = samples(run), replace(samples(run), bars=())
    assert early.has_bars
    assert style.size_px(waterfall.draw(early)) == style.size_px(waterfall.draw(late))
    assert "no task has begun yet" in written(waterfall.draw(early))
    (axes,) = waterfall.draw(late).axes
    assert (7.5, -0.5) == axes.get_ylim()


def test_a_run_that_keeps_no_records_has_curves() -> None:
    run = going(8)
    run.tasks = []
    assert not samples(run).has_bars


def test_a_task_that_runs_has_a_pale_bar_until_now_and_says_so() -> None:
    drawn = waterfall.draw(samples(going(8)))
    bar = part(drawn.axes[0], "running")
    assert (200, 400) == pytest.approx((bar.get_x(), bar.get_width()))
    assert bar.get_alpha() < 1
    assert "400 ms, running" in written(drawn)
    assert "running" in written(drawn)


def test_the_process_that_draws_draws_the_bars_of_a_run_that_goes_on() -> None:
    sent = pickle.loads(pickle.dumps(samples(going(8)), 5))
    assert style.size_px(waterfall.draw(sent))[1] == DrawingServer().draw(sent, 1.0)[3]


def test_a_bar_goes_from_the_start_to_the_end_of_its_task_in_the_colour_of_its_outcome() -> None:
    (axes,) = waterfall.draw(source()).axes
    good, bad, cut = (part(axes, outcome) for outcome in ("succeeded", "failed", "cancelled"))
    assert [(0, 500), (100, 200), (200, 400)] == [
        pytest.approx((bar.get_x(), bar.get_width())) for bar in (good, bad, cut)
    ]
    assert "time since the start, ms" == axes.get_xlabel()
    assert to_rgba(POOL_COLORS["green"]) == good.get_facecolor()
    assert to_rgba(words.RED) == bad.get_facecolor()
    assert cut.get_hatch(), "it stands apart without colours"
    assert [0, 1, 2] == pytest.approx([bar.get_y() + bar.get_height() / 2 for bar in (good, bad, cut)])


def test_each_row_says_its_task_and_how_it_ended() -> None:
    drawn = waterfall.draw(source())
    (axes,) = drawn.axes
    assert [bar.name for bar in BARS] == [label.get_text() for label in axes.get_yticklabels()]
    took = [text.get_text() for text in drawn.texts if text.get_gid() == "took"]
    assert ["500 ms", "200 ms, failed", "400 ms, cancelled", "cancelled"] == took
    assert {"succeeded", "failed", "cancelled"} <= set(written(drawn))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("item", ["日本語", "emoji 🎉", "\x1b[31mred"])
def test_an_item_that_the_font_cannot_write_is_called_by_its_index(item: str) -> None:
    bars = (TaskSpan("6  …/feeds/é", 0.0, 0.5, "succeeded"), TaskSpan(f"7  {item}", 0.1, 0.3, "succeeded"))
    drawn = waterfall.draw(source(bars, label=f"{item} in items"))
    assert style.to_png(drawn).startswith(b"\x89PNG")
    assert ["6  …/feeds/é", "task 7"] == [label.get_text() for label in drawn.axes[0].get_yticklabels()]
    assert item not in "".join(written(drawn))


def test_a_task_that_took_no_time_can_be_seen() -> None:
    (axes,) = waterfall.draw(source((TaskSpan("task 0", 0.6, 0.6, "succeeded"), *BARS))).axes
    bar = part(axes, "succeeded")
    assert bar.get_width() > 0
    assert bar.get_x() + bar.get_width() <= axes.get_xlim()[1] + 1e-9


def test_a_blocked_hub_is_shaded() -> None:
    drawn = waterfall.draw(source(blocked=((0.1, 0.4),)))
    shade = part(drawn.axes[0], "blocked")
    assert (100, 300) == pytest.approx((shade.get_x(), shade.get_width()))
    assert "hub blocked" in written(drawn)


@pytest.mark.parametrize("count", [1, 29, 60])
def test_nothing_that_is_written_leaves_the_card_and_rows_do_not_touch(count: int) -> None:
    bars = tuple(TaskSpan(f"{i}  " + "W" * 80, 0.0, 0.5, "cancelled") for i in range(count))
    drawn = waterfall.draw(source(bars, label="x" * 300), 1.0)
    drawn.canvas.draw()
    width, height = style.size_px(drawn)
    for text in drawn.findobj(Text):
        box = text.get_window_extent()
        if text.get_text() and text.get_visible():
            assert -1 < box.x0 <= box.x1 < width + 1, text
            assert -1 < box.y0 <= box.y1 < height + 1, text
    labels = [label.get_window_extent() for label in drawn.axes[0].get_yticklabels()]
    assert all(low.y1 < high.y0 + 3 for high, low in itertools.pairwise(labels))
    assert max(label.x1 for label in labels) < drawn.axes[0].get_window_extent().x0


def test_the_process_that_draws_draws_bars() -> None:
    sent = pickle.loads(pickle.dumps(source(), 5))
    assert BARS[:3] == sent.bars[:3]
    kind, png, width, height = DrawingServer().draw(sent, 1.0)
    assert ("png", style.WIDTH_PX) == (kind, width)
    assert png.startswith(b"\x89PNG")
    assert height == style.size_px(waterfall.draw(source()))[1]


def test_the_picture_is_described_in_words() -> None:
    said = waterfall.draw(source(failed=1, error_types=(("ValueError", 1),))).alt
    assert said.startswith("green run of url in feeds: 4 tasks, 600 ms")
    assert "1 failed" in said
    assert "1 ValueError" in said
