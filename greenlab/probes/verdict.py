"""A verdict: the kind of a call, the reasons, the figures, and what to do. Plain text and HTML.

Must not import: eventlet, asyncio, IPython.
"""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from greenlab.probes import judge, libraries
from greenlab.probes.figures import DONE
from greenlab.text.format import counted, duration, percent
from greenlab.text.theme import ink

if TYPE_CHECKING:
    from greenlab.probes.figures import Figures

GREEN = "good"
_COLOURS: Final = {judge.COOPERATES: "#2a7d2a", judge.UNKNOWN: "#666"}
_BAD: Final = "#b03030"


@dataclass(frozen=True)
class Verdict:
    """What `greenlab.check` returns for a call.

    Attributes:
        name: what was called.
        kind: "cooperates", "cooperates and computes", "blocks on a native call", "CPU-bound", "holds the GIL",
            "fails when greened", "fails", "cannot be sent" or "cannot tell".
        reasons: why, as sentences.
        figures: what was measured, or None if nothing could be.
    """

    name: str
    kind: str
    reasons: list[str]
    figures: Figures | None = None

    @property
    def cooperates(self) -> bool:
        """Whether green tasks may call it as it is."""
        return self.kind == judge.COOPERATES

    @property
    def threads_help(self) -> bool | None:
        """Whether other threads run while it holds the hub, so that `pool="threads"` is a fix; None if not known."""
        figures = self.figures
        if figures is None or figures.stage != DONE or not figures.watched_s:
            return None
        return judge.releases_gil(figures)

    @property
    def fix(self) -> str:
        """What to do, in one line."""
        return _fix(self)

    def __str__(self) -> str:
        lines = [f"{self.kind}: {self.name}", *(f"  {line}" for line in self._lines())]
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        colour = _COLOURS.get(self.kind, _BAD)
        head = f'<b style="{ink(colour)}">{html.escape(self.kind)}</b>: <code>{html.escape(self.name)}</code>'
        rest = "<br>".join(html.escape(line) for line in self._lines())
        return f'<div class="greenlab-check">{head}<br>{rest}</div>'

    def _lines(self) -> list[str]:
        lines = ["; ".join(self.reasons)]
        if self.fix:
            lines.append(f"fix: {self.fix}")
        if self.figures is not None:
            lines += evidence(self.figures, self.kind)
        return lines


def evidence(figures: Figures, kind: str) -> list[str]:
    """Return lines with what was measured, as far as it concerns this kind of call."""
    lines = []
    held = kind != judge.COOPERATES
    done = figures.stage == DONE
    if done and kind != judge.UNKNOWN:
        sample = figures.typical
        cpu, blocked, waited = sample.shares
        lines.append(
            f"alone {duration(sample.wall_s)}; {figures.at_once} at once"
            f"{f', each {figures.loops} times' if figures.loops > 1 else ''} {duration(figures.together_s)}: "
            f"{figures.overlap:.1f} went on at once"
        )
        lines.append(
            f"computed {percent(cpu)}, blocked {percent(blocked)}, waited {percent(waited)}; "
            f"a ticker beside them stood still for up to {duration(figures.gap_s)}"
        )
        if held and figures.watched_s:
            lines.append(f"while it held the hub, a native thread could run for {percent(1 - figures.gil_missed)}")
    elif not done and figures.native_s:
        lines.append(f"natively and alone {duration(figures.native_s[-1])}")
    if figures.place is not None and held:
        lines.append(f"it stood in {figures.place}")
    if figures.calls:
        lines.append(f"called {counted(figures.calls, 'time')}, for real")
    return lines


def _fix(verdict: Verdict) -> str:
    kind, figures = verdict.kind, verdict.figures
    if kind == judge.COOPERATES:
        if figures is not None and judge.is_serial(figures):
            return "let more through at once: a larger pool of connections, a lock held for less"
        return "none needed"
    known = libraries.find_among(figures.place.names) if figures is not None and figures.place else None
    threads = 'offload(f, x, pool="threads") or -p threads'
    if kind == judge.BLOCKS:
        return known.fix if known is not None and known.verdict == judge.BLOCKS else threads
    if kind == judge.COMPUTES:
        if verdict.threads_help:
            return f"{threads} uses several cores, because it releases the GIL; so does a process: offload(f, x)"
        why = "do not help, because it computes in Python"
        if verdict.threads_help is None:
            why = "may or may not help: that could not be measured"
        return f"a process: offload(f, x), or %%preforkrun; threads {why}"
    if kind == judge.MIXED:
        return "wait green and compute elsewhere: offload(f, x) for the part that computes"
    if kind == judge.HOLDS_GIL:
        if known is not None and known.verdict == judge.HOLDS_GIL:
            return known.fix
        return "a process: offload(f, x), or %%preforkrun; threads do not help, because it keeps the GIL"
    if kind == judge.FAILS_GREEN and figures is not None and "event loop" in (figures.error or ""):
        return (
            "one asyncio loop runs in an OS thread: wait for the coroutine in the notebook's own, by "
            "greenlab.wait_async(coroutine); or a process: offload(f, x)"
        )
    if kind == judge.FAILS_GREEN:
        return "a process: offload(f, x), or %%preforkrun, where nothing is greened; what calls share may be the reason"
    if kind == judge.UNSENDABLE:
        return "make it inside the call, in a function that opens what it uses"
    return ""
