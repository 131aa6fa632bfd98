"""The course and the tour as their tests see them, and how the notebooks are executed and saved.

`python tests/kit/course.py notebooks/03_*.ipynb` executes notebooks in place and prints what each cell took. Pictures
are saved with a palette, which makes them a third as large; widgets are left out, for a saved notebook has no kernel.
"""

from __future__ import annotations

import base64
import io
import re
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionComplete

FOLDER = Path(__file__).parents[2] / "notebooks"
TOUR = FOLDER / "tour.ipynb"
WIDGET = "application/vnd.jupyter.widget-view+json"
CELL_TIMEOUT_S = 60
_COLOURS = 64
_SOURCE = re.compile(r'(?<=src="data:image/png;base64,)[^"]*')
_LIBRARY = re.compile(rf"(/[\w.@-]+)+/lib/python3[.\d]+t?/(site-packages/)?|{re.escape(str(FOLDER.parent))}/")


def lessons() -> list[Path]:
    """Return the lessons, in their order."""
    return sorted(FOLDER.glob("[0-9][0-9]_*.ipynb"))


def notebooks() -> list[Path]:
    """Return the lessons and the tour."""
    return [*lessons(), TOUR]


def short_name(path: Path) -> str:
    """Return what a notebook is called in short: a lesson's number, or "tour"."""
    return path.stem.partition("_")[0]


def load(path: Path) -> Any:
    """Read a notebook."""
    return nbformat.read(path, as_version=4)


class _Client(NotebookClient):  # type: ignore[misc]  # nbclient's types are not read
    """A client in which a cell that has ended can still change what it shows, as in front ends.

    nbclient 0.10 drops every message that is not of the present cell, so that a detached run would be saved as running.
    """

    async def _async_poll_output_msg(self, parent_msg_id: str, cell: Any, cell_index: int) -> None:
        while True:
            message = await self.kc.iopub_channel.get_msg(timeout=None)
            if message["parent_header"].get("msg_id") == parent_msg_id:
                try:
                    self.process_message(message, cell, cell_index)
                except CellExecutionComplete:
                    return
            elif message["msg_type"] == "update_display_data":
                self._update_display_id(message["content"]["transient"]["display_id"], message)


def execute(notebook: Any) -> dict[str, float]:
    """Execute a notebook in a kernel of its own, in the folder of the lessons.

    Returns:
        the seconds that each cell took, by its id.

    Raises:
        CellExecutionError: a cell failed.
    """
    begun: dict[str, float] = {}
    took: dict[str, float] = {}

    def begin(cell: Any, **_more: Any) -> None:
        begun[cell.id] = time.monotonic()

    def end(cell: Any, **_more: Any) -> None:
        took[cell.id] = time.monotonic() - begun[cell.id]

    client = _Client(
        notebook,
        timeout=CELL_TIMEOUT_S,
        kernel_name="python3",
        resources={"metadata": {"path": str(FOLDER)}},
        on_cell_execute=begin,
        on_cell_executed=end,
    )
    client.execute()
    return took


def tidy(notebook: Any) -> None:
    """Leave what a saved notebook keeps: no times, no widgets, no paths of this machine, small pictures."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        cell.metadata = {"tags": cell.metadata.tags} if "tags" in cell.metadata else {}
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            data.pop(WIDGET, None)
            if "image/png" in data:
                data["image/png"] = _smaller(data["image/png"])
                # The same picture once more. Of a display nbval sees only what was there before the picture was.
                html = data.pop("text/html", None)
                if html is not None and output.output_type == "execute_result":
                    data["text/html"] = _SOURCE.sub(data["image/png"], html)
                about = output.metadata.get("image/png", {})
                about["alt"] = about.get("alt", "").split("\n  the first, ")[0]
            for kind, text in data.items():
                if kind.startswith("text/"):
                    data[kind] = _LIBRARY.sub("…/", text)


def _smaller(png: str) -> str:
    from PIL import Image

    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    out = io.BytesIO()
    picture.quantize(_COLOURS, dither=Image.Dither.NONE).save(out, "png", optimize=True)
    return base64.b64encode(out.getvalue()).decode("ascii")


def main(paths: list[str]) -> None:
    """Execute notebooks and save them."""
    for path in map(Path, paths or list(map(str, notebooks()))):
        notebook = load(path)
        took = execute(notebook)
        tidy(notebook)
        nbformat.write(notebook, path)
        slow = ", ".join(f"{name} {seconds:.1f}" for name, seconds in took.items() if seconds > 2)
        print(f"{path.name}: {sum(took.values()):.1f} s ({slow})")


if __name__ == "__main__":
    main(sys.argv[1:])
