"""The picture of a run of few tasks: a bar a task, from its start to its end or to now, in the order of the starts.

Of so few tasks a throughput says nothing, and each one can be seen. A run of more has the curves of `run_figure`.

Pure: from a snapshot to a matplotlib `Figure`, on the card of `greenlab.live.drawing.style`.
Must not import: pyplot, ipywidgets, eventlet. Imported late, because matplotlib is heavy.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from greenlab.live.drawing.curves import picture_of
from greenlab.live.drawing.run_figure import (
    draw_caption,
    draw_legend,
    draw_time_axis,
    draw_title,
    time_unit,
    title_height,
)
from greenlab.live.drawing.style import (
    DPI,
    INDENT_PX,
    MUTED,
    PT,
    SHADE,
    TEXT_COLOR,
    WIDTH_PX,
    can_draw,
    new_card,
    plain_style,
    style_axes,
    write,
)
from greenlab.live.words import RED, format_duration, picture_words, pool_color, shortened_inside

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from greenlab.live.drawing.style import CardFigure
    from greenlab.live.snapshot import Records, Samples
    from greenlab.pools.protocol import TaskSpan

__all__ = ["draw"]

_LEFT, _RIGHT, _CAPTION, _FOOT = 178, 118, 22, 42
_ROWS = ((16, 20), (30, 16), (10_000, 12))
"""Up to so many rows, the height of one in CSS pixels."""
_NAME_CHARS = 25
_LEAST_PX = 1.5
_RUNNING_ALPHA = 0.4


def draw(source: Samples | Records, scale: float = 2.0) -> CardFigure:
    """Draw a run of few tasks. One that goes on has a row for each task from the start: its picture does not grow.

    Args:
        source: a run that has bars.
        scale: device pixels a CSS pixel.
    """
    picture = picture_of(source)
    facts, bars = picture.facts, source.bars or ()
    rows = max(len(bars), (facts.total or 0) - facts.done_before if facts.running else 0, 1)
    row_px = next(height for most, height in _ROWS if rows <= most)
    top = title_height(facts) + _CAPTION
    height = top + row_px * rows + _FOOT
    span_s = max([float(picture.edges_s[-1]), *(bar.end_s for bar in bars)])
    with plain_style():
        figure = new_card(height, scale)
        if facts.titled:
            draw_title(figure, facts)
        box = _LEFT / WIDTH_PX, _FOOT / height, 1 - (_LEFT + _RIGHT) / WIDTH_PX, row_px * rows / height
        axes = figure.add_axes(box, label="tasks")
        style_axes(axes)
        draw_time_axis(axes, span_s, facts.blocked, last=True)
        axes.set_ylim(rows - 0.5, -0.5)
        size = min(10.5, row_px - 3) * PT
        until = "its end, or until now" if facts.running else "its end"
        draw_caption(axes, f"tasks, each from its start to {until}", "" if bars else "no task has begun yet")
        axes.set_yticks(range(len(bars)), [_fitted(figure, bar.name, size) for bar in bars], parse_math=False)
        for place, (bar, label) in enumerate(zip(bars, axes.get_yticklabels(), strict=True)):
            ink = RED if bar.outcome == "failed" else TEXT_COLOR
            label.set(color=ink, fontsize=size)
            _draw_bar(axes, place, bar, facts.pool, span_s)
            y, x = top + row_px * (place + 0.5), WIDTH_PX - _RIGHT + 10
            write(figure, x, y, _end_of(bar), fontsize=size, color=RED if ink == RED else MUTED, gid="took")
        _explain(axes, bars, facts.pool, blocked=bool(facts.blocked))
    figure.alt = picture_words(facts)
    return figure


def _fitted(figure: Figure, name: str, size: float) -> str:
    """Return a name, cut to the room beside the axes; that of its index, where the font lacks characters of it."""
    if not can_draw(name):
        name = f"task {name.partition(' ')[0]}"
    probe = figure.text(0, 0, name, fontsize=size, parse_math=False)
    most = _NAME_CHARS
    while True:
        probe.set_text(shortened_inside(name, most))
        width = probe.get_window_extent().width * DPI / figure.dpi
        if width <= _LEFT - INDENT_PX or most < 2:
            probe.remove()
            return probe.get_text()
        most = int(most * (_LEFT - INDENT_PX) / width)


def _end_of(bar: TaskSpan) -> str:
    """Return how long a task took, and how it ended unless that was well: never told by the colour alone."""
    took = "" if math.isnan(bar.start_s) else format_duration(bar.end_s - bar.start_s)
    return ", ".join(filter(None, [took, "" if bar.outcome == "succeeded" else bar.outcome]))


def _style_of(outcome: str, pool: str) -> dict[str, Any]:
    if outcome == "cancelled":  # hatched, so that it stands apart in greys too
        return {"facecolor": "none", "edgecolor": MUTED, "hatch": "//////", "linewidth": PT}
    if outcome == "running":
        return {"facecolor": pool_color(pool), "linewidth": 0, "alpha": _RUNNING_ALPHA}
    color = RED if outcome == "failed" else pool_color(pool)
    return {"facecolor": color, "linewidth": 0}


def _draw_bar(axes: Axes, place: int, bar: TaskSpan, pool: str, span_s: float) -> None:
    if math.isnan(bar.start_s):
        return
    unit_s, _ = time_unit(span_s)
    least_s = _LEAST_PX * span_s / (WIDTH_PX - _LEFT - _RIGHT)
    corner = min(bar.start_s, span_s - least_s) / unit_s, place - 0.34
    width = max(bar.end_s - bar.start_s, least_s) / unit_s
    axes.add_artist(Rectangle(corner, width, 0.68, gid=bar.outcome, **_style_of(bar.outcome, pool)))


def _explain(axes: Axes, bars: Sequence[TaskSpan], pool: str, *, blocked: bool) -> None:
    good = pool_color(pool)
    marks = {
        "succeeded": ("■", good),
        "running": ("■", to_hex((good, _RUNNING_ALPHA), keep_alpha=True)),
        "failed": ("■", RED),
        "cancelled": ("▨", MUTED),
    }
    seen = {bar.outcome for bar in bars}
    keys = [(mark, outcome, color) for outcome, (mark, color) in marks.items() if outcome in seen]
    draw_legend(axes, [*keys, *([("■", "hub blocked", SHADE)] if blocked else [])])
