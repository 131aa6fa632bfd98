"""The live view: curves, figures, the process that draws, and the view over a run that plays its part."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import matplotlib.text
import numpy as np
import psutil
import pytest

from greenlab.hub import eventlet
from greenlab.live import (
    POOL_COLORS,
    Artist,
    View,
    curves,
    faces,
    figure,
    name_line,
    source,
    static_figure,
    words,
)
from greenlab.live.artist import Drawing
from greenlab.live.source import Columns, Facts, Records, Samples

NAN = float("nan")


@dataclass
class FakeRun:
    """A run whose every figure is set by the test."""

    pool: str = "green"
    label: str = "url in feeds"
    concurrency: int = 4
    total: int | None = 8
    started_s: float = 100.0
    elapsed_s: float = 0.0
    done: int = 0
    failed: int = 0
    in_flight: int = 0
    running: bool = True
    starts_s: list[float] = field(default_factory=list)
    ends_s: list[float] = field(default_factory=list)
    blocked: list[Any] = field(default_factory=list)
    cancelled_on: list[str] = field(default_factory=list)

    def cancel(self) -> None:
        self.cancelled_on.append(threading.current_thread().name)

    def summary(self) -> str:
        return f"{self.done} tasks ended"

    def times(self) -> tuple[list[float], list[float]]:
        return [s + self.started_s for s in self.starts_s], [s + self.started_s for s in self.ends_s]

    def go_on(self, elapsed_s: float, done: int, failed: int = 0) -> None:
        self.elapsed_s, self.done, self.failed, self.in_flight = elapsed_s, done, failed, self.concurrency

    def end(self, elapsed_s: float) -> None:
        count = self.done
        self.elapsed_s, self.in_flight, self.running = elapsed_s, 0, False
        self.ends_s = [elapsed_s * (i + 1) / count for i in range(count)]
        self.starts_s = [max(end_s - elapsed_s / 4, 0.0) for end_s in self.ends_s]


def facts(**changes: Any) -> Facts:
    given = Facts(
        pool="green",
        label="url in feeds",
        concurrency=4,
        total=8,
        done=8,
        failed=0,
        elapsed_s=2.0,
        blocked=(),
        running=False,
        titled=True,
    )
    return replace(given, **changes)


def columns(*rows: tuple[float, int, int, int]) -> Columns:
    made = Columns()
    for t_s, done, failed, in_flight in rows:
        made.t_s.append(t_s)
        made.done.append(done)
        made.failed.append(failed)
        made.in_flight.append(in_flight)
    return made


def records(count: int, elapsed_s: float, **changes: Any) -> Records:
    ends_s = np.sort(np.random.default_rng(7).uniform(0, elapsed_s, count))
    if count:
        ends_s[-1] = elapsed_s
    starts_s = np.maximum(ends_s - elapsed_s / 10, 0)
    given = facts(done=count, total=count, elapsed_s=elapsed_s, **changes)
    return Records(given, 0.0, list(starts_s), list(ends_s), columns((elapsed_s, count, given.failed, 0)))


def samples(elapsed_s: float = 2.0, **changes: Any) -> Samples:
    noted = columns((elapsed_s / 2, 4, 0, 4), (elapsed_s, 8, changes.get("failed", 0), 4))
    return Samples(facts(running=True, titled=False, elapsed_s=elapsed_s, **changes), noted)


def gids(drawn: Any, panel: str) -> set[str]:
    axes = next(axes for axes in drawn.axes if axes.get_label() == panel)
    return {artist.get_gid() for artist in axes.get_children() if artist.get_gid()}


def part(axes: Any, gid: str) -> Any:
    return next(artist for artist in axes.get_children() if artist.get_gid() == gid)


def written(drawn: Any) -> list[str]:
    return [text.get_text() for text in drawn.findobj(matplotlib.text.Text) if text.get_text()]


# -- curves --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 7, 500, 20_000])
@pytest.mark.parametrize("elapsed_s", [0.01, 3.7, 7300.0])
def test_the_area_under_throughput_is_the_number_of_tasks(count: int, elapsed_s: float) -> None:
    picture = curves.picture_of(records(count, elapsed_s))
    assert count == pytest.approx(float(np.sum(picture.throughput * np.diff(picture.edges_s))))
    assert len(picture.throughput) <= curves.MAX_BINS + 1


def test_the_area_under_live_throughput_is_the_number_of_tasks_too() -> None:
    picture = curves.picture_of(samples(elapsed_s=9.3))
    assert 8 == pytest.approx(float(np.sum(picture.throughput * np.diff(picture.edges_s))))


def test_tasks_that_have_not_ended_are_left_out_and_times_count_from_the_start() -> None:
    both = Records(facts(done=1, elapsed_s=4.0), 100.0, [100.0, 101.0], [102.0, NAN], columns((4.0, 1, 0, 0)))
    one = Records(facts(done=1, elapsed_s=4.0), 0.0, [0.0], [2.0], columns((4.0, 1, 0, 0)))
    drawn, expected = curves.picture_of(both), curves.picture_of(one)
    assert list(expected.throughput) == list(drawn.throughput)
    assert expected.facts.p50_s == drawn.facts.p50_s == 2.0


def test_tasks_in_flight_are_exact_means_of_overlapping_spans() -> None:
    two = Records(facts(done=2, elapsed_s=4.0), 0.0, [0.0, 1.0], [2.0, 4.0], columns((4.0, 2, 0, 0)))
    picture = curves.picture_of(two)
    at = np.searchsorted(picture.flight_edges_s, [0.5, 1.5, 3.0]) - 1
    assert [1.0, 2.0, 1.0] == pytest.approx(list(picture.in_flight[at]))
    assert 5.0 == pytest.approx(float(np.sum(picture.in_flight * np.diff(picture.flight_edges_s))))


def test_bins_that_are_over_do_not_move_while_a_run_goes_on() -> None:
    before = curves.bin_edges_s(7.4, 0.5)
    after = curves.bin_edges_s(8.1, 0.5)
    assert list(before[:-1]) == list(after[: len(before) - 1])
    assert 7.4 == before[-1]


@pytest.mark.parametrize(
    ("elapsed_s", "done", "expected"),
    [(0.01, 10_000, 0.0002), (3.8, 10_000, 0.1), (18.9, 900, 0.5), (3600.0, 10**6, 60.0), (4.0, 4, 10.0)],
)
def test_a_bin_is_as_wide_as_people_count(elapsed_s: float, done: int, expected: float) -> None:
    assert expected == pytest.approx(curves.bin_width_s(elapsed_s, done))


def test_percentiles_are_of_the_tasks_that_ended_in_the_bin() -> None:
    ends_s = np.linspace(0.001, 10.0, 1000)
    taken_s = np.where(ends_s <= 5.0, 0.1, 0.3)
    starts_s = ends_s - taken_s
    slow_later = Records(
        facts(done=1000, elapsed_s=10.0), 0.0, list(starts_s), list(ends_s), columns((10.0, 1000, 0, 0))
    )
    picture = curves.picture_of(slow_later)
    assert 0.1 == pytest.approx(picture.p50_s[2])
    assert 0.3 == pytest.approx(picture.p50_s[-2])


def test_all_failed_makes_errors_of_all_throughput() -> None:
    picture = curves.picture_of(records(300, 1.0, failed=300))
    assert list(picture.throughput) == list(picture.errors)


def test_a_long_run_keeps_a_bounded_number_of_samples_with_both_ends() -> None:
    run, noted = FakeRun(), Columns()
    for i in range(1, 20_001):
        run.go_on(i * 0.25, i)
        noted.note(run)
    run.end(5001.0)
    noted.note(run)
    assert source.MAX_SAMPLES >= len(noted.t_s)
    assert source.MAX_SAMPLES / 3 < len(noted.t_s)
    assert 0.0 == noted.t_s[0]
    assert 5001.0 == noted.t_s[-1]
    assert sorted(noted.t_s) == list(noted.t_s)


# -- figures -------------------------------------------------------------------------------------------------


def test_every_axis_names_its_unit() -> None:
    drawn = figure.draw(curves.picture_of(records(500, 2.0)))
    assert ["throughput, tasks/s", "in flight, tasks", "latency, ms"] == [a.get_ylabel() for a in drawn.axes]
    assert "time since the start, s" == drawn.axes[-1].get_xlabel()
    assert "mean of each 50 ms" in written(drawn)


@pytest.mark.parametrize(("elapsed_s", "unit"), [(0.01, "ms"), (50.0, "s"), (900.0, "min"), (9000.0, "h")])
def test_the_time_axis_has_a_unit_that_suits_the_run(elapsed_s: float, unit: str) -> None:
    axes = figure.draw(curves.picture_of(records(100, elapsed_s))).axes[-1]
    assert f"time since the start, {unit}" == axes.get_xlabel()
    size_s = {"ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}[unit]
    assert elapsed_s == pytest.approx(axes.get_xlim()[1] * size_s)


def test_the_curve_drawn_is_the_curve_computed() -> None:
    picture = curves.picture_of(records(500, 2.0))
    axes = figure.draw(picture).axes[0]
    line = part(axes, "throughput")
    assert list(picture.throughput) == list(line.get_data().values)
    assert max(picture.throughput) < axes.get_ylim()[1]


def test_the_limit_of_concurrency_is_a_line_at_its_height() -> None:
    axes = figure.draw(curves.picture_of(records(500, 2.0, concurrency=123))).axes[1]
    limit = part(axes, "limit")
    assert [123, 123] == list(limit.get_ydata())
    assert axes.get_ylim()[1] > 123


def test_the_title_says_the_numbers_that_a_saved_picture_is_read_for() -> None:
    said = written(figure.draw(curves.picture_of(records(500, 2.0, failed=3))))
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
    assert "url in feeds" not in written(figure.draw(curves.picture_of(samples())))


def test_failures_are_red_and_absent_when_there_are_none() -> None:
    assert {"failed", "failed area"}.isdisjoint(gids(figure.draw(curves.picture_of(records(500, 2.0))), "throughput"))
    drawn = figure.draw(curves.picture_of(records(500, 2.0, failed=60)))
    assert {"failed", "failed area"} <= gids(drawn, "throughput")
    red = part(drawn.axes[0], "failed")
    assert matplotlib.colors.to_rgba(words.RED) == red.get_edgecolor()


def test_one_failure_among_very_many_tasks_is_marked() -> None:
    noted = columns((2.0, 4000, 0, 4), (2.25, 4500, 1, 4), (10.0, 20_000, 1, 0))
    few = replace(records(20_000, 10.0, failed=1), columns=noted)
    axes = figure.draw(curves.picture_of(few)).axes[0]
    marks = part(axes, "failures")
    assert all(1.9 < t < 2.4 for t in marks.get_xdata())
    assert len(marks.get_xdata()) > 0


def test_a_few_failures_are_not_drawn_as_more_than_they_are() -> None:
    noted = columns((0.25, 100, 2, 4), (0.5, 200, 2, 4), (0.75, 300, 3, 4), (1.0, 400, 3, 0))
    few = curves.picture_of(replace(records(400, 1.0, failed=3), columns=noted))
    assert 3 == pytest.approx(float(np.sum(few.errors * np.diff(few.error_edges_s))))
    axes = figure.draw(few).axes[0]
    assert [0.125, 0.625] == pytest.approx(list(part(axes, "failures").get_xdata()))


def test_a_blocked_hub_is_shaded_in_every_panel() -> None:
    drawn = figure.draw(curves.picture_of(records(500, 2.0, blocked=((0.5, 1.25),))))
    for axes in drawn.axes:
        shade = part(axes, "blocked")
        assert (0.5, 0.75) == pytest.approx((shade.get_x(), shade.get_width()))
    assert "hub blocked" in written(drawn)
    assert "hub blocked 750 ms" in written(drawn)


@pytest.mark.parametrize("count", [0, 1])
def test_runs_of_no_task_or_one_are_drawn(count: int) -> None:
    drawn = figure.draw(curves.picture_of(records(count, 0.01)))
    assert count == sum(axes.get_label() == "latency" for axes in drawn.axes)
    assert figure.png(drawn).startswith(b"\x89PNG")


def test_a_png_has_its_scale_and_a_card_that_hides_the_page_behind_it() -> None:
    picture = curves.picture_of(records(100, 1.0))
    width, height = figure.size_px(picture)
    png = figure.png(figure.draw(picture, 2.0))
    assert (2 * width, 2 * height) == struct.unpack("!II", png[16:24])
    drawn: Any = figure.draw(picture, 1.0)
    drawn.canvas.draw()
    alpha = np.asarray(drawn.canvas.buffer_rgba())[:, :, 3]
    assert 0 == alpha[0, 0]
    assert 255 == alpha[height // 2].min(initial=255, where=np.arange(width) % (width - 1) > 1)


def test_nothing_that_is_written_leaves_the_card() -> None:
    long = records(500, 2.0, label="x" * 300, failed=499, blocked=((0.5, 1.25),), concurrency=1_000_000, pool="prefork")
    drawn = figure.draw(curves.picture_of(long), 1.0)
    drawn.canvas.draw()
    width, height = figure.size_px(curves.picture_of(long))
    for text in drawn.findobj(matplotlib.text.Text):
        box = text.get_window_extent()
        if text.get_text() and text.get_visible():
            assert -1 < box.x0 <= box.x1 < width + 1, text
            assert -1 < box.y0 <= box.y1 < height + 1, text


def test_each_pool_has_a_colour_of_its_own_and_its_badge_can_be_read() -> None:
    assert {"green", "threads", "prefork", "hybrid", "celery"} == set(POOL_COLORS)
    assert len(POOL_COLORS) == len(set(POOL_COLORS.values()))
    assert "#ffffff" == words.ink_on(POOL_COLORS["threads"])
    assert "#1d2025" == words.ink_on(POOL_COLORS["prefork"])
    drawn = figure.draw(curves.picture_of(records(9, 1.0, pool="threads")))
    line = part(drawn.axes[0], "throughput")
    assert matplotlib.colors.to_rgba(POOL_COLORS["threads"]) == line.get_edgecolor()


def test_a_figure_of_a_run_is_drawn_without_a_view() -> None:
    run = FakeRun(done=8)
    run.end(2.0)
    assert "8 tasks" in written(static_figure(run))


def test_a_notebook_shows_a_figure_at_its_size_without_pyplot() -> None:
    run = FakeRun(done=8)
    run.end(2.0)
    png, size = static_figure(run)._repr_png_()  # type: ignore[attr-defined]
    assert (2 * size["width"], 2 * size["height"]) == struct.unpack("!II", png[16:24])


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, "0"), (0.25, "0.25"), (4.321, "4.32"), (99.97, "100"), (433.4, "433"), (12_300, "12,300"),
     (1.25e6, "1.25M"), (NAN, "\N{EN DASH}")],
)  # fmt: skip
def test_counts_say_what_matters(value: float, expected: str) -> None:
    assert expected == words.count_words(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.0, "0 µs"), (12e-6, "12 µs"), (0.0034, "3.4 ms"), (0.9999, "1 s"), (2.312, "2.31 s"),
     (200, "3 min 20 s"), (7500, "2 h 5 min"), (NAN, "\N{EN DASH}")],
)  # fmt: skip
def test_durations_say_what_matters(value: float, expected: str) -> None:
    assert expected == words.duration_words(value)


def test_a_label_is_escaped_in_the_header() -> None:
    assert "&lt;b&gt;" in words.header_html(facts(label="<b>"), 1, 2.0)
    assert "<b></b>" not in words.header_html(facts(label="<b>"), 1, 2.0)


def test_importing_the_room_imports_nothing_heavy() -> None:
    heavy = "matplotlib", "numpy", "ipywidgets", "IPython"
    code = f"import sys, greenlab.live; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "[]" == done.stdout.strip()


def test_drawing_leaves_pyplot_and_the_style_of_the_user_alone() -> None:
    code = """
        import sys, matplotlib
        matplotlib.rcParams["font.size"] = 33
        from greenlab.live import curves, figure
        from greenlab.live.source import Columns, Facts, Records
        facts = Facts("green", "x", 1, 0, 0, 0, 1.0, (), False, True)
        drawn = figure.draw(curves.picture_of(Records(facts, 0.0, [], [], Columns())))
        small = drawn.texts[0].get_fontsize() < 12
        print("matplotlib.pyplot" in sys.modules, matplotlib.rcParams["font.size"], small)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert "False 33.0 True" == done.stdout.strip()


