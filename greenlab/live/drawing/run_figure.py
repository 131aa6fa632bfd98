"""A run's picture: throughput, tasks in flight and latency over one time axis.

Pure: from a `Picture` to a matplotlib `Figure`, with nothing but Agg, so that neither pyplot's global state
nor a user's style is read or changed. The card is opaque, light and rounded: one picture must do for
light and dark pages, for a saved notebook is read on both.
Must not import: pyplot, ipywidgets, eventlet. Imported late, for matplotlib is heavy.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle, StepPatch
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from greenlab.live.drawing.cached_text import Canvas
from greenlab.live.drawing.png import encode
from greenlab.live.words import (
    INK,
    MUTED,
    RED,
    count_words,
    duration_words,
    ink_on,
    limit_words,
    numbers_line,
    pool_color,
    shortened,
    trouble_lines,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from greenlab.live.drawing.curves import Floats, Picture
    from greenlab.live.snapshot import Facts

WIDTH_PX = 760
"""CSS pixels; the height depends on what there is to show, see `size_px`."""

_DPI = 100
_PT = 72 / _DPI  # points a CSS pixel
_CARD, _EDGE, _GRID = "#fcfcfa", "#d9dad6", "#e7e8e4"
_SHADE, _PALE_RED = "#8a8f98", "#efbfb6"
_LEFT, _RIGHT, _INDENT = 58, 22, 20
_LABEL_CHARS, _LINE_CHARS = 56, 108
_CAPTION, _GAP, _FOOT = 22, 12, 42
_TITLE, _NO_TITLE, _LINE = 66, 8, 22
_HEIGHTS = {"throughput": 138, "in flight": 50, "latency": 50}
_MIN_SPAN_S = 1e-6
_UNITS = ((7200.0, 3600.0, "h"), (180.0, 60.0, "min"), (1.0, 1.0, "s"), (0.0, 1e-3, "ms"))


class RunFigure(Figure):
    """A figure that a notebook shows by itself: IPython knows plain ones only once pyplot was set up."""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        width, height = (round(inches * _DPI) for inches in self.get_size_inches())
        return png(self), {"width": width, "height": height}


def panels(picture: Picture) -> list[str]:
    """Name the panels that the picture has data for, from the top."""
    known = ["throughput", "in flight"]
    # A run that goes on may come to know its latency, and a panel that appears would move the page.
    return [*known, "latency"] if picture.facts.running or np.isfinite(picture.p50_s).any() else known


def _title_height(facts: Facts) -> int:
    if not facts.titled:
        return _NO_TITLE
    return _TITLE + _LINE * len(trouble_lines(facts, _LINE_CHARS))


def size_px(picture: Picture) -> tuple[int, int]:
    """Width and height in CSS pixels."""
    names = panels(picture)
    heights = sum(_CAPTION + _HEIGHTS[name] for name in names)
    return WIDTH_PX, _title_height(picture.facts) + heights + _GAP * (len(names) - 1) + _FOOT


def draw(picture: Picture, scale: float = 2.0) -> RunFigure:
    """Draw a run.

    Args:
        picture: its curves and what is said beside them.
        scale: device pixels a CSS pixel.

    Returns:
        a figure with an Agg canvas; `png` gives its bytes.
    """
    with mpl.rc_context(_plain_style()):
        figure = _furnish(picture, scale)
        _ink(figure, picture)
    return figure


class Redrawer:
    """Draws picture after picture of runs that go on: what they have in common is made once, for it is half the work.

    Args:
        scale: device pixels a CSS pixel.
    """

    def __init__(self, scale: float) -> None:
        self._scale = scale
        self._figure: RunFigure | None = None
        self._layout: object = None

    def draw(self, picture: Picture) -> RunFigure:
        """Draw a run. The figure is good until the next one is drawn."""
        layout = (panels(picture), size_px(picture))
        with mpl.rc_context(_plain_style()):
            if self._figure is None or layout != self._layout:
                self._figure, self._layout = _furnish(picture, self._scale), layout
            else:
                _wipe(self._figure)
            _ink(self._figure, picture)
        return self._figure


def _furnish(picture: Picture, scale: float) -> RunFigure:
    """Make what does not depend on a run's curves: the card and the panels with their axes."""
    width, height = size_px(picture)
    figure = RunFigure(figsize=(width / _DPI, height / _DPI), dpi=_DPI * scale, facecolor="none")
    Canvas(figure)
    _card(figure, width, height)
    top = _title_height(picture.facts)
    names = panels(picture)
    for name in names:
        top += _CAPTION
        box = (
            _LEFT / width,
            1 - (top + _HEIGHTS[name]) / height,
            1 - (_LEFT + _RIGHT) / width,
            _HEIGHTS[name] / height,
        )
        _dress(figure.add_axes(box, label=name), last=name == names[-1])
        top += _HEIGHTS[name] + _GAP
    return figure


