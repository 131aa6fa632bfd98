"""A timeline's picture, with a lane a green thread: when it held the hub, what it waited for, what blocked the hub.

Pure: from a timeline's lanes to a matplotlib figure, on the same card as a run's picture. What is closer together than
a pixel is drawn as one, so that a hundred thousand switches cost no more than a few thousand.

Must not import: pyplot, ipywidgets, eventlet, runs. Imported late, because matplotlib is heavy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from matplotlib.ticker import MaxNLocator

from greenlab.live.drawing.style import (
    CARD_COLOR,
    INDENT_PX,
    MUTED,
    PT,
    RIGHT_PX,
    TEXT_COLOR,
    WIDTH_PX,
    drawable,
    label_x,
    new_card,
    plain_style,
    style_axes,
    write,
)
from greenlab.live.words import RED, format_count, format_duration, moved_away, shortened
from greenlab.text.format import plural

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from matplotlib.axes import Axes

    from greenlab.live.drawing.style import CardFigure

MAX_LANES = 32
"""Lanes drawn; of more, those that held the hub longest."""
KIND_COLORS = {
    "socket": "#56b4e9",
    "sleep": "#c3c7ce",
    "lock": "#e69f00",
    "queue": "#cc79a7",
    "other": "#787d86",
}
"""A colour a kind of wait, of Okabe and Ito's palette and greys."""
KIND_HATCHES = {"lock": "//////", "queue": "||||||"}
"""Kinds whose colours are near those of others in greys."""
_KIND_MARKS = {"lock": "▨", "queue": "▥"}

_HOLD = "#00704f"
_LEFT, _HEAD, _FOOT = 152, 72, 42
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
        """Objects with `name`, `own`, `held_s`, `holds` (start, end, task) and `waits` (start, end, kind)."""

    @property
    def blocked(self) -> Sequence[Span]:
        """Start and end of each block of the hub."""


def draw(timeline: Drawable, scale: float = 2.0, *, own: bool = False) -> CardFigure:
    """Draw a timeline.

    Args:
        timeline: what to draw; seconds from its start.
        scale: device pixels a CSS pixel.
        own: whether to draw greenlab's own green threads too; one that blocked the hub always is.
    """
    wanted = [lane for lane in timeline.lanes if own or not lane.own or _blocking(lane, timeline.blocked)]
    lanes = _lanes_drawn(wanted)
    row = _TALL if len(lanes) <= 16 else _SHORT
    height = _HEAD + row * max(1, len(lanes)) + _FOOT
    with plain_style():
        figure = new_card(height, scale)
        _draw_head(figure, timeline, wanted, lanes)
        box = (_LEFT / WIDTH_PX, _FOOT / height, 1 - (_LEFT + RIGHT_PX) / WIDTH_PX, 1 - (_HEAD + _FOOT) / height)
        axes = figure.add_axes(box, label="lanes")
        _draw_axes(axes, timeline, lanes, row)
        pixel_s = timeline.duration_s / (WIDTH_PX - _LEFT - RIGHT_PX)
        for number, lane in enumerate(lanes):
            _draw_lane(axes, number, lane, timeline.blocked, pixel_s)
    return figure


def _lanes_drawn(lanes: Sequence[Any]) -> list[Any]:
    """Return the lanes that are drawn, in their own order."""
    busiest = sorted(range(len(lanes)), key=lambda number: -lanes[number].held_s)[:MAX_LANES]
    return [lanes[number] for number in sorted(busiest)]


def _longest(lanes: Sequence[Any], most: int) -> list[Any]:
    """Return the lanes that held the hub longest."""
    return sorted(lanes, key=lambda lane: -lane.held_s)[:most]


