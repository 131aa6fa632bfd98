"""The face of a view that is made of widgets: a header, a Stop button, a dial, the first failure and an image.

Guarantees: what the user does comes to `Controls` on whichever thread the front end's message is read, also while the
cell runs; after `close` no widget of the face's is left.

Must not be imported before it is shown: ipywidgets takes its time. Must not import: matplotlib.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import ipywidgets

from greenlab.hub import eventlet
from greenlab.live import displays
from greenlab.live.displays import Display, picture_bundle

if TYPE_CHECKING:
    from greenlab.live.displays import Controls, Last, Now, Slider
    from greenlab.live.drawing.client import Drawing

WIDGET_MIME = "application/vnd.jupyter.widget-view+json"


class WidgetDisplay(Display):
    """A header in one HTML widget, a Stop button, a slider, and an image."""

    draws = True
    titled = False

    def __init__(self, controls: Controls) -> None:
        self._controls = controls
        self._id = uuid.uuid4().hex
        self._widgets: list[Any] = []
        self._header: Any = None
        self._button: Any = None
        self._slider: Any = None
        self._failure: Any = None
        self._image: Any = None
        self._root: Any = None
        self._setting = False

    def show(self, now: Now) -> None:
        """Display the header and what can be pressed; the picture's place is taken when there is one."""
        self._make(now)
        # Others have their turn in between: both together hold the hub for 4 ms.
        eventlet.sleep(0)
        self._appear(now)

    def _make(self, now: Now) -> None:
        self._header = self._keep(ipywidgets.HTML(now.html, layout={"flex": "1 1 auto", "margin": "0 12px 0 0"}))
        self._button = self._keep(
            ipywidgets.Button(
                description="Stop",
                tooltip="Stop this run",
                layout={"width": "76px", "flex": "0 0 auto", "margin": "0"},
            )
        )
        # The callbacks come on another thread (JupyterLab 4.4, ipykernel 7): they may only post.
        self._button.on_click(lambda _: self._controls.stop())
        self._slider = self._keep(_slider(now.dial))
        self._slider.observe(self._turned, "value")

    def _appear(self, now: Now) -> None:
        row = self._keep(ipywidgets.HBox([self._header, self._button], layout={"align_items": "flex-start"}))
        layout = {"width": "100%", "max_width": "760px", "overflow": "hidden"}
        self._root = self._keep(ipywidgets.VBox([row, self._slider], layout=layout))
        view = {"version_major": 2, "version_minor": 0, "model_id": self._root.model_id}
        displays._display({WIDGET_MIME: view, "text/plain": now.name}, display_id=self._id)
        _answer_on_any_shell(self._button)
        _answer_on_any_shell(self._slider)

    def update(self, now: Now) -> None:
        """Change what reads differently: most often one message to the front end, for the header."""
        if not self._widgets:
            return
        self._header.value = now.html
        if now.failure and self._failure is None:
            # A widget of its own: what a user has unfolded must not fold itself with the next header.
            self._failure = self._keep(ipywidgets.HTML(now.failure, layout={"margin": "4px 0 0 0"}))
            self._root.children = (*self._root.children[:2], self._failure, *self._root.children[2:])
        if now.dial.value != self._slider.value:
            self._set_slider(now.dial.value)

    def picture(self, drawing: Drawing) -> None:
        """Change the image."""
        if not self._widgets:
            return
        if self._image is None:
            layout = {"width": f"{drawing.width}px", "max_width": "100%", "margin": "8px 0 0 0"}
            self._image = self._keep(ipywidgets.Image(value=drawing.png, format="png", layout=layout))
            self._root.children = (*self._root.children, self._image)
        else:
            self._image.value = drawing.png

    def stopping(self) -> None:
        """Grey out what cannot be pressed any more."""
        if self._widgets:
            self._button.description = "Stopping…"
            self._button.disabled = True
            self._slider.disabled = True

    def finish(self, last: Last) -> None:
        """Replace the widgets by the last picture and the summary, and close them."""
        displays._display(*picture_bundle(last), display_id=self._id, update=True)
        self.close()

    def close(self) -> None:
        """Close the widgets, or the notebook would be saved with their state."""
        widgets, self._widgets = self._widgets, []
        if self._image is not None and widgets:
            # nbclient 0.10 saves the state of closed widgets too: let it be a small one.
            self._image.value = b""
        for widget in widgets:
            widget.close()

    def _turned(self, change: Any) -> None:
        if not self._setting:
            self._controls.turn(change["new"])

    def _set_slider(self, value: int) -> None:
        slider = self._slider
        self._setting = True
        try:
            if value not in slider.options:
                slider.options = sorted((*slider.options, value))
            slider.value = value
        finally:
            self._setting = False
        _answer_on_any_shell(slider)

    def _keep(self, widget: Any) -> Any:
        # A widget's layout and style are widgets too, and are not closed with it.
        self._widgets += [widget, widget.layout, *([widget.style] if hasattr(widget, "style") else [])]
        return widget


def _slider(dial: Slider) -> Any:
    # Not one of ipywidgets' numeric sliders: the front end rounds their value to a step of theirs and says so at once,
    # and a message that is too early for a subshell waits for the cell, with all that follow.
    return ipywidgets.SelectionSlider(
        options=dial.steps,
        value=dial.value,
        description=dial.name,
        continuous_update=dial.is_light,
        style={"description_width": "auto"},
        layout={"width": "100%", "margin": "2px 0 0 0"},
    )


def _answer_on_any_shell(widget: Any) -> None:
    """Let a widget's events go to the subshell that the front end sends them to.

    ipykernel 7.4 hands what a front end says to a comm to the shell that spoke on that comm last: here the
    main one, which is busy with the cell until the run is over. It goes by an attribute that each message
    sets.
    """
    vars(widget.comm).pop("_reply_subshell_id", None)
