"""Tasks of the hub: awaited, killed, failed; and coroutines of asyncio's that green tasks wait for."""

# Doubles, lambdas and deliberate misuse: what these rules see in them is meant.
# mypy: disable-error-code="arg-type, attr-defined, func-returns-value, misc, union-attr, var-annotated"

from __future__ import annotations

import asyncio
import threading
import traceback
from typing import Any

import pytest
from waiting import wait_until

import greenlab
from greenlab import hub
from greenlab.hub import eventlet


def test_a_task_can_be_awaited_in_the_host_loop() -> None:
    async def main() -> Any:
        here = hub.start()
        try:
            return await hub.spawn(here, lambda x: eventlet.sleep(0.01) or x * 2, 21)
        finally:
            hub.stop()

    assert 42 == asyncio.run(main())


def test_an_awaited_task_raises_what_it_raised(capsys: pytest.CaptureFixture[str]) -> None:
    async def main() -> None:
        here = hub.start()
        try:
            with pytest.raises(ZeroDivisionError):
                await hub.spawn(here, lambda: 1 / 0)
        finally:
            hub.stop()

    asyncio.run(main())
    assert "" == capsys.readouterr().err


def test_cancelling_an_await_kills_the_task() -> None:
    async def main() -> Any:
        here = hub.start()
        try:
            task = hub.spawn(here, eventlet.sleep, 60)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(task, 0.02)
            await asyncio.sleep(0.02)
            return task.state
        finally:
            hub.stop()

    assert "killed" == asyncio.run(main())


def returns() -> str:
    return "cleaned up"


def fails() -> str:
    raise LookupError("while it cleaned up")


@pytest.mark.parametrize(("clean_up", "state"), [(returns, "done"), (fails, "failed")])
def test_a_task_may_end_as_it_likes_when_nobody_awaits_it_any_more(
    clean_up: Any, state: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def bear_the_kill() -> Any:
        try:
            eventlet.sleep(60)
        except eventlet.greenlet.GreenletExit:
            return clean_up()
        return "slept"

    async def main() -> Any:
        wrong = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: wrong.append(context))
        here = hub.start()
        try:
            task, ended = hub.spawn(here, bear_the_kill), asyncio.Event()
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(task, 0.02)
            task.link(lambda _: ended.set())
            await asyncio.wait_for(ended.wait(), 30)
            await asyncio.sleep(0.01)
            return task.state, wrong
        finally:
            hub.stop()

    assert (state, []) == asyncio.run(main())
    assert "InvalidState" not in capsys.readouterr().err


def test_an_awaited_task_that_is_killed_cancels_what_awaits_it() -> None:
    async def wait_for(task: hub.Task) -> None:
        await task

    async def main() -> None:
        here = hub.start()
        try:
            task = hub.spawn(here, eventlet.sleep, 60)
            waiting = asyncio.ensure_future(wait_for(task))
            asyncio.get_running_loop().call_later(0.01, task.kill)
            await asyncio.wait([waiting], timeout=30)
            assert ("killed", True) == (task.state, waiting.cancelled())
        finally:
            hub.stop()

    asyncio.run(main())


def test_a_task_can_be_awaited_from_a_loop_in_another_thread(guest: Any) -> None:
    task = hub.spawn(guest, lambda: eventlet.sleep(0.02) or "done")
    got = []

    async def wait() -> Any:
        return await task

    thread = threading.Thread(target=lambda: got.append(asyncio.run(wait())))
    thread.start()
    wait_until(lambda: got)
    thread.join()
    assert ["done"] == got


def test_an_awaited_task_that_raises_stop_iteration_says_so_and_does_not_hang() -> None:
    def stop() -> None:
        raise StopIteration

    async def main() -> None:
        here = hub.start()
        try:
            with pytest.raises(RuntimeError, match="StopIteration"):
                await hub.spawn(here, stop)
        finally:
            hub.stop()

    asyncio.run(main())