def _ink(figure: RunFigure, picture: Picture) -> None:
    """Draw what does depend on the curves."""
    if picture.facts.titled:
        _title(figure, picture, size_px(picture)[1])
    drawers = {"throughput": _throughput, "in flight": _in_flight, "latency": _latency}
    for axes in figure.axes:
        _time(axes, picture, last=axes is figure.axes[-1])
        drawers[str(axes.get_label())](axes, picture)


def _wipe(figure: RunFigure) -> None:
    """Take away what `_ink` has drawn."""
    for text in list(figure.texts):
        text.remove()
    for axes in figure.axes:
        for artist in [*axes.patches, *axes.lines]:
            artist.remove()


def png(figure: RunFigure) -> bytes:
    """Render a figure to a PNG, at its own resolution."""
    canvas = cast("FigureCanvasAgg", figure.canvas)
    canvas.draw()
    return encode(np.asarray(canvas.buffer_rgba()))


def _plain_style() -> dict[str, Any]:
    rooms = {"font", "text", "axes", "xtick", "ytick", "lines", "patch", "path", "figure", "savefig"}
    style = {key: value for key, value in mpl.rcParamsDefault.items() if key.split(".")[0] in rooms}
    return style | {"font.size": 11 * _PT, "text.color": INK, "xtick.color": MUTED, "ytick.color": MUTED}


def _card(figure: Figure, width: int, height: int) -> None:
    figure.add_artist(
        FancyBboxPatch(
            (0.5 / width, 0.5 / height),
            1 - 1 / width,
            1 - 1 / height,
            boxstyle="round,pad=0,rounding_size=" + str(8 / width),
            mutation_aspect=width / height,
            transform=figure.transFigure,
            facecolor=_CARD,
            edgecolor=_EDGE,
            linewidth=_PT,
            zorder=-10,
            gid="card",
        )
    )


def _title(figure: Figure, picture: Picture, height: int) -> None:
    facts = picture.facts
    color = pool_color(facts.pool)
    label = shortened(facts.label, _LABEL_CHARS)
    pill = {"boxstyle": "round,pad=0.32,rounding_size=0.5", "facecolor": color, "edgecolor": "none"}
    x = _write(
        figure,
        _INDENT + 3,
        22,
        facts.pool,
        height,
        color=ink_on(color),
        weight="bold",
        bbox=pill,
        gid="badge",
    )
    x = _write(figure, x + 14, 22, label, height, weight="bold", fontsize=13 * _PT, gid="label")
    _write(figure, x + 10, 22, limit_words(facts), height, color=MUTED)
    x = _INDENT
    for words, is_bad in numbers_line(facts):
        style: dict[str, Any] = {"color": RED, "weight": "bold"} if is_bad else {}
        x = 18 + _write(figure, x, 47, words, height, gid="number", **style)
    for number, words in enumerate(trouble_lines(facts, _LINE_CHARS), 1):
        _write(figure, _INDENT, 47 + _LINE * number, words, height, color=RED, gid="trouble")


def _write(figure: Figure, x: float, y: float, words: str, height: int, **style: Any) -> float:
    """Write at CSS pixels from the card's top left corner; return where the words end."""
    given: dict[str, Any] = {"fontsize": 12 * _PT, "va": "center_baseline", "parse_math": False} | style
    text = figure.text(x / WIDTH_PX, 1 - y / height, words, **given)
    return float(text.get_window_extent().x1) * _DPI / figure.dpi


