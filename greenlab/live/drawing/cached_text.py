"""An Agg canvas that keeps the words it has drawn: text is half of what a picture costs, and most of it comes again.

Words stand at whole pixels for that. Their pictures are as Agg has drawn them.
Must not import: pyplot, ipywidgets, eventlet. Imported late, for matplotlib is heavy.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg

if TYPE_CHECKING:
    from matplotlib.backend_bases import GraphicsContextBase
    from matplotlib.font_manager import FontProperties
    from matplotlib.text import Text
    from numpy.typing import NDArray

_MOST: Final = 500  # words kept; a picture has some thirty


class _Words(NamedTuple):
    """Pixels, from the lowest row up, and how far they lie from where the words begin: to the right, and above."""

    pixels: NDArray[np.uint8]
    left: int
    bottom: int


class Canvas(FigureCanvasAgg):  # type: ignore[misc]  # matplotlib types no backend
    """An Agg canvas for figures that are drawn again and again."""

    _own: Renderer | None = None

    def get_renderer(self) -> Renderer:
        """Return the renderer; the same as long as the size stays."""
        width, height = self.get_width_height(physical=True)
        own = self._own
        if own is None or (own.width, own.height, own.dpi) != (width, height, self.figure.dpi):
            self._own = own = Renderer(width, height, self.figure.dpi)
        return own


class Renderer(RendererAgg):  # type: ignore[misc]
    """An Agg renderer that draws the same words once."""

    def __init__(self, width: float, height: float, dpi: float) -> None:
        super().__init__(width, height, dpi)
        self._words: dict[object, _Words] = {}

    def draw_text(
        self,
        gc: GraphicsContextBase,
        x: float,
        y: float,
        s: str,
        prop: FontProperties,
        angle: float,
        ismath: Any = False,
        mtext: Text | None = None,
    ) -> None:
        """As matplotlib's, at whole pixels."""
        if ismath or angle:
            super().draw_text(gc, x, y, s, prop, angle, ismath, mtext)
            return
        key = s, hash(prop), gc.get_rgb(), gc.get_alpha()
        if key not in self._words:
            if len(self._words) >= _MOST:
                self._words.clear()
            self._words[key] = self._drawn(gc, s, prop, mtext)
        pixels, left, bottom = self._words[key]
        self.draw_image(gc, round(x) + left, self.height - round(y) + bottom, pixels)

    def _drawn(self, gc: GraphicsContextBase, s: str, prop: FontProperties, mtext: Text | None) -> _Words:
        """Draw words on a canvas of their own with room around them, and cut out their ink."""
        room = 2 * math.ceil(self.points_to_pixels(prop.get_size_in_points()))
        width, _, _ = self.get_text_width_height_descent(s, prop, False)
        sheet = RendererAgg(math.ceil(width) + 2 * room, 2 * room, self.dpi)
        sheet.draw_text(gc, room, room, s, prop, 0, False, mtext)
        pixels = np.asarray(sheet.buffer_rgba())
        ys, xs = np.nonzero(pixels[..., 3])
        if not len(ys):
            return _Words(pixels[:1, :1], 0, 0)
        left, top, right, bottom = xs.min(), ys.min(), xs.max() + 1, ys.max() + 1
        return _Words(pixels[top:bottom, left:right][::-1].copy(), int(left) - room, room - int(bottom))
