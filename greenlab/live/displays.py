"""The displays of a view: a picture replaced in place, or widgets (`widget_display`).

A display draws nothing and knows no run; it is given HTML, text and pictures. Each one shows something at once, and
`finish` leaves an output that needs no kernel: a saved notebook shows the last picture and the numbers.

Must not import: ipywidgets or IPython before a display is shown; matplotlib never.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, NamedTuple

from greenlab.live.words import sentences
from greenlab.places import shell
from greenlab.text.theme import picture_html

if TYPE_CHECKING:
    from collections.abc import Callable

    from greenlab.live.drawing.client import Drawing


class Slider(NamedTuple):
    """A slider that changes a run while it goes on.

    Attributes:
        name: what it sets: "concurrency" or "workers".
        value: the value now.
        steps: the values that it may have, ascending.
        continuous: whether it takes effect while it is being moved.
    """

    name: str
    value: int
    steps: tuple[int, ...]
    continuous: bool


class Controls(NamedTuple):
    """What a display calls when its user does something, on any thread.

    Attributes:
        stop: stops the run.
        set_value: sets what the slider sets.
    """

    stop: Callable[[], object]
    set_value: Callable[[int], object]


class Progress(NamedTuple):
    """How far a run is, formatted.

    Attributes:
        name: the run's name, without a number that varies: test tools compare it with a saved one.
        line: how far it is, in one line of plain text.
        html: the same as an HTML header.
        slider: what may be changed, and its value.
        failure: the first failure, folded in, as HTML; empty if there is none.
    """

    name: str
    line: str
    html: str
    slider: Slider
    failure: str = ""


class Final(NamedTuple):
    """The output of a run that a notebook keeps.

    Attributes:
        text: the output where pictures are not shown.
        summary: how the run went, in a few lines.
        drawing: the last picture, for displays that show one; None if it could not be drawn.
        failure: the first failure, folded in, as HTML; empty if there is none.
    """

    text: str
    summary: str
    drawing: Drawing | None
    failure: str = ""


class Display:
    """A display that shows nothing: the base of the others.

    Attributes:
        draws: whether it shows pictures.
        titled: whether a live picture needs a title, because no header stands above it.
    """

    draws = False
    titled = True

    def show(self, progress: Progress) -> None:
        """Show the first output."""

    def update(self, progress: Progress) -> None:
        """Show how far the run is."""

    def picture(self, drawing: Drawing) -> None:
        """Show a live picture."""

    def stopping(self) -> None:
        """Show that the run was asked to stop."""

    def finish(self, final: Final) -> None:
        """Replace the live output by the one that a notebook keeps."""

    def close(self) -> None:
        """Release what the display holds. Safe to call twice."""


class StillDisplay(Display):
    """One output that is replaced in place: for front ends without widgets, where an interrupt stops a run."""

    draws = True

    def __init__(self) -> None:
        self._id = uuid.uuid4().hex
        self._drawing: Drawing | None = None
        self._failure = ""
        self._line = ""

    def show(self, progress: Progress) -> None:
        """Show the line that will be replaced."""
        send_output({"text/plain": progress.name}, display_id=self._id)

    def update(self, progress: Progress) -> None:
        """Replace the line, until there is a picture."""
        self._failure, self._line = progress.failure, progress.line
        if self._drawing is None:
            send_output({"text/plain": progress.line}, display_id=self._id, update=True)

    def picture(self, drawing: Drawing) -> None:
        """Replace the picture."""
        self._drawing = drawing
        send_output(*picture_bundle(Final("", self._line, drawing, self._failure)), display_id=self._id, update=True)

    def finish(self, final: Final) -> None:
        """Replace it all by the last picture and the summary."""
        send_output(*picture_bundle(final), display_id=self._id, update=True)


def picture_bundle(final: Final) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the data and metadata of an output that shows a picture, and the first failure below it."""
    drawing = final.drawing
    if drawing is None:
        return {"text/plain": final.text}, {}
    size = {"width": drawing.width, "height": drawing.height}
    about = size | ({"alt": alt} if (alt := alt_text(final.summary)) else {})
    data: dict[str, Any] = {"image/png": drawing.png, "text/plain": final.text}
    if final.failure:
        # One output: a front end shows no further ones of a cell that has ended, as it has with --detach. Without a
        # failure there is no HTML: nbval (0.11) sees a display as it was before its picture came, and compares that.
        data["text/html"] = picture_html(drawing.png, about, final.failure)
    return data, {"image/png": about}


def alt_text(summary: str) -> str:
    """Return a report as the text that stands for its picture: one line, without a traceback."""
    lines = summary.partition("\n  the first, ")[0].split("\n")
    return sentences(stripped for line in lines if (stripped := line.strip()))


def send_output(
    bundle: dict[str, Any],
    metadata: dict[str, Any] | None = None,
    *,
    display_id: str | None = None,
    update: bool = False,
) -> None:
    """Send an output to the front end, or replace the one with the same display id."""
    from IPython.display import display

    display(bundle, raw=True, metadata=metadata or {}, display_id=display_id, update=update)


def cell_number() -> int | None:
    """Return the number of the cell that runs now; None outside of a shell."""
    here = shell()
    return None if here is None else int(here.execution_count)


def is_cell(number: int | None, cell: int | None) -> bool:
    """Return whether `number` is that of a cell; of the one that runs now, if that is None."""
    return number is not None and number == (cell_number() if cell is None else cell)
