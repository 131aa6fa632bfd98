"""From times and counts to curves that can be drawn: pure functions on numpy arrays.

Guarantee: the area under `Picture.throughput` is the number of tasks that ended, whatever the bin width.
Must not import: matplotlib, ipywidgets, eventlet. Imported late, because numpy is heavy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from greenlab.live.snapshot import Facts, Records, Samples

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from greenlab.live.samples import Columns

    Floats = NDArray[np.float64]

MAX_BINS = 60
TASKS_A_BIN = 8
"""A rate read off fewer tasks than this is mostly noise (its error is one over the root of their number)."""
FLIGHT_CELLS = 240
SAMPLED_BIN_S = 0.5
"""Two samples of a live run: a narrower bin would show the sampling, not the run."""
MAX_RANKED = 500_000
"""Tasks that percentiles are taken of; of more, every k-th, which moves them by less than a line's width."""

_STEPS_S = (1.0, 2.0, 5.0)
_MINUTES_S = (10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 28800, 86400)


@dataclass(frozen=True)
class Picture:
    """What `greenlab.live.drawing.run_figure` draws, in seconds and tasks.

    Attributes:
        facts: what is written beside the curves.
        bin_s: the width of a bin of throughput, in seconds (the last may be up to half wider or narrower).
        edges_s: the bins' edges: one more than there are bins.
        throughput: tasks that ended, per second, by bin.
        error_edges_s: edges of the bins of `errors`, which may be wider.
        errors: tasks that failed, per second, by bin of its own.
        flight_edges_s: edges of the cells of `in_flight`.
        in_flight: mean number of tasks in flight, by cell; nan if it is not known.
        limit_edges_s: edges between which `limit` held.
        limit: how many tasks might be in flight.
        p50_s: median latency of the tasks that ended in a bin; nan where none did, or it is not known. From samples it
            is a mean of theirs.
        p99_s: the same for the 99th percentile.
    """

    facts: Facts
    bin_s: float
    edges_s: Floats
    throughput: Floats
    error_edges_s: Floats
    errors: Floats
    flight_edges_s: Floats
    in_flight: Floats
    limit_edges_s: Floats
    limit: Floats
    p50_s: Floats
    p99_s: Floats


def picture_of(source: Samples | Records) -> Picture:
    """Compute the curves of a run that goes on, or of one that has ended."""
    return _of_samples(source) if isinstance(source, Samples) else _of_records(source)


def bin_width_s(elapsed_s: float, done: int, floor_s: float = 0.0) -> float:
    """Return a round width of bins: at most `MAX_BINS` a run, and with some tasks in each.

    Args:
        elapsed_s: how long the run is.
        done: how many tasks ended in it.
        floor_s: the least width that the source resolves.

    Returns:
        1, 2 or 5 times a power of ten seconds up to ten, then a round number of seconds, minutes or hours.
    """
    wanted = max(elapsed_s / MAX_BINS, elapsed_s * TASKS_A_BIN / max(done, 1), floor_s, 1e-6)
    if wanted > 5:
        return float(next((step for step in _MINUTES_S if step >= wanted * (1 - 1e-9)), wanted))
    power = 10.0 ** math.floor(math.log10(wanted))
    return next((step * power for step in _STEPS_S if step * power >= wanted * (1 - 1e-9)), 10 * power)


def bin_edges_s(elapsed_s: float, width_s: float) -> Floats:
    """Return edges from 0 to `elapsed_s`; a last piece shorter than half a bin is added to the bin before it.

    Live frames keep their earlier edges, so that bins that are over do not move.
    """
    edges = np.arange(0.0, elapsed_s, width_s)
    if len(edges) > 1 and elapsed_s - edges[-1] < width_s / 2:
        edges = edges[:-1]
    return np.append(edges if len(edges) else [0.0], max(elapsed_s, 1e-6))


