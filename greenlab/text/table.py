"""Small tables in plain text and HTML, for terminals and notebooks."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_CELL = "padding:2px 10px;white-space:nowrap"


def plain(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lay out a table as lines of text: the first column to the left, figures to the right.

    Args:
        header: the names of the columns.
        rows: as many cells each; or two cells, a name and a remark that runs across the other columns.
    """
    full = [row for row in rows if len(row) == len(header)]
    widths = [max(len(row[at]) for row in [header, *full]) for at in range(len(header))]
    widths[0] = max([widths[0], *(len(row[0]) for row in rows)])
    lines = []
    for row in [header, *rows]:
        first = row[0].ljust(widths[0])
        if len(row) == len(header):
            rest = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        else:
            rest = (cell for cell in row[1:])
        lines.append("  " + "  ".join([first, *rest]).rstrip())
    return lines


def rich(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out the same table as HTML."""
    cells = "".join(
        f'<th style="{_CELL};text-align:{"left" if at == 0 else "right"}">{html.escape(name)}</th>'
        for at, name in enumerate(header)
    )
    lines = [f"<tr>{cells}</tr>"]
    for row in rows:
        name = f'<td style="{_CELL};text-align:left"><b>{html.escape(row[0])}</b></td>'
        if len(row) == len(header):
            rest = "".join(f'<td style="{_CELL};text-align:right">{html.escape(cell)}</td>' for cell in row[1:])
        else:
            remark = html.escape(" ".join(row[1:]))
            rest = f'<td style="{_CELL};text-align:left;white-space:normal" colspan="{len(header) - 1}">{remark}</td>'
        lines.append(f"<tr>{name}{rest}</tr>")
    return f'<table style="font-variant-numeric:tabular-nums">{"".join(lines)}</table>'