def _draw_head(figure: CardFigure, timeline: Drawable, wanted: Sequence[Any], lanes: Sequence[Any]) -> None:
    x = write(figure, INDENT_PX, 22, "timeline", weight="bold", fontsize=13 * PT, gid="label")
    count, shown, switched = len(wanted), len(lanes), sum(len(lane.holds) for lane in wanted)
    of = f"{shown} of {format_count(count)}" if shown < count else f"{count}"
    switches = f"{format_count(switched)} {plural('switch', switched)}"
    words = f"{of} {plural('green thread', count)}, {switches} in {format_duration(timeline.duration_s)}"
    if timeline.dropped:
        words += f"; {format_count(timeline.dropped)} before them dropped"
    write(figure, x + 12, 22, words, color=MUTED, gid="number")
    held = [f"{lane.name} held the hub for {format_duration(lane.held_s)}" for lane in _longest(wanted, 3)]
    figure.alt = "; ".join([f"timeline of {words}", *held, *(["the hub was blocked"] if timeline.blocked else [])])
    kinds = {wait.kind for lane in lanes for wait in lane.waits}
    keys = [("■", "holds the hub", _HOLD)]
    for kind, color in KIND_COLORS.items():
        if kind in kinds:
            hatched = kind in KIND_HATCHES
            keys.append((_KIND_MARKS.get(kind, "■"), f"waits: {kind}", _hatch_color(color) if hatched else color))
    if timeline.blocked:
        keys.append(("■", "blocks the hub", RED))
    x = INDENT_PX
    for mark, words, color in keys:
        x = write(figure, x, 49, mark, color=color, gid="key") + 4
        x = write(figure, x, 49, words, color=MUTED, fontsize=11 * PT, gid="key") + 14


def _draw_axes(axes: Axes, timeline: Drawable, lanes: Sequence[Any], row: int) -> None:
    size_s, unit = next((size, name) for least, size, name in _UNITS if timeline.duration_s >= least)
    style_axes(axes)
    axes.set_xlim(0, timeline.duration_s or 1.0)
    axes.set_ylim(max(1, len(lanes)) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0, labelsize=min(10.5, row - 3) * PT, labelcolor=TEXT_COLOR)
    names = [drawable(shortened(lane.name, _NAME_CHARS)) for lane in lanes]
    axes.set_yticks(range(len(lanes)), names, parse_math=False)
    ticks = MaxNLocator(8, steps=[1, 2, 5, 10]).tick_values(0, (timeline.duration_s or 1.0) / size_s)
    at = [float(tick) for tick in ticks if 0 <= tick * size_s <= timeline.duration_s * (1 + 1e-9)]
    axes.set_xticks([tick * size_s for tick in at], [format_count(round(tick, 9)) for tick in at])
    label_x(axes, f"time since the start, {unit}")
    for start_s, end_s in timeline.blocked:
        axes.axvspan(start_s, end_s, color=RED, alpha=0.1, lw=0, gid="blocked")


def _draw_lane(axes: Axes, number: int, lane: Any, blocked: Sequence[Span], pixel_s: float) -> None:
    for kind, color in KIND_COLORS.items():
        waits = _joined(((each.start_s, each.end_s) for each in lane.waits if each.kind == kind), pixel_s)
        hatch = KIND_HATCHES.get(kind)
        _draw_bars(axes, waits, number, 0.34, color, f"wait {kind}", hatch)
    holds = [(each.start_s, each.end_s) for each in lane.holds]
    _draw_bars(axes, [_at_least(span, pixel_s) for span in _joined(holds, pixel_s / 2)], number, 0.72, _HOLD, "held")
    _draw_bars(axes, _blocking(lane, blocked), number, 0.72, RED, "blocks")


def _blocking(lane: Any, blocked: Sequence[Span]) -> list[Span]:
    """Return the holds of a lane that blocked the hub: those that make up most of a block."""
    return [
        (hold.start_s, hold.end_s)
        for hold in lane.holds
        for start_s, end_s in blocked
        if min(hold.end_s, end_s) - max(hold.start_s, start_s) > (end_s - start_s) / 2
    ]


def _draw_bars(
    axes: Axes, spans: Iterable[Span], number: int, height: float, color: str, gid: str, hatch: str | None = None
) -> None:
    bars = [(start_s, end_s - start_s) for start_s, end_s in spans]
    if bars:
        style: dict[str, Any] = {"hatch": hatch, "edgecolors": _hatch_color(color)} if hatch else {}
        axes.broken_barh(bars, (number - height / 2, height), facecolors=color, linewidth=0, gid=gid, **style)


def _hatch_color(color: str) -> str:
    return moved_away(color, CARD_COLOR)


def _joined(spans: Iterable[Span], gap_s: float) -> Iterator[Span]:
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
    """Return a span of at least a width, so that it can be seen."""
    return span[0], max(span[1], span[0] + width_s)
