"""Which display a run has: widgets, a picture that is replaced in place, or lines in a terminal.

Must not import: ipywidgets or IPython at the top; matplotlib never.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from greenlab.live.displays import StillDisplay, TerminalDisplay

if TYPE_CHECKING:
    from greenlab.live.displays import Controls, Display


def choose_display(controls: Controls, *, widgets: bool) -> Display:
    """Return the display for this front end: by whether there is a kernel, and widgets.

    Args:
        controls: what is called when the user does something.
        widgets: whether the front end can show widgets.
    """
    if not _in_kernel():
        return TerminalDisplay()
    if widgets:
        try:
            from greenlab.live.widget_display import WidgetDisplay

            return WidgetDisplay(controls)
        except ImportError:
            pass
    return StillDisplay()


def _in_kernel() -> bool:
    from IPython import get_ipython

    return getattr(get_ipython(), "kernel", None) is not None