def test_a_failure_that_nobody_waits_for_is_printed_once(guest: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def named() -> None:
        raise ValueError("lost")

    hub.spawn(guest, named)
    eventlet.sleep(0.01)
    err = capsys.readouterr().err
    assert 1 == err.count("ValueError: lost")
    assert "(named) failed" in err
    assert "eventlet" not in err


def test_a_failure_that_somebody_waits_for_is_not_printed(guest: Any, capsys: pytest.CaptureFixture[str]) -> None:
    task = hub.spawn(guest, lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        task.wait()
    assert "" == capsys.readouterr().err


def test_a_killed_task_is_killed_quietly(guest: Any, capsys: pytest.CaptureFixture[str]) -> None:
    task = hub.spawn(guest, eventlet.sleep, 60)
    eventlet.sleep(0)
    assert "waiting" == task.state
    task.kill()
    assert ("killed", "") == (task.state, capsys.readouterr().err)


def test_spawn_from_another_thread_is_refused_in_one_line(guest: Any) -> None:
    errors = []

    def other() -> None:
        try:
            hub.spawn(guest, print)
        except greenlab.UsageError as error:
            errors.append(str(error))

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert "call_soon_threadsafe" in errors[0]


def test_spawn_of_what_is_no_function_says_what_to_write(guest: Any) -> None:
    with pytest.raises(greenlab.UsageError, match=r"spawn\(f, x\)"):
        hub.spawn(guest, 42)


def test_a_wait_inside_the_hub_itself_is_refused(guest: Any, capsys: pytest.CaptureFixture[str]) -> None:
    guest.schedule_call_global(0, guest.switch)
    eventlet.sleep(0.01)
    assert "the hub itself cannot wait" in capsys.readouterr().err


# -- asyncio from green tasks ------------------------------------------------------------------------------


def in_loop(main: Any) -> Any:
    """Run a coroutine function with the hub as a guest of its loop."""

    async def wrapped() -> Any:
        here = hub.start()
        try:
            return await main(here)
        finally:
            hub.stop()

    return asyncio.run(wrapped())


async def double(x: int) -> int:
    await asyncio.sleep(0.01)
    return 2 * x


def test_a_green_task_waits_for_a_coroutine_of_the_host_loop() -> None:
    async def main(here: Any) -> Any:
        return await hub.spawn(here, lambda: hub.wait_async(here, double(21)))

    assert 42 == in_loop(main)


def test_what_the_coroutine_raises_is_raised_in_the_green_task() -> None:
    async def bad() -> None:
        raise ZeroDivisionError

    async def main(here: Any) -> Any:
        with pytest.raises(ZeroDivisionError):
            await hub.spawn(here, lambda: hub.wait_async(here, bad()))

    in_loop(main)


def test_killing_the_green_task_cancels_the_coroutine() -> None:
    began, cancelled = asyncio.Event(), asyncio.Event()

    async def long() -> None:
        try:
            began.set()
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async def main(here: Any) -> None:
        task = hub.spawn(here, lambda: hub.wait_async(here, long()))
        await began.wait()
        task.kill()
        # While the loop goes on: when it ends, it cancels what is left.
        await asyncio.wait_for(cancelled.wait(), 30)

    in_loop(main)


def test_a_task_that_needs_the_loop_while_a_cell_stops_it_gets_an_error_and_does_not_hang() -> None:
    async def main(here: Any) -> Any:
        task = hub.spawn(here, lambda: hub.wait_async(here, double(1)))
        with pytest.raises(greenlab.UsageError, match="while a cell waits"):
            task.wait()
        running = hub.spawn(here, lambda: hub.wait_async(here, asyncio.sleep(60)))
        await asyncio.sleep(0.02)
        with pytest.raises(greenlab.UsageError, match="write await task"):
            running.wait()
        running.kill()

    in_loop(main)


def test_a_cell_is_told_to_use_await_and_a_script_that_there_is_no_loop(guest: Any) -> None:
    with pytest.raises(greenlab.UsageError, match="with await"):
        hub.wait_async(guest, double(1))
    with pytest.raises(greenlab.UsageError, match="no running event loop"):
        hub.spawn(guest, lambda: hub.wait_async(guest, double(1))).wait()


def test_a_loop_that_waits_on_the_hub_is_woken_by_the_task_it_awaits(started: Any) -> None:
    async def main() -> Any:
        return await greenlab.spawn(lambda: eventlet.sleep(0.02) or "done")

    assert "done" == asyncio.run(asyncio.wait_for(main(), 5))


def _fail() -> None:
    eventlet.sleep(0)
    raise KeyError("mine")


def _functions_of(error: BaseException) -> list[str]:
    return [frame.f_code.co_name for frame, _ in traceback.walk_tb(error.__traceback__)]


def test_a_waiter_sees_the_frames_of_the_task_each_time_and_none_of_the_waiting(started: Any) -> None:
    task = greenlab.spawn(_fail)
    for _ in range(2):
        with pytest.raises(KeyError) as caught:
            task.wait()
        here = "test_a_waiter_sees_the_frames_of_the_task_each_time_and_none_of_the_waiting"
        assert [here, "_fail"] == _functions_of(caught.value)


def test_an_awaiter_sees_the_frames_of_the_task_only() -> None:
    async def main() -> list[str]:
        here = hub.start()
        try:
            with pytest.raises(KeyError) as caught:
                await hub.spawn(here, _fail)
            return _functions_of(caught.value)
        finally:
            hub.stop()

    assert ["main", "_fail"] == asyncio.run(main())


def test_a_failure_that_nothing_waits_for_is_printed_from_the_tasks_own_first_line_on(
    started: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    task = greenlab.spawn(_fail)
    wait_until(lambda: task.dead)
    told = capsys.readouterr().err
    assert "in _fail" in told
    assert 1 == told.count('File "')
