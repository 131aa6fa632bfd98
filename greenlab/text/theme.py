"""How pictures and words follow a page's theme, also when it changes, and a reader's wish for less motion.

A picture is one PNG on an opaque light card, so that it can be read on every page, a saved notebook's too. Where the
page is dark, a rule of CSS turns its lightness round and keeps its hues. The rule is for all of greenlab's pictures on
a page. A picture that is a cell's result brings it along (`picture_html`), and so do live views, and reports, for the
pictures of views, which are PNGs alone.

A front end that drops styles, as JupyterLab does with a notebook that is not trusted, shows the light card.
"""

from __future__ import annotations

from base64 import b64encode
from html import escape
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PICTURE_CLASS: Final = "greenlab-picture"
VIEW_CLASS: Final = "greenlab-view"
"""The class of what a live view is made of."""
PICTURE_WIDTH_PX: Final = 760
"""The width of every picture. JupyterLab writes nothing but its size on the image of an output: the rule goes by it."""
PICTURE_LINE_CHARS: Final = 108
"""Characters of a line of text on a picture; a longer one is cut there, and whole in the report below it."""
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
    # The slider of ipywidgets glides.
    f"@media (prefers-reduced-motion:reduce){{.{VIEW_CLASS} *{{transition:none!important;animation:none!important}}}}"
    "</style>"
)


def picture_html(png: bytes, about: Mapping[str, Any], below: str = "") -> str:
    """Return a picture as HTML that follows the theme, and that assistive technology can read.

    A result has it beside its PNG: no front end of notebooks puts an output's metadata on the image of a PNG as its
    `alt`.

    Args:
        png: the picture.
        about: the attributes of its image: width and height in CSS pixels, and its `alt`, if there is one.
        below: HTML that stands below it.
    """
    attributes = " ".join(f'{name}="{escape(str(value))}"' for name, value in about.items())
    source = b64encode(png).decode("ascii")
    # Decoded at once: one of a live view takes the place of another, and would let the page shine through.
    return (
        f'<img src="data:image/png;base64,{source}" class="{PICTURE_CLASS}" decoding="sync" {attributes}>{below}{STYLE}'
    )


def turned_round(color: str) -> str:
    """Return what the rule makes of a colour on dark pages: https://www.w3.org/TR/filter-effects-1.

    Args:
        color: the colour, as #rrggbb.
    """
    inverted = [part * (1 - INVERTED) + (1 - part) * INVERTED for part in of_hex(color)]
    grey = 0.213 * inverted[0] + 0.715 * inverted[1] + 0.072 * inverted[2]
    # By half a turn, whose sine is 0 and whose cosine is -1.
    return as_hex([2 * grey - part for part in inverted])


def of_hex(color: str) -> list[float]:
    """Return red, green and blue, each from 0 to 1, of a colour as #rrggbb."""
    return [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]


def as_hex(parts: Sequence[float]) -> str:
    """Return a colour of red, green and blue, each from 0 to 1, as #rrggbb."""
    return "#" + "".join(f"{round(255 * min(max(part, 0.0), 1.0)):02x}" for part in parts)


def ink(color: str) -> str:
    """Return the CSS of text in a colour that can be read on light and dark pages.

    Args:
        color: the colour, as #rrggbb.
    """
    return f"color:{readable(color)}"


def readable(color: str) -> str:
    """Return a colour that can be read on light and dark pages, in CSS: mixed with that of the text around it."""
    return f"color-mix(in srgb,{color} 60%,currentColor)"
