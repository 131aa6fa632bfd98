"""How a timeline shows: its text, its Chrome trace, its picture."""

from __future__ import annotations

import json
import math
import queue
import time
from typing import TYPE_CHECKING, Any

import pytest
from fixed_runs import FixedTimeline, lane

import greenlab
from greenlab.hub import trace
from greenlab.live.drawing import style, timeline_figure
from greenlab.tracing.timeline import Timeline

if TYPE_CHECKING:
    from pathlib import Path

    from greenlab.hub import GuestHub

pytestmark = pytest.mark.usefixtures("stopped")


def test_the_plain_text_is_the_same_every_time() -> None:
    for _ in range(3):
        run = greenlab.run(lambda _: time.sleep(0.002), range(50), concurrency=7, trace=True)
        assert "timeline: green threads waited for sleep; nothing blocked the hub" == repr(run.timeline())


def mixed() -> Timeline:
    greenlab.start()
    items = queue.Queue[int]()

    def hold() -> None:
        time.sleep(0.02)
        items.put(1)
        with greenlab.native():
            time.sleep(0.25)

    def body() -> None:
        first, second = greenlab.spawn(items.get), greenlab.spawn(hold)
        first.wait()
        second.wait()

    with greenlab.trace() as tracing:
        body()
    return tracing.timeline


def test_the_chrome_trace_follows_the_trace_event_format(tmp_path: Path) -> None:
    timeline = mixed()
    path = timeline.save(tmp_path / "trace.json")
    read = json.loads(path.read_text(encoding="utf-8"))
    assert {"traceEvents", "displayTimeUnit", "otherData"} == set(read)
    assert read["displayTimeUnit"] in {"ms", "ns"}
    threads = {}
    for event in read["traceEvents"]:
        assert {"ph", "name", "pid", "tid", "ts"} <= set(event)
        assert isinstance(event["pid"], int)
        assert isinstance(event["tid"], int)
        if event["ph"] == "M":
            assert event["name"] in {"process_name", "thread_name", "thread_sort_index"}
            if event["name"] == "thread_name":
                threads[event["tid"]] = event["args"]["name"]
        else:
            assert "X" == event["ph"]
            assert event["cat"] in {"held", "wait", "blocked"}
            assert event["ts"] >= 0
            assert event["dur"] >= 0
            assert math.isfinite(event["ts"] + event["dur"])
    assert ["blocked", *(lane.name for lane in timeline.lanes)] == [threads[tid] for tid in sorted(threads)]
    slices = [event for event in read["traceEvents"] if event["ph"] == "X"]
    assert set(threads) == {event["tid"] for event in slices}
    assert ["blocked"] == [event["cat"] for event in slices if event["tid"] == 0]
    held_us = sum(event["dur"] for event in slices if event["cat"] == "held")
    assert pytest.approx(sum(lane.held_s for lane in timeline.lanes) * 1e6) == held_us


def gids(drawn: Any) -> set[str]:
    return {child.get_gid() for axes in drawn.axes for child in axes.get_children() if child.get_gid()}


def test_the_picture_has_a_lane_each_its_waits_its_holds_and_the_block() -> None:
    timeline = mixed()
    drawn = timeline.plot()
    (axes,) = drawn.axes
    assert [lane.name for lane in timeline.lanes] == [label.get_text() for label in axes.get_yticklabels()]
    assert {"held", "wait sleep", "wait queue", "wait other", "blocks", "blocked"} == gids(drawn)
    assert style.to_png(drawn).startswith(b"\x89PNG")
    data, size = timeline._repr_mimebundle_()
    assert {"text/plain", "image/png", "text/html"} == set(data)
    assert style.WIDTH_PX == size["image/png"]["width"]


def test_of_many_lanes_those_that_held_the_hub_longest_are_drawn() -> None:
    def busy() -> None:
        sum(range(1_000_000))

    with greenlab.trace() as tracing:
        for _ in range(100):
            greenlab.spawn(abs, 1)
        greenlab.spawn(busy).wait()
    timeline = tracing.timeline
    (axes,) = timeline.plot().axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert timeline_figure.MAX_LANES == len(labels) < len(timeline.lanes)
    assert any("(busy)" in label for label in labels)


def test_an_empty_timeline_can_be_drawn_too(started: GuestHub) -> None:
    del started
    empty = Timeline(trace.Recording(1.0, 1.0), timeline_figure.draw)
    assert style.to_png(empty.plot())
    assert {"text/plain", "text/html"} == set(empty._repr_mimebundle_())
    assert "0 switches" in empty.summary()


def test_the_legend_has_no_wait_that_only_hidden_lanes_have() -> None:
    task, hidden = lane("task 0", (0.01, "held"), (0.02, "sleep")), lane("hub", (0.01, ""), (0.02, "other"))
    hidden.own = True
    timeline = FixedTimeline([task, hidden], 0.03)
    drawn = timeline_figure.draw(timeline)
    keys = {text.get_text() for text in drawn.texts if text.get_gid() == "key"}
    assert "waits: sleep" in keys
    assert "waits: other" not in keys
    whole = timeline_figure.draw(timeline, own=True)
    assert "waits: other" in {text.get_text() for text in whole.texts}
