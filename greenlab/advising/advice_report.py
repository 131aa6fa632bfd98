"""What an advice says of itself: plain text and HTML. Draws nothing.

Must not import: live, magics.
"""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from greenlab.runs.report import rate, seconds
from greenlab.text import table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from greenlab.advising.advice import Advice

_HEADER = ("tried on the sample", "throughput", "start-up", "up to", "limited by")


def headline(advice: Advice) -> str:
    """Say what is advised, and how sure that is."""
    sure = f"{advice.sure}: {'; '.join(advice.doubts)}" if advice.doubts else advice.sure
    return f"advice: {advice.plan} ({sure})"


def plain(advice: Advice) -> str:
    """Give the advice, its reasons and the evidence."""
    lines = [headline(advice), *(f"  {reason}" for reason in advice.reasons)]
    if advice.evidence:
        lines += table.plain(_HEADER, _rows(advice))
    return "\n".join(lines)


def rich(advice: Advice) -> str:
    """Give the same as HTML."""
    reasons = "".join(f"<li>{html.escape(reason)}</li>" for reason in advice.reasons)
    evidence = table.rich(_HEADER, _rows(advice)) if advice.evidence else ""
    return (
        f'<div class="greenlab-advice"><b>{html.escape(headline(advice))}</b>'
        f'<ul style="margin:4px 0">{reasons}</ul>{evidence}</div>'
    )


def _rows(advice: Advice) -> Sequence[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for one in advice.evidence:
        if one.why_not:
            rows.append((str(one.plan), one.why_not))
            continue
        startup = "" if one.startup_s is None else seconds(one.startup_s)
        rows.append((str(one.plan), rate(one.throughput), startup, rate(one.plan.ceiling), one.plan.limit))
    return rows
