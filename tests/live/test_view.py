"""The view over a run that plays its part."""

from __future__ import annotations

import struct
import sys
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from live_doubles import FakeRun, Shown, not_posted
from waiting import wait_until

from greenlab.hub import eventlet
from greenlab.live import View, displays, name_line, widget_display
from greenlab.live import view as live_view
from greenlab.live.drawing.client import Drawing, DrawingClient
from greenlab.live.words import picture_words

if TYPE_CHECKING:
    from greenlab.live.snapshot import Samples


@pytest.mark.usefixtures("no_widgets_left")
def test_a_view_shows_widgets_and_leaves_a_picture_with_the_numbers(shown: list[Shown], warm: DrawingClient) -> None:
    run, view = FakeRun(), View(not_posted, client=warm)
    view.run_started(run)
    (first,) = shown
    assert {widget_display.WIDGET_MIME, "text/plain"} == set(first.bundle)
    assert "green run: url in feeds" == first.bundle["text/plain"]
    display: Any = view._display
    run.go_on(0.4, 3, failed=1)
    view.tick()
    assert "<b>3</b> / 8" in display._header.value
    assert "<b>1</b> failed" in display._header.value
    wait_until(lambda: display._image is not None, "a frame")
    assert bytes(display._image.value).startswith(b"\x89PNG")
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
    assert warm.pid is not None, "a shared process stays warm"


def test_a_saved_text_without_numbers_can_be_asked_for(shown: list[Shown], warm: DrawingClient) -> None:
    run, view = FakeRun(), View(not_posted, client=warm, saved_text=name_line)
    view.run_started(run)
    run.end(0.1)
    view.run_ended(run)
    assert shown[0].bundle["text/plain"] == shown[-1].bundle["text/plain"]


@pytest.mark.usefixtures("no_widgets_left")
def test_a_very_short_run_shows_its_header_and_its_picture_and_nothing_between(shown: list[Shown]) -> None:
    children = psutil.Process().children()
    run, view = FakeRun(), View(not_posted)
    view.run_started(run)
    display: Any = view._display
    run.go_on(0.2, 8)
    view.tick()
    assert not view._drawing
    run.end(0.2)
    view.run_ended(run)
    assert display._image is None
    assert 2 == len(shown)
    assert children == psutil.Process().children(), "the view's own process ends with the run"


@pytest.mark.usefixtures("no_widgets_left")
@pytest.mark.parametrize("widgets", [False, True])
def test_a_run_that_could_not_begin_leaves_no_picture(shown: list[Shown], warm: DrawingClient, widgets: bool) -> None:
    run, view = FakeRun(begun=0), View(not_posted, client=warm, widgets=widgets)
    view.run_started(run)
    run.end(0.001)
    view.run_ended(run)
    assert {"text/plain": "green run: url in feeds\nno task has begun"} == shown[-1].bundle
    assert not view.stands_in(None)


def test_the_view_ticks_by_itself_and_leaves_no_green_thread(shown: list[Shown], warm: DrawingClient) -> None:
    run, view = FakeRun(), View(not_posted, client=warm)
    view.run_started(run)
    ticker, display = view._ticker, view._display
    run.go_on(0.25, 5)
    assert isinstance(display, widget_display.WidgetDisplay)
    wait_until(lambda: "<b>5</b> / 8" in display._header.value, "a tick")
    run.end(0.5)
    view.run_ended(run)
    assert ticker.dead
    view.close()
    view.close()


def test_two_ticks_are_one_message_and_a_frame_one_more(
    shown: list[Shown], warm: DrawingClient, monkeypatch: Any
) -> None:
    run, view = FakeRun(total=10**6), View(not_posted, client=warm)
    view.run_started(run)
    display: Any = view._display
    run.go_on(1.0, 10)
    view.tick()
    wait_until(lambda: display._image is not None, "a frame")
    sent: list[Any] = []
    for widget in display._widgets:
        monkeypatch.setattr(type(widget), "_send", lambda self, *args, **_: sent.append(self))
    run.go_on(1.25, 11)
    view.tick()
    assert not sent
    run.go_on(1.45, 12)
    view.tick()
    assert [display._header] == sent
    run.go_on(2.0, 13)
    view.tick()
    wait_until(lambda: not view._drawing, "a frame")
    assert [display._header, display._header, display._image] == sent
    monkeypatch.undo()
    view.close()


