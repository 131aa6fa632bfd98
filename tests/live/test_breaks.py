"""A live view that breaks is dropped with one warning, and the run goes on."""

from __future__ import annotations

import os
import signal
import textwrap
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from live_doubles import FakeRun, Shown, not_posted
from waiting import wait_until

from greenlab.hub import eventlet
from greenlab.live import View, displays
from greenlab.live.drawing import server

if TYPE_CHECKING:
    from kernel import Kernel

    from greenlab.live.drawing.client import Drawing, DrawingClient

pytestmark = pytest.mark.usefixtures("no_widgets_left")


def test_a_drawing_process_that_dies_costs_the_live_figure_and_not_the_last(
    shown: list[Shown], client: DrawingClient
) -> None:
    run, view = FakeRun(), View(not_posted, client=client)
    view.run_started(run)
    assert client.pid is not None
    os.kill(client.pid, signal.SIGKILL)
    display: Any = view._display
    run.go_on(1.0, 3)
    view.tick()
    with pytest.warns(RuntimeWarning, match="no live figure"):
        eventlet.sleep(0.2)
    run.go_on(2.0, 4)
    view.tick()
    assert "<b>4</b> / 8" in display._header.value
    run.end(5.0)
    view.run_ended(run)
    assert shown[-1].bundle["image/png"].startswith(b"\x89PNG")


def test_a_front_end_that_closes_the_widgets_disturbs_nobody(shown: list[Shown], warm: DrawingClient) -> None:
    run, view = FakeRun(), View(not_posted, client=warm)
    view.run_started(run)
    display: Any = view._display
    for widget in display._widgets:
        widget.close()
    run.go_on(0.4, 3)
    view.tick()
    wait_until(lambda: not view._drawing, "a frame")
    run.end(0.5)
    view.run_ended(run)
    assert shown[-1].bundle["image/png"].startswith(b"\x89PNG")


def test_a_display_that_raises_is_dropped_with_one_warning(shown: list[Shown], monkeypatch: Any) -> None:
    children = psutil.Process().children()
    run, view = FakeRun(), View(not_posted)
    view.run_started(run)
    ticker = view._ticker

    def update(_: Any) -> None:
        raise OSError("the front end went away")

    monkeypatch.setattr(view._display, "update", update)
    run.go_on(0.25, 3)
    with pytest.warns(RuntimeWarning, match="dropped the live view: OSError: the front end went away") as told:
        wait_until(lambda: view._run is None, "the end of the view")
    assert 1 == len(told)
    run.end(0.5)
    view.run_ended(run)
    eventlet.sleep(0)
    assert ticker.dead
    assert 1 == len(shown)
    assert children == psutil.Process().children()


def test_a_picture_that_cannot_be_shown_drops_the_view_and_its_ticker(
    shown: list[Shown], warm: DrawingClient, monkeypatch: Any
) -> None:
    run, view = FakeRun(), View(not_posted, client=warm)
    view.run_started(run)
    ticker = view._ticker

    def picture(_: Drawing) -> None:
        raise OSError("no more pictures")

    monkeypatch.setattr(view._display, "picture", picture)
    run.go_on(0.4, 3)
    view.tick()
    with pytest.warns(RuntimeWarning, match="dropped the live view: OSError: no more pictures"):
        wait_until(lambda: view._run is None, "the end of the view")
    eventlet.sleep(0)
    assert ticker.dead


def test_a_display_that_cannot_appear_leaves_nothing(shown: list[Shown], monkeypatch: Any) -> None:
    children = psutil.Process().children()

    def display(*_: Any, **__: Any) -> None:
        raise OSError("no front end")

    monkeypatch.setattr(displays, "send_output", display)
    with pytest.raises(OSError, match="no front end"):
        View(not_posted).run_started(FakeRun())
    assert children == psutil.Process().children()


def test_a_figure_that_raises_is_told_once_and_the_numbers_stay(shown: list[Shown], client: DrawingClient) -> None:
    run, view = FakeRun(), View(not_posted, client=client)
    view.run_started(run)
    run.go_on(0.4, 3)
    run.concurrency = "many"  # type: ignore[assignment]
    view._columns.limit = ["many"] * 9  # type: ignore[assignment]
    run.end(0.5)
    with pytest.warns(RuntimeWarning, match="ValueError") as told:
        view.run_ended(run)
    assert 1 == len(told)
    assert {"text/plain": "green run: url in feeds\n3 tasks ended"} == shown[-1].bundle


def test_a_figure_that_raises_leaves_the_process_that_draws() -> None:
    assert b"AttributeError" in server._reply_to(server.DrawingServer(), b"\x80\x04\x8c\x04nope\x94K\x01\x86\x94.")


def test_a_drawing_process_that_dies_while_it_draws_the_last_picture_leaves_the_numbers(
    shown: list[Shown], client: DrawingClient, monkeypatch: Any
) -> None:
    run, view = FakeRun(), View(not_posted, client=client)
    view.run_started(run)
    run.go_on(0.1, 3)
    run.end(0.5)
    pid = client.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    eventlet.spawn_after(0.05, os.kill, pid, signal.SIGKILL)
    with pytest.warns(RuntimeWarning, match="its process ended"):
        view.run_ended(run)
    assert {"text/plain": "green run: url in feeds\n3 tasks ended"} == shown[-1].bundle


def test_a_drawing_process_killed_in_the_middle_of_a_real_run_costs_one_warning(kernel: Kernel) -> None:
    assert kernel.run("%%greenrun -n 1\nNone").error is None
    code = """
        import os, signal, time, greenlab
        client = greenlab.start().kept["drawing client"]

        def task(i):
            time.sleep(0.01)
            if i in {100, 900}:
                os.kill(client.pid, signal.SIGSTOP if i == 100 else signal.SIGKILL)
            return i

        run = greenlab.run(task, range(1000), concurrency=10, live=True)
        assert run.results == list(range(1000))
    """
    cell = kernel.run(textwrap.dedent(code))
    assert cell.error is None
    assert 1 == cell.stderr.count("RuntimeWarning: no live figure for now")
    assert "image/png" in cell.updates[-1], "another process has drawn the last picture"
