"""The style that every picture shares: its card, colours, sizes, and how text is written on it.

Pure matplotlib with nothing but Agg, so that neither pyplot's global state nor a user's style is read or changed. The
card is opaque, light and rounded: one picture must do for light and dark pages, since a saved notebook is read on both;
`greenlab.text.theme` turns its lightness round where the page is dark.

Sizes are CSS pixels, from the card's top left corner.
Must not import: pyplot, ipywidgets, eventlet. Imported late, because matplotlib is heavy.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Final, cast

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.patches import FancyBboxPatch

from greenlab.live.drawing.png import encode
from greenlab.live.words import badge_colors, shortened
from greenlab.text.theme import PICTURE_LINE_CHARS, PICTURE_WIDTH_PX, picture_html

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from matplotlib.axes import Axes

WIDTH_PX: Final = PICTURE_WIDTH_PX
"""The width of every card; its height depends on what there is to show."""
DPI: Final = 100
PT: Final = 72 / DPI
"""Points a CSS pixel."""
LEFT_PX, RIGHT_PX, INDENT_PX = 58, 22, 20
"""From the card's edges to the axes, and from its left edge to its text."""
LINE_CHARS: Final = PICTURE_LINE_CHARS
"""Characters of a line of text that fit on the card."""

TEXT_COLOR, MUTED = "#23272e", "#646a73"
SHADE, PALE_RED, GRID = "#8a8f98", "#efbfb6", "#e7e8e4"
CARD_COLOR, _EDGE = "#fcfcfa", "#d9dad6"
_LABEL_CHARS = 56
_NO_GLYPH = "\ufffd"
_TITLE_Y = 22


class CardFigure(Figure):
    """A figure that a notebook shows by itself: IPython shows plain ones only once pyplot was set up.

    Attributes:
        alt: what it shows, in words, for those who do not see it.
    """

    alt = ""

    def _repr_png_(self) -> tuple[bytes, dict[str, Any]]:
        width, height = size_px(self)
        return to_png(self), {"width": width, "height": height} | ({"alt": self.alt} if self.alt else {})

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:  # noqa: ARG002
        png, about = self._repr_png_()
        data = {"text/plain": repr(self), "image/png": png, "text/html": picture_html(png, about)}
        return data, {"image/png": about}


def plain_style() -> AbstractContextManager[None]:
    """Return the context in which everything is drawn: matplotlib's defaults, whatever the user's style."""
    groups = {"font", "text", "axes", "xtick", "ytick", "lines", "patch", "path", "figure", "savefig"}
    style = {key: value for key, value in mpl.rcParamsDefault.items() if key.split(".")[0] in groups}
    style |= {"font.size": 11 * PT, "text.color": TEXT_COLOR, "xtick.color": MUTED, "ytick.color": MUTED}
    context: AbstractContextManager[None] = mpl.rc_context(style)
    return context


def new_card(height: int, scale: float, canvas: type[FigureCanvasAgg] = FigureCanvasAgg) -> CardFigure:
    """Return an empty card. Call it, and draw on it, inside `plain_style()`.

    Args:
        height: in CSS pixels; the width is `WIDTH_PX`.
        scale: device pixels a CSS pixel.
        canvas: what the figure is drawn with.
    """
    figure = CardFigure(figsize=(WIDTH_PX / DPI, height / DPI), dpi=DPI * scale, facecolor="none")
    canvas(figure)
    figure.add_artist(
        FancyBboxPatch(
            (0.5 / WIDTH_PX, 0.5 / height),
            1 - 1 / WIDTH_PX,
            1 - 1 / height,
            boxstyle="round,pad=0,rounding_size=" + str(8 / WIDTH_PX),
            mutation_aspect=WIDTH_PX / height,
            transform=figure.transFigure,
            facecolor=CARD_COLOR,
            edgecolor=_EDGE,
            linewidth=PT,
            zorder=-10,
            gid="card",
        )
    )
    return figure


def size_px(figure: Figure) -> tuple[int, int]:
    """Return the width and the height of a figure in CSS pixels."""
    width, height = (round(inches * DPI) for inches in figure.get_size_inches())
    return width, height


def can_draw(text: str) -> bool:
    """Return whether the font has all characters of a text, and each can be seen."""
    return all(char.isprintable() and ord(char) in _glyphs() for char in text)


def drawable(text: str) -> str:
    """Return a text with a mark for each character that the font lacks: matplotlib warns of those, and draws boxes."""
    return text if can_draw(text) else "".join(char if can_draw(char) else _NO_GLYPH for char in text)


@cache
def _glyphs() -> frozenset[int]:
    """Return the characters that the font has, plain and bold."""
    plain, bold = (
        get_font(findfont(FontProperties(family="DejaVu Sans", weight=weight))).get_charmap()
        for weight in ("normal", "bold")
    )
    return frozenset(plain) & frozenset(bold)


def write(figure: Figure, x: float, y: float, text: str, **style: Any) -> float:
    """Write text whose left end is at (x, y).

    Returns:
        the x at which it ends.
    """
    width, height = size_px(figure)
    given: dict[str, Any] = {"fontsize": 12 * PT, "va": "center_baseline", "parse_math": False} | style
    written = figure.text(x / width, 1 - y / height, drawable(text), **given)
    return float(written.get_window_extent().x1) * DPI / figure.dpi


def write_title(figure: Figure, badge: str, color: str, label: str, note: str = "") -> None:
    """Write the title of a card: a coloured badge, a bold label, and a note beside it."""
    fill, on_fill = badge_colors(color)
    pill = {"boxstyle": "round,pad=0.32,rounding_size=0.5", "facecolor": fill, "edgecolor": "none"}
    on = {"color": on_fill, "weight": "bold", "bbox": pill}
    x = write(figure, INDENT_PX + 3, _TITLE_Y, badge, gid="badge", **on)
    x = write(figure, x + 14, _TITLE_Y, shortened(label, _LABEL_CHARS), weight="bold", fontsize=13 * PT, gid="label")
    write(figure, x + 10, _TITLE_Y, note, color=MUTED, gid="note")


def style_axes(axes: Axes) -> None:
    """Leave the bottom line and small ticks of axes, and nothing else."""
    axes.patch.set_visible(False)
    axes.spines[["top", "left", "right"]].set_visible(False)
    axes.spines["bottom"].set(color=SHADE, linewidth=PT)
    axes.tick_params(length=3 * PT, width=PT, color=SHADE, labelsize=10.5 * PT, pad=3 * PT)
    axes.tick_params(axis="y", length=0)


def draw_grid(axes: Axes) -> None:
    """Draw horizontal lines behind what the axes show."""
    axes.grid(axis="y", color=GRID, linewidth=PT)
    axes.set_axisbelow(True)


def label_x(axes: Axes, text: str) -> None:
    """Write the quantity and the unit of the horizontal axis below it."""
    axes.set_xlabel(text, color=MUTED, fontsize=10.5 * PT, labelpad=2)


def to_png(figure: Figure) -> bytes:
    """Render a figure with an Agg canvas to a PNG, at its own resolution."""
    canvas = cast("FigureCanvasAgg", figure.canvas)
    canvas.draw()
    return encode(np.asarray(canvas.buffer_rgba()))
