"""Cells are called by the number that stands beside them, wherever greenlab names one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

if TYPE_CHECKING:
    from kernel import Kernel

FAILS = "%%greenrun --no-live -n 1\n1 / 0"
AWAITED = "import asyncio\nawait asyncio.sleep(0)\nget_ipython().run_cell_magic('greenrun', '--no-live -n 1', '1 / 0')"
# It runs its body as a cell of its own, with a number that nobody sees.
INSIDE = "%%capture\nget_ipython().run_cell_magic('greenrun', '--no-live -n 1', '1 / 0')"
HOLDS = "%%greenrun --no-live -n 1 -o r\nimport time, greenlab\nwith greenlab.native():\n    time.sleep(0.6)"


@pytest.mark.parametrize("code", [FAILS, AWAITED, INSIDE, "%%greentrace\n1 / 0"])
def test_a_traceback_has_the_number_of_the_cell(kernel: Kernel, code: str) -> None:
    for _ in range(2):
        cell = kernel.run(code)
        assert cell.error is not None
        assert f"Cell In[{cell.number}]" in _plain(cell.error)
        assert f"In[{cell.number + 1}]" not in _plain(cell.error)


def test_what_held_the_hub_has_the_number_of_the_cell(kernel: Kernel) -> None:
    cell = kernel.run(HOLDS)
    assert f"line 4 of Cell In[{cell.number}]" in kernel.run("print(*r.blocked)").stdout


def test_background_tasks_have_the_number_of_their_cell_and_magics_in_them_too(kernel: Kernel) -> None:
    kernel.run("import time, greenlab")
    cell = kernel.run("%%greenspawn\ntime.sleep(600) or print('what nobody will see')")
    listed = kernel.run("%greenps").value
    assert f"line 2 of Cell In[{cell.number}]" in listed
    assert "time.sleep(600) or print('what nobody w…  " in listed
    kernel.run("greenlab.kill(*[row.id for row in greenlab.ps()])")
    outer = kernel.run("%%greenspawn\ninner = %greenspawn time.sleep(600)")
    listed = kernel.run("time.sleep(0.05)\n%greenps").value
    assert f"line 1 of Cell In[{outer.number}]" in listed
    kernel.run("greenlab.kill(*[row.id for row in greenlab.ps()])")


def test_a_checked_call_has_the_number_of_the_cell(kernel: Kernel) -> None:
    kernel.run("def wait():\n    raise KeyError('no such thing')")
    cell = kernel.run("%greencheck wait() or 1")
    assert f"In[{cell.number + 1}]" not in cell.value + _plain(cell.error or "")


@pytest.mark.parametrize(
    "code",
    [
        "greenlab.run(wait, [1, 0], live=False).results",
        "greenlab.run(wait, [1, 0], live=False, pool='threads').results",
        "greenlab.spawn(wait, 0).wait()",
        "await greenlab.spawn(wait, 0)",
        "greenlab.offload(wait, 0, pool='threads')",
        "greenlab.offload(wait, 0)",
        "%greenstep no_such_stepper",
    ],
)
def test_what_a_cell_shows_of_an_error_has_no_frames_of_what_ran_the_task(kernel: Kernel, code: str) -> None:
    kernel.run("import greenlab\ndef wait(i):\n    return 1 // i")
    error = kernel.run(code).error
    assert error is not None
    for inner in ("/greenlab/", "/eventlet/", "/ipykernel_"):
        assert inner not in _plain(error)


def test_a_traceback_names_the_cell_of_a_function_not_the_file_that_is_made_up_for_it(kernel: Kernel) -> None:
    defined = kernel.run("def wait(i):\n    return 1 // i")
    said = kernel.run("%%greenrun --no-live -n 2\nwait(i)").value
    assert f'File "Cell In[{defined.number}]", line 2, in wait' in said


def test_a_notebook_that_is_run_by_nbclient_has_its_numbers() -> None:
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    cells = [nbformat.v4.new_code_cell(code) for code in ("%load_ext greenlab", "1 + 1", FAILS)]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    with pytest.raises(CellExecutionError) as caught:
        NotebookClient(notebook, timeout=60).execute()
    assert 3 == notebook.cells[2].execution_count
    assert "Cell In[3]" in _plain(str(caught.value))
    assert "In[4]" not in _plain(str(caught.value))


def _plain(text: str) -> str:
    """Drop colours."""
    import re

    return re.sub(r"\x1b\[[\d;]*m", "", text)
