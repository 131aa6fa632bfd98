"""How durations and shares are formatted.

Must not import: anything.
"""

from __future__ import annotations


def seconds(value: float) -> str:
    """Format a duration in seconds to three digits, with a unit that suits it."""
    if value < 0.001:
        return f"{value * 1e6:.3g} µs"
    if value < 1:
        return f"{value * 1e3:.3g} ms"
    return f"{value:.2f} s"


def percent(share: float) -> str:
    """Format a share of 0 to 1 as a percentage."""
    return f"{share * 100:.0f} %"
