"""How durations and shares are formatted.

Must not import: anything but `greenlab.text.format`.
"""

from __future__ import annotations

from greenlab.text import format as texts

seconds = texts.duration


def percent(share: float) -> str:
    """Format a share of 0 to 1 as a percentage."""
    return f"{share * 100:.0f} %"
