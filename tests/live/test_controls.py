"""Stop and the slider of a live view: what the user does arrives on any thread, and is done on the hub's."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from live_doubles import FakeRun, Shown, facts, not_posted

from greenlab.live import View
from greenlab.live.view import slider_of

if TYPE_CHECKING:
    from greenlab.live.drawing.client import DrawingClient


def elsewhere(what: Any) -> None:
    """Do something on another OS thread, as ipykernel does with what a front end says."""
    clicker = threading.Thread(target=what)
    clicker.start()
    clicker.join()


def test_stop_comes_on_another_thread_and_only_posts(shown: list[Shown], warm: DrawingClient) -> None:
    posted: list[Any] = []
    run, view = FakeRun(), View(posted.append, client=warm)
    view.run_started(run)
    display: Any = view._display
    clicker = threading.Thread(target=display._button.click)
    clicker.start()
    clicker.join()
    assert 1 == len(posted)
    assert [] == run.cancelled_on
    assert not display._button.disabled
    posted[0]()
    assert [threading.current_thread().name] == run.cancelled_on
    assert display._button.disabled
    run.end(0.1)
    view.run_ended(run)
    posted[0]()
    assert 1 == len(run.cancelled_on), "a late click finds nothing to cancel"


def test_events_of_the_button_may_come_to_any_shell(shown: list[Shown], warm: DrawingClient, monkeypatch: Any) -> None:
    from ipywidgets import Widget

    publish = Widget.open

    def opened(self: Any) -> None:
        publish(self)
        self.comm._reply_subshell_id = None  # what ipykernel 7.4 notes when a message is sent from the cell's shell

    monkeypatch.setattr(Widget, "open", opened)
    view = View(not_posted, client=warm)
    view.run_started(FakeRun())
    display: Any = view._display
    assert not hasattr(display._button.comm, "_reply_subshell_id")
    assert hasattr(display._header.comm, "_reply_subshell_id")
    view.close()


def test_a_second_click_does_not_cut_short_how_the_first_one_ends(shown: list[Shown], warm: DrawingClient) -> None:
    posted: list[Any] = []
    run, view = FakeRun(), View(posted.append, client=warm)
    view.run_started(run)
    display: Any = view._display
    elsewhere(display._button.click)
    elsewhere(display._button.click)
    for call in posted:
        call()
    assert 2 == len(posted)
    assert 1 == len(run.cancelled_on)
    view.close()


def test_a_turn_of_the_slider_only_posts_and_is_done_on_the_hubs_thread(
    shown: list[Shown], warm: DrawingClient
) -> None:
    posted: list[Any] = []
    run, view = FakeRun(total=None), View(posted.append, client=warm)
    view.run_started(run)
    display: Any = view._display
    elsewhere(lambda: display._slider.set_state({"index": display._slider.options.index(30)}))
    assert 4 == run.concurrency
    (call,) = posted
    call()
    assert 30 == run.concurrency
    run.go_on(0.1, 3)
    view.tick()
    assert 30 == display._slider.value
    assert "-c 30" in display._header.value
    view.close()


def test_a_slider_that_is_turned_after_the_end_turns_nothing(shown: list[Shown], warm: DrawingClient) -> None:
    posted: list[Any] = []
    run, view = FakeRun(total=None), View(posted.append, client=warm)
    view.run_started(run)
    slider: Any = view._display._slider  # type: ignore[attr-defined]
    elsewhere(lambda: slider.set_state({"index": 0}))
    run.end(0.1)
    view.run_ended(run)
    elsewhere(lambda: slider.set_state({"index": 1}))
    for call in posted:
        call()
    assert 4 == run.concurrency


def test_the_slider_follows_a_concurrency_that_code_has_set(
    shown: list[Shown], warm: DrawingClient, monkeypatch: Any
) -> None:
    from ipywidgets import Widget

    send = Widget._send

    def sent(self: Any, *args: Any, **kw: Any) -> None:
        send(self, *args, **kw)
        self.comm._reply_subshell_id = None  # what ipykernel 7.4 notes when a message is sent from the cell's shell

    monkeypatch.setattr(Widget, "_send", sent)
    posted: list[Any] = []
    run, view = FakeRun(total=None), View(posted.append, client=warm)
    view.run_started(run)
    display: Any = view._display
    run.concurrency = 777
    view.tick()
    assert 777 == display._slider.value
    assert sorted(display._slider.options) == list(display._slider.options)
    assert [] == posted
    assert not hasattr(display._slider.comm, "_reply_subshell_id")
    view.close()


def test_prefork_turns_workers_one_at_a_time_when_the_mouse_is_let_go(shown: list[Shown], warm: DrawingClient) -> None:
    run, view = FakeRun(pool="prefork", concurrency=2), View(lambda call: call(), client=warm)
    view.run_started(run)
    display: Any = view._display
    assert ("workers", 2) == (display._slider.description, display._slider.value)
    assert (1, 2, 3, 4) == display._slider.options[:4]
    assert not display._slider.continuous_update
    elsewhere(lambda: display._slider.set_state({"index": 2}))
    assert 3 == run.concurrency
    view.close()


@pytest.mark.parametrize(
    ("pool", "concurrency", "total", "most"),
    [
        ("green", 500, None, 5000),
        ("green", 1, None, 100),
        ("green", 20, 200, 200),
        ("green", 500, 3, 500),
        ("green", 1, 1, 1),
        ("green", 777, None, 7770),
        ("threads", 500, None, 1000),
    ],
)
def test_a_slider_goes_as_far_as_makes_a_difference(pool: str, concurrency: int, total: int | None, most: int) -> None:
    slider = slider_of(facts(pool=pool, concurrency=concurrency, total=total))
    assert ("concurrency", concurrency, 1, most) == (slider.name, slider.value, slider.steps[0], slider.steps[-1])
    assert concurrency in slider.steps
    assert list(slider.steps) == sorted(set(slider.steps))
