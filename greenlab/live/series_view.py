"""The live picture of a race or a sweep: one output that is replaced in place, and stays in the notebook.

Guarantees: the hub's thread does not draw while runs go on (`greenlab.live.drawing.client` does); after `series_ended`
no green thread of the view's own is left; the first output names the series without a number, for tools that compare.

Must not import: runs, matplotlib, numpy, IPython before it shows something.
"""

from __future__ import annotations

import uuid
from importlib import import_module
from typing import TYPE_CHECKING, Any

from greenlab.hub import eventlet
from greenlab.live.displays import Final, cell_number, is_cell, picture_bundle, send_output
from greenlab.live.drawing.client import Drawing, DrawingClient
from greenlab.live.series_snapshot import snapshot_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIRST_S, EVERY_S = 0.5, 1.0
"""When the first picture is due, and how long each stays at the least: drawing takes part of a core, and a comparison
lasts long."""
LIVE_SCALE, FINAL_SCALE = 1.5, 2.0
FINAL_WAIT_S = 10.0


class SeriesView:
    """Shows a series while it goes on: an observer of one series.

    Args:
        client: the process that draws. It is started if need be, and never closed.
    """

    def __init__(self, client: DrawingClient) -> None:
        self._client: Any = client
        self._id = uuid.uuid4().hex
        self._ticker: Any = None
        self._times_cache: dict[int, Any] = {}
        self._drawing = False
        self._ended = False
        self._cell: int | None = None
        self._left_picture = False

    def stands_in(self, cell: int | None) -> bool:
        """Return whether the last picture stands in a cell; None for the one that runs now."""
        return self._left_picture and is_cell(self._cell, cell)

    def series_started(self, series: Any) -> None:
        """Show the first output under the cell."""
        self._cell = cell_number()
        send_output({"text/plain": series.name}, display_id=self._id)
        self._client.start()
        self._ticker = eventlet.spawn(self._draw_repeatedly, series)

    def series_ended(self, series: Any) -> None:
        """Show the last picture, with the report as its text."""
        self.close()
        source = snapshot_of(series, self._times_cache)
        drawing = self._client.draw(source, FINAL_SCALE, FINAL_WAIT_S)
        if drawing is None:
            drawing = Drawing(*import_module(source.drawn_by).render(source, FINAL_SCALE)[1:])
        self._show_picture(drawing, series.summary(), series.summary())
        self._left_picture = True

    def close(self) -> None:
        """Stop drawing. Safe to call twice."""
        self._ended = True
        ticker, self._ticker = self._ticker, None
        # While it waits for a drawing it ends by itself: killed, it would leave half a reply, and cost the process.
        if ticker is not None and not self._drawing:
            ticker.kill()

    def _draw_repeatedly(self, series: Any) -> None:
        eventlet.sleep(FIRST_S)
        while True:
            self._drawing = True
            drawing = self._client.draw(snapshot_of(series, self._times_cache), LIVE_SCALE)
            self._drawing = False
            if drawing is None or self._ended:
                return  # the client has warned why it cannot draw, and there is no point in asking again
            so_far = f"{series.name}\n{series.stage}"
            self._show_picture(drawing, so_far, so_far)
            eventlet.sleep(EVERY_S)

    def _show_picture(self, drawing: Drawing, text: str, summary: str) -> None:
        send_output(*picture_bundle(Final(text, summary, drawing)), display_id=self._id, update=True)


def static_figure(series: Any) -> Figure:
    """Draw a race or a sweep, in this process.

    Returns:
        a figure that is not registered with pyplot.
    """
    source = snapshot_of(series)
    figure: Figure = import_module(source.drawn_by).draw(source).figure
    return figure
