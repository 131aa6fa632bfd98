"""The text and the colours that the header and the picture share: numbers, durations, pools, problems.

Must not import: numpy, matplotlib, ipywidgets, eventlet.
"""

from __future__ import annotations

import math
from functools import cache
from html import escape
from typing import TYPE_CHECKING

from greenlab.pools.registry import SPECS, spec_of
from greenlab.text import format as texts
from greenlab.text.format import counted, plural, speed
from greenlab.text.theme import as_hex, of_hex, readable, turned_round

if TYPE_CHECKING:
    from collections.abc import Iterable

    from greenlab.live.snapshot import Facts
    from greenlab.live.watched import Watched

format_count = texts.count
format_duration = texts.duration
shortened = texts.shortened

POOL_COLORS = {name: spec.color for name, spec in SPECS.items()}
"""One colour a pool, in every figure and widget."""

RED = "#a8200d"
"""The colour of failures: clearly darker than every colour of a pool, so that it stands out without its hue."""
_LIGHT_AND_DARK = "#ffffff", "#15181c"
READABLE = 4.5
"""The contrast of text that can be read: level AA of WCAG 2."""
_STEPS = 50


def pool_color(pool: str) -> str:
    """Return a pool's colour; grey for a pool that has none."""
    return POOL_COLORS.get(pool, POOL_COLORS["auto"])


@cache
def badge_colors(color: str) -> tuple[str, str]:
    """Return the colours of a badge and of its text, that can be read on light and dark pages.

    Args:
        color: the badge's. It is moved away from that of the text as far as need be, which is the lighter or the
            darker one, whichever leaves more of the colour.
    """
    light, dark = _LIGHT_AND_DARK
    ways = [(moved_away(color, light), light), (moved_away(color, dark), dark)]
    return min(ways, key=lambda way: sum(abs(a - b) for a, b in zip(of_hex(color), of_hex(way[0]), strict=True)))


@cache
def moved_away(color: str, other: str) -> str:
    """Return a colour, darkened or lightened until it can be read beside another one on light and dark pages."""
    end = 0.0 if _luminance(other) > _luminance("#757575") else 1.0
    ways = (as_hex([p + (end - p) * n / _STEPS for p in of_hex(color)]) for n in range(_STEPS + 1))
    return next(way for way in ways if lower_contrast(way, other) >= READABLE)


def lower_contrast(one: str, other: str) -> float:
    """Return the contrast ratio of WCAG 2 between two colours of a picture: the lower of light and dark pages."""
    return min(_contrast(one, other), _contrast(turned_round(one), turned_round(other)))


def _contrast(one: str, other: str) -> float:
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _luminance(color: str) -> float:
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in of_hex(color))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def sentences(parts: Iterable[str]) -> str:
    """Return texts as one line: what ends with a colon is followed by the next one."""
    return "; ".join(parts).replace(":; ", ": ")


def shortened_inside(words: str, most: int) -> str:
    """Return a text, cut to `most` characters with an ellipsis before its end, which tells a path from another."""
    tail = most // 2
    return words if len(words) <= most else f"{words[: most - tail - 1]}…{words[-tail:]}"


def numbers_line(facts: Facts) -> list[tuple[str, bool]]:
    """Return a run's numbers as texts, each with whether it is a problem."""
    line = [
        (done_text(facts), False),
        *([(f"{facts.done_before:,} before it was resumed", False)] if facts.done_before else []),
        (format_duration(facts.elapsed_s), False),
        *([] if facts.fruitless else [_speed(facts)]),
    ]
    if math.isfinite(facts.p50_s):
        line += [(f"p50 {format_duration(facts.p50_s)}", False), (f"p99 {format_duration(facts.p99_s)}", False)]
    if facts.failed:
        line.append((f"{facts.failed:,} failed", True))
    if facts.blocked:
        line.append((f"hub blocked {format_duration(blocked_s(facts))}", True))
    return line


def _speed(facts: Facts) -> tuple[str, bool]:
    """Return the throughput; where every task failed, what it is a throughput of."""
    said = speed(facts.throughput, ended=facts.done_here, failed=facts.failed)
    return said, 0 < facts.failed == facts.done_here


def picture_words(facts: Facts) -> str:
    """Return what a run's picture shows, in words, for those who do not see it."""
    numbers = ", ".join(text for text, _ in numbers_line(facts))
    return "; ".join([f"{facts.pool} run of {facts.label}: {numbers}", *problem_lines(facts, 200)])


def done_text(facts: Facts | Watched) -> str:
    """Return how many tasks have ended, of how many: `3 of 8 tasks`, `8 tasks` when all have, or nobody knows."""
    if facts.total in {None, facts.done}:
        return counted(facts.done, "task")
    return f"{facts.done:,} of {counted(facts.total or 0, 'task')}"


def blocked_s(facts: Facts) -> float:
    """Return for how long the hub was blocked in all, in seconds."""
    return sum(end_s - start_s for start_s, end_s in facts.blocked)


def blocked_text(facts: Facts) -> str:
    """Return which line of code blocked the hub for longest, and how many more there are."""
    worst, *more = facts.blocked_lines
    if not more:
        return worst
    return f"{worst}; {counted(len(more), 'more line')}"


def failures_text(facts: Facts) -> str:
    """Return the number of failures by type: the three most frequent ones, and the rest together."""
    return texts.most_by_type(facts.error_types)