def _of_samples(samples: Samples) -> Picture:
    facts, columns = samples.facts, samples.columns
    t_s = np.asarray(columns.t_s)
    end_s = float(t_s[-1])
    width_s = bin_width_s(end_s, columns.done[-1], SAMPLED_BIN_S)
    edges_s = bin_edges_s(end_s, width_s)
    limit_edges_s, limit = _limits(columns, facts, float(edges_s[-1]))
    return Picture(
        facts=facts,
        bin_s=width_s,
        edges_s=edges_s,
        throughput=_rates(edges_s, t_s, np.asarray(columns.done)),
        error_edges_s=edges_s,
        errors=_rates(edges_s, t_s, np.asarray(columns.failed)),
        flight_edges_s=np.append(t_s[:-1], max(end_s, 1e-6)) if len(t_s) > 1 else np.array([0.0, 1e-6]),
        in_flight=_flight_seen(samples),
        limit_edges_s=limit_edges_s,
        limit=limit,
        p50_s=_mean_in_bins(edges_s, columns, columns.p50_s),
        p99_s=_mean_in_bins(edges_s, columns, columns.p99_s),
    )


def _of_records(records: Records) -> Picture:
    facts = records.facts
    starts_s = np.asarray(records.starts_s, dtype=float) - records.began_s
    ends_s = np.asarray(records.ends_s, dtype=float) - records.began_s
    order = np.argsort(ends_s)[: np.count_nonzero(~np.isnan(ends_s))]  # nan is sorted to the end
    starts_s, ends_s = starts_s[order], ends_s[order]
    last_s = float(ends_s[-1]) if len(ends_s) else 0.0
    elapsed_s = max(facts.elapsed_s, last_s)
    width_s = bin_width_s(elapsed_s, len(ends_s))
    edges_s = bin_edges_s(elapsed_s, width_s)
    # The last edge is a moment at which tasks end, and they belong to the bin before it.
    at = np.append(np.searchsorted(ends_s, edges_s[:-1]), len(ends_s))
    throughput = np.diff(at) / np.diff(edges_s)
    flight_edges_s = np.linspace(0.0, edges_s[-1], FLIGHT_CELLS + 1)
    in_flight = _mean_in_flight(flight_edges_s, np.sort(starts_s), ends_s)
    if len(ends_s) < len(records.ends_s):
        in_flight = np.maximum(in_flight, _sampled_in_flight(flight_edges_s, records.columns))
    taken_s = ends_s - starts_s
    p50_s, p99_s = _percentiles(taken_s, at)
    error_edges_s, errors = _errors(records, edges_s, throughput, order)
    limit_edges_s, limit = _limits(records.columns, facts, float(edges_s[-1]))
    if len(taken_s):
        of_all = _nearest_ranks(taken_s)
        facts = replace(facts, p50_s=of_all[0], p99_s=of_all[1])
    return Picture(
        facts=facts,
        bin_s=width_s,
        edges_s=edges_s,
        throughput=throughput,
        error_edges_s=error_edges_s,
        errors=errors,
        flight_edges_s=flight_edges_s,
        in_flight=in_flight,
        limit_edges_s=limit_edges_s,
        limit=limit,
        p50_s=p50_s,
        p99_s=p99_s,
    )


def _flight_seen(samples: Samples) -> Floats:
    """Return the tasks in flight as they were sampled: a sample at the end alone, of none, says nothing of before."""
    seen = samples.columns.in_flight[1:]
    if len(seen) < 2 and not samples.facts.running:
        return np.array([np.nan])
    return np.asarray(seen or [0], dtype=float)


def _mean_in_bins(edges_s: Floats, columns: Columns, values: Sequence[float]) -> Floats:
    """Return the mean of the samples in each bin, weighted by the tasks that each sample covers."""
    known = np.asarray(values)[1:]
    weights = np.where(np.isnan(known), 0.0, np.maximum(np.diff(columns.done), 1))
    bins = len(edges_s) - 1
    at = np.clip(np.searchsorted(edges_s, np.asarray(columns.t_s)[1:]) - 1, 0, bins - 1)
    total = np.bincount(at, weights, bins)
    mean: Floats = np.bincount(at, weights * np.nan_to_num(known), bins) / np.where(total > 0, total, np.nan)
    return mean


