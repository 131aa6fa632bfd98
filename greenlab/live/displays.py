"""What a view looks like where it is shown: widgets, a picture replaced in place, or lines in a terminal.

A face draws nothing and knows no run; it is handed HTML, text and pictures. Each one shows something at once,
and `finish` leaves an output that needs no kernel: a saved notebook shows the last picture and the numbers.
The face of widgets is in `greenlab.live.widget_display`.

Must not import: ipywidgets or IPython before a face is shown; matplotlib never.
"""

from __future__ import annotations

import uuid
from base64 import b64encode
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from greenlab.live.drawing.client import Drawing


class Slider(NamedTuple):
    """What a user may turn while a run goes on.

    Attributes:
        name: what it is: "concurrency" or "workers".
        value: where it stands.
        steps: where it may stand, ascending.
        is_light: whether it is worth following while it is being turned.
    """

    name: str
    value: int
    steps: tuple[int, ...]
    is_light: bool


class Controls(NamedTuple):
    """What a face calls when its user does something, on whichever thread it likes.

    Attributes:
        stop: the run shall stop.
        turn: the dial was turned to a value.
    """

    stop: Callable[[], object]
    turn: Callable[[int], object]


class Now(NamedTuple):
    """How far a run is, in words.

    Attributes:
        name: the run's name, without a number that varies: test tools compare it with a saved one.
        progress: one line of plain text.
        html: the same as a header.
        dial: what may be turned, and where it stands.
        failure: the first failure, folded in, as HTML; empty if there is none.
    """

    name: str
    progress: str
    html: str
    dial: Slider
    failure: str = ""


class Last(NamedTuple):
    """What a notebook keeps of a run.

    Attributes:
        text: what the output says where pictures are not shown.
        summary: how the run went, in a few lines.
        drawing: the last picture, for faces that draw; None if nobody could draw it.
        failure: the first failure, folded in, as HTML; empty if there is none.
    """

    text: str
    summary: str
    drawing: Drawing | None
    failure: str = ""


class Display:
    """A face that shows nothing; the others are what it is not.

    Attributes:
        draws: whether it wants pictures.
        titled: whether a live picture must say by itself what the header says.
    """

    draws = False
    titled = True

    def show(self, now: Now) -> None:
        """Appear."""

    def update(self, now: Now) -> None:
        """Say how far the run is."""

    def picture(self, drawing: Drawing) -> None:
        """Show a live picture."""

    def stopping(self) -> None:
        """Show that the run was asked to stop."""

    def finish(self, last: Last) -> None:
        """Leave what a notebook keeps."""

    def close(self) -> None:
        """Let go of what the face holds. Safe to call twice."""


class TerminalDisplay(Display):
    """Two outputs, for a terminal cannot take one back: what is run, and how it went."""

    def show(self, now: Now) -> None:
        """Print what is run."""
        _display({"text/plain": now.name})

    def finish(self, last: Last) -> None:
        """Print how it went."""
        _display({"text/plain": last.summary})


class StillDisplay(Display):
    """One output that is replaced in place: for front ends without widgets, where one stops a run by interrupting."""

    draws = True

    def __init__(self) -> None:
        self._id = uuid.uuid4().hex
        self._drawing: Drawing | None = None
        self._failure = ""

    def show(self, now: Now) -> None:
        """Display the line that will be replaced."""
        _display({"text/plain": now.name}, display_id=self._id)

    def update(self, now: Now) -> None:
        """Replace the line, as long as there is no picture that says more."""
        self._failure = now.failure
        if self._drawing is None:
            _display({"text/plain": now.progress}, display_id=self._id, update=True)

    def picture(self, drawing: Drawing) -> None:
        """Replace the picture."""
        self._drawing = drawing
        _display(*picture_bundle(Last("", "", drawing, self._failure)), display_id=self._id, update=True)

    def finish(self, last: Last) -> None:
        """Replace it all by the last picture and the summary."""
        _display(*picture_bundle(last), display_id=self._id, update=True)


def picture_bundle(last: Last) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the data and metadata of an output that shows a picture, and the first failure below it."""
    drawing = last.drawing
    if drawing is None:
        return {"text/plain": last.text}, {}
    size = {"width": drawing.width, "height": drawing.height}
    about = size | ({"alt": last.summary} if last.summary else {})
    data: dict[str, Any] = {"image/png": drawing.png, "text/plain": last.text}
    if last.failure:
        # One output: a front end takes no further ones of a cell that has ended, as it has with --detach.
        attributes = " ".join(f'{name}="{escape(str(value))}"' for name, value in about.items())
        source = b64encode(drawing.png).decode("ascii")
        data["text/html"] = f'<img src="data:image/png;base64,{source}" {attributes}>{last.failure}'
    return data, {"image/png": about}


def _display(
    bundle: dict[str, Any],
    metadata: dict[str, Any] | None = None,
    *,
    display_id: str | None = None,
    update: bool = False,
) -> None:
    from IPython.display import display

    display(bundle, raw=True, metadata=metadata or {}, display_id=display_id, update=update)
