"""The layout of the pictures of series: title, lines, and panels one below the other.

Must not import: pyplot, ipywidgets, eventlet. Imported late, because matplotlib is heavy.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from greenlab.live.drawing.style import (
    INDENT_PX,
    LEFT_PX,
    LINE_CHARS,
    MUTED,
    PT,
    WIDTH_PX,
    draw_grid,
    new_card,
    style_axes,
    to_png,
    write,
    write_title,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["PANEL_HEAD_PX", "Card"]

PANEL_HEAD_PX = 22
"""The height of what stands above a panel: its caption, clear of a figure at the panel's upper end."""

_LINE_PX = 18
_HEAD_PX = 44


class Card:
    """A figure that grows from the top: a title, lines of text, panels.

    Use it inside `greenlab.live.drawing.style.plain_style()`.

    Args:
        height: of the panels, in CSS pixels.
        lines: text below the title, and its colour; long ones are wrapped.
        scale: device pixels a CSS pixel.
    """

    def __init__(self, height: int, lines: list[tuple[str, str]], scale: float) -> None:
        self._lines = [(line, color) for text, color in lines for line in textwrap.wrap(text, LINE_CHARS)]
        self.width = WIDTH_PX
        self.height = _HEAD_PX + _LINE_PX * len(self._lines) + height
        self.figure = new_card(self.height, scale)
        self.top = float(_HEAD_PX + _LINE_PX * len(self._lines) + 4)

    def title(self, badge: str, color: str, label: str, note: str = "") -> None:
        """Write the title: a badge, a bold label, a note beside it; and below it the lines."""
        write_title(self.figure, badge, color, label, note)
        for at, (line, color_) in enumerate(self._lines):
            self.write(INDENT_PX, _HEAD_PX + 4 + _LINE_PX * at, line, color=color_, gid="line")

    def write(self, x: float, y: float, text: str, **style: Any) -> float:
        """Write text whose left end is at (x, y), in CSS pixels from the top left corner; return where it ends."""
        return write(self.figure, x, y, text, **style)

    def panel(self, name: str, height: float, caption: str, note: str = "", right: float = 22) -> Axes:
        """Add axes below the panels that there are, with their quantity and unit above them."""
        self.top += PANEL_HEAD_PX
        end = self.write(INDENT_PX, self.top - 12, caption, fontsize=11 * PT, gid="quantity")
        self.write(end + 10, self.top - 12, note, fontsize=10.5 * PT, color=MUTED, gid="note")
        box = (
            LEFT_PX / self.width,
            1 - (self.top + height) / self.height,
            1 - (LEFT_PX + right) / self.width,
            height / self.height,
        )
        axes = self.figure.add_axes(box, label=name)
        style_axes(axes)
        draw_grid(axes)
        self.top += height
        return axes

    def render(self) -> tuple[Any, ...]:
        """Return the picture as `greenlab.live.drawing.server` sends it: "png", its bytes, width and height."""
        return "png", to_png(self.figure), self.width, self.height
