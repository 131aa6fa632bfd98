"""A timeline's picture: a lane a green thread; who held the hub, what it waited for, and what blocked the hub.

Pure: from a timeline's lanes to a matplotlib figure, on the same card as a run's picture. What is closer together than
a pixel is drawn as one, so that a hundred thousand switches cost no more than a few thousand.

Must not import: pyplot, ipywidgets, eventlet, runs. Imported late, for matplotlib is heavy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.ticker import MaxNLocator

from greenlab.live.drawing.run_figure import (
    _DPI,
    _INDENT,
    _PT,
    _SHADE,
    WIDTH_PX,
    RunFigure,
    _card,
    _plain_style,
    _write,
)
from greenlab.live.words import INK, MUTED, RED, count_words, duration_words, shortened

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from matplotlib.axes import Axes

MAX_LANES = 32
"""Lanes drawn; of more, those that held the hub longest."""
KIND_COLORS = {
    "socket": "#56b4e9",
    "sleep": "#b9bdc4",
    "lock": "#e69f00",
    "queue": "#cc79a7",
    "other": "#dfe1dc",
}
"""A colour a kind of wait, of Okabe and Ito's palette and greys."""

_HOLD = "#00704f"
_LEFT, _RIGHT, _HEAD, _FOOT = 152, 22, 72, 42
_TALL, _SHORT = 20, 13
_NAME_CHARS = 22
_UNITS = ((7200.0, 3600.0, "h"), (180.0, 60.0, "min"), (1.0, 1.0, "s"), (1e-3, 1e-3, "ms"), (0.0, 1e-6, "µs"))

Span = tuple[float, float]


class Drawable(Protocol):
    """A timeline, as its picture sees it; see `greenlab.tracing.timeline`."""

    duration_s: float
    dropped: int

    @property
    def lanes(self) -> Sequence[Any]:
        """Objects with `name`, `held_s`, `held` (start, end, task) and `waited` (start, end, kind)."""

    @property
    def blocked(self) -> Sequence[Span]:
        """From when to when the hub was blocked."""

    @property
    def switches(self) -> int:
        """How often the hub was given up."""


def draw(timeline: Drawable, scale: float = 2.0) -> RunFigure:
    """Draw a timeline.

    Args:
        timeline: what to draw; seconds from its start.
        scale: device pixels a CSS pixel.
    """
    lanes = _chosen(timeline.lanes)
    row = _TALL if len(lanes) <= 16 else _SHORT
    height = _HEAD + row * max(1, len(lanes)) + _FOOT
    with mpl.rc_context(_plain_style()):
        figure = RunFigure(figsize=(WIDTH_PX / _DPI, height / _DPI), dpi=_DPI * scale, facecolor="none")
        FigureCanvasAgg(figure)
        _card(figure, WIDTH_PX, height)
        _head(figure, timeline, len(lanes), height)
        box = (_LEFT / WIDTH_PX, _FOOT / height, 1 - (_LEFT + _RIGHT) / WIDTH_PX, 1 - (_HEAD + _FOOT) / height)
        axes = figure.add_axes(box, label="lanes")
        _dress(axes, timeline, lanes, row)
        pixel_s = timeline.duration_s / (WIDTH_PX - _LEFT - _RIGHT)
        for number, lane in enumerate(lanes):
            _lane(axes, number, lane, timeline.blocked, pixel_s)
    return figure


def _chosen(lanes: Sequence[Any]) -> list[Any]:
    """Choose the lanes that are drawn, in their own order."""
    busiest = sorted(range(len(lanes)), key=lambda number: -lanes[number].held_s)[:MAX_LANES]
    return [lanes[number] for number in sorted(busiest)]


