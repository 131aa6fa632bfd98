"""What the benchmarks share: how figures are printed, and ratios taken round by round.

Contenders alternate, so that a noisy machine disturbs all alike; what is printed is a median, and from where to
where it went. A benchmark reports, it does not judge: it never fails for being slow.
"""

from __future__ import annotations

import argparse
import json
import statistics
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kernel import Kernel


def quick(description: str | None) -> bool:
    """Read the command line: whether a short run will do."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few rounds: does it run, not how fast")
    return bool(parser.parse_args().quick)


def show(title: str, unit: str, found: dict[str, list[float]]) -> None:
    """Print a table: a row a contender."""
    print(f"\n{title}")
    width = max(map(len, found))
    for name, values in found.items():
        print(f"  {name:{width}} {_number(statistics.median(values)):>10} {unit:8} {_range(values)}")


def show_ratio(what: str, values: Sequence[float], target: str, unit: str = "") -> None:
    """Print one figure, a value a round, beside its target."""
    middle = f"{_number(statistics.median(values))} {unit}".rstrip()
    print(f"  → {what}: {middle} {_range(values)}, target {target}")


def divide(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Give the ratios of two contenders, round by round."""
    return [one / other for one, other in zip(above, below, strict=True)]


def ask(kernel: Kernel, code: str, timeout: float = 120) -> Any:
    """Run a cell that prints one line of JSON; give what it says."""
    cell = kernel.run(code, timeout=timeout)
    assert cell.error is None, cell.error
    return json.loads(cell.stdout)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"


def _range(values: Sequence[float]) -> str:
    return f"({_number(min(values))} … {_number(max(values))})"
