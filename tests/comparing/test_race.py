"""Races: the same tasks in each pool, what is run in which order, what fails and what an interrupt leaves."""

from __future__ import annotations

import _thread
import time
from typing import Any

import pytest
from race_doubles import FakeRun, usage
from tasks import burn, double, fail
from waiting import wait_until

import greenlab
from greenlab import UsageError, pools
from greenlab.api import compare
from greenlab.comparing.race import Race
from greenlab.runs import Run
from greenlab.runs.resource_usage import UsageMeter


def unsendable() -> Any:
    lock = _thread.allocate_lock()
    return lambda x: (lock.locked(), x)


# -- real races ----------------------------------------------------------------------------------------------


def test_every_pool_runs_the_same_items_and_gives_the_same_results(started: Any) -> None:
    race = greenlab.race(double, iter(range(30)), concurrency=10, pools=("green", "prefork"), workers=2)
    assert ["green", "prefork"] == list(race.runs)
    assert [x * 2 for x in range(30)] == race.runs["green"].results == race.runs["prefork"].results
    assert (10, 2) == (race.runs["green"].concurrency, race.runs["prefork"].concurrency)
    assert race.runs["green"].startup_s < 0.01 < max(one.run.startup_s for one in race.all_runs)


def test_by_default_all_pools_that_run_on_this_machine_race() -> None:
    assert compare.POOLS == tuple(n for n in ("green", "threads", "prefork", "hybrid") if n in pools.NAMES)


def test_pools_warm_up_uncounted_and_alternate_between_repeats(started: Any) -> None:
    calls: list[int] = []
    race = greenlab.race(calls.append, range(25), pools="green,prefork", repeat=3, warm_up=4, workers=1)
    order = [(one.pool[0], one.repeat) for one in race.all_runs]
    assert [("g", 0), ("p", 0), ("g", 1), ("p", 1), ("p", 2), ("g", 2), ("g", 3), ("p", 3)] == order
    assert 4 + 3 * 25 == len(calls)
    assert 3 == len(race.runs_of("green"))
    assert [4, 4] == [one.run.done for one in race.all_runs if not one.counts]


def test_without_a_warm_up_everything_counts(started: Any) -> None:
    calls: list[int] = []
    greenlab.race(calls.append, range(25), pools=["green"], warm_up=0)
    assert 25 == len(calls)


def test_a_pool_that_fails_as_a_whole_has_its_reason_told_and_the_others_race_on(started: Any) -> None:
    race = greenlab.race(unsendable(), range(20), pools=("prefork", "green"), repeat=2)
    assert ["green"] == list(race.runs)
    assert "NotSendableError: cannot send 'lock'" in race.failures["prefork"]
    assert 1 == repr(race).count("failed: NotSendableError")
    assert "green alone finished" in repr(race)


def test_a_pool_in_which_every_task_fails_is_not_the_fastest(started: Any) -> None:
    pid = __import__("os").getpid()

    def only_elsewhere(x: int) -> int:
        if __import__("os").getpid() == pid:
            raise OSError("not here")
        return x

    race = greenlab.race(only_elsewhere, range(20), pools=("green", "prefork"), workers=1)
    assert "every task failed: 20 OSError" == race.failures["green"]
    assert {"OSError": 20} == race.runs["green"].error_types
    assert list(range(20)) == race.runs["prefork"].results


def test_a_race_raises_only_when_every_pool_failed(started: Any) -> None:
    with pytest.raises(
        greenlab.RunError, match="every pool failed: green: every task failed: 5 OSError; prefork: every"
    ):
        greenlab.race(fail, range(5), pools=("green", "prefork"), workers=1)
    with pytest.raises(greenlab.NotSendableError, match="cannot send 'lock'"):
        greenlab.race(unsendable(), range(5), pools=("prefork",), workers=1)


def test_failing_fast_ends_the_race_at_the_first_failure(started: Any) -> None:
    calls: list[int] = []

    def third_fails(x: int) -> None:
        calls.append(x)
        time.sleep(0.001)
        if x == 2:
            raise OSError("gone")

    with pytest.raises(greenlab.RunError, match="fail fast"):
        greenlab.race(third_fails, range(100), pools=("green", "prefork"), concurrency=1, fail_fast=True)
    # Stopped while it warmed up, which is ten tasks; one had begun when it was stopped.
    assert [0, 1, 2] == calls[:3]
    assert len(calls) < 10


