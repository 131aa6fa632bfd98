"""Step mode disturbs nothing else: background tasks, threads, clocks, other steppers; and nothing is left of it."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from waiting import wait_until

import greenlab

if TYPE_CHECKING:
    from greenlab import Stepper


pytestmark = pytest.mark.usefixtures("started")


def logged(*calls: Any) -> list[str]:
    """Make every step; give what the log says, without its numbers."""
    with greenlab.stepper(*calls) as stepper:
        return [f"{step.time_s:g} {step.name}: {step.then}" for step in stepper]


def nap(*naps: float) -> None:
    for each in naps:
        time.sleep(each)


def test_an_os_thread_may_be_waited_for_from_step_to_step(capsys: Any) -> None:
    go, done = threading.Event(), threading.Event()

    def work() -> None:
        go.wait()
        done.set()

    def task() -> None:
        thread.join()

    thread = threading.Thread(target=work)
    thread.start()
    stepper = greenlab.stepper(task)
    stepper.run()
    assert "nothing can go on: task waits for an OS thread" in capsys.readouterr().out
    go.set()
    thread.join()
    done.wait()
    end = time.monotonic() + 10
    while not stepper.ended and time.monotonic() < end:
        stepper.step()
    assert "ends" == stepper.log[-1].then


def test_background_tasks_stand_still_during_steps_and_go_on_afterwards() -> None:
    ticks: list[float] = []

    def tick() -> None:
        while True:
            time.sleep(0.001)
            ticks.append(time.monotonic())

    background = greenlab.spawn(tick)
    wait_until(lambda: ticks)
    before = len(ticks)
    logged((nap, 100, 100), (nap, 50))
    assert before == len(ticks)
    wait_until(lambda: before < len(ticks))
    assert ticks[-1] - ticks[0] < 60, "a background task has seen the virtual clock"
    background.kill()


def test_a_lock_that_a_background_task_holds_is_had_once_it_lets_go() -> None:
    lock = threading.Lock()

    def hold() -> None:
        with lock:
            time.sleep(0.02)

    def task() -> None:
        with lock:
            pass

    holder = greenlab.spawn(hold)
    time.sleep(0)
    with greenlab.stepper(task) as stepper:
        assert ["waits for a lock"] == [step.then for step in stepper]
        holder.wait()
        assert ["ends"] == [step.then for step in stepper]


def test_other_threads_see_the_real_clock_during_a_step() -> None:
    seen: list[float] = []
    ask, asked = threading.Event(), threading.Event()

    def watch() -> None:
        ask.wait()
        seen.append(time.monotonic())
        asked.set()

    def task() -> None:
        ask.set()
        with greenlab.native():
            while not seen:
                pass

    thread = threading.Thread(target=watch)
    thread.start()
    before = time.monotonic()
    logged(task)
    thread.join()
    assert before <= seen[0] <= time.monotonic()


def test_every_clock_is_put_back_also_after_an_error() -> None:
    names = ("monotonic", "perf_counter", "time", "monotonic_ns", "perf_counter_ns", "time_ns")
    before = [getattr(time, name) for name in names]
    logged(lambda: time.sleep(-1))
    assert before == [getattr(time, name) for name in names]
    assert threading._time is before[0]  # type: ignore[attr-defined]


def test_a_step_within_a_step_is_refused() -> None:
    made: list[Stepper] = []

    def step() -> None:
        made[0].step()

    made.append(greenlab.stepper(step))
    assert ["fails: UsageError: a step is being made: a stepper cannot be stepped by its own tasks"] == [
        step.then for step in made[0]
    ]


def test_two_steppers_have_a_clock_each() -> None:
    one, other = greenlab.stepper((nap, 5)), greenlab.stepper((nap, 7))
    assert ["sleeps until 5 s", "sleeps until 7 s"] == [next(iter(each)).then for each in (one, other)]
    assert [5.0, 7.0] == [list(each)[-1].time_s for each in (one, other)]


def test_closing_runs_finally_clauses_and_stopping_greenlab_closes() -> None:
    left: list[str] = []

    def task() -> None:
        try:
            time.sleep(1)
        finally:
            time.sleep(1)
            left.append("finally")

    stepper = greenlab.stepper(task)
    stepper.step()
    greenlab.stop()
    assert ["finally"] == left
    assert stepper.ended


def test_a_stepper_that_has_come_to_its_end_is_collected_when_it_is_dropped() -> None:
    stepper = greenlab.stepper((nap, 1), abs)
    list(stepper)
    assert [] == list(stepper)
    gone = weakref.ref(stepper), weakref.ref(stepper._hub)
    del stepper
    gc.collect()
    assert [None, None] == [each() for each in gone]


def test_a_stepper_is_closed_from_a_green_task_too() -> None:
    stepper = greenlab.stepper((nap, 1))
    greenlab.spawn(stepper.step).wait()

    def closing() -> str:
        stepper.close()
        return "closed"

    assert "closed" == greenlab.spawn(closing).wait()
    assert ["is killed"] == [stepper._waits[task] for task in stepper.tasks]
