"""The switch recorder, and the timeline that is made of it."""

from __future__ import annotations

import itertools
import queue
import re
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import eventlet
import greenlet
import pytest

import greenlab
from greenlab import UsageError
from greenlab.api.run import prepare
from greenlab.hub import trace
from greenlab.hub.worker_greenlet import WorkerGreenlet
from greenlab.runs.resource_usage import UsageMeter
from greenlab.tracing.timeline import Timeline

if TYPE_CHECKING:
    from collections.abc import Callable

    from greenlab.hub import GuestHub

pytestmark = pytest.mark.usefixtures("stopped")


def traced(body: Callable[[], object]) -> Timeline:
    with greenlab.trace() as tracing:
        body()
    return tracing.timeline


def lane_of(timeline: Timeline, name: str) -> Any:
    (lane,) = [lane for lane in timeline.lanes if name in lane.name]
    return lane


def waits_of(task: Callable[[], object]) -> list[str]:
    """What a task waited for, wait by wait."""
    timeline = traced(lambda: greenlab.spawn(task).wait())
    return [waits.kind for waits in lane_of(timeline, f"({task.__name__})").waits]


# -- what is recorded --------------------------------------------------------------------------------------


def test_a_socket_is_told_from_a_sleep_a_lock_a_queue_and_another_task() -> None:
    greenlab.start()
    lock, items, here_there = threading.Lock(), queue.Queue[int](), socket.socketpair()

    def help_out() -> None:
        for help_on in (lock.release, lambda: items.put(1), lambda: here_there[1].send(b"x")):
            time.sleep(0.01)
            help_on()

    def task() -> None:
        greenlab.spawn(help_out)  # it begins when the task waits
        with lock:
            pass
        items.get()
        here_there[0].recv(1)
        time.sleep(0.01)
        threading.Event().wait(0.01)
        greenlab.spawn(time.sleep, 0.01).wait()

    lock.acquire()
    with here_there[0], here_there[1]:
        assert ["lock", "queue", "socket", "sleep", "lock", "other"] == waits_of(task)


def test_a_yield_of_the_pools_slice_is_not_called_a_sleep() -> None:
    run = greenlab.run(lambda _: sum(range(300_000)), range(30), concurrency=3, trace=True)
    assert "sleep" not in run.timeline().waited_s


def test_holds_and_waits_of_a_lane_follow_each_other_without_a_gap() -> None:
    timeline = traced(lambda: greenlab.run(lambda _: time.sleep(0.002), range(60), concurrency=5))
    for lane in timeline.lanes:
        times = sorted((*lane.holds, *lane.waits))
        assert all(former[1] == latter[0] for former, latter in itertools.pairwise(times))
    holds = sorted(hold for lane in timeline.lanes for hold in lane.holds)
    assert all(former.end_s <= latter.start_s for former, latter in itertools.pairwise(holds))
    assert 0 <= holds[0].start_s <= holds[-1].end_s <= timeline.duration_s


def test_green_threads_of_every_make_have_a_lane_and_a_name() -> None:
    def body() -> None:
        eventlet.spawn(time.sleep, 0.01).wait()
        greenlab.spawn(time.sleep, 0.01).wait()
        eventlet.spawn_n(abs, 1)
        time.sleep(0)

    names = [lane.name for lane in traced(body).lanes]
    assert ["the cell", "green thread 1", "green thread 2"] == [name for name in names if "Task" not in name]
    assert 1 == len([name for name in names if name.endswith("(sleep)")])


def test_the_tasks_of_a_run_stand_in_the_holds_of_their_green_thread_and_name_it() -> None:
    job = object()

    def work() -> None:
        for index in range(3):
            worker.index = index
            time.sleep(0)
        ended.send()

    def body() -> None:
        hub.schedule_call_global(0, worker.switch)
        ended.wait()

    hub, ended = greenlab.start(), eventlet.event.Event()
    worker = WorkerGreenlet(job, work, hub.greenlet)
    timeline = traced(body)
    lane = lane_of(timeline, "tasks 0, 1, 2")
    assert [0, 1, 2, 2] == [holds.task for holds in lane.holds]


def test_a_green_thread_is_named_by_the_tasks_that_it_ran() -> None:
    timeline = greenlab.run(lambda _: time.sleep(0.001), range(40), concurrency=5, trace=True, live=False).timeline()
    names = [lane.name for lane in timeline.lanes]
    assert not [name for name in names if "worker" in name]
    assert 5 == len([name for name in names if re.fullmatch(r"tasks \d+, \d+ … \d+", name)])
    alone = greenlab.run(lambda _: time.sleep(0.001), range(3), trace=True, live=False).timeline()
    assert {"task 0", "task 1", "task 2"} <= {lane.name for lane in alone.lanes}


class LateObserver:
    """Takes its time after a run has ended, as one that draws does."""

    def run_ended(self, _run: object) -> None:
        time.sleep(0.1)


def test_a_timeline_ends_with_the_run_and_not_with_what_came_after() -> None:
    run = prepare(lambda _: time.sleep(0.01), range(4), trace=True, live=False, observers=(LateObserver(),))
    timeline = run.start().wait().timeline()
    assert timeline.duration_s == pytest.approx(run.elapsed_s)
    spans = [each[:2] for lane in timeline.lanes for each in (*lane.holds, *lane.waits)]
    assert max(end_s for _, end_s in spans) <= timeline.duration_s + 1e-9
    assert min(start_s for start_s, _ in spans) >= 0


