"""A run's picture: throughput, tasks in flight and latency over one time axis.

Pure: from a `Picture` to a matplotlib `Figure`, on the card of `greenlab.live.drawing.style`.
Must not import: pyplot, ipywidgets, eventlet. Imported late, because matplotlib is heavy.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from matplotlib.patches import Rectangle, StepPatch
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from greenlab.live.drawing.cached_text import CachedTextCanvas
from greenlab.live.drawing.style import (
    DPI,
    INDENT_PX,
    LEFT_PX,
    LINE_CHARS,
    MUTED,
    PALE_RED,
    PT,
    RIGHT_PX,
    SHADE,
    TEXT_COLOR,
    WIDTH_PX,
    draw_grid,
    label_x,
    new_card,
    plain_style,
    style_axes,
    write,
    write_title,
)
from greenlab.live.words import (
    RED,
    format_count,
    format_duration,
    limit_text,
    numbers_line,
    picture_words,
    pool_color,
    problem_lines,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import Locator

    from greenlab.live.drawing.curves import Floats, Picture
    from greenlab.live.drawing.style import CardFigure
    from greenlab.live.snapshot import Facts

_CAPTION, _GAP, _FOOT = 22, 12, 42
_TITLE, _NO_TITLE, _LINE = 66, 8, 22
_HEIGHTS = {"throughput": 138, "in flight": 50, "latency": 50}
_FAR_BELOW = 5
"""What is in flight is drawn to its own scale where the limit is more than so many times as high."""
_MIN_SPAN_S = 1e-3
"""A run that never began took no time at all."""
_UNITS = ((7200.0, 3600.0, "h"), (180.0, 60.0, "min"), (1.0, 1.0, "s"), (0.0, 1e-3, "ms"))


def panels(picture: Picture) -> list[str]:
    """Return the names of the panels that the picture has data for, from the top."""
    if not picture.facts.begun and not picture.facts.running:
        return []
    known = [] if picture.facts.fruitless else ["throughput"]
    known += ["in flight"] if np.isfinite(picture.in_flight).any() else []
    # The latency of a run that goes on may become known later, and a panel that appears then would move the page.
    return [*known, "latency"] if picture.facts.running or np.isfinite(picture.p50_s).any() else known


def title_height(facts: Facts) -> int:
    """Return the height of the title in CSS pixels."""
    if not facts.titled:
        return _NO_TITLE
    return _TITLE + _LINE * len(problem_lines(facts, LINE_CHARS))


def size_px(picture: Picture) -> tuple[int, int]:
    """Return the width and the height of the figure in CSS pixels."""
    names = panels(picture)
    if not names:
        return WIDTH_PX, title_height(picture.facts) + _NO_TITLE
    heights = sum(_CAPTION + _HEIGHTS[name] for name in names)
    return WIDTH_PX, title_height(picture.facts) + heights + _GAP * (len(names) - 1) + _FOOT


def draw(picture: Picture, scale: float = 2.0) -> CardFigure:
    """Draw a run.

    Args:
        picture: its curves, and the facts beside them.
        scale: device pixels a CSS pixel.

    Returns:
        a figure with an Agg canvas; `greenlab.live.drawing.style.to_png` returns its bytes.
    """
    with plain_style():
        figure = _new_figure(picture, scale)
        _draw_curves(figure, picture)
    figure.alt = picture_words(picture.facts)
    return figure


class Redrawer:
    """Draws picture after picture of runs that go on. What they have in common is made once: it is half the work.

    Args:
        scale: device pixels a CSS pixel.
    """

    def __init__(self, scale: float) -> None:
        self._scale = scale
        self._figure: CardFigure | None = None
        self._layout: object = None

    def draw(self, picture: Picture) -> CardFigure:
        """Draw a run. The figure is good until the next one is drawn."""
        layout = (panels(picture), size_px(picture))
        with plain_style():
            if self._figure is None or layout != self._layout:
                self._figure, self._layout = _new_figure(picture, self._scale), layout
            else:
                _clear(self._figure)
            _draw_curves(self._figure, picture)
        return self._figure


def _new_figure(picture: Picture, scale: float) -> CardFigure:
    """Return the card with its empty panels: what does not depend on the curves."""
    width, height = size_px(picture)
    figure = new_card(height, scale, CachedTextCanvas)
    top = title_height(picture.facts)
    names = panels(picture)
    for name in names:
        top += _CAPTION
        box = (
            LEFT_PX / width,
            1 - (top + _HEIGHTS[name]) / height,
            1 - (LEFT_PX + RIGHT_PX) / width,
            _HEIGHTS[name] / height,
        )
        axes = figure.add_axes(box, label=name)
        style_axes(axes)
        axes.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]) if name == names[-1] else NullLocator())
        draw_grid(axes)
        top += _HEIGHTS[name] + _GAP
    return figure


def _draw_curves(figure: CardFigure, picture: Picture) -> None:
    """Draw what depends on the curves."""
    facts = picture.facts
    if facts.titled:
        draw_title(figure, facts)
    drawers = {"throughput": _draw_throughput, "in flight": _draw_in_flight, "latency": _draw_latency}
    for axes in figure.axes:
        draw_time_axis(axes, float(picture.edges_s[-1]), facts.blocked, last=axes is figure.axes[-1])
        drawers[str(axes.get_label())](axes, picture)


def _clear(figure: CardFigure) -> None:
    """Remove what `_draw_curves` has drawn."""
    for text in list(figure.texts):
        text.remove()
    for axes in figure.axes:
        for artist in [*axes.patches, *axes.lines]:
            artist.remove()


def draw_title(figure: Figure, facts: Facts) -> None:
    """Write what runs, its numbers, and what went wrong."""
    write_title(figure, facts.pool, pool_color(facts.pool), facts.label, limit_text(facts))
    x: float = INDENT_PX
    for text, is_bad in numbers_line(facts):
        style: dict[str, Any] = {"color": RED, "weight": "bold"} if is_bad else {}
        x = 18 + write(figure, x, 47, text, gid="number", **style)
    for number, text in enumerate(problem_lines(facts, LINE_CHARS), 1):
        write(figure, INDENT_PX, 47 + _LINE * number, text, color=RED, gid="trouble")


def time_unit(span_s: float) -> tuple[float, str]:
    """Return the unit of a time axis, in seconds, and its name."""
    return next((size, name) for least, size, name in _UNITS if span_s >= least)


def draw_time_axis(axes: Axes, span_s: float, blocked: Sequence[tuple[float, float]], *, last: bool) -> None:
    """Scale the time axis, and shade the times in which the hub was blocked.

    Args:
        axes: what it belongs to.
        span_s: how long it is, in seconds.
        blocked: start and end of each block, in seconds.
        last: whether nothing stands below the axes, so that the quantity is written there.
    """
    span_s = max(span_s, _MIN_SPAN_S)
    unit_s, unit = time_unit(span_s)
    axes.set_xlim(0, span_s / unit_s)
    if last:
        label_x(axes, f"time since the start, {unit}")
    for start_s, end_s in blocked:
        length_s = max(end_s - start_s, span_s / 500)
        shade = Rectangle(
            (start_s / unit_s, 0.0),
            length_s / unit_s,
            1.0,
            transform=axes.get_xaxis_transform(),
            color=SHADE,
            alpha=0.28,
            lw=0,
            gid="blocked",
        )
        axes.add_artist(shade)


def _unit_s(picture: Picture) -> float:
    return time_unit(float(picture.edges_s[-1]))[0]


def draw_caption(axes: Axes, words: str, note: str = "") -> None:
    """Write a panel's quantity and unit above it, where they are read without turning one's head."""
    figure, top = _caption_position(axes)
    axes.set_ylabel(words, rotation=0, ha="left", va="bottom", color=TEXT_COLOR, fontsize=11 * PT)
    axes.yaxis.set_label_coords(INDENT_PX / WIDTH_PX, top, transform=figure.transFigure)
    if note:
        shift = axes.yaxis.label.get_window_extent().width * DPI / figure.dpi + 10
        at = (INDENT_PX + shift) / WIDTH_PX
        figure.text(at, top, note, va="bottom", color=MUTED, fontsize=10.5 * PT, gid="note")


def _caption_position(axes: Axes) -> tuple[Figure, float]:
    """Return the figure, and the height in it at which a panel's caption stands."""
    figure = cast("Figure", axes.figure)
    return figure, axes.get_position().y1 + 6 / DPI / figure.get_figheight()


