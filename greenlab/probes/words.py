"""How times and shares are written.

Must not import: anything.
"""

from __future__ import annotations


def seconds(value: float) -> str:
    """Write a time with a unit that suits it."""
    if value < 0.001:
        return f"{value * 1e6:.3g} µs"
    if value < 1:
        return f"{value * 1e3:.3g} ms"
    return f"{value:.2f} s"


def percent(share: float) -> str:
    """Write a share of 0 to 1."""
    return f"{share * 100:.0f} %"
