"""How pictures and words follow a page's theme, also when it changes.

A picture is one PNG on an opaque light card, so that it can be read on every page, a saved notebook's too. Where the
page is dark, a rule of CSS turns its lightness round and keeps its hues. The rule is for all of greenlab's pictures on
a page, and stands in the outputs beside them: live views, reports, and pictures with a failure below them.

A front end that drops styles, as JupyterLab does with a notebook that is not trusted, shows the light card.
"""

from __future__ import annotations

from typing import Final

PICTURE_CLASS: Final = "greenlab-picture"
PICTURE_WIDTH_PX: Final = 760
"""The width of every picture. JupyterLab writes nothing but its size on the image of an output: the rule goes by it."""
INVERTED, TURNED_DEG = 0.93, 180
"""How far light and dark change places, and by how much hues are turned back: what was near white is near black."""

_PICTURES: Final = f':is(.{PICTURE_CLASS},.jp-RenderedImage img[width="{PICTURE_WIDTH_PX}"][height])'
_DARK: Final = f"{{filter:invert({INVERTED}) hue-rotate({TURNED_DEG}deg)}}"
STYLE: Final = (
    '<style class="greenlab">'
    f'[data-jp-theme-light="false"] {_PICTURES}{_DARK}'  # JupyterLab, Notebook 7, nbconvert
    f"body:is(.vscode-dark,.vscode-high-contrast:not(.vscode-high-contrast-light)) {_PICTURES}{_DARK}"
    "@media (prefers-color-scheme:dark){"  # where no theme is known
    f'body:not([data-jp-theme-light]):not([class*="vscode-"]) {_PICTURES}{_DARK}}}'
    "</style>"
)


def ink(color: str) -> str:
    """Return the CSS of text in a colour that can be read on light and dark pages: mixed with the page's own.

    Args:
        color: the colour, as #rrggbb.
    """
    return f"color:color-mix(in srgb,{color} 60%,currentColor)"
