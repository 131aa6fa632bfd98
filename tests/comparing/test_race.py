"""Races: the same tasks in each pool, who won and how sure that is, what it cost, the picture, the live view."""

from __future__ import annotations

import _thread
import time
from dataclasses import dataclass
from typing import Any

import pytest
from race_doubles import FakeRun, raced, usage

import greenlab
from greenlab import UsageError, pools
from greenlab.api import compare
from greenlab.comparing import race_report
from greenlab.comparing.race import Race
from greenlab.comparing.race_analysis import RaceRun
from greenlab.hub import eventlet
from greenlab.live import DrawingClient
from greenlab.live.drawing.client import Drawing
from greenlab.live.series_view import SeriesView
from greenlab.runs.resource_usage import Usage, UsageMeter


def double(x: int) -> int:
    time.sleep(0.002)
    return x * 2


def burn(_: int) -> int:
    return sum(i * i for i in range(30_000))


def fail(_: int) -> None:
    raise OSError("gone")


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


# -- who won -------------------------------------------------------------------------------------------------


ONE_EACH = "one run each; --repeat 5 shows the spread"


@pytest.mark.parametrize(
    ("rates", "winner", "verdict"),
    [
        (
            {"green": [1000], "prefork": [100]},
            "green",
            f"green was the fastest: 10 times as fast as prefork ({ONE_EACH})",
        ),
        # A tenth is no difference between single runs, and a ninth is.
        (
            {"green": [1100], "prefork": [1000]},
            None,
            "no clear winner: green and prefork are about equally fast, within 10%, and one run each shows no spread",
        ),
        (
            {"green": [1112], "prefork": [1000]},
            "green",
            f"green was the fastest: 1.11 times as fast as prefork ({ONE_EACH})",
        ),
        (
            {"green": [90, 100, 110], "prefork": [95, 105, 115]},
            None,
            "no clear winner: prefork and green are about equally fast, within the spread",
        ),
        # Not equal, and yet not told apart.
        (
            {"green": [100, 200, 300], "prefork": [90, 100, 110]},
            None,
            "no clear winner: green and prefork are within the spread",
        ),
        (
            {"green": [100, 101, 102], "prefork": [103, 104, 105]},
            "prefork",
            "prefork was the fastest: 1.03 times as fast as green (medians of 3)",
        ),
        # Ranges that touch do overlap.
        (
            {"green": [100, 101, 103], "prefork": [103, 104, 105]},
            None,
            "no clear winner: prefork and green are about equally fast, within the spread",
        ),
        # Two repeats that do not overlap are chance once in three.
        (
            {"green": [100, 101], "prefork": [103, 104]},
            None,
            "no clear winner: prefork and green are about equally fast, within the spread",
        ),
        (
            {"green": [100, 101], "prefork": [203, 204]},
            "prefork",
            "prefork was the fastest: 2.0 times as fast as green (medians of 2)",
        ),
        # The pool with fewer runs says how sure it is.
        (
            {"green": [104], "prefork": [100, 101, 102]},
            None,
            "no clear winner: green and prefork are about equally fast, within the spread",
        ),
        (
            {"green": [100, 99, 101], "prefork": [10, 11, 12], "threads": [100, 98, 102]},
            None,
            (
                "no clear winner: green and threads are about equally fast, within the spread; "
                "green was 9.1 times as fast as prefork"
            ),
        ),
        ({"green": [], "prefork": [100]}, "prefork", "prefork alone finished: 100 tasks/s"),
        # Alone it raced against nobody.
        ({"green": [100]}, None, "green alone finished: 100 tasks/s"),
        ({"green": [], "prefork": []}, None, "no pool has finished"),
    ],
)
def test_the_verdict_is_as_sure_as_the_spread(rates: dict[str, list[float]], winner: str | None, verdict: str) -> None:
    race = raced(rates)
    assert (winner, verdict) == (race.winner, race.verdict)


def test_a_pool_is_compared_with_slow_ones_and_with_one_that_did_nothing() -> None:
    assert "green was the fastest: 4.0 times as fast as prefork" in raced({"green": [2], "prefork": [0.5]}).verdict
    race = raced({"green": [2], "prefork": [0.5]})
    nothing: Any = FakeRun("prefork", 0.5, failed=100)
    race.all_runs[1] = RaceRun("prefork", 1, nothing, usage())
    assert "green was the fastest: infinitely many times as fast as prefork" in race.verdict


