"""The watchdog: who held the hub, where, how long, computing or waiting; and no block that did not happen."""

from __future__ import annotations

import asyncio
import json
import math
import socket
import time
import weakref
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import eventlet
import greenlet
import holding
import pytest
from holding import compute, hold_once, wait_natively

import greenlab
from greenlab import UsageError
from greenlab.api.run import prepare
from greenlab.hub import blocks
from greenlab.hub.blocks import Block
from greenlab.hub.watchdog import watchdog_of
from greenlab.hub.worker_greenlet import WorkerGreenlet

if TYPE_CHECKING:
    from greenlab.hub import GuestHub

pytestmark = pytest.mark.usefixtures("stopped")


# -- what is said of a block -------------------------------------------------------------------------------


def test_a_task_that_computes_is_named_with_its_line_and_as_computing() -> None:
    run = greenlab.run(hold_once(lambda: compute(0.3)), range(3))
    (block,) = run.blocked
    assert "compute" == block.function
    assert holding.__file__ == block.filename
    assert "CPU" == block.kind
    assert f"line {block.lineno} of holding.py, in compute: CPU" in str(block)


def test_a_task_that_waits_natively_is_named_as_waiting() -> None:
    run = greenlab.run(hold_once(lambda: wait_natively(0.3)), range(3))
    (block,) = run.blocked
    assert ("wait_natively", "waiting") == (block.function, block.kind)
    assert block.cpu_s is None or block.cpu_s < 0.1


def test_a_line_that_sleeps_natively_for_a_moment_again_and_again_is_found() -> None:
    def poll() -> None:
        for _ in range(150):
            wait_natively(0.002)

    run = greenlab.run(hold_once(poll), range(3))
    assert ["waiting"] == [block.kind for block in run.blocked]
    assert 0.2 < run.blocked[0].duration_s


def test_who_waited_behind_is_counted_by_timers_and_by_descriptors() -> None:
    def reader(pair: Any) -> None:
        pair[0].recv(1)

    def holder() -> None:
        time.sleep(0.05)
        for _, there in pairs:
            there.send(b"x")
        wait_natively(0.4)

    pairs = [socket.socketpair() for _ in range(5)]
    greenlab.start()
    sleepers = [greenlab.spawn(time.sleep, 0.06 + 0.001 * i) for i in range(7)]
    limited = greenlab.spawn(lambda: eventlet.Timeout(0.1, False).cancel())
    readers = [greenlab.spawn(reader, pair) for pair in pairs]
    greenlab.spawn(holder).wait()
    for task in (*sleepers, limited, *readers):
        task.wait()
    (block,) = watchdog_of(greenlab.start()).blocks
    for pair in pairs:
        for each in pair:
            each.close()
    assert 12 == block.waiting
    assert "12 waited behind it" in str(block)


def test_time_limits_that_ran_out_are_not_counted_as_waiting_behind() -> None:
    def limited() -> None:
        with eventlet.Timeout(0.05, False):
            time.sleep(5)

    greenlab.start()
    others = [greenlab.spawn(limited) for _ in range(4)]
    greenlab.spawn(wait_natively, 0.3).wait()
    for other in others:
        other.wait()
    (block,) = watchdog_of(greenlab.start()).blocks
    assert 0 == block.waiting


def test_a_background_task_is_named_by_its_id() -> None:
    greenlab.start()
    task = greenlab.spawn(wait_natively, 0.3)
    task.wait()
    (block,) = watchdog_of(greenlab.start()).blocks
    assert f"Task {task.id} (wait_natively)" == block.who


def test_the_task_of_a_run_is_named_by_its_index_and_another_runs_as_such() -> None:
    here = greenlab.start()
    job = Job()
    mine: list[Block] = []
    others: list[Block] = []

    def work() -> None:
        worker.index = 7
        wait_natively(0.3)
        ended.send()

    ended = eventlet.event.Event()
    worker = WorkerGreenlet(job, work, here.greenlet)
    dog = watchdog_of(here)
    with dog.watch(mine.append, job), dog.watch(others.append, object()):
        here.schedule_call_global(0, worker.switch)
        ended.wait()
    assert (["task 7"], [7]) == ([block.who for block in mine], [block.index for block in mine])
    assert ["task 7 of another run"] == [block.who for block in others]


class Job:
    """What a run's worker works for."""


def test_the_cell_is_named_when_it_holds_the_hub_itself() -> None:
    greenlab.start()
    ticker = greenlab.spawn(time.sleep, 10)
    time.sleep(0.05)
    wait_natively(0.3)
    time.sleep(0.05)
    ticker.kill()
    (block,) = watchdog_of(greenlab.start()).blocks
    assert "the cell" == block.who


def beside_a_detached_run(host_does: Any, task_s: float = 0.02) -> list[Block]:
    """Give what a run in the background was blocked by while the host did something of its own."""

    async def main() -> list[Block]:
        greenlab.start()
        try:
            run = prepare(lambda _: time.sleep(task_s), range(1000), concurrency=4).start()
            await asyncio.sleep(0.1)
            host_does()
            await asyncio.sleep(0.1)
            await greenlab.spawn(run.cancel)
            return run.blocked
        finally:
            greenlab.stop()

    return asyncio.run(main())


def test_a_cell_that_computes_while_a_run_goes_on_in_the_background_is_named() -> None:
    (block,) = beside_a_detached_run(lambda: compute(0.4))
    assert ("the cell", "compute", "CPU") == (block.who, block.function, block.kind)
    assert 0.3 < block.duration_s
    assert 4 == block.waiting