def _dress(axes: Axes, *, last: bool) -> None:
    axes.patch.set_visible(False)
    axes.spines[["top", "left", "right"]].set_visible(False)
    axes.spines["bottom"].set(color=_SHADE, linewidth=_PT)
    axes.tick_params(length=3 * _PT, width=_PT, color=_SHADE, labelsize=10.5 * _PT, pad=3 * _PT)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]) if last else NullLocator())
    axes.grid(axis="y", color=_GRID, linewidth=_PT)
    axes.set_axisbelow(True)


def _time(axes: Axes, picture: Picture, *, last: bool) -> None:
    """Scale the time axis, and shade the times at which nothing could switch."""
    span_s = max(float(picture.edges_s[-1]), _MIN_SPAN_S)
    unit_s, unit = next((size, name) for least, size, name in _UNITS if span_s >= least)
    axes.set_xlim(0, span_s / unit_s)
    if last:
        axes.set_xlabel(f"time since the start, {unit}", color=MUTED, fontsize=10.5 * _PT, labelpad=2)
    for start_s, end_s in picture.facts.blocked:
        length_s = max(end_s - start_s, span_s / 500)
        shade = Rectangle(
            (start_s / unit_s, 0.0),
            length_s / unit_s,
            1.0,
            transform=axes.get_xaxis_transform(),
            color=_SHADE,
            alpha=0.28,
            lw=0,
            gid="blocked",
        )
        axes.add_artist(shade)


def _unit_s(picture: Picture) -> float:
    return next(size for least, size, _ in _UNITS if picture.edges_s[-1] >= least)


def _caption(axes: Axes, words: str, note: str = "") -> None:
    """Name a panel's quantity and unit above it, where it reads without turning one's head."""
    figure, top = _above(axes)
    axes.set_ylabel(words, rotation=0, ha="left", va="bottom", color=INK, fontsize=11 * _PT)
    axes.yaxis.set_label_coords(_INDENT / WIDTH_PX, top, transform=figure.transFigure)
    if note:
        shift = axes.yaxis.label.get_window_extent().width * _DPI / figure.dpi + 10
        at = (_INDENT + shift) / WIDTH_PX
        figure.text(at, top, note, va="bottom", color=MUTED, fontsize=10.5 * _PT, gid="note")


def _above(axes: Axes) -> tuple[Figure, float]:
    """Find the figure, and the height in it at which a panel's caption stands."""
    figure = cast("Figure", axes.figure)
    return figure, axes.get_position().y1 + 6 / _DPI / figure.get_figheight()


def _keys(axes: Axes, keys: list[tuple[str, str, str]]) -> None:
    """Explain marks (mark, words, colour of the mark) at the right end of a panel's caption."""
    figure, top = _above(axes)
    x: float = WIDTH_PX - _RIGHT
    for mark, words, color in reversed(keys):
        for part, ink, gap in ((words, MUTED, 4), (mark, color, 14)):
            style: dict[str, Any] = {
                "ha": "right",
                "va": "bottom",
                "color": ink,
                "fontsize": 10.5 * _PT,
                "gid": "key",
            }
            text = figure.text(x / WIDTH_PX, top, part, **style)
            x -= text.get_window_extent().width * _DPI / figure.dpi + gap


def _scale(axes: Axes, top: float, formatter: Any, ticks: int) -> None:
    axes.set_ylim(0, top * 1.06 if top > 0 else 1)
    axes.yaxis.set_major_locator(MaxNLocator(ticks, steps=[1, 2, 2.5, 5, 10], min_n_ticks=2))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: formatter(value)))


def _throughput(axes: Axes, picture: Picture) -> None:
    facts, edges = picture.facts, picture.edges_s / _unit_s(picture)
    _area(axes, picture.throughput, edges, pool_color(facts.pool), "throughput")
    top = _top(picture.throughput)
    _scale(axes, top, count_words, 4)
    one_bin = len(picture.throughput) == 1
    keys = []
    if not facts.running and not one_bin and facts.throughput:
        axes.axhline(facts.throughput, color=INK, linewidth=_PT, linestyle=(0, (1, 2.5)), gid="mean")
        keys.append(("┈", f"mean {count_words(facts.throughput)}", INK))
    if facts.failed:
        _failures(axes, picture.errors, picture.error_edges_s / _unit_s(picture), top)
        keys.append(("■", "failed", RED))
    if facts.blocked:
        keys.append(("■", "hub blocked", _SHADE))
    _caption(
        axes,
        "throughput, tasks/s",
        "mean over the whole run" if one_bin else f"mean of each {duration_words(picture.bin_s)}",
    )
    _keys(axes, keys)


