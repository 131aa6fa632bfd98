"""The live view of a run: figures and widgets. It draws, and decides nothing.

`View` is an observer of one run; `Artist` is the process that draws for it and may be shared by many views;
`static_figure` is a run's picture as a matplotlib figure.

Guarantees: importing this imports neither matplotlib nor ipywidgets, nor numpy, nor IPython.
Must not import: runs (a run is known by `Watched` alone), magics.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from greenlab.live.artist import Artist
from greenlab.live.source import Watched, records_of
from greenlab.live.view import View, name_line
from greenlab.live.words import POOL_COLORS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["POOL_COLORS", "Artist", "View", "Watched", "name_line", "static_figure"]


def static_figure(run: Watched) -> Figure:
    """Draw a run from the exact times of its tasks.

    Args:
        run: one that has ended, or goes on: then its ended tasks are drawn.

    Returns:
        a figure of its own, which pyplot knows nothing of.
    """
    from greenlab.live import curves, figure

    return figure.draw(curves.picture_of(records_of(run)))