def test_until_a_pool_has_finished_the_verdict_is_what_is_being_done() -> None:
    race = raced({"green": []})
    race.ended, race.stage = False, "green, warming up"
    assert "green, warming up" == race.verdict


def test_a_run_that_took_no_time_has_no_throughput() -> None:
    fake: Any = FakeRun("green", 100, tasks=0)
    assert 0.0 == RaceRun("green", 1, fake, None).throughput


def test_the_run_of_a_pool_is_its_median_one() -> None:
    race = raced({"green": [30, 10, 20], "prefork": [1, 4, 3, 2]})
    assert 20 == race.runs["green"].throughput
    assert 2 == race.runs["prefork"].throughput


def test_a_pool_without_a_run_that_counts_has_the_last_one_in_which_tasks_ended() -> None:
    race = raced({"green": [], "prefork": []})
    runs: list[Any] = [FakeRun("green", 5, tasks=tasks) for tasks in (10, 20, 30, 0)]
    for repeat, run, reason in zip((0, 1, 2, 3), runs, ("", "failed", "failed", "interrupted"), strict=True):
        race.all_runs.append(RaceRun("green", repeat, run, None, reason))
    race.all_runs.append(RaceRun("prefork", 0, runs[0], None))
    assert {"green": runs[2]} == race.runs


def test_tasks_that_fail_fast_win_no_race() -> None:
    race = raced({"green": [100], "prefork": [50]})
    runs = race.all_runs
    runs[0] = RaceRun("green", 1, FakeRun("green", 100, failed=80), usage())  # type: ignore[arg-type]
    assert "prefork" == race.winner
    assert "80 OSError" in repr(race)


def test_a_run_that_was_cut_short_counts_for_nothing_and_stays_readable() -> None:
    race = raced({"green": [100, 100]})
    race.pools = ("green", "prefork", "threads")
    cut: Any = FakeRun("prefork", 5, tasks=40)
    race.all_runs.append(RaceRun("prefork", 1, cut, None, "interrupted"))
    assert cut is race.runs["prefork"]
    assert "prefork  interrupted after 40 of 100 tasks" in repr(race)
    assert "threads  did not run" in repr(race)
    race.repeat = 3
    assert race._interrupt_message() == (
        "the race was interrupted: prefork, threads did not finish; green ran 2 of 3 times; what has ended is in _race"
    )


def test_an_interrupt_that_came_last_says_that_all_had_run() -> None:
    race = raced({"green": [100, 100], "prefork": []})
    race.failures["prefork"] = "gone"
    assert "the race was interrupted: all had run; what has ended is in _race" == race._interrupt_message()


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

    def check(self) -> ScriptedRun:
        if self.raises is not None:
            raise self.raises
        return self


class InterruptedRun(FakeRun):
    """A run as its interrupt reads it."""

    @property
    def counts(self) -> dict[str, int]:
        return {"total": 30, "succeeded": self.tasks, "failed": 0}


@dataclass(frozen=True)
class FakeBlock:
    """A block of the hub."""

    duration_s: float


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
    with pytest.raises(greenlab.SeriesInterrupted, match="prefork did not finish; green ran 1 of 2 times"):
        race.run()
    assert "interrupted" == race.all_runs[-1].reason
    assert usage() == race.all_runs[-1].usage
    assert (True, True, None) == (race.interrupted, race.ended, race.current)


# -- what was the limit --------------------------------------------------------------------------------------


def test_a_busy_machine_is_named_as_the_limit_and_whose_work_it_was() -> None:
    own = raced({"prefork": [100]}, usage(0.1, busy=0.98, workers=1.8)).warnings
    assert ["the machine was the limit of prefork: its 2 cores were busy, more would help"] == own
    (others,) = raced({"green": [100], "prefork": [50]}, usage(0.1, busy=0.98)).warnings
    assert others.startswith(
        "the machine was the limit, or near it, while green and prefork ran: its 2 cores were busy"
    )
    assert "and the tasks took at most 5% of that time; something else takes the rest" in others
    assert [] == raced({"green": [100]}, usage(busy=0.5)).warnings
    assert [] == raced({"green": [100]}, usage(busy=1.0, elapsed_s=0.05)).warnings