# -- the process that draws ----------------------------------------------------------------------------------


@pytest.fixture
def artist() -> Any:
    with Artist() as made:
        yield made
    assert made.pid is None
    assert [] == psutil.Process().children()


def is_gone(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def wait_until(true: Any, what: str) -> None:
    deadline_s = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline_s, f"waited for {what} in vain"
        eventlet.sleep(0.01)


def test_the_artist_starts_when_told_and_draws_more_than_once(artist: Artist) -> None:
    assert artist.pid is None
    assert artist.draw(samples(), 1.0) is None
    artist.start()
    pid = artist.pid
    first, second = artist.draw(samples(), 1.0), artist.draw(records(500, 2.0), 2.0)
    assert first is not None
    assert second is not None
    assert (first.width, first.height) == struct.unpack("!II", first.png[16:24])
    assert (2 * second.width, 2 * second.height) == struct.unpack("!II", second.png[16:24])
    artist.start()
    assert pid == artist.pid


def test_the_hub_turns_while_the_artist_draws(artist: Artist) -> None:
    turns = []

    def turn() -> None:
        while True:
            turns.append(1)
            eventlet.sleep(0)

    artist.start()
    turner = eventlet.spawn(turn)
    assert artist.draw(samples(), 1.0) is not None
    turner.kill()
    assert len(turns) > 10


def test_a_request_larger_than_the_socket_holds_arrives_whole(artist: Artist) -> None:
    artist.start()
    drawing = artist.draw(records(500_000, 60.0), 1.0)
    assert drawing is not None
    assert drawing.png.endswith(b"IEND\xaeB`\x82")


def test_two_who_draw_at_once_each_get_their_own(artist: Artist) -> None:
    artist.start()
    small, large = (eventlet.spawn(artist.draw, samples(), scale) for scale in (1.0, 2.0))
    assert 760 == struct.unpack("!I", small.wait().png[16:20])[0]
    assert 1520 == struct.unpack("!I", large.wait().png[16:20])[0]


def test_a_killed_artist_is_told_once_and_can_be_started_again(artist: Artist) -> None:
    artist.start()
    assert artist.pid is not None
    os.kill(artist.pid, signal.SIGKILL)
    with pytest.warns(RuntimeWarning, match="its process ended") as told:
        assert artist.draw(samples(), 1.0) is None
    assert 1 == len(told)
    artist.start()
    os.kill(artist.pid, signal.SIGKILL)
    assert artist.draw(samples(), 1.0) is None
    artist.start()
    assert artist.draw(samples(), 1.0) is not None


def test_a_drawing_that_fails_is_told_and_the_process_lives(artist: Artist) -> None:
    artist.start()
    pid = artist.pid
    with pytest.warns(RuntimeWarning, match="AttributeError"):
        assert artist.draw("no picture", 1.0) is None  # type: ignore[arg-type]
    assert artist.draw(samples(), 1.0) is not None
    assert pid == artist.pid


def test_an_artist_that_is_late_is_ended(artist: Artist) -> None:
    artist.start()
    pid = artist.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    with pytest.warns(RuntimeWarning, match="in time"):
        assert artist.draw(samples(), 1.0, timeout_s=0.05) is None
    assert is_gone(pid)


def test_closing_wakes_who_waits_for_a_drawing_without_a_warning(artist: Artist) -> None:
    artist.start()
    drawer = eventlet.spawn(artist.draw, samples(), 1.0)
    eventlet.sleep(0)
    artist.close()
    assert drawer.wait() is None
    artist.start()
    assert artist.draw(samples(), 1.0) is not None


def test_a_drawer_that_is_killed_leaves_no_half_answer(artist: Artist) -> None:
    artist.start()
    drawer = eventlet.spawn(artist.draw, samples(), 1.0)
    eventlet.sleep(0)
    drawer.kill()
    artist.start()
    drawing = artist.draw(samples(), 2.0)
    assert drawing is not None
    assert 1520 == struct.unpack("!I", drawing.png[16:20])[0]


def test_the_artist_ignores_an_interrupt_and_gives_way(artist: Artist) -> None:
    artist.start()
    assert artist.draw(samples(), 1.0) is not None
    assert artist.pid is not None
    os.kill(artist.pid, signal.SIGINT)
    assert artist.draw(samples(), 1.0) is not None
    assert 19 == psutil.Process(artist.pid).nice()


def test_the_artist_ends_with_a_kernel_that_is_killed() -> None:
    code = """
        import os, signal
        from greenlab.live import Artist
        artist = Artist()
        artist.start()
        print(artist.pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert -signal.SIGKILL == done.returncode
    wait_until(lambda: is_gone(int(done.stdout)), "the artist's end")


def test_a_module_beside_the_notebook_does_not_become_the_artists(
    artist: Artist, tmp_path: Any, monkeypatch: Any
) -> None:
    (tmp_path / "random.py").write_text("raise SystemExit")
    (tmp_path / "matplotlib.py").write_text("raise SystemExit")
    monkeypatch.chdir(tmp_path)
    artist.start()
    assert artist.draw(samples(), 1.0) is not None


# -- the view ------------------------------------------------------------------------------------------------


@dataclass
class Shown:
    """One call of IPython's display."""

    bundle: dict[str, Any]
    metadata: dict[str, Any]
    display_id: str | None
    update: bool


@pytest.fixture
def shown(monkeypatch: Any) -> list[Shown]:
    """Play a kernel, and keep what is displayed."""
    seen: list[Shown] = []

    def display(
        bundle: dict[str, Any],
        metadata: dict[str, Any] | None = None,
        *,
        display_id: str | None = None,
        update: bool = False,
    ) -> None:
        seen.append(Shown(bundle, metadata or {}, display_id, update))

    monkeypatch.setattr(faces, "_display", display)
    monkeypatch.setattr(faces, "_in_kernel", lambda: True)
    return seen


@pytest.fixture
def no_widgets_left() -> Any:
    from ipywidgets.widgets import widget

    before = set(widget._instances)
    yield
    assert before == set(widget._instances)


def not_posted(_: Any) -> None:
    pytest.fail("nothing was to be posted")


@pytest.mark.usefixtures("no_widgets_left")
def test_a_view_shows_widgets_and_leaves_a_picture_with_the_numbers(shown: list[Shown], artist: Artist) -> None:
    run, view = FakeRun(), View(not_posted, artist=artist)
    view.run_started(run)
    (first,) = shown
    assert {faces.WIDGET_MIME, "text/plain"} == set(first.bundle)
    assert "green run: url in feeds" == first.bundle["text/plain"]
    face: Any = view._face
    run.go_on(0.4, 3, failed=1)
    view.tick()
    assert "<b>3</b> / 8" in face._header.value
    assert "<b>1</b> failed" in face._header.value
    wait_until(lambda: face._image is not None, "a frame")
    assert bytes(face._image.value).startswith(b"\x89PNG")
    run.end(0.5)
    view.run_ended(run)
    last = shown[-1]
    assert 2 == len(shown)
    assert last.update
    assert first.display_id == last.display_id
    assert {"image/png", "text/plain"} == set(last.bundle)
    assert "green run: url in feeds\n3 tasks ended" == last.bundle["text/plain"]
    size = struct.unpack("!II", last.bundle["image/png"][16:24])
    about = last.metadata["image/png"]
    assert size == (2 * about["width"], 2 * about["height"])
    assert "3 tasks ended" == about["alt"]
    assert artist.pid is not None, "a shared artist stays warm"


def test_a_saved_text_without_numbers_can_be_asked_for(shown: list[Shown], artist: Artist) -> None:
    run, view = FakeRun(), View(not_posted, artist=artist, saved_text=name_line)
    view.run_started(run)
    run.end(0.1)
    view.run_ended(run)
    assert shown[0].bundle["text/plain"] == shown[-1].bundle["text/plain"]


@pytest.mark.usefixtures("no_widgets_left")
def test_a_very_short_run_shows_its_header_and_its_picture_and_nothing_between(shown: list[Shown]) -> None:
    run, view = FakeRun(), View(not_posted)
    view.run_started(run)
    face: Any = view._face
    run.go_on(0.2, 8)
    view.tick()
    assert not view._drawing
    run.end(0.2)
    view.run_ended(run)
    assert face._image is None
    assert 2 == len(shown)
    assert [] == psutil.Process().children(), "the view's own artist ends with the run"


def test_the_view_ticks_by_itself_and_leaves_no_green_thread(shown: list[Shown], artist: Artist) -> None:
    run, view = FakeRun(), View(not_posted, artist=artist)
    view.run_started(run)
    ticker, face = view._ticker, view._face
    run.go_on(0.25, 5)
    assert isinstance(face, faces.WidgetFace)
    wait_until(lambda: "<b>5</b> / 8" in face._header.value, "a tick")
    run.end(0.5)
    view.run_ended(run)
    assert ticker.dead
    view.close()
    view.close()


def test_a_tick_is_one_message_and_a_frame_one_more(shown: list[Shown], artist: Artist, monkeypatch: Any) -> None:
    run, view = FakeRun(total=10**6), View(not_posted, artist=artist)
    view.run_started(run)
    face: Any = view._face
    run.go_on(1.0, 10)
    view.tick()
    wait_until(lambda: face._image is not None, "a frame")
    sent: list[Any] = []
    for widget in face._widgets:
        monkeypatch.setattr(type(widget), "_send", lambda self, *args, **_: sent.append(self))
    run.go_on(1.01, 11)
    view.tick()
    assert [face._header] == sent
    run.go_on(2.0, 12)
    view.tick()
    wait_until(lambda: not view._drawing, "a frame")
    assert [face._header, face._header, face._image] == sent
    monkeypatch.undo()
    view.close()


def test_one_frame_is_asked_for_at_a_time_and_fewer_of_a_long_run(shown: list[Shown], monkeypatch: Any) -> None:
    run, view = FakeRun(total=None), View(not_posted)
    asked: list[float] = []
    may_draw = eventlet.event.Event()

    def draw(source: Samples, *_: Any) -> Any:
        asked.append(source.facts.elapsed_s)
        return may_draw.wait()

    monkeypatch.setattr(view._artist, "draw", draw)
    monkeypatch.setattr(view._artist, "start", lambda: None)
    view.run_started(run)
    for i in range(4):
        run.go_on(400 + i, i)
        view.tick()
        eventlet.sleep(0)
    assert [400] == asked
    may_draw.send(Drawing(b"", 1, 1))
    eventlet.sleep(0)
    for i in range(8):
        run.go_on(404 + i / 4, i)
        view.tick()
        eventlet.sleep(0)
    assert [400, 404] == asked
    view.close()


def test_stop_comes_on_another_thread_and_only_posts(shown: list[Shown], artist: Artist) -> None:
    posted: list[Any] = []
    run, view = FakeRun(), View(posted.append, artist=artist)
    view.run_started(run)
    face: Any = view._face
    clicker = threading.Thread(target=face._button.click)
    clicker.start()
    clicker.join()
    assert 1 == len(posted)
    assert [] == run.cancelled_on
    assert not face._button.disabled
    posted[0]()
    assert [threading.current_thread().name] == run.cancelled_on
    assert face._button.disabled
    run.end(0.1)
    view.run_ended(run)
    posted[0]()
    assert 1 == len(run.cancelled_on), "a late click finds nothing to cancel"


def test_events_of_the_button_may_come_to_any_shell(shown: list[Shown], artist: Artist, monkeypatch: Any) -> None:
    from ipywidgets import Widget

    publish = Widget.open

    def opened(self: Any) -> None:
        publish(self)
        self.comm._reply_subshell_id = None  # what ipykernel 7.4 notes when a message is sent from the cell's shell

    monkeypatch.setattr(Widget, "open", opened)
    view = View(not_posted, artist=artist)
    view.run_started(FakeRun())
    face: Any = view._face
    assert not hasattr(face._button.comm, "_reply_subshell_id")
    assert hasattr(face._header.comm, "_reply_subshell_id")
    view.close()


def test_without_widgets_one_output_is_replaced_in_place(shown: list[Shown], artist: Artist) -> None:
    run, view = FakeRun(), View(not_posted, artist=artist, widgets=False)
    view.run_started(run)
    run.go_on(0.29, 3)
    view.tick()
    run.go_on(0.5, 4)
    view.tick()
    wait_until(lambda: "image/png" in shown[-1].bundle, "a frame")
    run.end(0.6)
    view.run_ended(run)
    texts = [one.bundle["text/plain"] for one in shown]
    assert "green run: url in feeds" == texts[0]
    assert "green run: url in feeds: 3 of 8 tasks, 10.3 tasks/s, 4 in flight" == texts[1]
    assert "green run: url in feeds\n4 tasks ended" == texts[-1]
    assert [False] + [True] * (len(shown) - 1) == [one.update for one in shown]
    assert 1 == len({one.display_id for one in shown})


def test_a_missing_ipywidgets_is_no_obstacle(shown: list[Shown], artist: Artist, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    view = View(not_posted, artist=artist)
    view.run_started(FakeRun())
    assert isinstance(view._face, faces.StillFace)
    view.close()


def test_a_terminal_is_told_at_the_start_and_at_the_end_and_nothing_is_drawn(
    shown: list[Shown], artist: Artist, monkeypatch: Any
) -> None:
    monkeypatch.setattr(faces, "_in_kernel", lambda: False)
    run, view = FakeRun(), View(not_posted, artist=artist)
    view.run_started(run)
    run.go_on(5.0, 4)
    view.tick()
    run.end(6.0)
    view.run_ended(run)
    assert ["green run: url in feeds", "4 tasks ended"] == [one.bundle["text/plain"] for one in shown]
    assert artist.pid is None


@pytest.mark.usefixtures("no_widgets_left")
def test_an_artist_that_dies_costs_the_live_figure_and_not_the_last(shown: list[Shown], artist: Artist) -> None:
    run, view = FakeRun(), View(not_posted, artist=artist)
    view.run_started(run)
    assert artist.pid is not None
    os.kill(artist.pid, signal.SIGKILL)
    face: Any = view._face
    run.go_on(1.0, 3)
    view.tick()
    with pytest.warns(RuntimeWarning, match="no live figure"):
        eventlet.sleep(0.2)
    run.go_on(2.0, 4)
    view.tick()
    assert "<b>4</b> / 8" in face._header.value
    run.end(5.0)
    view.run_ended(run)
    assert shown[-1].bundle["image/png"].startswith(b"\x89PNG")


def test_a_run_seen_by_ipython_ends_as_one_output_line_and_a_summary() -> None:
    code = """
        from IPython.core.interactiveshell import InteractiveShell
        from IPython.utils.capture import capture_output
        from greenlab.live import View
        from greenlab.hub import eventlet
        import test_live
        InteractiveShell.instance()
        run = test_live.FakeRun()
        with capture_output() as seen:
            view = View(lambda f: f())
            view.run_started(run)
            run.go_on(0.4, 3)
            eventlet.sleep(0.4)
            run.end(0.5)
            view.run_ended(run)
        print([output.data for output in seen.outputs], repr(seen.stderr))
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
    )
    assert "" == done.stderr
    assert "[{'text/plain': 'green run: url in feeds'}, {'text/plain': '3 tasks ended'}] ''" == done.stdout.strip()
