"""The report of an advice: plain text and HTML. Draws nothing.

Must not import: live, magics.
"""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Protocol

from greenlab.text import table
from greenlab.text.format import rate, seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from greenlab.advising.model import Plan


class TrialFacts(Protocol):
    """How a pool did on a sample, as the report reads it. See `greenlab.advising.advice.Trial`."""

    @property
    def plan(self) -> Plan: ...  # noqa: D102
    @property
    def throughput(self) -> float: ...  # noqa: D102
    @property
    def startup_s(self) -> float | None: ...  # noqa: D102
    @property
    def why_not(self) -> str: ...  # noqa: D102


class AdviceFacts(Protocol):
    """An advice, as its report reads it. See `greenlab.advising.advice.Advice`."""

    @property
    def plan(self) -> Plan: ...  # noqa: D102
    @property
    def reasons(self) -> Sequence[str]: ...  # noqa: D102
    @property
    def sure(self) -> str: ...  # noqa: D102
    @property
    def doubts(self) -> Sequence[str]: ...  # noqa: D102
    @property
    def evidence(self) -> Sequence[TrialFacts]: ...  # noqa: D102


TRIED = "tried on a sample: "
"""How the reason begins that tells what each pool did on the sample."""
_HEADER = ("tried on the sample", "throughput", "start-up")


def headline(advice: AdviceFacts) -> str:
    """Return a line: what is advised, and how sure that is."""
    sure = f"{advice.sure}: {'; '.join(advice.doubts)}" if advice.doubts else advice.sure
    return f"advice: {advice.plan} ({sure})"


def plain(advice: AdviceFacts) -> str:
    """Return the plain-text report: the advice, its reasons and the evidence."""
    lines = [headline(advice), *(f"  {reason}" for reason in _reasons(advice))]
    if advice.evidence:
        lines += table.plain(_HEADER, _rows(advice))
    return "\n".join(lines)


def rich(advice: AdviceFacts) -> str:
    """Return the same report as HTML."""
    reasons = "".join(f"<li>{html.escape(reason)}</li>" for reason in _reasons(advice))
    evidence = table.rich(_HEADER, _rows(advice)) if advice.evidence else ""
    return (
        f'<div class="greenlab-advice"><b>{html.escape(headline(advice))}</b>'
        f'<ul style="margin:4px 0">{reasons}</ul>{evidence}</div>'
    )


def _reasons(advice: AdviceFacts) -> list[str]:
    """Return the reasons, but for the throughputs that the table below them has."""
    return [reason for reason in advice.reasons if not (advice.evidence and reason.startswith(TRIED))]


def _rows(advice: AdviceFacts) -> Sequence[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for one in advice.evidence:
        if one.why_not:
            rows.append((str(one.plan), one.why_not))
            continue
        startup = "" if one.startup_s is None else seconds(one.startup_s)
        rows.append((str(one.plan), rate(one.throughput), startup))
    return rows