@pytest.mark.parametrize(("busy", "elapsed_s", "named"), [(0.9, 0.2, True), (0.89, 0.2, False), (0.9, 0.19, False)])
def test_the_machine_is_named_from_the_share_and_the_time_on_that_mean_something(
    busy: float, elapsed_s: float, named: bool
) -> None:
    assert named == bool(raced({"green": [100]}, usage(busy=busy, elapsed_s=elapsed_s)).warnings)


def test_whose_work_kept_the_machine_busy_is_told_by_the_larger_share() -> None:
    race = raced({"green": [100], "prefork": [100], "hybrid": [100]})
    # Of two busy cores: a half, which is not most of it; a bit more; nearly nothing.
    for at, cpu_s in enumerate((1.0, 1.1, 0.2)):
        one = race.all_runs[at]
        race.all_runs[at] = RaceRun(one.pool, 1, one.run, Usage(cpu_s, 0.0, 0, 1.0, 2, 1.0))
    own, others = race.warnings
    assert "the machine was the limit of prefork: its 2 cores were busy, more would help" == own
    assert "while green and hybrid ran" in others
    assert "at most 50% of that time" in others
    alone = raced({"green": [100]}, Usage(0.9, 0.0, 0, 1.0, 1, 1.0)).warnings
    assert ["the machine was the limit of green: its one core was busy, more would help"] == alone


def served(*fakes: FakeRun, cpu_s: float = 0.1) -> list[str]:
    race = raced({fake.pool: [] for fake in fakes})
    runs: list[Any] = [*fakes]
    race.all_runs = [RaceRun(run.pool, 1, run, usage(cpu_s)) for run in runs]
    return race.warnings


def test_a_server_is_named_when_pools_plateau_and_tasks_queue() -> None:
    # A hundred in flight or ten: the server gives a hundred a second.
    found = served(FakeRun("green", 100, 100, p50_s=1.0), FakeRun("prefork", 98, 10, p50_s=0.1))
    assert 1 == len(found)
    assert "what the tasks wait for (a server, a lock) may be the limit" in found[0]
    assert "green and prefork reach the same throughput" in found[0]


def test_a_server_is_named_from_just_there_on() -> None:
    # Within a tenth, half as many in flight, and then half as long.
    assert served(FakeRun("green", 100, 100, p50_s=1.0), FakeRun("prefork", 90, 10, p50_s=0.5))
    assert [] == served(FakeRun("green", 100, 100, p50_s=1.0), FakeRun("prefork", 89.9, 10, p50_s=0.5))
    assert [] == served(FakeRun("green", 100, 100, p50_s=1.0), FakeRun("prefork", 95, 10, p50_s=0.51))
    assert [] == served(FakeRun("green", 100, 100, p50_s=1.0))
    race = raced({"green": [100], "prefork": [95]})
    runs: list[Any] = [
        FakeRun("green", 100, p50_s=1.0),
        FakeRun("prefork", 95, p50_s=0.1),
        FakeRun("green", 1, p50_s=0.0),
    ]
    # A run whose use of the machine is not known does not stand in the way, nor one that took no time.
    race.all_runs = [RaceRun(run.pool, repeat, run, None) for run, repeat in zip(runs, (1, 1, 0), strict=True)]
    assert 1 == len(race.warnings)


@pytest.mark.parametrize(("workers_s", "named"), [(1.61, False), (1.59, True)])
def test_workers_have_used_up_the_processors_that_they_may_have(workers_s: float, named: bool) -> None:
    race = raced({"green": [], "hybrid": []})
    runs: list[Any] = [FakeRun("green", 100, 100, p50_s=1.0), FakeRun("hybrid", 100, 10, p50_s=0.1)]
    used = usage(0.01), Usage(0.0, workers_s, 0, 0.5, 2, 1.0)
    race.all_runs = [RaceRun(run.pool, 1, run, each) for run, each in zip(runs, used, strict=True)]
    assert named == bool(race.warnings)