def _head(figure: RunFigure, timeline: Drawable, shown: int, height: int) -> None:
    x = _write(figure, _INDENT, 22, "timeline", height, weight="bold", fontsize=13 * _PT, gid="label")
    count = len(timeline.lanes)
    of = f"{shown} of {count_words(count)}" if shown < count else f"{count}"
    words = f"{of} green threads, {count_words(timeline.switches)} switches in {duration_words(timeline.duration_s)}"
    if timeline.dropped:
        words += f"; {count_words(timeline.dropped)} before them dropped"
    _write(figure, x + 12, 22, words, height, color=MUTED, gid="number")
    kinds = {waited.kind for lane in timeline.lanes for waited in lane.waited}
    keys = [("holds the hub", _HOLD)]
    keys += [(f"waits: {kind}", color) for kind, color in KIND_COLORS.items() if kind in kinds]
    if timeline.blocked:
        keys.append(("blocks the hub", RED))
    x = _INDENT
    for words, color in keys:
        x = _write(figure, x, 49, "■", height, color=color, gid="key") + 4
        x = _write(figure, x, 49, words, height, color=MUTED, fontsize=11 * _PT, gid="key") + 14


def _dress(axes: Axes, timeline: Drawable, lanes: Sequence[Any], row: int) -> None:
    size_s, unit = next((size, name) for least, size, name in _UNITS if timeline.duration_s >= least)
    axes.patch.set_visible(False)
    axes.set_xlim(0, timeline.duration_s or 1.0)
    axes.set_ylim(max(1, len(lanes)) - 0.5, -0.5)
    axes.spines[["top", "left", "right"]].set_visible(False)
    axes.spines["bottom"].set(color=_SHADE, linewidth=_PT)
    axes.tick_params(length=3 * _PT, width=_PT, color=_SHADE, labelsize=10.5 * _PT, pad=3 * _PT)
    axes.tick_params(axis="y", length=0, labelsize=min(10.5, row - 3) * _PT, labelcolor=INK)
    names = [shortened(lane.name, _NAME_CHARS) for lane in lanes]
    axes.set_yticks(range(len(lanes)), names, parse_math=False)
    ticks = MaxNLocator(8, steps=[1, 2, 5, 10]).tick_values(0, (timeline.duration_s or 1.0) / size_s)
    at = [float(tick) for tick in ticks if 0 <= tick * size_s <= timeline.duration_s * (1 + 1e-9)]
    axes.set_xticks([tick * size_s for tick in at], [count_words(round(tick, 9)) for tick in at])
    axes.set_xlabel(f"time since the start, {unit}", color=MUTED, fontsize=10.5 * _PT, labelpad=2)
    for start_s, end_s in timeline.blocked:
        axes.axvspan(start_s, end_s, color=RED, alpha=0.1, lw=0, gid="blocked")


def _lane(axes: Axes, number: int, lane: Any, blocked: Sequence[Span], pixel_s: float) -> None:
    for kind, color in KIND_COLORS.items():
        waits = _merged(((each.start_s, each.end_s) for each in lane.waited if each.kind == kind), pixel_s)
        _bars(axes, waits, number, 0.34, color, f"wait {kind}")
    held = [(each.start_s, each.end_s) for each in lane.held]
    _bars(axes, [_at_least(span, pixel_s) for span in _merged(held, pixel_s / 2)], number, 0.72, _HOLD, "held")
    # It was this lane that blocked the hub, if it held it for most of the block.
    red = [
        span
        for span in held
        for start_s, end_s in blocked
        if min(span[1], end_s) - max(span[0], start_s) > (end_s - start_s) / 2
    ]
    _bars(axes, red, number, 0.72, RED, "blocks")


def _bars(axes: Axes, spans: Iterable[Span], number: int, height: float, color: str, gid: str) -> None:
    bars = [(start_s, end_s - start_s) for start_s, end_s in spans]
    if bars:
        axes.broken_barh(bars, (number - height / 2, height), facecolors=color, linewidth=0, gid=gid)


def _merged(spans: Iterable[Span], gap_s: float) -> Iterator[Span]:
    """Join spans that are closer together than `gap_s`."""
    last: Span | None = None
    for start_s, end_s in spans:
        if last is not None and start_s - last[1] <= gap_s:
            last = last[0], max(last[1], end_s)
            continue
        if last is not None:
            yield last
        last = start_s, end_s
    if last is not None:
        yield last


def _at_least(span: Span, width_s: float) -> Span:
    """Widen what could not be seen."""
    return span[0], max(span[1], span[0] + width_s)
