"""A sweep's picture: throughput and latency over the number of tasks in flight.

Measured points with twice their standard error, the fitted law through them, the knee, and the advised concurrency
with its interval.

Must not import: pyplot, ipywidgets, eventlet, runs. Imported late, because numpy and matplotlib are heavy.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from greenlab.live.drawing.card import PANEL_HEAD_PX, Card
from greenlab.live.drawing.style import MUTED, PT, TEXT_COLOR, label_x, plain_style
from greenlab.live.words import RED, format_count, format_duration, pool_color, sentences

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from greenlab.live.series_snapshot import SweepSnapshot

_TOP_PX, _LOW_PX, _GAP_PX, _FOOT_PX = 200, 110, 10, 44
_LABELS_PX = 84
_LOG_FROM = 8
"""Axes are logarithmic when what they show spans more than this factor."""


def render(source: SweepSnapshot, scale: float) -> tuple[Any, ...]:
    """Return the picture of a sweep as `greenlab.live.drawing.server` sends it."""
    return draw(source, scale).render()


def draw(source: SweepSnapshot, scale: float = 2.0) -> Card:
    """Draw a sweep.

    Args:
        source: the sweep so far.
        scale: device pixels a CSS pixel.
    """
    with plain_style():
        lines = [(words if not bad else f"▲ {words}", RED if bad else TEXT_COLOR) for words, bad in source.lines]
        card = Card(PANEL_HEAD_PX + _TOP_PX + _GAP_PX + PANEL_HEAD_PX + _LOW_PX + _FOOT_PX, lines, scale)
        card.title(source.pool, pool_color(source.pool), source.label, source.subtitle or "sweep")
        note = (
            "points, twice their standard error, and the fitted law"
            if source.law
            else "points, twice their standard error"
        )
        axes = card.panel("throughput", _TOP_PX, "throughput, tasks/s", note, right=_LABELS_PX)
        _draw_x_axis(axes, source, last=False)
        _draw_throughput(axes, source)
        card.top += _GAP_PX
        unit_s, unit = _unit([point.p99_s for point in source.points])
        low = card.panel("latency", _LOW_PX, f"latency, {unit}", "of the tasks between the ramps", right=_LABELS_PX)
        _draw_x_axis(low, source, last=True)
        _draw_latency(low, source, unit_s)
        label_x(low, f"tasks in flight, {source.option}")
    card.figure.alt = sentences(
        [
            f"sweep of {source.label} in {source.pool}",
            *(words for words, _ in source.lines),
            *(f"{point.concurrency:,} in flight: {format_count(point.throughput)} tasks/s" for point in source.points),
        ]
    )
    return card


def _draw_x_axis(axes: Axes, source: SweepSnapshot, *, last: bool) -> None:
    least, most = min(source.wanted), max(source.wanted)
    if most / least > _LOG_FROM:
        axes.set_xscale("log")
        margin = (most / least) ** 0.04
        axes.set_xlim(least / margin, most * margin)
    else:
        margin = max((most - least) * 0.06, 0.5)
        axes.set_xlim(least - margin, most + margin)
    axes.xaxis.set_major_locator(FixedLocator(_values_apart(axes, source.wanted)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_count(round(value))))
    axes.tick_params(axis="x", labelbottom=last)
    if source.interval is not None and source.interval[0] < source.interval[1]:
        axes.axvspan(*source.interval, color=TEXT_COLOR, alpha=0.08, lw=0, gid="interval")
    if source.knee is not None and source.knee != source.advised:
        axes.axvline(source.knee, color=MUTED, lw=PT, linestyle=(0, (1, 2.5)), gid="knee")
    if source.advised is not None:
        axes.axvline(source.advised, color=TEXT_COLOR, lw=1.3 * PT, gid="advised")


def _values_apart(axes: Axes, values: tuple[int, ...]) -> list[int]:
    """Return the values whose labels do not overlap."""
    shown: list[int] = []
    at: list[float] = []
    for value in values:
        x = float(axes.transAxes.inverted().transform(axes.transData.transform((value, 0.5)))[0])
        if not at or x - at[-1] > 0.05:
            shown.append(value)
            at.append(x)
    return shown


def _draw_throughput(axes: Axes, source: SweepSnapshot) -> None:
    color = pool_color(source.pool)
    tops = [point.throughput for point in source.points]
    if source.law is not None:
        rate, sigma, kappa = source.law
        # Where nothing was measured it would be a guess, that may dwarf what was.
        measured = [point.concurrency for point in source.points if point.measured]
        n = np.geomspace(min(measured), max(measured), 200)
        fitted = rate * n / (1 + sigma * (n - 1) + kappa * n * (n - 1))
        axes.plot(n, fitted, color=color, lw=1.8 * PT, alpha=0.75, gid="law")
        tops.append(float(fitted.max()))
    for point in source.points:
        error = 2 * point.error if math.isfinite(point.error) else 0.0
        fill = color if point.measured else "none"
        axes.errorbar(
            point.concurrency, point.throughput, error, color=color, elinewidth=1.3 * PT, capsize=3 * PT,
            marker="o", ms=6 * PT, mfc=fill, mew=1.4 * PT, gid=f"point {point.concurrency}",
        )  # fmt: skip
    # Room for the errors, unless they would press all else flat.
    ends = [point.throughput + 2 * point.error for point in source.points if math.isfinite(point.error)]
    top = max(tops, default=1.0)
    axes.set_ylim(0, min(max([top, *ends]) * 1.08, top * 1.6) or 1)
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10], min_n_ticks=2))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: format_count(value)))
    _label_lines(axes, source)


def _label_lines(axes: Axes, source: SweepSnapshot) -> None:
    """Write the knee to the left of its line and the advised concurrency to the right, at the foot of the panel."""
    if source.advised is None:
        return
    advised = f"advised {source.option} {source.advised:,}"
    labels = [(source.advised, advised, TEXT_COLOR, "bold", 0.14, False)]
    if source.knee is not None and source.knee != source.advised:
        x = float(axes.transAxes.inverted().transform(axes.transData.transform((source.knee, 0)))[0])
        labels.append((source.knee, f"knee {source.knee:,}", MUTED, "normal", 0.05, x > 0.14))
    for value, words, ink, weight, y, before in labels:
        axes.annotate(
            words, (value, y), xycoords=("data", "axes fraction"), xytext=((-6 if before else 6) * PT, 0),
            textcoords="offset points", ha="right" if before else "left", va="center", color=ink, weight=weight,
            fontsize=11 * PT, annotation_clip=False, gid=words.split()[0] + " words",
        )  # fmt: skip


def _draw_latency(axes: Axes, source: SweepSnapshot, unit_s: float) -> None:
    color = pool_color(source.pool)
    points = [point for point in source.points if math.isfinite(point.p50_s)]
    if not points:
        axes.set_ylim(0, 1)
        axes.yaxis.set_major_locator(NullLocator())
        return
    x = [point.concurrency for point in points]
    p50, p99 = [point.p50_s for point in points], [point.p99_s for point in points]
    style_of: dict[str, Any] = {"color": color, "marker": "o", "ms": 4.5 * PT}
    axes.plot(x, p99, alpha=0.6, lw=1.1 * PT, gid="p99", **style_of)
    axes.plot(x, p50, lw=2.0 * PT, gid="p50", **style_of)
    if max(p99) > _LOG_FROM * max(min(p50), 1e-9):
        axes.set_yscale("log")
        axes.set_ylim(max(min(p50), 1e-7) * 0.6, max(p99) * 1.8)
        axes.yaxis.set_major_locator(LogLocator(10, numticks=5))
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.set_ylim(0, max(p99) * 1.15)
        axes.yaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: format_count(_digits(value / unit_s))))
    _label_ends(axes, x[-1], p50[-1], p99[-1])


def _label_ends(axes: Axes, x: float, p50: float, p99: float) -> None:
    """Write the names of both curves at their ends, with their values, a line apart."""
    to_pixels = axes.transData.transform
    apart = (to_pixels((x, p99))[1] - to_pixels((x, p50))[1]) * 100 / axes.figure.dpi
    push = max(0.0, (15 - apart) / 2)
    for value, words, up in ((p99, "p99", push), (p50, "p50", -push)):
        axes.annotate(
            f"{words} {format_duration(value)}", (x, value), xytext=(7 * PT, up * PT), textcoords="offset points",
            va="center", color=TEXT_COLOR if words == "p50" else MUTED, fontsize=10.5 * PT, annotation_clip=False,
            gid=f"{words} name",
        )  # fmt: skip


def _digits(value: float) -> float:
    return float(f"{value:.3g}")


def _unit(values_s: list[float]) -> tuple[float, str]:
    top = max((value for value in values_s if math.isfinite(value)), default=0.0)
    return (1.0, "s") if top >= 1 else (1e-3, "ms") if top >= 1e-3 else (1e-6, "µs")