@pytest.mark.parametrize(
    ("green", "other", "cpu_s"),
    [
        # One is faster: that is no plateau.
        (FakeRun("green", 500, 100, p50_s=0.2), FakeRun("prefork", 98, 10, p50_s=0.1), 0.1),
        # Equal because equally many are in flight, and none of them queues.
        (FakeRun("green", 100, 10, p50_s=0.1), FakeRun("threads", 98, 10, p50_s=0.1), 0.1),
        # Equal because both have used one processor up.
        (FakeRun("green", 100, 100, p50_s=1.0), FakeRun("threads", 98, 10, p50_s=0.1), 0.97),
    ],
)
def test_a_server_is_not_blamed_for_what_the_pools_do(green: FakeRun, other: FakeRun, cpu_s: float) -> None:
    assert [] == served(green, other, cpu_s=cpu_s)


# -- how it shows --------------------------------------------------------------------------------------------


def test_the_report_names_the_race_first_then_who_won_then_a_row_a_pool() -> None:
    race = raced({"green": [1000, 1100, 1200], "prefork": [100, 110, 120]})
    first, second, header, *rows = repr(race).splitlines()
    assert "race: x in y in green, prefork" == first
    assert second.startswith("  green was the fastest")
    assert "pool in flight throughput p50 p90 p99 CPU memory hub blocked errors start-up" == " ".join(header.split())
    assert ["green", "prefork"] == [row.split()[0] for row in rows]
    assert "1,100 tasks/s (1,000 to 1,200)" in rows[0]
    html = race._repr_mimebundle_()["text/html"]
    assert html.startswith('<div class="greenlab-race"><b>race: x in y in green, prefork</b>')
    assert 3 == html.count("<tr>")


def test_a_row_has_every_figure_of_the_median_run_and_the_spread_beside_it() -> None:
    race = raced({"green": [90, 100, 120], "prefork": [5]})
    median: Any = race.all_runs[1].run
    median.failed, median.blocked, median.startup_s = 3, [FakeBlock(0.1), FakeBlock(0.25)], 0.5
    race.all_runs[1] = RaceRun("green", 2, median, Usage(0.2, 0.05, 7 * 2**20, 0.2, 2, 1.0))
    # The start-up and the memory are the highest of all runs of the pool, warm-ups too.
    warm: Any = FakeRun("green", 100, startup_s=0.75)
    race.all_runs.insert(0, RaceRun("green", 0, warm, Usage(0.0, 0.0, 9 * 2**20, 0.2, 2, 1.0)))
    race.all_runs[-1] = RaceRun("prefork", 1, race.all_runs[-1].run, None)
    assert [
        ["green", "10", "97 tasks/s (90 to 120)", "100 ms", "100 ms", "200 ms", "250 ms", "9 MiB", "2: 350 ms",
         "3 OSError", "750 ms"],
        ["prefork", "10", "5 tasks/s (5 to 5)", "100 ms", "100 ms", "200 ms", "", "0 MiB", "0", "0", "0"],
    ] == race_report.rows(race)  # fmt: skip
    race.repeat = 2
    assert "97 tasks/s (90 to 120)" == race_report.rows(race)[0][2]
    race.repeat = 1
    assert "97 tasks/s" == race_report.rows(race)[0][2]
    # What is less than a millisecond is no start-up.
    warm.startup_s, median.startup_s = 0.001, 0.0
    assert "1 ms" == race_report.rows(race)[0][-1]
    warm.startup_s = 0.0009
    assert "0" == race_report.rows(race)[0][-1]
    assert 0.0 == race_report.startup_s(race, "hybrid")


def test_the_report_ends_with_the_warnings_and_below_a_picture_has_only_the_table() -> None:
    race = raced({"prefork": [100]}, usage(0.1, busy=0.98, workers=1.8))
    (warning,) = race.warnings
    assert repr(race).endswith(f"\n  warning: {warning}")
    whole, table = race._html(below_picture=False), race._html(below_picture=True)
    assert f"<br>{race.verdict}<br>⚠ {warning}<table" in whole
    assert "<b>race: x in y in prefork</b><table" in table


def test_what_the_label_and_the_reasons_say_is_escaped() -> None:
    race = raced({"green": [1]})
    race.label, race.pools = "<x>", ("green", "prefork")
    race.failures["prefork"] = "<script>"
    html = race._repr_mimebundle_()["text/html"]
    assert "&lt;x&gt;" in html
    assert "<script>" not in html