def draw_legend(axes: Axes, keys: list[tuple[str, str, str]]) -> None:
    """Explain marks (mark, text, colour of the mark) at the right end of a panel's caption."""
    figure, top = _caption_position(axes)
    x: float = WIDTH_PX - RIGHT_PX
    for mark, words, color in reversed(keys):
        for part, ink, gap in ((words, MUTED, 4), (mark, color, 14)):
            style: dict[str, Any] = {
                "ha": "right",
                "va": "bottom",
                "color": ink,
                "fontsize": 10.5 * PT,
                "gid": "key",
            }
            text = figure.text(x / WIDTH_PX, top, part, **style)
            x -= text.get_window_extent().width * DPI / figure.dpi + gap


def _set_y_scale(axes: Axes, top: float, formatter: Any, locator: Locator) -> None:
    """Scale the axis from 0 to `top`; where nothing is known yet, it has no figure but the 0."""
    axes.set_ylim(0, top * 1.06 if top > 0 else 1)
    axes.yaxis.set_major_locator(locator if top > 0 else FixedLocator([0]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: formatter(value)))


def _draw_throughput(axes: Axes, picture: Picture) -> None:
    facts, edges = picture.facts, picture.edges_s / _unit_s(picture)
    _draw_area(axes, picture.throughput, edges, pool_color(facts.pool), "throughput")
    top = _maximum(picture.throughput)
    _set_y_scale(axes, top, format_count, MaxNLocator(4, steps=[1, 2, 2.5, 5, 10], min_n_ticks=2))
    one_bin = len(picture.throughput) == 1
    keys = []
    if not facts.running and not one_bin and facts.throughput and facts.failed < facts.done_here:
        axes.axhline(facts.throughput, color=TEXT_COLOR, linewidth=PT, linestyle=(0, (1, 2.5)), gid="mean")
        keys.append(("┈", f"mean {format_count(facts.throughput)}", TEXT_COLOR))
    if facts.failed:
        _draw_failures(axes, picture.errors, picture.error_edges_s / _unit_s(picture), top)
        keys.append(("■", "failed", RED))
    if facts.blocked:
        keys.append(("■", "hub blocked", SHADE))
    draw_caption(
        axes,
        "throughput, tasks/s",
        "no task has ended yet"
        if not facts.done
        else ("mean over the whole run" if one_bin else f"mean of each {format_duration(picture.bin_s)}"),
    )
    draw_legend(axes, keys)


