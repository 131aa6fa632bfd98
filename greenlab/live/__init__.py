"""The live view of a run: figures and widgets. It shows, and decides nothing.

`View` is an observer of one run; `DrawingClient` is the process that draws for it and may be shared by many views;
`static_figure` is a run's picture as a matplotlib figure.

Guarantees: importing this imports nothing else; its names are loaded when they are first used, since the process
that draws needs no hub, and the kernel no matplotlib.
Must not import: runs (a run is known by `Watched` alone), magics.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from greenlab.live.drawing.client import DrawingClient
    from greenlab.live.view import View, name_line
    from greenlab.live.watched import Watched
    from greenlab.live.words import POOL_COLORS

__all__ = ["POOL_COLORS", "DrawingClient", "View", "Watched", "name_line", "static_figure"]


_WHERE = {
    "POOL_COLORS": "words",
    "DrawingClient": "drawing.client",
    "View": "view",
    "Watched": "watched",
    "name_line": "view",
}


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        value = globals()[name] = getattr(import_module(f"greenlab.live.{_WHERE[name]}"), name)
        return value
    raise AttributeError(f"module 'greenlab.live' has no attribute {name!r}")


def static_figure(run: Watched) -> Figure:
    """Draw a run from the exact times of its tasks.

    Args:
        run: one that has ended, or goes on: then its ended tasks are drawn.

    Returns:
        a figure that is not registered with pyplot.
    """
    from greenlab.live.drawing import curves, run_figure, waterfall
    from greenlab.live.snapshot import records_of

    source = records_of(run)
    return waterfall.draw(source) if source.has_bars else run_figure.draw(curves.picture_of(source))
