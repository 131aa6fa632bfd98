"""Which display a run has in a notebook: widgets, or a picture that is replaced in place.

Must not import: ipywidgets or IPython at the top; matplotlib never.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from greenlab.live.displays import StillDisplay

if TYPE_CHECKING:
    from greenlab.live.displays import Controls, Display


def choose_display(controls: Controls, *, widgets: bool) -> Display:
    """Return the display for this front end.

    Args:
        controls: what is called when the user does something.
        widgets: whether the front end can show widgets.
    """
    if widgets:
        try:
            from greenlab.live.widget_display import WidgetDisplay

            return WidgetDisplay(controls)
        except ImportError:
            pass
    return StillDisplay()
