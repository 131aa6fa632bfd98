"""Whose turn it is at the workers."""

from __future__ import annotations

import pytest
from processes_kit import FakeJob

from greenlab.pools.processes.job import ActiveJob
from greenlab.pools.processes.round_robin import RoundRobin


@pytest.fixture
def jobs() -> RoundRobin[ActiveJob]:
    """Three jobs, of which the first is next."""
    jobs: RoundRobin[ActiveJob] = RoundRobin()
    for number in (1, 2, 3):
        jobs.add(ActiveJob(number, FakeJob(abs, [])))
    return jobs


def order(jobs: RoundRobin[ActiveJob]) -> list[int]:
    return [active.number for active in jobs]


def test_jobs_are_served_as_they_came_and_go_to_the_end_when_they_had_their_turn(jobs: RoundRobin[ActiveJob]) -> None:
    first, second, _ = jobs
    assert [1, 2, 3] == order(jobs)
    jobs.had_turn(first)
    assert [2, 3, 1] == order(jobs)
    jobs.had_turn(second)
    assert [3, 1, 2] == order(jobs)


def test_those_before_a_job_are_those_whose_turn_comes_first(jobs: RoundRobin[ActiveJob]) -> None:
    first, second, third = jobs
    assert [[], [1], [1, 2]] == [[one.number for one in jobs.before(active)] for active in (first, second, third)]


def test_a_job_that_has_ended_has_no_turn_and_no_number(jobs: RoundRobin[ActiveJob]) -> None:
    _, second, _ = jobs
    assert second is jobs.get(2)
    jobs.remove(second)
    jobs.had_turn(second)  # a batch of it was still on its way
    assert ([1, 3], 2, None) == (order(jobs), len(jobs), jobs.get(2))


def test_jobs_may_come_and_have_their_turn_while_they_are_gone_through(jobs: RoundRobin[ActiveJob]) -> None:
    seen = []
    for active in jobs:
        seen.append(active.number)
        jobs.had_turn(active)
    assert ([1, 2, 3], [1, 2, 3]) == (seen, order(jobs))
