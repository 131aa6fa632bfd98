"""Advice from what a task costs: tables of costs and what is to come of them. Two cores, as ever so many machines."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from greenlab import pools
from greenlab.advising import model
from greenlab.advising.advice import (
    CLOSE,
    MOST_IN_FLIGHT,
    SIMPLEST_FIRST,
    TaskCost,
    advise,
    concurrency,
    discount_trials,
    estimate,
    next_trial,
    plan_all,
    weigh_trials,
)
from greenlab.pools import registry


def cost(cpu: float = 0.0, blocked: float = 0.0, wait: float = 0.0, **others: Any) -> TaskCost:
    return TaskCost(cpu + blocked + wait, cpu, blocked, wait, **others)


FETCH = cost(cpu=0.0003, wait=0.15)
SLEEP = cost(cpu=1e-5, wait=0.1)
FEED = cost(cpu=0.0103, wait=0.15)  # fetched, and parsed by a heavy parser
COMPUTE = cost(cpu=0.02)
HASH = cost(cpu=0.02, cpu_free_s=0.02)
DRIVER = cost(cpu=0.0001, blocked=0.1)  # waits in C, with the GIL released
KEEPER = cost(cpu=0.0001, blocked=0.1, blocked_gil_s=0.1)
BOTH = cost(cpu=0.05, blocked=0.05)
NOTHING = cost(cpu=1e-6)


def mix(percent: int) -> TaskCost:
    return cost(cpu=0.001 * percent, wait=0.1 - 0.001 * percent)


@pytest.mark.parametrize(
    ("what", "tasks", "pool"),
    [
        (FETCH, 1000, "green"),
        (FETCH, 50, "green"),
        (FETCH, 100_000, "hybrid"),  # the hub's processor is full, and there is time enough to start processes
        (SLEEP, 1000, "green"),
        (FEED, 1000, "hybrid"),
        (FEED, 20, "green"),  # done before processes are there
        (mix(10), 1000, "hybrid"),
        (mix(10), 30, "green"),
        (mix(50), 1000, "hybrid"),
        (mix(90), 1000, "prefork"),
        (COMPUTE, 1000, "prefork"),
        (COMPUTE, 10, "green"),
        (HASH, 1000, "threads"),
        (DRIVER, 1000, "threads"),
        (KEEPER, 1000, "prefork"),
        (BOTH, 1000, "prefork"),
        (NOTHING, 1000, "green"),
    ],
)
def test_the_pool_follows_from_what_a_task_costs(what: TaskCost, tasks: int, pool: str) -> None:
    advice = advise(what, tasks=tasks, cores=2)
    assert pool == advice.pool, str(advice)


def test_on_one_core_processes_gain_nothing_for_what_computes() -> None:
    assert "green" == advise(COMPUTE, cores=1).pool
    assert "green" == advise(mix(90), cores=1).pool
    assert "prefork" == advise(KEEPER, cores=1).pool  # a native wait needs no processor


def test_what_cannot_be_sent_stays_in_this_process_and_the_reason_is_given() -> None:
    advice = advise(
        dataclasses.replace(COMPUTE, sendable=False, unsendable="the task cannot be sent: 'connection'"), cores=4
    )
    assert "green" == advice.pool
    assert {"green", "threads"} == {plan.pool for plan in advice.plans}
    assert "cannot be sent: 'connection'" in str(advice)


@pytest.mark.parametrize(
    ("alone_s", "demand_s", "expected"),
    [
        (0.1, 0.1, 2),
        (0.1, 0.09, 2),
        (0.1, 0.05, 5),
        (0.1, 0.01, 20),
        (0.15, 0.0003, 1000),
        (0.1, 0.001, 200),
    ],
)
def test_the_tasks_in_flight_follow_littles_law_with_room(alone_s: float, demand_s: float, expected: int) -> None:
    assert expected == concurrency(alone_s, demand_s, 1000)


def test_a_new_pool_is_planned_by_its_row_alone(monkeypatch: Any) -> None:
    row = dataclasses.replace(pools.SPECS["hybrid"], name="new", slow_beyond=50, startup_s=7.0, sending_s=0.5)
    monkeypatch.setattr(registry, "SPECS", {**pools.SPECS, "new": row})
    monkeypatch.setattr(registry, "NAMES", (*pools.NAMES, "new"))
    monkeypatch.setattr(model, "SIMPLEST_FIRST", (*SIMPLEST_FIRST, "new"))
    plans = plan_all(FETCH, 1000, 2), estimate(FETCH, tasks=1000, concurrency=100, workers=2, cores=2)
    for new in (next(plan for plan in each if plan.pool == "new") for each in plans):
        assert (2.0, "handing tasks to processes") == (new.ceiling, new.limit)
        assert 7 + FETCH.alone_s + 999 / 2 == pytest.approx(new.total_s)
    long_waits = {plan.pool: plan.concurrency for plan in plan_all(cost(wait=1000), 10**6, 2)}
    assert 50 == long_waits["new"]


def test_never_more_in_flight_than_tasks_or_than_the_pool_takes() -> None:
    assert 7 == advise(SLEEP, tasks=7).concurrency
    assert MOST_IN_FLIGHT == advise(cost(cpu=1e-6, wait=10), tasks=10**6, cores=1).concurrency
    assert pools.SPECS["threads"].slow_beyond == advise(cost(cpu=1e-6, blocked=10), tasks=10**6).concurrency


@pytest.mark.parametrize(
    ("what", "cores", "workers"),
    [(COMPUTE, 1, None), (COMPUTE, 2, 2), (COMPUTE, 4, 4), (KEEPER, 2, 7), (FETCH, 4, None)],
)
def test_workers_are_as_many_as_gain_something(what: TaskCost, cores: int, workers: int | None) -> None:
    assert workers == advise(what, cores=cores).workers


def test_what_handing_over_costs_bounds_the_gain_of_more_workers() -> None:
    def prefork(cpu_s: float) -> Any:
        (plan,) = (plan for plan in plan_all(cost(cpu=cpu_s), 10**6, cores=64) if plan.pool == "prefork")
        return plan

    assert (1, "handing tasks to processes") == (prefork(10e-6).workers, prefork(10e-6).limit)
    assert 2 == prefork(50e-6).workers
    assert 60 < prefork(0.1).workers


def test_every_plan_is_explained_and_the_best_comes_first() -> None:
    advice = advise(FEED, cores=2)
    text = str(advice).splitlines()
    assert f"advice: -p hybrid -c {advice.concurrency} -w 2 (sure)" == text[0]
    assert "  a task computes 10.3 ms (6%), waits 150 ms (94%)" == text[1]
    assert "limited by the processors" in text[2]
    assert [plan.pool for plan in advice.plans] == [line.split()[1] for line in text[2:]]
    assert set(SIMPLEST_FIRST) == {plan.pool for plan in advice.plans}


@pytest.mark.parametrize(
    ("change", "sure", "says"),
    [
        ({}, "sure", ""),
        ({"sampled": 3}, "a guess", "the sample has 3 tasks only"),
        ({"scatter": 2.0}, "likely", "differ much"),
        ({"delay_s": 0.1}, "likely", "the machine was busy"),
        ({"wall_s": 1.0}, "a guess", "not accounted for"),
    ],
)
def test_doubts_are_told(change: dict[str, Any], sure: str, says: str) -> None:
    advice = advise(dataclasses.replace(FETCH, **change), cores=2)
    assert sure == advice.sure
    assert says in "; ".join(advice.doubts)


def test_a_close_second_is_named() -> None:
    advice = advise(mix(90), cores=2)
    assert "likely" == advice.sure
    assert ["hybrid comes close"] == advice.doubts


INF = float("inf")


def tried(what: TaskCost, total_s: dict[str, float]) -> list[str]:
    """List the pools that are tried, if all tasks take so long; as long as expected where nothing is said."""
    advice = advise(what, cores=2)
    known: dict[str, float] = {}
    while plan := next_trial(advice, known):
        known[plan.pool] = total_s.get(plan.pool, plan.total_s)
    return list(known)


@pytest.mark.parametrize(
    ("what", "total_s", "pools"),
    [
        (DRIVER, {}, ["threads"]),
        (FEED, {}, ["hybrid", "green"]),
        (COMPUTE, {}, ["prefork", "hybrid", "green"]),
        (DRIVER, {"threads": 3.0}, ["threads"]),  # prefork takes 14 s at the least, the others more
        (DRIVER, {"threads": 10.0}, ["threads", "prefork"]),
        (DRIVER, {"threads": INF}, ["threads", "prefork"]),
        (DRIVER, {"threads": 100.0, "prefork": 100.0}, ["threads", "prefork", "hybrid", "green"]),
    ],
)
def test_plausible_pools_are_tried_and_others_if_these_fall_short(
    what: TaskCost, total_s: dict[str, float], pools: list[str]
) -> None:
    assert pools == tried(what, total_s)


def test_how_long_a_sample_takes_follows_from_a_plan() -> None:
    green = next(plan for plan in advise(SLEEP, cores=2).plans if plan.pool == "green")
    assert green.concurrency == 1000
    assert pytest.approx(0.1) == green.duration_s(0.1, 20)  # all of them at once
    assert pytest.approx(0.3) == green.duration_s(0.1, 2001)
    compute = next(plan for plan in advise(COMPUTE, cores=2).plans if plan.pool == "prefork")
    assert pytest.approx(20 * 0.02 / 2, rel=0.1) == compute.duration_s(0.02, 20)


def test_measurements_have_the_last_word() -> None:
    advice = advise(FEED, cores=2)
    kept = weigh_trials(advice, {"hybrid": 190.0, "green": 95.0})
    assert ("hybrid", "sure") == (kept.pool, kept.sure)
    assert "tried on a sample: hybrid 190 tasks/s, green 95 tasks/s" == kept.reasons[0]
    turned = weigh_trials(advice, {"hybrid": 90.0, "green": 95.0})
    assert ("green", "likely", None) == (turned.pool, turned.sure, turned.workers)
    assert ["by its costs hybrid should have won"] == turned.doubts
    assert advice is weigh_trials(advice, {})
    simpler = weigh_trials(advice, {"hybrid": 100.0 * CLOSE * 0.99, "green": 100.0})
    assert "green" == simpler.pool
    assert (
        "hybrid did 1.19 times as much as green on the sample, but 1,000 tasks would end at most 20% sooner there, "
        "and green is simpler" == simpler.reasons[0]
    )
    equal = weigh_trials(advice, {"hybrid": 103.0, "green": 100.0})
    assert equal.reasons[0].startswith("hybrid did about as much as green on the sample, but 1,000 tasks would end")
    late = weigh_trials(advice, {"hybrid": 300.0, "green": 100.0}, tasks=10, startup_s={"hybrid": 0.3})
    assert (
        "hybrid did 3.0 times as much as green on the sample, but with its start-up 10 tasks would not end sooner there"
        == (late.reasons[0])
    )


def test_on_a_busy_machine_the_costs_have_the_last_word_and_the_advice_says_how_to_repeat() -> None:
    advice = discount_trials(advise(COMPUTE, cores=2), "the machine was too busy")
    assert ("prefork", "a guess") == (advice.pool, advice.sure)
    assert "by its costs" == advice.reasons[0]
    assert "run it again when the machine has less to do" in str(advice)


def test_an_advice_depends_on_nothing_but_its_arguments() -> None:
    assert advise(FEED, cores=2) == advise(FEED, cores=2)


def test_costs_of_any_size_give_some_advice() -> None:
    sizes = (0.0, 1e-9, 1e-4, 1.0, 1e4)
    for cpu in sizes:
        for blocked in sizes:
            for wait in sizes:
                for tasks in (1, 1000):
                    advice = advise(cost(cpu, blocked, wait), tasks=tasks, cores=2)
                    assert 1 <= advice.concurrency <= 1000
                    assert str(advice)