def _draw_failures(axes: Axes, errors: Floats, edges: Floats, top: float) -> None:
    _draw_steps(axes, errors, edges, baseline=0, fill=True, facecolor=PALE_RED, linewidth=0, gid="failed area")
    # No line where none failed, or few did among many tasks, whose area is too thin to see: along the axis it would
    # look like failures all the time.
    few = (errors > 0) & (errors < 0.03 * top)
    some = np.where((errors > 0) & ~few, errors, np.nan)
    _draw_steps(axes, some, edges, edgecolor=RED, linewidth=1.5 * PT, gid="failed")
    middles = (edges[:-1] + edges[1:])[few] / 2
    style: dict[str, Any] = {
        "color": RED,
        "ms": 11 * PT,
        "mew": 1.8 * PT,
        "clip_on": False,
        "gid": "failures",
    }
    axes.plot(middles, np.zeros(len(middles)), "|", **style)


def _draw_in_flight(axes: Axes, picture: Picture) -> None:
    edges = picture.flight_edges_s / _unit_s(picture)
    flight, limit = _maximum(picture.in_flight), _maximum(picture.limit)
    beyond = limit > _FAR_BELOW * max(flight, 1.0)
    _draw_area(axes, picture.in_flight, edges, pool_color(picture.facts.pool), "in flight")
    dashes: dict[str, Any] = {"linewidth": PT, "linestyle": (0, (4, 3)), "gid": "limit"}
    if len(picture.limit) == 1 and not beyond:
        axes.axhline(picture.limit[0], color=MUTED, **dashes)
    elif not beyond:
        _draw_steps(axes, picture.limit, picture.limit_edges_s / _unit_s(picture), edgecolor=MUTED, **dashes)
    top = max(flight, 1.0) if beyond else max(limit, flight)
    _set_y_scale(axes, top, format_count, MaxNLocator(2, steps=[1, 2, 2.5, 5, 10], integer=True, min_n_ticks=2))
    draw_caption(axes, "in flight, tasks")
    # The auto pool may allow fewer than were asked for, and more workers than one option names.
    asked = picture.limit[-1] == picture.facts.concurrency
    words = f"limit {limit_text(picture.facts)}" if asked else "limit"
    if beyond:
        draw_legend(axes, [("↑", f"{words}, beyond the axis", MUTED)])
    elif math.isfinite(picture.limit[-1]):
        draw_legend(axes, [("╌", words, MUTED)])