def test_a_library_that_the_cell_calls_is_the_cells_and_the_hosts_own_code_is_not() -> None:
    def dump() -> None:
        end = time.thread_time() + 0.4
        while time.thread_time() < end:
            json.dumps([list(range(10))] * 10_000, indent=1)

    (block,) = beside_a_detached_run(dump)
    assert ("the cell", "dump") == (block.who, block.function)
    here = greenlab.start()
    hold: Any = SimpleNamespace(index=None, holder=here.root)
    assert "the host loop" == watchdog_of(here)._who(hold, (asyncio.__file__, 1, "f"))


def test_a_cell_that_computes_is_no_block_where_nothing_was_due() -> None:
    assert [] == beside_a_detached_run(lambda: compute(0.3), task_s=60)


def test_a_green_thread_of_plain_eventlet_is_not_given_anothers_name() -> None:
    greenlab.start()
    former = greenlab.spawn(time.sleep, 0.01)
    former.wait()
    eventlet.spawn(wait_natively, 0.3).wait()
    (block,) = watchdog_of(greenlab.start()).blocks
    assert "a green thread" == block.who


def test_a_greenlet_that_a_task_made_is_given_the_tasks_name() -> None:
    greenlab.start()
    task = greenlab.spawn(lambda: greenlet.greenlet(wait_natively).switch(0.3))
    task.wait()
    (block,) = watchdog_of(greenlab.start()).blocks
    assert f"Task {task.id} (<lambda>)" == block.who


def test_a_task_that_was_woken_by_its_socket_is_watched_too() -> None:
    def task(x: int) -> None:
        if x:
            here.recv(1)
            compute(0.3)
        else:
            there.send(b"x")

    here, there = socket.socketpair()
    with here, there:
        run = greenlab.run(task, [1, 0])
    assert ["compute"] == [block.function for block in run.blocked]


def test_blocks_at_one_line_are_folded_and_added_up() -> None:
    def task(x: int) -> None:
        time.sleep(0.01)
        wait_natively(0.25 if x < 3 else 0.4)
        time.sleep(0.01)
        if x == 3:
            compute(0.2)

    run = greenlab.run(task, range(4), concurrency=1)
    by_line = run.blocked_by_line
    (waited_s,) = (seconds for line, seconds in by_line.items() if "in wait_natively" in line)
    assert 1.0 < waited_s
    assert any("in compute" in line for line in by_line)
    report = str(run)
    assert "  blocked: 4 × at line " in report
    assert f"in wait_natively: {waited_s:.2f} s in all, waiting" in report
    assert f"  blocked: {run.blocked[-1]}" in report


def test_more_than_three_lines_are_counted_in_the_report() -> None:
    found = [Block(0, 1 / line, "f.py", line, "f") for line in range(1, 6)]
    assert [f"line {line} of f.py, in f" for line in range(1, 6)] == list(blocks.by_line(found))
    run = greenlab.run(abs, [1])
    run._blocks += found
    assert "  blocked at 2 more lines, see run.blocked_by_line" in str(run)


# -- what it leaves alone ----------------------------------------------------------------------------------


def test_an_idle_hub_causes_no_wake_up_of_the_watchdog() -> None:
    async def main() -> tuple[int, int]:
        here = greenlab.start()
        try:
            dog: Any = watchdog_of(here)
            looks = [0]
            bell = dog._wake_lock

            def counted(*args: Any) -> bool:
                looks[0] += 1
                return bool(bell.acquire(*args))

            dog._wake_lock = SimpleNamespace(acquire=counted, release=bell.release)
            await greenlab.spawn(time.sleep, 0.2)
            busy = looks[0]
            await asyncio.sleep(0.2)  # it goes to rest
            looks[0] = 0
            await asyncio.sleep(0.5)
            idle = looks[0]
            await greenlab.spawn(wait_natively, 0.3)  # and is roused
            await greenlab.spawn(abs, 1)
            assert 1 == len(dog.blocks)
        finally:
            greenlab.stop()
        return busy, idle

    busy, idle = asyncio.run(main())
    assert 0 == idle
    assert 0 < busy


def test_it_keeps_no_frame_and_no_variable_of_the_task_that_it_sampled() -> None:
    class Big:
        pass

    gone: list[Any] = []

    def task(_: int) -> None:
        big = Big()
        gone.append(weakref.ref(big))
        wait_natively(0.3)
        del big
        gone.append(gone[0]() is None)

    run = greenlab.run(task, [1])
    assert 1 == len(run.blocked)
    assert gone[1]


def test_the_time_after_which_it_speaks_can_be_set_and_turned_off(started: GuestHub) -> None:
    greenlab.start(blocked_after=0.02)
    assert 1 == len(greenlab.run(hold_once(lambda: wait_natively(0.06)), range(3)).blocked)
    greenlab.start(blocked_after=math.inf)
    assert [] == greenlab.run(hold_once(lambda: wait_natively(0.3)), range(3)).blocked
    greenlab.start()
    assert math.inf == watchdog_of(started).after_s
    greenlab.start(blocked_after=0.1)
    assert 1 == len(greenlab.run(hold_once(lambda: wait_natively(0.3)), range(3)).blocked)


@pytest.mark.parametrize("value", [0, -1, math.nan, "1", True])
def test_a_time_that_makes_no_sense_is_a_mistake_of_the_user(started: GuestHub, value: Any) -> None:
    with pytest.raises(UsageError, match="a number of seconds greater than 0"):
        greenlab.start(blocked_after=value)


def test_a_block_is_known_as_soon_as_the_run_has_ended() -> None:
    for _ in range(5):
        assert 1 == len(greenlab.run(lambda _: wait_natively(0.25), [1]).blocked)
