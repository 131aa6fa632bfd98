"""What a view looks like where it is shown: widgets, a picture replaced in place, or lines in a terminal.

A face draws nothing and knows no run; it is handed HTML, text and pictures. Each one shows something at once,
and `finish` leaves an output that needs no kernel: a saved notebook shows the last picture and the numbers.

Must not import: ipywidgets or IPython before a face is shown; matplotlib never.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from greenlab.live.artist import Drawing

WIDGET_MIME = "application/vnd.jupyter.widget-view+json"


class Now(NamedTuple):
    """How far a run is, in words.

    Attributes:
        name: the run's name, without a number that varies: test tools compare it with a saved one.
        progress: one line of plain text.
        html: the same as a header.
    """

    name: str
    progress: str
    html: str


class Last(NamedTuple):
    """What a notebook keeps of a run.

    Attributes:
        text: what the output says where pictures are not shown.
        summary: how the run went, in a few lines.
        drawing: the last picture, for faces that draw.
    """

    text: str
    summary: str
    drawing: Drawing | None


class Face:
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


class TerminalFace(Face):
    """Two outputs, for a terminal cannot take one back: what is run, and how it went."""

    def show(self, now: Now) -> None:
        """Print what is run."""
        _display({"text/plain": now.name})

    def finish(self, last: Last) -> None:
        """Print how it went."""
        _display({"text/plain": last.summary})


class StillFace(Face):
    """One output that is replaced in place: for front ends without widgets."""

    draws = True

    def __init__(self) -> None:
        self._id = uuid.uuid4().hex
        self._drawing: Drawing | None = None

    def show(self, now: Now) -> None:
        """Display the line that will be replaced."""
        _display({"text/plain": now.name}, display_id=self._id)

    def update(self, now: Now) -> None:
        """Replace the line, as long as there is no picture that says more."""
        if self._drawing is None:
            _display({"text/plain": now.progress}, display_id=self._id, update=True)

    def picture(self, drawing: Drawing) -> None:
        """Replace the picture."""
        self._drawing = drawing
        _display(*_picture_bundle("", "", drawing), display_id=self._id, update=True)

    def finish(self, last: Last) -> None:
        """Replace it all by the last picture and the summary."""
        _display(*_picture_bundle(*last), display_id=self._id, update=True)


class WidgetFace(Face):
    """A header in one HTML widget, a Stop button and an image."""

    draws = True
    titled = False

    def __init__(self, stop: Callable[[], object]) -> None:
        # Here, so that whoever chooses a face learns at once whether there are widgets.
        import ipywidgets

        self._kinds = ipywidgets
        self._on_stop = stop
        self._id = uuid.uuid4().hex
        self._widgets: list[Any] = []
        self._header: Any = None
        self._button: Any = None
        self._image: Any = None
        self._root: Any = None

    def show(self, now: Now) -> None:
        """Display the header and the button; the picture's place is taken when there is one."""
        kinds = self._kinds
        self._header = self._keep(kinds.HTML(now.html, layout={"flex": "1 1 auto", "margin": "0 12px 0 0"}))
        self._button = self._keep(
            kinds.Button(
                description="Stop",
                tooltip="Stop this run",
                layout={"width": "76px", "flex": "0 0 auto", "margin": "0"},
            )
        )
        # The callback comes on another thread (JupyterLab 4.4, ipykernel 7): it may only post.
        self._button.on_click(lambda _: self._on_stop())
        row = self._keep(kinds.HBox([self._header, self._button], layout={"align_items": "flex-start"}))
        self._root = self._keep(kinds.VBox([row], layout={"width": "100%", "max_width": "760px"}))
        view = {"version_major": 2, "version_minor": 0, "model_id": self._root.model_id}
        _display({WIDGET_MIME: view, "text/plain": now.name}, display_id=self._id)
        _answer_on_any_shell(self._button)

    def update(self, now: Now) -> None:
        """Change the header: one message to the front end, or none if it reads the same."""
        self._header.value = now.html

    def picture(self, drawing: Drawing) -> None:
        """Change the image."""
        if self._image is None:
            layout = {"width": f"{drawing.width}px", "max_width": "100%", "margin": "8px 0 0 0"}
            self._image = self._keep(self._kinds.Image(value=drawing.png, format="png", layout=layout))
            self._root.children = (*self._root.children, self._image)
        else:
            self._image.value = drawing.png

    def stopping(self) -> None:
        """Grey the button out."""
        if self._widgets:
            self._button.description = "Stopping…"
            self._button.disabled = True

    def finish(self, last: Last) -> None:
        """Replace the widgets by the last picture and the summary, and close them."""
        _display(*_picture_bundle(*last), display_id=self._id, update=True)
        self.close()

    def close(self) -> None:
        """Close the widgets, or the notebook would be saved with their state."""
        widgets, self._widgets = self._widgets, []
        if self._image is not None and widgets:
            # nbclient 0.10 saves the state of closed widgets too: let it be a small one.
            self._image.value = b""
        for widget in widgets:
            widget.close()

    def _keep(self, widget: Any) -> Any:
        # A widget's layout and style are widgets too, and are not closed with it.
        self._widgets += [widget, widget.layout, *([widget.style] if hasattr(widget, "style") else [])]
        return widget


def choose_face(stop: Callable[[], object], *, widgets: bool) -> Face:
    """Choose how to appear, by what there is: a kernel, widgets, or neither.

    Args:
        stop: what the Stop button calls, on whichever thread it likes.
        widgets: whether the front end can show widgets.
    """
    if not _in_kernel():
        return TerminalFace()
    if widgets:
        try:
            return WidgetFace(stop)
        except ImportError:
            pass
    return StillFace()


def _answer_on_any_shell(widget: Any) -> None:
    """Let a widget's events go to the subshell that the front end sends them to.

    ipykernel 7.4 hands what a front end says to a comm to the shell that spoke on that comm last: here the
    main one, which is busy with the cell until the run is over. It goes by an attribute that each message
    sets.
    """
    vars(widget.comm).pop("_reply_subshell_id", None)


def _in_kernel() -> bool:
    from IPython import get_ipython

    return getattr(get_ipython(), "kernel", None) is not None


def _picture_bundle(text: str, summary: str, drawing: Drawing | None) -> tuple[dict[str, Any], dict[str, Any]]:
    if drawing is None:
        return {"text/plain": text}, {}
    size = {"width": drawing.width, "height": drawing.height, **({"alt": summary} if summary else {})}
    return {"image/png": drawing.png, "text/plain": text}, {"image/png": size}


def _display(
    bundle: dict[str, Any],
    metadata: dict[str, Any] | None = None,
    *,
    display_id: str | None = None,
    update: bool = False,
) -> None:
    from IPython.display import display

    display(bundle, raw=True, metadata=metadata or {}, display_id=display_id, update=update)