def _limits(columns: Columns, facts: Facts, end_s: float) -> tuple[Floats, Floats]:
    """Return the times between which the concurrency was the same, and what it was; one piece if it never changed.

    A change is drawn at the sample before it, as in flight is: a view takes one when the slider is moved.
    """
    limit = np.asarray(columns.limit, dtype=float)[1:]
    changes = np.flatnonzero(np.diff(limit)) + 1
    if not len(changes):
        only = limit[-1] if len(limit) else facts.concurrency
        # One sample, at the end, does not say what a limit was that the auto pool has changed.
        known = len(limit) > 1 or only == facts.concurrency
        return np.array([0.0, end_s]), np.array([float(only) if known else np.nan])
    inner_s = np.clip(np.asarray(columns.t_s)[changes], 0.0, end_s)
    return np.concatenate(([0.0], inner_s, [end_s])), np.append(limit[0], limit[changes])


def _rates(edges_s: Floats, t_s: Floats, count: NDArray[np.int64]) -> Floats:
    return np.diff(np.interp(edges_s, t_s, count)) / np.diff(edges_s)


def _errors(records: Records, edges_s: Floats, throughput: Floats, order: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Return edges and rates of failures: exactly, in the bins of throughput, where it is known which tasks failed.

    Otherwise they were counted at samples only, and bins are no narrower than the distance of those: in narrower ones a
    few of them would look like many.
    """
    if records.facts.failed and records.facts.failed == records.facts.done_here:
        return edges_s, throughput
    if records.failures:
        ordered = order[np.frombuffer(records.failures, np.uint8)[order] > 0]
        ends_s = np.asarray(records.ends_s, dtype=float)[ordered] - records.began_s
        at = np.append(np.searchsorted(ends_s, edges_s[:-1]), len(ends_s))
        return edges_s, np.diff(at) / np.diff(edges_s)
    t_s = np.asarray(records.columns.t_s)
    failed = np.asarray(records.columns.failed)
    if len(t_s) > 1 and np.max(np.diff(t_s)) > np.min(np.diff(edges_s)):
        edges_s = np.unique(np.clip(t_s, 0.0, edges_s[-1]))
        edges_s = edges_s if len(edges_s) > 1 else np.array([0.0, 1e-6])
    return edges_s, _rates(edges_s, t_s, failed)


def _mean_in_flight(edges_s: Floats, starts_s: Floats, ends_s: Floats) -> Floats:
    """Return exact means over time: the integral of a step up at each start and down at each end, over each cell."""
    area = _integral(edges_s, starts_s) - _integral(edges_s, ends_s)
    return np.maximum(np.diff(area) / np.diff(edges_s), 0.0)


def _sampled_in_flight(edges_s: Floats, columns: Columns) -> Floats:
    """Return tasks in flight as they were sampled; the last sample, at the end, is of none.

    When tasks began that were cut short is not known, and without them there would be a fall before a run was stopped.
    """
    seen = np.asarray(columns.in_flight, dtype=float)[1:-1]
    if not len(seen):
        return np.zeros(len(edges_s) - 1)
    at = np.searchsorted(np.asarray(columns.t_s)[1:-1], edges_s[1:])
    sampled: Floats = seen[np.minimum(at, len(seen) - 1)]
    return sampled


def _integral(at_s: Floats, steps_s: Floats) -> Floats:
    before = np.searchsorted(steps_s, at_s, side="right")
    area: Floats = before * at_s - np.append(0.0, np.cumsum(steps_s))[before]
    return area


def _percentiles(latency_s: Floats, at: NDArray[np.int64]) -> tuple[Floats, Floats]:
    stride = 1 + len(latency_s) // MAX_RANKED
    p50_s, p99_s = np.full(len(at) - 1, np.nan), np.full(len(at) - 1, np.nan)
    for i in range(len(at) - 1):
        if at[i + 1] > at[i]:
            p50_s[i], p99_s[i] = _nearest_ranks(latency_s[at[i] : at[i + 1] : stride])
    return p50_s, p99_s


def _nearest_ranks(latency_s: Floats) -> tuple[float, float]:
    # As `greenlab.runs.latency` does: each is a latency that did occur.
    p50_s, p99_s = np.percentile(latency_s, (50, 99), method="inverted_cdf")
    return float(p50_s), float(p99_s)