def problem_lines(facts: Facts, most: int) -> list[str]:
    """Return why a run came to nothing, its failures and its blocks, as lines of at most `most` characters."""
    lines = []
    if facts.fruitless:
        what = "no task has ended" if facts.begun else "no task has begun"
        lines.append(f"{what}: {facts.cut_by}" if facts.cut_by else what)
    if facts.error_types:
        lines.append(failures_text(facts))
    if facts.blocked_lines:
        lines.append(f"blocked: {blocked_text(facts)}")
    return [shortened(line, most) for line in lines]


def progress_line(name: str, facts: Facts, in_flight: int, rate: float) -> str:
    """Return how far a run is, as a line of plain text."""
    failed = f", {facts.failed:,} failed" if facts.failed else ""
    said = speed(rate, ended=facts.done_here, failed=facts.failed)
    return f"{name}: {done_text(facts)}, {said}, {in_flight:,} in flight{failed}"


def header_html(facts: Facts, in_flight: int, rate: float) -> str:
    """Return the header of a live view: what runs, how far it is, and how fast.

    Args:
        facts: the run so far.
        in_flight: tasks in flight now.
        rate: tasks/s over the last seconds.

    Returns:
        HTML that takes its text colours from the notebook's theme.
    """
    color = pool_color(facts.pool)
    fill, on_fill = badge_colors(color)
    of = "" if facts.total is None else f" / {facts.total:,}"
    ended, unit = speed(rate, ended=facts.done_here, failed=facts.failed).split(" ")
    numbers = [
        f"<b>{facts.done:,}</b>{of} {plural('task', facts.done if facts.total is None else facts.total)}",
        f"<b>{ended}</b> {unit}",
        f"<b>{in_flight:,}</b> in flight",
        *(f"{name} <b>{format_duration(value)}</b>" for name, value in (("p50", facts.p50_s), ("p99", facts.p99_s))),
    ]
    return (
        f'<div style="{_FONT}"><div style="display:flex;align-items:baseline;gap:10px">'
        f'<span style="background:{fill};color:{on_fill};border-radius:9px;padding:1px 9px;'
        f'font-weight:600">{escape(facts.pool)}</span>'
        f'<b style="overflow:hidden;text-overflow:ellipsis;white-space:nowrap">{escape(facts.label)}</b>'
        f'<span style="{_DIM};white-space:nowrap">{limit_text(facts)}</span>'
        f'<span style="{_DIM};margin-left:auto;white-space:nowrap">{_clock(facts, rate)}</span></div>'
        f"{_bar(facts, color)}"
        f'<div style="{_ROW}">{_spans(numbers)}</div>{_problems(facts)}</div>'
    )


def failure_html(first_failure: str) -> str:
    """Return a failure as HTML that can be unfolded; empty if there is none."""
    if not first_failure:
        return ""
    return (
        f'<details style="{_FONT}"><summary style="cursor:pointer">first failure</summary>'
        f'<pre style="margin:4px 0 0;font-size:12px;white-space:pre-wrap">{escape(first_failure)}</pre></details>'
    )


_FONT = (
    "font:13px/1.5 var(--jp-ui-font-family,system-ui,sans-serif);"
    "color:var(--jp-content-font-color1,var(--vscode-foreground,inherit))"
)
_DIM = "opacity:.68"
_ROW = "display:flex;gap:0 20px;flex-wrap:wrap;font-variant-numeric:tabular-nums"


def _spans(parts: list[str]) -> str:
    return "".join(f"<span>{part}</span>" for part in parts if part)


def _problems(facts: Facts) -> str:
    """Return a line with the failures and the blocks so far; empty without any."""
    parts = []
    if facts.failed:
        kinds = f": {escape(failures_text(facts))}" if facts.error_types else ""
        parts.append(f"<span><b>{facts.failed:,}</b> failed{kinds}</span>")
    if facts.blocked:
        parts.append(f"<span>hub blocked <b>{format_duration(blocked_s(facts))}</b></span>")
    if facts.blocked_lines:
        parts.append(f"<span>{escape(blocked_text(facts))}</span>")
    color = f"color:var(--jp-error-color1,var(--vscode-errorForeground,{readable(RED)}))"
    return f'<div style="{_ROW};{color}">{"".join(parts)}</div>' if parts else ""


def _bar(facts: Facts, color: str) -> str:
    if not facts.total:
        return '<div style="height:6px"></div>'
    good = 100 * (facts.done - facts.failed) / facts.total
    bad = 100 * facts.failed / facts.total
    return (
        f'<div role="progressbar" aria-label="tasks ended" aria-valuemin="0" aria-valuemax="{facts.total}" '
        f'aria-valuenow="{facts.done}" style="display:flex;height:6px;margin:6px 0 5px;border-radius:3px;'
        'overflow:hidden;background:rgba(128,128,128,.22)">'
        f'<div style="width:{good:.2f}%;background:{color}"></div>'
        f'<div style="width:{bad:.2f}%;background:{RED}"></div></div>'
    )


def _clock(facts: Facts, rate: float) -> str:
    spent = format_duration(round(facts.elapsed_s, 1))
    if facts.total is None or rate <= 0 or facts.elapsed_s < 1:
        return spent
    # At the rate of the last seconds, which shows the effect of a changed concurrency.
    left_s = float(f"{(facts.total - facts.done) / rate:.2g}")
    return f"{spent} · about {format_duration(left_s)} left" if left_s >= 1 else spent


def limit_text(facts: Facts) -> str:
    """Return the limit of tasks in flight with the option that set it: `-c 100`, or `-w 2` of prefork."""
    return f"{spec_of(facts.pool).size_flag} {facts.concurrency:,}"
