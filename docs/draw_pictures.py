"""Draw the pictures of the docs, and the page that shows them all: `python docs/draw_pictures.py`.

They are saved with a palette, which makes them a third as large. `every_picture.json` has what is on each of them, for
the test that compares it.
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "kit"))

from every_picture import content, page, states

DOCS = Path(__file__).parent
_COLOURS = 64


def main(wanted: list[str]) -> None:
    """Draw all of them.

    Args:
        wanted: which of them are saved; all without any.
    """
    found: dict[str, Any] = {}
    alts: dict[str, str] = {}
    for state in (state for each in states().values() for state in each):
        figure = state.make()
        alts[state.name] = figure.alt
        found[state.name] = content(figure) | {"alt": figure.alt}
        if state.name in wanted or not wanted:
            _save(state.name, figure)
    (DOCS / "every_picture.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (DOCS / "every_picture.md").write_text(page(alts), encoding="utf-8")


def _save(name: str, figure: Any) -> None:
    from PIL import Image

    png, _size = figure._repr_png_()
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    path = DOCS / "images" / f"{name}.png"
    picture.quantize(_COLOURS, dither=Image.Dither.NONE).save(path, "png", optimize=True)
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")  # noqa: T201 # a script


if __name__ == "__main__":
    main(sys.argv[1:])
