"""The display that is made of widgets: a header, a Stop button, a slider, the first failure and an image.

Guarantees: `Controls` is called on the thread that reads the front end's message, also while the cell runs; after
`close` none of the display's widgets is left.

Must not be imported before it is shown: ipywidgets is slow to import. Must not import: matplotlib.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import ipywidgets
import traitlets

from greenlab.hub import eventlet
from greenlab.live import displays
from greenlab.live.displays import Display, picture_bundle
from greenlab.text.theme import PICTURE_CLASS, STYLE, VIEW_CLASS

if TYPE_CHECKING:
    from greenlab.live.displays import Controls, Final, Progress, Slider
    from greenlab.live.drawing.client import Drawing

WIDGET_MIME = "application/vnd.jupyter.widget-view+json"


class _NamedImage(ipywidgets.Image):  # type: ignore[misc]  # ipywidgets has no types
    """An image whose tooltip assistive technology reads as its name: how far the run is.

    ipywidgets 8.1 shows no image that has a tooltip: its front end looks first how long the description is, which an
    image has none of.
    """

    description = traitlets.Unicode("").tag(sync=True)


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
        self._line = ""
        self._is_setting = False

    def show(self, progress: Progress) -> None:
        """Show the header, the button and the slider; the image follows with the first picture."""
        self._line = progress.line
        self._make_widgets(progress)
        # Let other green threads run in between: both steps together hold the hub for 4 ms.
        eventlet.sleep(0)
        self._show_widgets(progress)

    def _make_widgets(self, progress: Progress) -> None:
        self._header = self._keep(ipywidgets.HTML(progress.html, layout={"flex": "1 1 auto", "margin": "0 12px 0 0"}))
        self._button = self._keep(
            ipywidgets.Button(
                description="Stop",
                tooltip="Stop this run",
                layout={"width": "76px", "flex": "0 0 auto", "margin": "0"},
            )
        )
        # The callbacks run on another thread (JupyterLab 4.4, ipykernel 7): they may only post to the hub.
        self._button.on_click(lambda _: self._controls.stop())
        self._slider = self._keep(_slider(progress.slider))
        self._slider.observe(self._on_slider_moved, "value")

    def _show_widgets(self, progress: Progress) -> None:
        row = self._keep(ipywidgets.HBox([self._header, self._button], layout={"align_items": "flex-start"}))
        layout = {"width": "100%", "max_width": "760px", "overflow": "hidden"}
        style = self._keep(ipywidgets.HTML(STYLE, layout={"display": "none"}))
        self._root = self._keep(ipywidgets.VBox([row, self._slider, style], layout=layout))
        self._root.add_class(VIEW_CLASS)
        view = {"version_major": 2, "version_minor": 0, "model_id": self._root.model_id}
        displays.send_output({WIDGET_MIME: view, "text/plain": progress.name}, display_id=self._id)
        _receive_on_any_shell(self._button)
        _receive_on_any_shell(self._slider)

    def update(self, progress: Progress) -> None:
        """Change what differs: most often that is the header, with one message to the front end."""
        if not self._widgets:
            return
        self._line = progress.line
        self._header.value = progress.html
        if progress.failure and self._failure is None:
            # A widget of its own: what a user has unfolded must not fold itself with the next header.
            self._failure = self._keep(ipywidgets.HTML(progress.failure, layout={"margin": "4px 0 0 0"}))
            self._root.children = (*self._root.children[:2], self._failure, *self._root.children[2:])
        if progress.slider.value != self._slider.value:
            self._set_slider(progress.slider.value)

    def picture(self, drawing: Drawing) -> None:
        """Change the image."""
        if not self._widgets:
            return
        if self._image is None:
            layout = {"width": f"{drawing.width}px", "max_width": "100%", "margin": "8px 0 0 0"}
            image = _NamedImage(value=drawing.png, format="png", tooltip=self._line, layout=layout)
            self._image = self._keep(image)
            self._image.add_class(PICTURE_CLASS)
            self._root.children = (*self._root.children, self._image)
        else:
            with self._image.hold_sync():
                self._image.value, self._image.tooltip = drawing.png, self._line

    def stopping(self) -> None:
        """Disable the button and the slider."""
        if self._widgets:
            self._button.description = "Stopping…"
            self._button.disabled = True
            self._slider.disabled = True

    def finish(self, final: Final) -> None:
        """Replace the widgets by the last picture and the summary, and close them."""
        displays.send_output(*picture_bundle(final), display_id=self._id, update=True)
        self.close()

    def close(self) -> None:
        """Close the widgets, since the notebook would be saved with their state."""
        widgets, self._widgets = self._widgets, []
        if self._image is not None and widgets:
            # nbclient 0.10 saves the state of closed widgets too: let it be a small one.
            self._image.value = b""
        for widget in widgets:
            widget.close()

    def _on_slider_moved(self, change: Any) -> None:
        if not self._is_setting:
            self._controls.set_value(change["new"])

    def _set_slider(self, value: int) -> None:
        slider = self._slider
        self._is_setting = True
        try:
            if value not in slider.options:
                slider.options = sorted((*slider.options, value))
            slider.value = value
        finally:
            self._is_setting = False
        _receive_on_any_shell(slider)

    def _keep(self, widget: Any) -> Any:
        # A widget's layout and style are widgets too, and are not closed with it.
        self._widgets += [widget, widget.layout, *([widget.style] if hasattr(widget, "style") else [])]
        return widget


def _slider(slider: Slider) -> Any:
    # Not one of ipywidgets' numeric sliders: the front end rounds their value to a step and sends that at once, and a
    # message that comes before there is a subshell waits for the cell, as do all that follow.
    return ipywidgets.SelectionSlider(
        options=slider.steps,
        value=slider.value,
        description=slider.name,
        continuous_update=slider.continuous,
        style={"description_width": "auto"},
        layout={"width": "100%", "margin": "2px 0 0 0"},
    )


def _receive_on_any_shell(widget: Any) -> None:
    """Send a widget's events to the subshell that the front end sends them to.

    ipykernel 7.4 passes a front end's message for a comm to the shell that last sent one on that comm: here the main
    shell, which is busy with the cell until the run is over. It goes by an attribute that each message sets.
    """
    vars(widget.comm).pop("_reply_subshell_id", None)
