"""The views of a run: the live view in a notebook, and its pictures. Everything heavy is imported late.

Must not import: magics; at the top: matplotlib, ipywidgets, IPython.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from greenlab.hub import GuestHub
    from greenlab.runs import Run
    from greenlab.tracing.timeline import Timeline

__all__ = ["in_notebook", "run_figure", "timeline_figure", "views_for"]


def views_for(here: GuestHub, live: bool | None) -> Sequence[Any]:
    """Return the observers that show a run; none where nothing is to be shown."""
    if live is None:
        live = in_notebook()
    if not live:
        return ()
    from greenlab.live import DrawingClient, View

    return (View(here.call_soon_threadsafe, client=here.keep("drawing client", DrawingClient)),)


def in_notebook() -> bool:
    """Return whether the code runs in a kernel, whose front end shows rich output."""
    import sys

    if "IPython" not in sys.modules:
        return False
    from IPython import get_ipython

    return getattr(get_ipython(), "kernel", None) is not None


def run_figure(run: Run) -> Any:
    """Draw a run. `Run` is given this function, since `runs` draws nothing."""
    from greenlab.live import static_figure

    return static_figure(run)


def timeline_figure(timeline: Timeline) -> Any:
    """Draw a timeline. `Tracing` is given this function, since `tracing` draws nothing."""
    from greenlab.live.drawing.timeline_figure import draw

    return draw(timeline)
