"""Percentiles of latencies: by sorting, and by partition where there are very many."""

from __future__ import annotations

import math
import random
from array import array

import pytest

from greenlab.runs import latency
from greenlab.runs.latency import Latency, latency_of

NAN = float("nan")
COUNT = latency._MOST_SORTED + 1


def test_of_very_many_tasks_the_percentiles_are_those_that_sorting_gives() -> None:
    draw = random.Random(7)
    starts = array("d", (draw.random() for _ in range(COUNT)))
    ends = array("d", (start + draw.expovariate(10) for start in starts))
    ends[5] = starts[6] = NAN  # one that has not ended, one that never started
    assert latency._by_sorting(starts, ends) == latency_of(starts, ends)
    taken = sorted(e - s for s, e in zip(starts, ends, strict=True) if not math.isnan(e - s))
    assert COUNT - 2 == len(taken)
    assert taken[math.ceil(0.99 * len(taken)) - 1] == latency_of(starts, ends).p99
    assert taken[-1] == latency_of(starts, ends).max


def test_of_very_many_tasks_of_which_none_has_ended_nothing_is_known() -> None:
    of_none = latency_of(array("d", [0.0] * COUNT), array("d", [NAN] * COUNT))
    assert all(math.isnan(one) for one in (of_none.p50, of_none.p90, of_none.p99, of_none.max))


@pytest.mark.parametrize("count", [1, 2, 100])
def test_each_percentile_is_a_latency_that_did_occur(count: int) -> None:
    taken = [float(n) for n in range(1, count + 1)]
    found = latency_of([0.0] * count, taken)
    assert Latency(*(taken[max(0, math.ceil(share * count) - 1)] for share in (0.5, 0.9, 0.99, 1.0))) == found
