"""A race's picture: every pool's throughput over one time axis, and below it how they compare.

A pool is a colour, and its name stands at its curve. The curve is the median over its runs, bin by bin, with a band
from the lowest to the highest.

Must not import: pyplot, ipywidgets, eventlet. Imported late, because numpy and matplotlib are heavy.
"""

from __future__ import annotations

import math
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.ticker import FuncFormatter, MaxNLocator

from greenlab.live.drawing.card import Card
from greenlab.live.drawing.curves import bin_edges_s, bin_width_s
from greenlab.live.drawing.style import INDENT_PX, LEFT_PX, MUTED, PT, TEXT_COLOR, WIDTH_PX, label_x, plain_style
from greenlab.live.words import RED, format_count, format_duration, pool_color, shortened, text_color_on

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from greenlab.live.drawing.curves import Floats
    from greenlab.live.series_snapshot import RaceSnapshot, RunTimes

_CURVES_PX, _ROW_PX, _FOOT_PX = 190, 26, 44
_LABELS_PX = 84
_BAR_PX = 250
_LEAST_BINS = 40
_NEVER = (np.zeros(0), np.zeros(1))


class Curve(NamedTuple):
    """Throughput of one pool, by bin: the median over its runs, the lowest and the highest."""

    edges_s: Floats
    middle: Floats
    low: Floats
    high: Floats
    bin_s: float


def render(source: RaceSnapshot, scale: float) -> tuple[Any, ...]:
    """Return the picture of a race as `greenlab.live.drawing.server` sends it."""
    return draw(source, scale).render()


def curve_of(runs: tuple[RunTimes, ...]) -> Curve | None:
    """Compute the curve of some runs of one pool; None where nothing has ended.

    Bins are the same for all of them, and no narrower than a task takes: tasks that start together end together, and
    the rhythm of that is not throughput.
    """
    runs = tuple(run for run in runs if run.elapsed_s > 0 and len(run.ends_s))
    if not runs:
        return None
    elapsed_s = max(run.elapsed_s for run in runs)
    done = max(int(np.count_nonzero(~np.isnan(run.ends_s)) * run.weight) for run in runs)
    known = [run.p50_s for run in runs if math.isfinite(run.p50_s)]
    floor_s = max(elapsed_s / _LEAST_BINS, min(max(known, default=0.0), elapsed_s / 4))
    width_s = bin_width_s(elapsed_s, done, floor_s)
    edges_s = bin_edges_s(elapsed_s, width_s)
    rates = np.array([_rates(run, edges_s) for run in runs])
    return Curve(edges_s, np.median(rates, axis=0), rates.min(axis=0), rates.max(axis=0), width_s)


def _rates(run: RunTimes, edges_s: Floats) -> Floats:
    ends_s = np.asarray(run.ends_s, dtype=float)
    counts, _ = np.histogram(ends_s[~np.isnan(ends_s)], edges_s)
    rates: Floats = counts * run.weight / np.diff(edges_s)
    return rates


def draw(source: RaceSnapshot, scale: float = 2.0) -> Card:
    """Draw a race.

    Args:
        source: the race so far.
        scale: device pixels a CSS pixel.
    """
    with plain_style():
        lines = [(words if not bad else f"▲ {words}", RED if bad else TEXT_COLOR) for words, bad in source.lines]
        bars_px = _ROW_PX * len(source.rows)
        card = Card(18 + _CURVES_PX + _FOOT_PX + 18 + bars_px + 12, lines, scale)
        card.title("race", "#3f4650", source.label, source.subtitle)
        curves = {row.pool: curve_of(row.runs or ((row.now,) if row.now else ())) for row in source.rows}
        _draw_curves(card, {pool: curve for pool, curve in curves.items() if curve}, source)
        card.top += _FOOT_PX
        _draw_bars(card, source)
        return card