def test_the_table_has_a_row_a_run() -> None:
    frame = raced({"green": [10, 20], "prefork": [1, 2]}).to_pandas()
    assert ["green", "green", "prefork", "prefork"] == list(frame["pool"])
    assert {
        "pool": "green", "repeat": 1, "counts": True, "concurrency": 10, "tasks": 100, "failed": 0, "elapsed_s": 10.0,
        "throughput": 10.0, "p50_s": 0.1, "p90_s": 0.1, "p99_s": 0.2, "cpu_s": 0.1, "memory": 2**20, "busy": 0.2,
        "blocked_s": 0, "startup_s": 0.0,
    } == frame.iloc[0].to_dict()  # fmt: skip


def test_a_run_that_never_started_used_what_nobody_knows() -> None:
    race = raced({"green": [10]})
    race.all_runs = [RaceRun("green", 0, race.all_runs[0].run, None)]
    row = race.to_pandas().iloc[0]
    assert (False, 0) == (row["counts"], row["memory"])
    assert row["cpu_s"] != row["cpu_s"]
    assert row["busy"] != row["busy"]


# -- the live view ------------------------------------------------------------------------------------------


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What a live view displays, in order."""
    kept: list[dict[str, Any]] = []
    monkeypatch.setattr(
        "IPython.display.display", lambda bundle, **how: kept.append({"update": how["update"], **bundle})
    )
    monkeypatch.setattr("greenlab.live.series_view.FIRST_S", 0.05)
    monkeypatch.setattr("greenlab.live.series_view.EVERY_S", 0.05)
    return kept


def test_a_live_view_is_replaced_in_place_while_pools_run_and_leaves_the_report(
    started: Any, shown: list[dict[str, Any]]
) -> None:
    def task(x: int) -> None:
        time.sleep(0.05)
        end_s = time.monotonic() + 60
        while x == 19 and len(shown) < 2 and time.monotonic() < end_s:
            time.sleep(0.05)  # on a busy machine the process takes its time to start

    with DrawingClient() as client:
        race = compare.prepare_race(task, range(20), pools=("green",), concurrency=2, live=False)
        race._observers._observers.append(SeriesView(client))
        race.run()
    assert {"update": False, "text/plain": "race: task in green"} == shown[0]
    assert all(each["update"] and each["image/png"].startswith(b"\x89PNG") for each in shown[1:])
    assert len(shown) > 2
    assert repr(race) == shown[-1]["text/plain"]
    assert "race: task in green\ngreen" == shown[-2]["text/plain"]


def test_a_frame_that_comes_after_the_end_does_not_replace_the_last_picture(
    started: Any, shown: list[dict[str, Any]]
) -> None:
    ended, late = eventlet.event.Event(), Drawing(b"late", 1, 1)

    class SlowArtist:
        def start(self) -> None:
            pass

        def draw(self, _source: Any, _scale: float, timeout_s: float | None = None) -> Drawing:
            if timeout_s is not None:
                return Drawing(b"last", 1, 1)
            ended.wait()
            return late

    slow: Any = SlowArtist()
    view = SeriesView(slow)
    race = compare.prepare_race(lambda _: time.sleep(0.1), range(2), pools=("green",), warm_up=0, live=False)
    race._observers._observers.append(view)
    race.run()
    ended.send(None)
    eventlet.sleep(0.15)
    assert [None, b"last"] == [each.get("image/png") for each in shown]


def test_a_live_view_that_breaks_is_dropped_with_one_warning_and_the_race_goes_on(
    started: Any, shown: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("IPython.display.display", lambda *_args, **_how: 1 / 0)
    with DrawingClient() as client:
        race = compare.prepare_race(abs, range(5), pools=("green",), live=False)
        race._observers._observers.append(SeriesView(client))
        with pytest.warns(RuntimeWarning, match="dropped the observer SeriesView") as caught:
            race.run()
    assert 1 == len(caught)
    assert list(range(5)) == race.runs["green"].results


def test_a_drawing_process_that_dies_costs_the_live_picture_and_not_the_last(
    started: Any, shown: list[dict[str, Any]]
) -> None:
    with DrawingClient() as client:
        race = compare.prepare_race(lambda _: time.sleep(0.02), range(40), pools=("green",), concurrency=2, live=False)
        view = SeriesView(client)
        race._observers._observers.append(view)
        view._client.draw = lambda *_: None
        race.run()
    assert [False, True] == [each["update"] for each in shown]
    assert "image/png" in shown[-1]