def test_the_processor_time_of_this_process_and_of_the_workers_is_counted(started: Any) -> None:
    race = greenlab.race(burn, range(200), pools=("green", "prefork"), workers=1)
    green, prefork = (race.median_run(pool) for pool in ("green", "prefork"))
    assert green is not None
    assert prefork is not None
    assert green.usage is not None
    assert prefork.usage is not None
    # All that either did was to compute the same, here and there.
    assert 0 == green.usage.workers_cpu_s
    assert green.usage.own_cpu_s > 0.5 * prefork.usage.workers_cpu_s > 0
    assert prefork.usage.own_cpu_s < 0.5 * prefork.usage.workers_cpu_s
    assert prefork.usage.memory > 2**20
    assert 0 < green.usage.busy <= 1


def test_how_busy_the_machine_was_stays_within_its_bounds_when_idle_time_steps_back(
    started: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter([(10.0, 100.0), (31.0, 120.0)])
    monkeypatch.setattr(UsageMeter, "_machine_times", lambda _self: next(times))
    race = greenlab.race(abs, range(3), pools=("green",), warm_up=0)
    one = race.median_run("green")
    assert one is not None
    assert one.usage is not None
    assert 1.0 == one.usage.busy


def test_the_processor_time_of_a_worker_that_was_replaced_is_counted(started: Any) -> None:
    def die_then_burn(x: int) -> int:
        if x == 0:
            __import__("os")._exit(3)
        return sum(i * i for i in range(1_000_000))

    race = greenlab.race(die_then_burn, range(4), pools=("prefork",), workers=1, warm_up=0)
    one = race.median_run("prefork")
    assert one is not None
    assert one.usage is not None
    assert ["WorkerLostError"] == [type(error).__name__ for error in one.run.errors.values()]
    # Three tasks of some 60 ms each; the meter may look at the new worker when they are all but over.
    assert one.usage.workers_cpu_s >= 0.06


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"pools": ()}, "name the pools"),
        ({"pools": ("green", "grn")}, "no pool 'grn'"),
        ({"repeat": 0}, "repeat must be a whole number of 1 or more"),
        ({"warm_up": -1}, "warm_up must be a whole number of 0 or more"),
        ({"concurrency": 0}, "concurrency must be"),
        ({"items": 5}, "an int is not"),
        ({"items": iter([])}, "the items are empty"),
    ],
)
def test_a_mistake_is_one_line_before_anything_runs(options: dict[str, Any], says: str) -> None:
    given = {"items": [1, 2], **options}
    with pytest.raises(UsageError) as caught:
        greenlab.race(pytest.fail, given.pop("items"), **given)
    greenlab.stop()
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_items_that_raise_end_the_race_before_it_begins() -> None:
    def items() -> Any:
        yield 1
        raise OSError("gone")

    with pytest.raises(greenlab.SourceError, match="the items ended early: OSError: gone"):
        greenlab.race(pytest.fail, items())


def test_a_race_whose_task_is_killed_leaves_no_run_behind(started: Any) -> None:
    began: list[float] = []

    def task(_: int) -> None:
        began.append(time.perf_counter())
        time.sleep(60)

    racing = greenlab.spawn(greenlab.race, task, range(4), pools=("green",), live=False)
    wait_until(lambda: len(began) == 4)
    racing.kill()
    wait_until(lambda: not list(greenlab.ps()))