def _draw_latency(axes: Axes, picture: Picture) -> None:
    color = pool_color(picture.facts.pool)
    edges = picture.edges_s / _unit_s(picture)
    _draw_steps(axes, picture.p99_s, edges, edgecolor=color, alpha=0.6, linewidth=1.1 * PT, gid="p99")
    _draw_steps(axes, picture.p50_s, edges, edgecolor=color, linewidth=2.2 * PT, gid="p50")
    top = _maximum(picture.p99_s)
    unit_s, unit = (1.0, "s") if top >= 1 else (1e-3, "ms") if top >= 1e-3 else (1e-6, "µs")
    _set_y_scale(axes, top, lambda value: format_count(value / unit_s), _UnitLocator(unit_s))
    if top > 0:
        draw_caption(axes, f"latency, {unit}", "of the tasks that ended then")
    else:
        draw_caption(axes, "latency", "" if picture.facts.done else "no task has ended yet")
    draw_legend(axes, [("━", "p50", color), ("─", "p99", color)])


class _UnitLocator(MaxNLocator):
    """Round ticks in a unit that is not the data's."""

    def __init__(self, unit_s: float) -> None:
        super().__init__(2, steps=[1, 2, 5, 10], min_n_ticks=2)
        self._unit_s = unit_s

    def tick_values(self, vmin: float, vmax: float) -> Any:
        return np.asarray(super().tick_values(vmin / self._unit_s, vmax / self._unit_s)) * self._unit_s


def _draw_area(axes: Axes, values: Floats, edges: Floats, color: str, gid: str) -> None:
    _draw_steps(axes, values, edges, baseline=0, fill=True, facecolor=color, alpha=0.22, linewidth=0, gid=f"{gid} area")
    _draw_steps(axes, values, edges, edgecolor=color, linewidth=1.5 * PT, gid=gid)


def _draw_steps(axes: Axes, values: Floats, edges: Floats, *, baseline: float | None = None, **style: Any) -> None:
    """Draw what `Axes.stairs` draws. That one updates the limits too, edge by edge; here `_set_y_scale` sets them."""
    given: Any = {"fill": False, "joinstyle": "miter", "baseline": baseline} | style
    axes.add_artist(StepPatch(values, edges, **given))


def _maximum(values: Floats) -> float:
    top = float(np.nanmax(values)) if np.isfinite(values).any() else 0.0
    return top if math.isfinite(top) else 0.0
