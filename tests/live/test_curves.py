"""From times and counts to curves."""

from __future__ import annotations

import pickle
import random
from array import array
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from live_doubles import NAN, FakeRun, columns, facts, records, samples

from greenlab.live import samples as live_columns
from greenlab.live import snapshot
from greenlab.live.drawing import curves
from greenlab.live.samples import Columns
from greenlab.live.snapshot import Records, Samples


@pytest.mark.parametrize("count", [0, 1, 7, 500, 20_000])
@pytest.mark.parametrize("elapsed_s", [0.01, 3.7, 7300.0])
def test_the_area_under_throughput_is_the_number_of_tasks(count: int, elapsed_s: float) -> None:
    picture = curves.picture_of(records(count, elapsed_s))
    assert count == pytest.approx(float(np.sum(picture.throughput * np.diff(picture.edges_s))))
    assert len(picture.throughput) <= curves.MAX_BINS + 1


def test_the_area_under_live_throughput_is_the_number_of_tasks_too() -> None:
    picture = curves.picture_of(samples(elapsed_s=9.3))
    assert 8 == pytest.approx(float(np.sum(picture.throughput * np.diff(picture.edges_s))))


def test_tasks_that_have_not_ended_are_left_out_and_times_count_from_the_start() -> None:
    both = Records(facts(done=1, elapsed_s=4.0), 100.0, [100.0, 101.0], [102.0, NAN], columns((4.0, 1, 0, 0)))
    one = Records(facts(done=1, elapsed_s=4.0), 0.0, [0.0], [2.0], columns((4.0, 1, 0, 0)))
    drawn, expected = curves.picture_of(both), curves.picture_of(one)
    assert list(expected.throughput) == list(drawn.throughput)
    assert expected.facts.p50_s == drawn.facts.p50_s == 2.0


def test_tasks_in_flight_are_exact_means_of_overlapping_spans() -> None:
    two = Records(facts(done=2, elapsed_s=4.0), 0.0, [0.0, 1.0], [2.0, 4.0], columns((4.0, 2, 0, 0)))
    picture = curves.picture_of(two)
    at = np.searchsorted(picture.flight_edges_s, [0.5, 1.5, 3.0]) - 1
    assert [1.0, 2.0, 1.0] == pytest.approx(list(picture.in_flight[at]))
    assert 5.0 == pytest.approx(float(np.sum(picture.in_flight * np.diff(picture.flight_edges_s))))


def test_bins_that_are_over_do_not_move_while_a_run_goes_on() -> None:
    before = curves.bin_edges_s(7.4, 0.5)
    after = curves.bin_edges_s(8.1, 0.5)
    assert list(before[:-1]) == list(after[: len(before) - 1])
    assert 7.4 == before[-1]


@pytest.mark.parametrize(
    ("elapsed_s", "done", "expected"),
    [(0.01, 10_000, 0.0002), (3.8, 10_000, 0.1), (18.9, 900, 0.5), (3600.0, 10**6, 60.0), (4.0, 4, 10.0)],
)
def test_a_bin_is_as_wide_as_people_count(elapsed_s: float, done: int, expected: float) -> None:
    assert expected == pytest.approx(curves.bin_width_s(elapsed_s, done))


def test_percentiles_are_of_the_tasks_that_ended_in_the_bin() -> None:
    ends_s = np.linspace(0.001, 10.0, 1000)
    taken_s = np.where(ends_s <= 5.0, 0.1, 0.3)
    starts_s = ends_s - taken_s
    slow_later = Records(
        facts(done=1000, elapsed_s=10.0), 0.0, list(starts_s), list(ends_s), columns((10.0, 1000, 0, 0))
    )
    picture = curves.picture_of(slow_later)
    assert 0.1 == pytest.approx(picture.p50_s[2])
    assert 0.3 == pytest.approx(picture.p50_s[-2])


@pytest.mark.parametrize("done_before", [0, 50])
def test_all_failed_makes_errors_of_all_throughput(done_before: int) -> None:
    made = records(300, 1.0, failed=300)
    resumed = replace(made, facts=replace(made.facts, done=300 + done_before, done_before=done_before))
    picture = curves.picture_of(resumed)
    assert list(picture.throughput) == list(picture.errors)


def test_a_long_run_keeps_a_bounded_number_of_samples_with_both_ends() -> None:
    run, noted = FakeRun(), Columns()
    for i in range(1, 20_001):
        run.go_on(i * 0.25, i)
        noted.add_sample(run)
    run.end(5001.0)
    noted.add_sample(run)
    assert live_columns.MAX_SAMPLES >= len(noted.t_s)
    assert live_columns.MAX_SAMPLES / 3 < len(noted.t_s)
    assert 0.0 == noted.t_s[0]
    assert 5001.0 == noted.t_s[-1]
    assert sorted(noted.t_s) == list(noted.t_s)