@pytest.mark.parametrize(
    ("elapsed_s", "drew_s", "frame_s"),
    [(1, 0, 0.5), (1, 0.015, 0.5), (1, 0.024, 0.8), (1, 5, 1.0), (30, 0.015, 1.5), (30, 5, 1.5), (3600, 5, 2.0)],
)
def test_pictures_are_fewer_of_long_runs_and_where_drawing_is_slow(
    elapsed_s: float, drew_s: float, frame_s: float
) -> None:
    assert frame_s == pytest.approx(live_view.frame_s(elapsed_s, drew_s))


def test_others_have_their_turn_while_a_view_appears(shown: list[Shown], warm: DrawingClient) -> None:
    turns: list[int] = []
    view = View(not_posted, client=warm)
    eventlet.spawn(lambda: turns.append(len(shown)))
    view.run_started(FakeRun())
    assert [0] == turns
    assert len(shown) == 1
    view.close()


def test_one_frame_is_asked_for_at_a_time_and_fewer_of_a_long_run(shown: list[Shown], monkeypatch: Any) -> None:
    run, view = FakeRun(total=None), View(not_posted)
    asked: list[float] = []
    may_draw = eventlet.event.Event()

    def draw(source: Samples, *_: Any) -> Any:
        asked.append(source.facts.elapsed_s)
        return may_draw.wait()

    monkeypatch.setattr(view._client, "draw", draw)
    monkeypatch.setattr(view._client, "start", lambda: None)
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


def test_without_widgets_one_output_is_replaced_in_place(shown: list[Shown], warm: DrawingClient) -> None:
    run, view = FakeRun(), View(not_posted, client=warm, widgets=False)
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


def test_tasks_of_the_run_that_is_resumed_do_not_count_for_rates(shown: list[Shown], warm: DrawingClient) -> None:
    run, view = FakeRun(total=200, done=150, done_before=150), View(not_posted, client=warm, widgets=False)
    view.run_started(run)
    run.go_on(1.0, 160)
    view.tick()
    assert "green run: url in feeds: 160 of 200 tasks, 10 tasks/s, 4 in flight" == shown[-1].bundle["text/plain"]
    assert [0, 10] == list(view._columns.done)
    facts = view._facts_of(run)
    assert 10 == facts.throughput
    assert "150 before it was resumed" in picture_words(facts)
    view.close()


def test_a_missing_ipywidgets_is_no_obstacle(shown: list[Shown], warm: DrawingClient, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    monkeypatch.delitem(sys.modules, "greenlab.live.widget_display")
    view = View(not_posted, client=warm)
    view.run_started(FakeRun())
    assert isinstance(view._display, displays.StillDisplay)
    view.close()


def test_failures_appear_once_unfold_and_stay_in_what_is_saved(shown: list[Shown], warm: DrawingClient) -> None:
    run, view = FakeRun(), View(not_posted, client=warm)
    view.run_started(run)
    display: Any = view._display
    run.go_on(0.1, 3)
    view.tick()
    assert [] == [child for child in display._root.children if child is display._failure]
    run.go_on(0.2, 4, failed=1)
    run.error_types, run.first_failure = {"ValueError": 1}, "ValueError: <odd>"
    view.tick()
    assert "1 ValueError" in display._header.value
    folded: Any = display._failure
    assert "ValueError: &lt;odd&gt;" in folded.value
    assert folded in display._root.children
    value, run.first_failure = folded.value, "KeyError: of a lower index"
    view.tick()
    assert folded is display._failure
    assert value == folded.value, "what is unfolded stays"
    run.end(0.3)
    view.run_ended(run)
    saved = shown[-1].bundle
    assert {"image/png", "text/html", "text/plain"} == set(saved)
    assert saved["text/html"].startswith('<img src="data:image/png;base64,')
    assert "<details" in saved["text/html"]
    assert "KeyError: of a lower index" in saved["text/html"]


def test_a_run_that_keeps_no_times_has_a_last_picture_all_the_same(shown: list[Shown], warm: DrawingClient) -> None:
    run, view = FakeRun(keeps_times=False), View(not_posted, client=warm)
    view.run_started(run)
    run.go_on(0.2, 3)
    view.tick()
    run.end(0.5)
    view.run_ended(run)
    assert shown[-1].bundle["image/png"].startswith(b"\x89PNG")
