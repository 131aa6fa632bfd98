"""A race's picture: how far every pool was when, over one time axis, and below it how they compare.

A pool is a colour, and its name stands at the end of its line, as a flag whose pole is where the line ends. The line
is the median over its runs, with a band from the earliest to the latest. Shares of the work fit pools that are far
apart: throughputs would press the slow ones to the ground. Where one takes several times as long as another, time is
logarithmic, so that each has its place, and equal distances are equal factors.

Must not import: pyplot, ipywidgets, eventlet. Imported late, because numpy and matplotlib are heavy.
"""

from __future__ import annotations

import math
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from greenlab.live.drawing.card import PANEL_HEAD_PX, Card
from greenlab.live.drawing.style import (
    CARD_COLOR,
    INDENT_PX,
    LEFT_PX,
    MUTED,
    PT,
    TEXT_COLOR,
    WIDTH_PX,
    label_x,
    plain_style,
)
from greenlab.live.words import (
    RED,
    badge_colors,
    format_count,
    format_duration,
    moved_away,
    pool_color,
    sentences,
    shortened,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from greenlab.live.drawing.curves import Floats
    from greenlab.live.series_snapshot import RaceSnapshot, RunTimes

_LINES_PX, _ROW_PX, _FOOT_PX = 190, 26, 44
_RIGHT_PX = 28
_BAR_PX = 250
_FLAG_PX, _CHAR_PX = 17, 7.8
"""The height of a flag, and more than the mean width of its characters."""
_LOG_FROM = 4
"""Time is logarithmic when one pool takes more than this many times as long as another."""
_BEGIN = 20
"""A logarithmic axis begins where the fastest pool has done about one task in so many."""
_SHARES = np.linspace(0.0, 1.0, 201)


class Progress(NamedTuple):
    """When a pool had done each share of the tasks, in seconds: over its runs the median, the earliest, the latest.

    Nan where it has not come so far.
    """

    middle_s: Floats
    early_s: Floats
    late_s: Floats

    @property
    def end(self) -> tuple[float, float]:
        """The last time and the share done then."""
        last = int(np.flatnonzero(~np.isnan(self.middle_s))[-1])
        return float(self.middle_s[last]), float(_SHARES[last])


class Span(NamedTuple):
    """The time axis: its ends in seconds, and whether it is logarithmic."""

    low_s: float
    high_s: float
    log: bool

    def at(self, time_s: float) -> float:
        """Return where a time lies, from 0 to 1."""
        if self.log:
            return math.log(time_s / self.low_s) / math.log(self.high_s / self.low_s)
        return (time_s - self.low_s) / (self.high_s - self.low_s)


def render(source: RaceSnapshot, scale: float) -> tuple[Any, ...]:
    """Return the picture of a race as `greenlab.live.drawing.server` sends it."""
    return draw(source, scale).render()


def progress_of(runs: Sequence[RunTimes], total: int) -> Progress | None:
    """Compute how far some runs of one pool were when; None where nothing has ended."""
    times_s = [times for run in runs if (times := _times_by_share(run, total)) is not None]
    if not times_s:
        return None
    rows = np.array(times_s)
    return Progress(np.median(rows, axis=0), rows.min(axis=0), rows.max(axis=0))


def _times_by_share(run: RunTimes, total: int) -> Floats | None:
    ends_s = np.asarray(run.ends_s, dtype=float)
    ends_s = np.sort(ends_s[~np.isnan(ends_s)])
    if not len(ends_s) or total < 1:
        return None
    shares = np.minimum(np.arange(1, len(ends_s) + 1) * run.weight / total, 1.0)
    # From the start, when none was done. Beyond the last one it is not known.
    times_s: Floats = np.interp(_SHARES, np.append(0.0, shares), np.append(0.0, ends_s), right=np.nan)
    return times_s


def span_of(found: Sequence[Progress]) -> Span:
    """Return the time axis on which these lines are drawn. It ends with the slowest run."""
    ends_s = [end_s for line in found if (end_s := line.end[0]) > 0]
    high_s = max((float(np.nanmax(line.late_s)) for line in found), default=1.0) or 1.0
    first_s = min(ends_s, default=high_s)
    if high_s > _LOG_FROM * first_s:
        return Span(first_s / _BEGIN, high_s, log=True)
    return Span(0.0, high_s, log=False)


def flag_rows(at_px: Sequence[float], widths_px: Sequence[float]) -> list[int]:
    """Return in which row each flag stands, 0 is the lowest, so that no flag and no pole crosses another.

    A flag is to the left of its pole: it must be above those whose poles it would cover.

    Args:
        at_px: where the poles are, ascending.
        widths_px: how wide the flags are.
    """
    rows: list[int] = []
    for number, (x, width) in enumerate(zip(at_px, widths_px, strict=True)):
        below = [rows[other] for other in range(number) if at_px[other] > x - width]
        rows.append(max(below, default=-1) + 1)
    return rows


def draw(source: RaceSnapshot, scale: float = 2.0) -> Card:
    """Draw a race.

    Args:
        source: the race so far.
        scale: device pixels a CSS pixel.
    """
    with plain_style():
        lines = [(words if not bad else f"▲ {words}", RED if bad else TEXT_COLOR) for words, bad in source.lines]
        found = {
            row.pool: progress
            for row in source.rows
            if (progress := progress_of(row.runs or ((row.now,) if row.now else ()), source.total))
        }
        span = span_of([*found.values()])
        flags = _flags(found, span)
        # Where nothing has ended, and nothing will, an empty panel would say nothing.
        lines_px = PANEL_HEAD_PX + _flags_px(flags) + _LINES_PX + _FOOT_PX if found or not source.ended else 0
        bars_px = _ROW_PX * len(source.rows)
        card = Card(lines_px + 18 + bars_px + 12, lines, scale)
        card.title("race", "#3f4650", source.label, source.subtitle)
        if lines_px:
            _draw_lines(card, found, source, span, flags)
            card.top += _FOOT_PX
        _draw_bars(card, source)
    card.figure.alt = sentences(
        [f"race of {source.label}", *(words for words, _ in source.lines), *_pool_words(source)]
    )
    return card


def _pool_words(source: RaceSnapshot) -> list[str]:
    """Return what each row shows, in words."""
    found = []
    for row in source.rows:
        rate = f"{format_count(median(row.rates))} tasks/s" if row.rates else ""
        found.append(f"{row.pool}: {', '.join(filter(None, [rate, row.text])) or 'has not run'}")
    return found


def _flags(found: dict[str, Progress], span: Span) -> dict[str, int]:
    """Return the row of the flag of each pool that has done all tasks."""
    ended = sorted((line.end[0], pool) for pool, line in found.items() if line.end[1] == 1.0)
    width = WIDTH_PX - LEFT_PX - _RIGHT_PX
    at_px = [width * span.at(end_s) for end_s, _ in ended]
    rows = flag_rows(at_px, [_CHAR_PX * len(_flag_text(pool, end_s)) for end_s, pool in ended])
    return {pool: row for (_, pool), row in zip(ended, rows, strict=True)}


def _flags_px(flags: dict[str, int]) -> int:
    """Return the height of the flags: of one row at the least, so that the panel does not grow with the first."""
    return _FLAG_PX * (1 + max(flags.values(), default=0))


def _flag_text(pool: str, end_s: float) -> str:
    return f"{pool} {format_duration(end_s)}"


def _draw_lines(
    card: Card, found: dict[str, Progress], source: RaceSnapshot, span: Span, flags: dict[str, int]
) -> None:
    several = any(len(row.runs) > 1 for row in source.rows)
    note = "median of the runs, earliest to latest" if several else ""
    # The flags stand between the caption and the panel.
    flags_px = _flags_px(flags)
    axes = card.panel("progress", flags_px + _LINES_PX, "tasks done, share of all", note, right=_RIGHT_PX)
    _set_time_axis(axes, span)
    axes.set_ylim(0, 1 + flags_px / _LINES_PX)
    axes.yaxis.set_major_locator(FixedLocator([0, 0.25, 0.5, 0.75, 1]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
    for pool, line in found.items():
        color = pool_color(pool)
        if several:
            axes.fill_betweenx(_SHARES, line.early_s, line.late_s, color=color, alpha=0.2, lw=0, gid=f"{pool} spread")
        axes.plot(line.middle_s, _SHARES, color=color, lw=2 * PT, solid_capstyle="round", gid=pool)
        end_s, share = max(line.end[0], span.low_s), line.end[1]
        axes.plot([end_s], [share], color=color, marker="o", ms=5 * PT, clip_on=False, gid=f"{pool} end")
        _name_line(axes, pool, (end_s, share), flags.get(pool))


def _set_time_axis(axes: Axes, span: Span) -> None:
    unit_s, unit = (60.0, "min") if span.high_s >= 180 else (1.0, "s") if span.high_s >= 1 else (1e-3, "ms")
    words = f"time since each run's start, {unit}"
    if span.log:
        axes.set_xscale("log")
        decades = math.log10(span.high_s / span.low_s)
        locator = LogLocator(10, subs=(1, 2, 5) if decades < 3.5 else (1,), numticks=20)
        # Ticks are round numbers of the unit, which a minute's are not of seconds.
        ticks = [tick * unit_s for tick in locator.tick_values(span.low_s / unit_s, span.high_s / unit_s)]
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.xaxis.set_minor_locator(NullLocator())
        words += ", logarithmic: equal distances are equal factors"
    else:
        ticks = [tick * unit_s for tick in MaxNLocator(8, steps=[1, 2, 5, 10]).tick_values(0.0, span.high_s / unit_s)]
        axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.set_xlim(span.low_s, span.high_s)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_count(float(f"{value / unit_s:.6g}"))))
    label_x(axes, words)


def _name_line(axes: Axes, pool: str, end: tuple[float, float], row: int | None) -> None:
    """Write a pool's name at the end of its line: on its flag, or beside the line of one that still runs."""
    end_s, share = end
    words = pool if row is None else _flag_text(pool, end_s)
    ink = moved_away(pool_color(pool), CARD_COLOR)
    y, align = share, "right"
    if row is not None:
        y = 1 + (row + 0.5) * _FLAG_PX / _LINES_PX
        axes.plot([end_s, end_s], [1, y], color=pool_color(pool), lw=PT, clip_on=False, gid=f"{pool} pole")
    elif axes.transAxes.inverted().transform(axes.transData.transform((end_s, 0)))[0] < 0.15:
        align = "left"
    axes.annotate(
        words, (end_s, y), xytext=((5 if align == "left" else -5) * PT, 0), textcoords="offset points", ha=align,
        va="center", color=ink, weight="bold", fontsize=12 * PT, annotation_clip=False, gid=f"{pool} name",
    )  # fmt: skip


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
        fill, on_fill = badge_colors(color)
        pill = {"boxstyle": "round,pad=0.22,rounding_size=0.4", "facecolor": fill, "edgecolor": "none"}
        card.write(
            INDENT_PX + 3,
            y,
            row.pool,
            color=on_fill,
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