def test_live_latency_is_a_mean_of_samples_weighed_by_the_tasks_they_speak_for() -> None:
    noted = columns((0.2, 30, 0, 4), (0.4, 40, 0, 4), (0.9, 40, 0, 4), (1.0, 41, 0, 4))
    noted.p50_s[1:] = array("d", [0.1, 0.5, NAN, 0.7])
    picture = curves.picture_of(Samples(facts(running=True, done=41, elapsed_s=1.0), noted))
    assert [0.0, 0.5, 1.0] == list(picture.edges_s)
    assert [0.2, 0.7] == pytest.approx(list(picture.p50_s))
    assert np.isnan(picture.p99_s).all()


def test_a_run_that_keeps_no_times_is_drawn_from_what_was_noted_on_the_way() -> None:
    run = FakeRun(keeps_times=False)
    noted = Columns()
    for t_s, done in ((1.0, 3), (2.0, 8)):
        run.go_on(t_s, done)
        noted.add_sample(run)
    run.end(2.5)
    noted.add_sample(run)
    picture = curves.picture_of(snapshot.records_of(run, noted))
    assert 8 == pytest.approx(float(np.sum(picture.throughput * np.diff(picture.edges_s))))
    assert picture.facts.titled
    assert not picture.facts.running


def test_latency_noted_is_of_the_tasks_that_ended_since_the_note_before() -> None:
    run, noted = FakeRun(), Columns()
    run.starts_s, run.ends_s = [0.0, 0.0, 0.0], [0.1, 0.3, NAN]
    noted.add_sample(run)
    run.starts_s, run.ends_s = [0.0, 0.0, 0.0, 0.3], [0.1, 0.3, 0.9, NAN]
    noted.add_sample(run)
    noted.add_sample(run)
    assert [0.1, 0.9] == pytest.approx(list(noted.p50_s[1:3]))
    assert [0.3, 0.9] == pytest.approx(list(noted.p99_s[1:3]))
    assert np.isnan(noted.p50_s[3])


def test_a_task_that_an_earlier_run_ended_has_no_part_in_latency() -> None:
    run, noted = FakeRun(starts_s=[-9.0, 0.0], ends_s=[-1.0, 0.2]), Columns()
    noted.add_sample(run)
    assert 0.2 == pytest.approx(noted.p99_s[1])


def test_a_note_asks_a_bounded_number_of_tasks_and_draws_no_lot_of_the_users() -> None:
    asked = 0

    class Times(list[float]):
        def __getitem__(self, index: Any) -> Any:
            nonlocal asked
            asked += 1
            return super().__getitem__(index)

    class Run(FakeRun):
        def times(self) -> tuple[list[float], list[float]]:
            return starts_s, ends_s

    before = random.getstate()
    starts_s, ends_s = Times([100.0] * 10**5), Times([NAN] * 10**5)
    noted = Columns()
    for _ in range(20):
        starts_s += [100.0] * 1000
        ends_s += [100.5] * 1000
        noted.add_sample(Run())
    assert asked / 20 < 5 * live_columns.MAX_READ
    assert before == random.getstate()
    assert 0.5 == noted.p50_s[-1]


def test_of_as_many_tasks_as_may_be_read_the_percentiles_are_exact() -> None:
    count = live_columns.MAX_READ
    latencies_s = [1.0 + index for index in range(count)]
    noted = Columns()
    noted.add_sample(FakeRun(starts_s=[100.0] * count, ends_s=[100.0 + each for each in latencies_s]))
    assert live_columns.nearest_ranks(latencies_s) == (noted.p50_s[-1], noted.p99_s[-1])


@pytest.mark.parametrize("count", [1, 99, 100, 101, 200])
def test_percentiles_are_the_same_of_samples_and_of_records(count: int) -> None:
    latencies_s = [1.0 + index for index in range(count)]
    assert live_columns.nearest_ranks(latencies_s) == curves._nearest_ranks(np.array(latencies_s))


def test_what_is_sent_to_the_drawing_process_does_not_grow_with_the_tasks() -> None:
    few, many = Columns(), Columns()
    few.add_sample(FakeRun())
    run = FakeRun(starts_s=[0.0] * 10**5, ends_s=[NAN] * 10**5)
    many.add_sample(run)
    assert len(pickle.dumps(few)) == len(pickle.dumps(many))
