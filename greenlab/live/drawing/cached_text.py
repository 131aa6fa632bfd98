"""An Agg canvas that caches the text it has drawn: text is half of what a picture costs, and most of it comes again.

For that, text stands at whole pixels. Its pixels are as Agg has drawn them.
Must not import: pyplot, ipywidgets, eventlet. Imported late, because matplotlib is heavy.
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

_MOST: Final = 500  # texts kept; a picture has some thirty


class _CachedText(NamedTuple):
    """Pixels, from the lowest row up, and their offset from where the text begins: to the right, and above."""

    pixels: NDArray[np.uint8]
    left: int
    bottom: int


class CachedTextCanvas(FigureCanvasAgg):  # type: ignore[misc]  # matplotlib types no backend
    """An Agg canvas for figures that are drawn again and again."""

    _renderer: CachedTextRenderer | None = None

    def get_renderer(self) -> CachedTextRenderer:
        """Return the renderer; the same as long as the size stays."""
        width, height = self.get_width_height(physical=True)
        renderer = self._renderer
        if renderer is None or (renderer.width, renderer.height, renderer.dpi) != (width, height, self.figure.dpi):
            self._renderer = renderer = CachedTextRenderer(width, height, self.figure.dpi)
        return renderer


class CachedTextRenderer(RendererAgg):  # type: ignore[misc]
    """An Agg renderer that draws the same text once."""

    def __init__(self, width: float, height: float, dpi: float) -> None:
        super().__init__(width, height, dpi)
        self._cache: dict[object, _CachedText] = {}

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
        """Draw text as matplotlib does, at whole pixels."""
        if ismath or angle:
            super().draw_text(gc, x, y, s, prop, angle, ismath, mtext)
            return
        key = s, hash(prop), gc.get_rgb(), gc.get_alpha()
        if key not in self._cache:
            if len(self._cache) >= _MOST:
                self._cache.clear()
            self._cache[key] = self._draw_once(gc, s, prop, mtext)
        pixels, left, bottom = self._cache[key]
        self.draw_image(gc, round(x) + left, self.height - round(y) + bottom, pixels)

    def _draw_once(self, gc: GraphicsContextBase, s: str, prop: FontProperties, mtext: Text | None) -> _CachedText:
        """Draw text on a canvas of its own with a margin, and cut out the pixels that are not empty."""
        margin = 2 * math.ceil(self.points_to_pixels(prop.get_size_in_points()))
        width, _, _ = self.get_text_width_height_descent(s, prop, False)
        sheet = RendererAgg(math.ceil(width) + 2 * margin, 2 * margin, self.dpi)
        sheet.draw_text(gc, margin, margin, s, prop, 0, False, mtext)
        pixels = np.asarray(sheet.buffer_rgba())
        ys, xs = np.nonzero(pixels[..., 3])
        if not len(ys):
            return _CachedText(pixels[:1, :1], 0, 0)
        left, top, right, bottom = xs.min(), ys.min(), xs.max() + 1, ys.max() + 1
        return _CachedText(pixels[top:bottom, left:right][::-1].copy(), int(left) - margin, margin - int(bottom))