def test_an_interrupt_between_the_start_of_a_run_and_the_wait_for_it_stops_the_run(
    started: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[Any] = []

    def wait(self: Run) -> None:
        runs.append(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "wait", wait)
    with pytest.raises(KeyboardInterrupt):
        greenlab.race(time.sleep, [60.0] * 4, pools=("green",), live=False)
    assert [(True, False)] == [(run.cancelled, run.running) for run in runs]


# -- its course, run by run ----------------------------------------------------------------------------------


class ScriptedRun(FakeRun):
    """A run that ends as the test says: well, with a RunError of its own, or with an interrupt."""

    fail_fast = False
    raises: BaseException | None = None

    def start(self) -> ScriptedRun:
        return self

    def wait(self) -> ScriptedRun:
        if isinstance(self.raises, greenlab.RunInterrupted):
            raise self.raises
        return self

    def cancel(self) -> None:
        pass

    def check(self) -> ScriptedRun:
        if self.raises is not None:
            raise self.raises
        return self


class InterruptedRun(FakeRun):
    """A run as its interrupt reads it."""

    @property
    def counts(self) -> dict[str, int]:
        return {"total": 30, "succeeded": self.tasks, "failed": 0}


def scripted(how: dict[tuple[str, int], BaseException], **race: Any) -> tuple[Race, list[tuple[str, bool, int]]]:
    """A race of which some runs raise, by pool and number; and what it said before each run."""
    said: list[tuple[str, bool, int]] = []
    counts: dict[str, int] = {}

    def make_run(pool: str, items: Any, observers: Any) -> Any:
        (meter,) = observers
        assert meter.usage is None
        meter.usage = usage()
        counts[pool] = counts.get(pool, -1) + 1
        said.append((made.stage, made.warming, len(items)))
        run = ScriptedRun(pool, 100.0, tasks=len(items))
        run.raises = how.get((pool, counts[pool]))
        run.fail_fast = race.get("fail_fast", False)
        return run

    made = Race(range(30), pools=("green", "prefork"), repeat=race.get("repeat", 2), label="x", make_run=make_run)
    return made, said


def test_what_is_being_done_is_said_before_each_run() -> None:
    race, said = scripted({})
    assert "about to start" == race.stage
    race.run()
    assert [
        ("green, warming up", True, 10), ("prefork, warming up", True, 10), ("green, 1 of 2", False, 30),
        ("prefork, 1 of 2", False, 30), ("prefork, 2 of 2", False, 30), ("green, 2 of 2", False, 30),
    ] == said  # fmt: skip
    assert (None, True, False) == (race.current, race.ended, race.warming)
    once, said = scripted({}, repeat=1)
    once.run()
    assert ("green", False, 30) == said[2]


def test_tasks_that_fail_in_a_warm_up_fail_no_pool_and_those_of_a_run_do() -> None:
    failed = greenlab.RunError("every task failed: 10 OSError\n  a traceback")
    race, _ = scripted({("green", 0): failed})
    assert {} == race.run().failures
    race, said = scripted({("green", 1): failed})
    assert {"green": "every task failed: 10 OSError"} == race.run().failures
    # It is not tried again, and its run stays readable.
    assert 5 == len(said)
    assert ["", "every task failed: 10 OSError"] == [one.reason for one in race.all_runs if one.pool == "green"]
    assert {"green", "prefork"} == set(race.runs)


def test_a_pool_that_breaks_in_its_warm_up_runs_no_more_and_leaves_no_run_that_counts() -> None:
    race, said = scripted({("green", 0): OSError("no sockets\nleft")})
    assert {"green": "OSError: no sockets"} == race.run().failures
    assert ["green, warming up", "prefork, warming up", "prefork, 1 of 2", "prefork, 2 of 2"] == [on for on, *_ in said]
    assert [False] == [one.counts for one in race.all_runs if one.pool == "green"]
    assert "prefork" == race.winner


@pytest.mark.parametrize("number", [0, 1])
def test_a_failure_that_is_to_stop_the_race_stops_it_and_its_run_stays(number: int) -> None:
    race, said = scripted({("prefork", number): greenlab.RunError("a task failed")}, fail_fast=True)
    with pytest.raises(greenlab.RunError, match="a task failed"):
        race.run()
    assert 2 * number + 2 == len(said) == len(race.all_runs)
    assert ("prefork", "a task failed" * number) == (race.all_runs[-1].pool, race.all_runs[-1].reason)
    assert race.ended


def test_a_run_that_is_interrupted_counts_for_nothing_and_ends_the_race() -> None:
    cut: Any = InterruptedRun("prefork", 100.0, tasks=7)
    race, _ = scripted({("prefork", 1): greenlab.RunInterrupted(cut)})
    with pytest.raises(greenlab.SeriesInterrupted, match="prefork did not finish; green ran 1 of 2 times") as caught:
        race.run()
    assert str(caught.value).endswith("; what has ended is in the exception's attribute run")
    assert str(caught.value.named("r")).endswith("; what has ended is in r")
    assert race is caught.value.run is caught.value.named("r").run
    assert "interrupted" == race.all_runs[-1].reason
    assert usage() == race.all_runs[-1].usage
    assert (True, True, None) == (race.interrupted, race.ended, race.current)