def test_greenlabs_own_green_threads_are_drawn_on_request_and_where_they_block() -> None:
    def task(x: int) -> None:
        time.sleep(0.25 if x == 0 else 0.01)

    def body() -> None:
        # Of greenlab's own: the run's driver, and what reads the use of the machine. What makes the run is a user's.
        greenlab.spawn(lambda: prepare(task, range(3), live=False, observers=(UsageMeter(),)).start().wait()).wait()

    timeline = traced(body)
    own = {lane.name for lane in timeline.lanes if lane.own}
    assert 2 == len(own)
    assert 1 == len([name for name in own if "run of task" in name])
    timeline.blocked = []  # a busy machine may have blocked the hub
    (axes,) = timeline.plot().axes
    drawn = [label.get_text() for label in axes.get_yticklabels()]
    assert {"the cell", "task 0", "task 1", "task 2"} < set(drawn)
    assert 5 == len(drawn)
    assert "5 green threads and 2 of greenlab's own" in timeline.summary()
    assert len(timeline.lanes) == len(timeline.plot(own=True).axes[0].get_yticklabels())
    ticker = next(lane for lane in timeline.lanes if lane.own and "run of" not in lane.name)
    timeline.blocked = [ticker.holds[0][:2]]
    assert 6 == len(timeline.plot().axes[0].get_yticklabels())


def test_a_function_of_greenlab_that_a_user_spawns_is_the_users() -> None:
    timeline = traced(lambda: greenlab.spawn(greenlab.run, time.sleep, [0.01], live=False).wait())
    assert not lane_of(timeline, "(run)").own


def test_a_block_is_marked_from_its_exact_start_to_its_end() -> None:
    def hold() -> None:
        time.sleep(0.01)
        with greenlab.native():
            time.sleep(0.3)
        time.sleep(0.01)

    timeline = traced(lambda: greenlab.spawn(hold).wait())
    (span,) = timeline.blocked
    assert span == max(lane_of(timeline, "(hold)").holds, key=lambda holds: holds.end_s - holds.start_s)[:2]
    assert "; the hub was blocked" in repr(timeline)
    assert "in hold: waiting" in timeline.summary()


def test_the_event_loop_between_cells_is_not_the_cell() -> None:
    import asyncio

    async def main() -> Timeline:
        with greenlab.trace() as tracing:
            await greenlab.spawn(time.sleep, 0.05)
        greenlab.stop()
        return tracing.timeline

    timeline = asyncio.run(main())
    assert sum(lane.held_s for lane in timeline.lanes) < 0.04


def test_memory_is_bounded_and_what_was_dropped_is_counted(started: GuestHub) -> None:
    with trace.record(started, capacity=100) as recording:
        greenlab.run(lambda _: time.sleep(0), range(1000), concurrency=10)
    timeline = Timeline(recording)
    kept = len(recording.holds) // trace.COLUMNS
    assert 50 <= kept <= 100
    assert recording.dropped > 900
    assert len(recording.names) <= kept
    assert f"the first {recording.dropped:,} switches were too many to keep" in timeline.summary()


def test_recordings_within_one_another_each_have_their_own_time(started: GuestHub) -> None:
    with trace.record(started) as outer:
        time.sleep(0.01)
        with trace.record(started) as inner:
            time.sleep(0.01)
        time.sleep(0.01)
    assert 3 <= len(outer.holds) // trace.COLUMNS - len(inner.holds) // trace.COLUMNS + 2
    assert outer.started_s < inner.started_s < inner.ended_s < outer.ended_s
    assert min(inner.holds[1 :: trace.COLUMNS]) > inner.started_s


# -- what it leaves alone ----------------------------------------------------------------------------------


def test_nothing_is_left_in_the_hub_when_nobody_traces(started: GuestHub) -> None:
    greenlab.run(abs, [1], trace=True)
    assert "switch" not in vars(started)
    assert greenlet.gettrace() is None


def test_a_trace_function_that_was_there_goes_on_being_called(started: GuestHub) -> None:
    heard: list[str] = []

    def listen(event: str, _args: Any) -> None:
        heard.append(event)

    greenlet.settrace(listen)
    try:
        with trace.record(started):
            time.sleep(0.01)
        count = len(heard)
        assert greenlet.gettrace() is listen
        time.sleep(0.01)
    finally:
        greenlet.settrace(None)
    assert 0 < count < len(heard)


def test_one_that_traces_on_top_may_stay_longer(started: GuestHub) -> None:
    heard: list[str] = []
    with trace.record(started):
        below = greenlet.gettrace()

        def above(event: str, args: Any) -> None:
            heard.append(event)
            below(event, args)

        greenlet.settrace(above)
    try:
        with trace.record(started) as again:
            time.sleep(0.01)
    finally:
        greenlet.settrace(None)
    assert heard
    assert 2 == len(again.holds) // trace.COLUMNS


def test_a_run_that_was_not_traced_has_no_timeline() -> None:
    with pytest.raises(UsageError, match="trace=True"):
        greenlab.run(abs, [1]).timeline()


def test_a_timeline_is_there_only_when_what_is_traced_has_ended() -> None:
    with greenlab.trace() as tracing, pytest.raises(UsageError, match="no timeline yet"):
        _ = tracing.timeline


def test_a_run_that_is_run_again_is_traced_again_and_a_cancelled_one_has_its_timeline() -> None:
    run = greenlab.run(abs, [1, 2], trace=True)
    assert run.rerun().timeline() is not run.timeline()
    from greenlab.api.run import prepare

    cut = prepare(lambda _: time.sleep(10), range(3), trace=True).start()
    time.sleep(0.02)
    cut.cancel()
    assert cut.timeline().waited_s["sleep"] > 0.02