def _failures(axes: Axes, errors: Floats, edges: Floats, top: float) -> None:
    _steps(axes, errors, edges, baseline=0, fill=True, facecolor=_PALE_RED, linewidth=0, gid="failed area")
    _steps(axes, errors, edges, edgecolor=RED, linewidth=1.5 * _PT, gid="failed")
    # A few failures among many tasks are an area too thin to see.
    few = (errors > 0) & (errors < 0.03 * top)
    middles = (edges[:-1] + edges[1:])[few] / 2
    style: dict[str, Any] = {
        "color": RED,
        "ms": 11 * _PT,
        "mew": 1.8 * _PT,
        "clip_on": False,
        "gid": "failures",
    }
    axes.plot(middles, np.zeros(len(middles)), "|", **style)


def _in_flight(axes: Axes, picture: Picture) -> None:
    edges = picture.flight_edges_s / _unit_s(picture)
    _area(axes, picture.in_flight, edges, pool_color(picture.facts.pool), "in flight")
    dashes: dict[str, Any] = {"linewidth": _PT, "linestyle": (0, (4, 3)), "gid": "limit"}
    if len(picture.limit) == 1:
        axes.axhline(picture.limit[0], color=MUTED, **dashes)
    else:
        _steps(axes, picture.limit, picture.limit_edges_s / _unit_s(picture), edgecolor=MUTED, **dashes)
    _scale(axes, max(_top(picture.limit), _top(picture.in_flight)), count_words, 2)
    _caption(axes, "in flight, tasks")
    _keys(axes, [("╌", f"limit {limit_words(picture.facts)}", MUTED)])


def _latency(axes: Axes, picture: Picture) -> None:
    color = pool_color(picture.facts.pool)
    edges = picture.edges_s / _unit_s(picture)
    _steps(axes, picture.p99_s, edges, edgecolor=color, alpha=0.6, linewidth=1.1 * _PT, gid="p99")
    _steps(axes, picture.p50_s, edges, edgecolor=color, linewidth=2.2 * _PT, gid="p50")
    top = _top(picture.p99_s)
    unit_s, unit = (1.0, "s") if top >= 1 else (1e-3, "ms") if top >= 1e-3 else (1e-6, "µs")
    _scale(axes, top, lambda value: count_words(value / unit_s), 2)
    axes.yaxis.set_major_locator(_InUnit(unit_s))
    _caption(axes, f"latency, {unit}", "of the tasks that ended then")
    _keys(axes, [("━", "p50", color), ("─", "p99", color)])


class _InUnit(MaxNLocator):
    """Round ticks in a unit that is not the data's."""

    def __init__(self, unit_s: float) -> None:
        super().__init__(2, steps=[1, 2, 5, 10], min_n_ticks=2)
        self._unit_s = unit_s

    def tick_values(self, vmin: float, vmax: float) -> Any:
        return np.asarray(super().tick_values(vmin / self._unit_s, vmax / self._unit_s)) * self._unit_s


def _area(axes: Axes, values: Floats, edges: Floats, color: str, gid: str) -> None:
    _steps(axes, values, edges, baseline=0, fill=True, facecolor=color, alpha=0.22, linewidth=0, gid=f"{gid} area")
    _steps(axes, values, edges, edgecolor=color, linewidth=1.5 * _PT, gid=gid)


def _steps(axes: Axes, values: Floats, edges: Floats, *, baseline: float | None = None, **style: Any) -> None:
    """Draw what `Axes.stairs` draws. That one looks for limits too, edge by edge, and ours are set: see `_scale`."""
    given: Any = {"fill": False, "joinstyle": "miter", "baseline": baseline} | style
    axes.add_artist(StepPatch(values, edges, **given))


def _top(values: Floats) -> float:
    top = float(np.nanmax(values)) if np.isfinite(values).any() else 0.0
    return top if math.isfinite(top) else 0.0
