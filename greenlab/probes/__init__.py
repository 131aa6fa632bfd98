"""Probes: does this call, or this library, cooperate under greenlab's greening?

`probe` measures a call, in a fresh process; `look_up` reads libraries from a table of earlier measurements;
`look_around` does that for all that is loaded, and lists the C extensions of which nothing is known.

Must not import: runs, live, magics.
"""

from __future__ import annotations

from greenlab.probes.loaded import LibraryVerdict, LibraryVerdicts, is_library, known, look_around, look_up
from greenlab.probes.probe import LEAST_TIMES, LIMIT_S, TIMES, probe
from greenlab.probes.verdict import Verdict

__all__ = [
    "LEAST_TIMES", "LIMIT_S", "TIMES", "LibraryVerdict", "LibraryVerdicts", "Verdict", "is_library", "known",
    "look_around", "look_up", "probe",
]  # fmt: skip
