"""Words on the canvas of live pictures look as matplotlib's, and are drawn once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure

from greenlab.live.drawing.cached_text import CachedTextCanvas

WORDS = [
    ("plain", {}),
    ("jumps gy(){}|", {"fontsize": 23, "weight": "bold"}),
    ("┈━■ ascend", {"color": "#c23b22"}),
    ("━", {"alpha": 0.4}),
    ("two\nlines", {"va": "center"}),
    ("x²·µs", {"ha": "right"}),
    ("$E=mc^2$", {}),
    ("turned", {"rotation": 30}),
    (" ", {}),
    ("", {}),
]


def drawn(kind: type[FigureCanvasAgg], words: str, style: dict[str, Any], times: int = 1) -> Any:
    figure = Figure(figsize=(3, 1), dpi=150, facecolor="none")
    canvas = kind(figure)
    figure.text(0.5, 0.5, words, **style)
    for _ in range(times):
        canvas.draw()
    return np.asarray(canvas.buffer_rgba()).astype(int)


@pytest.mark.parametrize(("words", "style"), WORDS)
def test_words_look_as_matplotlib_draws_them(words: str, style: dict[str, Any]) -> None:
    theirs, ours = drawn(FigureCanvasAgg, words, style), drawn(CachedTextCanvas, words, style, times=2)
    # Within a pixel, for words stand at whole ones here.
    near = [np.abs(np.roll(ours, (down, right), (0, 1)) - theirs).mean() for down in (-1, 0, 1) for right in (-1, 0, 1)]
    assert min(near) < 0.2 * max(theirs[..., 3].mean(), 0.1)
    assert ours[..., 3].sum() == pytest.approx(theirs[..., 3].sum(), rel=0.03)


def test_words_that_come_again_are_not_drawn_again(monkeypatch: Any) -> None:
    asked: list[str] = []
    draw = RendererAgg.draw_text

    def counted(self: Any, gc: Any, x: float, y: float, s: str, *args: Any) -> None:
        asked.append(s)
        draw(self, gc, x, y, s, *args)

    monkeypatch.setattr(RendererAgg, "draw_text", counted)
    figure = Figure(figsize=(3, 1))
    canvas = CachedTextCanvas(figure)
    text = figure.text(0.1, 0.1, "again")
    figure.text(0.5, 0.5, "again")
    canvas.draw()
    text.set_position((0.3, 0.2))
    canvas.draw()
    assert ["again"] == asked
    text.set_color("red")
    text.set_fontsize(30)
    canvas.draw()
    assert ["again", "again"] == asked


def test_a_figure_that_changes_its_size_is_drawn_whole() -> None:
    figure = Figure(figsize=(3, 1), dpi=100)
    canvas = CachedTextCanvas(figure)
    canvas.draw()
    figure.set_size_inches(4, 2)
    canvas.draw()
    assert (200, 400, 4) == np.asarray(canvas.buffer_rgba()).shape
