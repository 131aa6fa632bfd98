"""What is found in a race that has ended: who won and how sure that is, and what was the limit."""

from __future__ import annotations

from typing import Any

import pytest
from race_doubles import FakeRun, raced, usage

from greenlab.comparing.race_analysis import RaceRun
from greenlab.runs.resource_usage import Usage

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
        "the race was interrupted: prefork, threads did not finish; green ran 2 of 3 times; what has ended"
    )


def test_an_interrupt_that_came_last_says_that_all_had_run() -> None:
    race = raced({"green": [100, 100], "prefork": []})
    race.failures["prefork"] = "gone"
    assert "the race was interrupted: all had run; what has ended" == race._interrupt_message()


# -- what was the limit --------------------------------------------------------------------------------------


def test_a_busy_machine_is_named_as_the_limit_and_whose_work_it_was() -> None:
    own = raced({"prefork": [100]}, usage(0.1, busy=0.98, workers=1.8)).warnings
    assert ["the machine was the limit of prefork: its 2 cores were busy, more would help"] == own
    (others,) = raced({"green": [100], "prefork": [50]}, usage(0.1, busy=0.98)).warnings
    assert others.startswith(
        "the machine was the limit, or near it, while green and prefork ran: its 2 cores were busy"
    )
    assert "and the tasks took at most 5% of that time; something else takes the rest" in others
    brief = [raced({"prefork": [100]}, usage(0.1, 0.98, 1.8 * s, s)).warnings for s in (0.19, 0.21)]
    assert [[], own] == brief  # of a shorter run the machine's ticks tell little
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


def test_a_pool_that_left_the_machine_idle_does_not_hide_a_later_one_that_kept_it_busy() -> None:
    race = raced({"green": [100], "prefork": [50]})
    used = usage(busy=0.5), usage(0.1, busy=0.98, workers=1.8)
    race.all_runs = [RaceRun(one.pool, 1, one.run, each) for one, each in zip(race.all_runs, used, strict=True)]
    assert ["the machine was the limit of prefork: its 2 cores were busy, more would help"] == race.warnings


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