def _draw_curves(card: Card, curves: dict[str, Curve], source: RaceSnapshot) -> None:
    spread = any(len(row.runs) > 1 for row in source.rows)
    bins = [curve.bin_s for curve in curves.values()]
    note = ""
    if bins:
        least, most = format_duration(min(bins)), format_duration(max(bins))
        note = f"mean of each {least}" if least == most else f"means over {least} to {most}"
        note += "; median of the runs, lowest to highest" if spread else ""
    axes = card.panel("throughput", _CURVES_PX, "throughput, tasks/s", note, right=_LABELS_PX)
    span_s = max((float(curve.edges_s[-1]) for curve in curves.values()), default=1.0)
    unit_s, unit = (60.0, "min") if span_s >= 180 else (1.0, "s") if span_s >= 1 else (1e-3, "ms")
    for pool, curve in curves.items():
        color, edges = pool_color(pool), curve.edges_s / unit_s
        if spread:
            axes.stairs(
                curve.high, edges, baseline=curve.low, fill=True, color=color, alpha=0.25, lw=0, gid=f"{pool} spread"
            )
        else:
            axes.stairs(curve.middle, edges, fill=True, color=color, alpha=0.14, lw=0, gid=f"{pool} area")
        # Down to zero at the end, where the pool had finished.
        axes.stairs(curve.middle, edges, baseline=0, color=color, lw=1.7 * PT, gid=pool)
    top = max((float(curve.high.max()) for curve in curves.values()), default=1.0)
    axes.set_xlim(0, span_s / unit_s)
    axes.set_ylim(0, top * 1.12 or 1)
    axes.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10], min_n_ticks=2))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: format_count(value)))
    label_x(axes, f"time since each run's start, {unit}")
    _label_curves(axes, curves, unit_s)


def _label_curves(axes: Axes, curves: dict[str, Curve], unit_s: float) -> None:
    """Write each pool's name to the right of its curve's end, at its mean height, clear of each other."""
    low, high = axes.get_ylim()
    line_height = (high - low) * 17 / _CURVES_PX
    span = axes.get_xlim()[1]
    label_width = span * 74 / (WIDTH_PX - LEFT_PX - _LABELS_PX)
    placed: list[tuple[float, float]] = []
    for pool, curve in sorted(curves.items(), key=lambda pair: -float(np.mean(pair[1].middle))):
        x = float(curve.edges_s[-1]) / unit_s
        y = min(float(np.mean(curve.middle)), high - line_height / 2)
        while any(abs(x - other_x) < label_width and abs(y - other_y) < line_height for other_x, other_y in placed):
            y -= line_height / 4
        y = max(y, line_height / 2) if not placed else y
        placed.append((x, y))
        axes.annotate(
            pool,
            (x, y),
            xytext=(5 * PT, 0),
            textcoords="offset points",
            va="center",
            color=_darker(pool_color(pool)),
            weight="bold",
            fontsize=12 * PT,
            annotation_clip=False,
            gid=f"{pool} name",
        )


def _draw_bars(card: Card, source: RaceSnapshot) -> None:
    """Draw a bar a pool: the median throughput, a whisker from the lowest to the highest, and the figures."""
    card.top += 18
    several = any(len(row.rates) > 1 for row in source.rows)
    words = "whole runs, tasks/s" if not several else "whole runs, tasks/s: median, lowest and highest"
    card.write(INDENT_PX, card.top - 8, words, fontsize=11 * PT, gid="quantity")
    height = _ROW_PX * len(source.rows)
    left, width = 96, _BAR_PX
    axes = card.figure.add_axes(
        (left / card.width, 1 - (card.top + height) / card.height, width / card.width, height / card.height),
        label="bars",
    )
    axes.axis("off")
    most = max((max(row.rates) for row in source.rows if row.rates), default=1.0) or 1.0
    axes.set_xlim(0, most)
    axes.set_ylim(len(source.rows) - 0.5, -0.5)
    for at, row in enumerate(source.rows):
        y = card.top + _ROW_PX * (at + 0.5)
        color = pool_color(row.pool)
        pill = {"boxstyle": "round,pad=0.22,rounding_size=0.4", "facecolor": color, "edgecolor": "none"}
        card.write(
            INDENT_PX + 3,
            y,
            row.pool,
            color=text_color_on(color),
            weight="bold",
            fontsize=11 * PT,
            bbox=pill,
            gid="badge",
        )
        if not row.rates:
            ink = RED if row.failed else MUTED
            card.write(left + 6, y, shortened(row.text, 92), color=ink, fontsize=11 * PT, gid=f"{row.pool} words")
            continue
        middle = median(row.rates)
        axes.barh(at, middle, height=0.52, color=color, gid=f"{row.pool} bar")
        if len(row.rates) > 1:
            ends = [min(row.rates), max(row.rates)]
            axes.plot(ends, [at, at], color=TEXT_COLOR, lw=1.4 * PT, marker="|", ms=8 * PT, gid=f"{row.pool} whisker")
        x = left + width * max(row.rates) / most
        x = card.write(
            x + 8, y, f"{format_count(middle)} tasks/s", weight="bold", fontsize=11 * PT, gid=f"{row.pool} rate"
        )
        card.write(x + 12, y, row.text, color=MUTED, fontsize=11 * PT, gid=f"{row.pool} words")
    card.top += height


def _darker(color: str) -> str:
    """Darken a colour until it reads as text on the card: a fifth off."""
    return "#" + "".join(f"{int(int(color[at : at + 2], 16) * 0.8):02x}" for at in (1, 3, 5))
