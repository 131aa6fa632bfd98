"""A notebook that is saved, and what nbval makes of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
CELLS = [
    "%load_ext greenlab",
    "%%greenrace -p green,prefork -w 2 -n 20\nimport time\ntime.sleep(0.01)",
    "%%greensweep -c 1,2,4,8 --seconds 0.3 x in range(5)\nimport time\ntime.sleep(0.01)",
    "_sweep",
    "%%greenadvise --sample 5 x in range(100)\nimport time\ntime.sleep(0.02)",
    "%%greenrun -p auto -n 30\nimport time\ntime.sleep(0.02)",
    "_advice",
    "%unload_ext greenlab",
]


def test_a_saved_notebook_compares_equal_by_strict_nbval_and_shows_pictures_without_a_kernel(tmp_path: Path) -> None:
    notebook: Any = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    saved = notebook.cells[1].outputs
    assert ["display_data", "execute_result"] == [output.output_type for output in saved]
    assert "image/png" in saved[0].data
    assert "race: 20 calls in green, prefork\n" in saved[0].data["text/plain"]
    path = tmp_path / "saved.ipynb"
    nbformat.write(notebook, path)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--nbval", "--nbval-current-env"]
    command += ["--nbval-sanitize-with", str(ROOT / "notebooks" / "sanitize.cfg"), "-c", "/dev/null", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert 0 == done.returncode, done.stdout
    assert f"{len(CELLS)} passed" in done.stdout
