"""The views of a run: live in a notebook, a line in a terminal, and pictures. Everything heavy is imported late.

Must not import: magics; at the top: matplotlib, ipywidgets, IPython.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import greenlet

from greenlab import places

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from greenlab.hub import GuestHub
    from greenlab.runs import Run
    from greenlab.tracing.timeline import Timeline

__all__ = ["progress_lines_for", "report_maker", "run_figure", "series_views_for", "timeline_figure", "views_for"]


def views_for(here: GuestHub, live: bool | None) -> Sequence[Any]:
    """Return the observers that show a run; none where nothing is to be shown.

    Args:
        here: the hub.
        live: whether to show it; None does in a notebook, and in IPython in a terminal.
    """
    return _observers(here, live, _live_view)


def series_views_for(here: GuestHub, live: bool | None) -> Sequence[Any]:
    """Return the observers that show a series of runs, as `views_for` does those of a run."""
    return _observers(here, live, _live_series_view)


def progress_lines_for(here: GuestHub, live: bool | None) -> Sequence[Any]:
    """Return the observers that show, outside notebooks, a series of runs of which there is no picture."""
    return _observers(here, live, lambda _: None)


def _live_view(here: GuestHub) -> Any:
    from greenlab.live import DrawingClient, View

    return View(here.call_soon_threadsafe, client=here.keep("drawing client", DrawingClient))


def _live_series_view(here: GuestHub) -> Any:
    from greenlab.live.drawing.client import DrawingClient
    from greenlab.live.series_view import SeriesView

    return SeriesView(here.keep("drawing client", DrawingClient))


def _observers(here: GuestHub, live: bool | None, in_kernel: Callable[[GuestHub], Any]) -> Sequence[Any]:
    if live is False:
        return ()
    shell = places.shell()
    if not _is_kernel(shell):
        return _progress_lines(here, shell, live)
    view = in_kernel(here)
    return () if view is None else (view,)


def _progress_lines(here: GuestHub, shell: Any, live: bool | None) -> Sequence[Any]:
    """Return the observers for where there is no notebook: IPython in a terminal, which has a prompt, or a script."""
    if live is None and shell is None:
        return ()
    from greenlab.live.progress import ProgressLine
    from greenlab.live.terminal import TerminalLine

    line = here.keep("terminal line", TerminalLine)
    if live is None and not line.in_place:
        return ()
    if shell is None:
        return (ProgressLine(line, may_write=lambda: True, says_end=lambda: True),)
    # While a cell waits there is no prompt, and its report follows; a series ends in the cell's own code.
    return (ProgressLine(line, may_write=lambda: here.blocking, says_end=lambda: not (here.blocking or _in_cell())),)


def _in_cell() -> bool:
    """Return whether the caller is the thread's first greenlet, which runs cells, and no task in the background."""
    return greenlet.getcurrent().parent is None


def _is_kernel(shell: Any) -> bool:
    """Return whether the code runs in a kernel, whose front end shows rich output."""
    return getattr(shell, "kernel", None) is not None


def report_maker() -> Callable[[], Any] | None:
    """Return what makes the report of a run that goes on; None where an output cannot be replaced."""
    if not _is_kernel(places.shell()):
        return None
    from greenlab.live.running_report import RunningReport

    return RunningReport


def run_figure(run: Run) -> Any:
    """Draw a run. `Run` is given this function, since `runs` draws nothing."""
    from greenlab.live import static_figure

    return static_figure(run)


def timeline_figure(timeline: Timeline, *, own: bool = False) -> Any:
    """Draw a timeline. `Tracing` is given this function, since `tracing` draws nothing."""
    from greenlab.live.drawing.timeline_figure import draw

    return draw(timeline, own=own)
