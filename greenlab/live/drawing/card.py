"""The card that the pictures of series are drawn on: title, panels, axes, as on a run's picture.

Must not import: pyplot, ipywidgets, eventlet. Imported late, for matplotlib is heavy.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg

from greenlab.live.drawing.run_figure import (
    _DPI,
    _GRID,
    _INDENT,
    _LEFT,
    _PT,
    _SHADE,
    WIDTH_PX,
    RunFigure,
    _card,
    _plain_style,
    png,
)
from greenlab.live.words import INK, MUTED, ink_on, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["INDENT", "LEFT", "PT", "WIDTH_PX", "Card", "style"]

INDENT, LEFT, PT = _INDENT, _LEFT, _PT
_LINE_CHARS, _LINE_PX = 108, 18
_HEAD_PX = 44
_LABEL_CHARS = 56


def style() -> Any:
    """Return the context in which everything is drawn, whatever the user's style."""
    return mpl.rc_context(_plain_style())


class Card:
    """A figure that grows from the top: a title, lines of words, panels.

    Use it inside `style()`.

    Args:
        height: what the panels take, in CSS pixels.
        words: the lines below the title.
        scale: device pixels a CSS pixel.
    """

    def __init__(self, height: int, words: list[tuple[str, str]], scale: float) -> None:
        self._lines = [(line, ink) for text, ink in words for line in textwrap.wrap(text, _LINE_CHARS)]
        self.width = WIDTH_PX
        self.height = _HEAD_PX + _LINE_PX * len(self._lines) + height
        self.figure = RunFigure(figsize=(self.width / _DPI, self.height / _DPI), dpi=_DPI * scale, facecolor="none")
        FigureCanvasAgg(self.figure)
        _card(self.figure, self.width, self.height)
        self.top = float(_HEAD_PX + _LINE_PX * len(self._lines) + 4)

    def title(self, badge: str, color: str, label: str, note: str = "") -> None:
        """Write the badge, the bold label, a note beside it, and the lines below."""
        pill = {"boxstyle": "round,pad=0.32,rounding_size=0.5", "facecolor": color, "edgecolor": "none"}
        x = self.write(INDENT + 3, 22, badge, color=ink_on(color), weight="bold", bbox=pill, gid="badge")
        short = shortened(label, _LABEL_CHARS)
        x = self.write(x + 14, 22, short, weight="bold", fontsize=13 * PT, gid="label")
        self.write(x + 10, 22, note, color=MUTED, gid="note")
        for at, (line, ink) in enumerate(self._lines):
            self.write(INDENT, _HEAD_PX + 4 + _LINE_PX * at, line, color=ink, gid="line")

    def write(self, x: float, y: float, words: str, **how: Any) -> float:
        """Write at CSS pixels from the top left corner; return where the words end."""
        given: dict[str, Any] = {"fontsize": 12 * PT, "va": "center_baseline", "parse_math": False, "color": INK} | how
        text = self.figure.text(x / self.width, 1 - y / self.height, words, **given)
        return float(text.get_window_extent().x1) * _DPI / self.figure.dpi

    def panel(self, name: str, height: float, words: str, note: str = "", right: float = 22) -> Axes:
        """Add axes below what there is, with their quantity and unit above them."""
        self.top += 18
        end = self.write(INDENT, self.top - 8, words, fontsize=11 * PT, gid="quantity")
        self.write(end + 10, self.top - 8, note, fontsize=10.5 * PT, color=MUTED, gid="note")
        box = (
            LEFT / self.width,
            1 - (self.top + height) / self.height,
            1 - (LEFT + right) / self.width,
            height / self.height,
        )
        axes = self.figure.add_axes(box, label=name)
        axes.patch.set_visible(False)
        axes.spines[["top", "left", "right"]].set_visible(False)
        axes.spines["bottom"].set(color=_SHADE, linewidth=PT)
        axes.tick_params(length=3 * PT, width=PT, color=_SHADE, labelsize=10.5 * PT, pad=3 * PT)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", color=_GRID, linewidth=PT)
        axes.set_axisbelow(True)
        self.top += height
        return axes

    def name_x(self, axes: Axes, words: str) -> None:
        """Name the quantity and the unit of the horizontal axis."""
        axes.set_xlabel(words, color=MUTED, fontsize=10.5 * PT, labelpad=2)

    def answer(self) -> tuple[Any, ...]:
        """Return the picture as `greenlab.live.drawing.server` sends it."""
        return "png", png(self.figure), self.width, self.height
