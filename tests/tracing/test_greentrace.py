"""`%%greentrace` and `--trace`, in a real kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from kernel import Kernel


WAIT = "import time, greenlab\ndef wait(x):\n    time.sleep(0.02)\n    return x"
SLEPT = "timeline: green threads waited for sleep; nothing blocked the hub"


def test_greentrace_runs_a_plain_cell_in_the_notebooks_namespace(kernel: Kernel) -> None:
    kernel.run(WAIT)
    cell = kernel.run("%%greentrace -o t\nt1 = greenlab.spawn(wait, 1)\nt1.wait()\ny = 5")
    assert cell.error is None
    assert SLEPT == cell.value
    assert "image/png" in cell.result
    assert "(5, True)" == kernel.run("y, t is _timeline").value


def test_greentrace_with_items_runs_the_cell_as_tasks(kernel: Kernel) -> None:
    kernel.run(WAIT)
    cell = kernel.run("%%greentrace -c 3 --no-live -o t x in range(6)\nwait(x)")
    assert SLEPT == cell.value
    assert "([0, 1, 2, 3, 4, 5], True)" == kernel.run("_run.results, t is _run.timeline()").value


def test_a_run_within_a_traced_cell_is_in_its_timeline(kernel: Kernel) -> None:
    kernel.run(WAIT)
    assert SLEPT == kernel.run("%%greentrace\n%%greenrun --no-live x in range(3)\nwait(x)").value


def test_trace_is_an_option_of_greenrun(kernel: Kernel) -> None:
    kernel.run(WAIT)
    kernel.run("%%greenrun --trace --no-live -n 3\nwait(i)")
    assert SLEPT == kernel.run("_run.timeline()").value


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("%greentrace", "stands above a cell"),
        ("%%greentrace", "the cell is empty"),
        ("%%greentrace -c 3\n1", "say what to run over"),
        ("%%greentrace --detach x in [1]\n1", "no option --detach"),
        ("%%greentrace -o 3x\n1", "takes the name of a variable"),
        ("%%greentrace\nawait x", "line 2 of the cell"),
        ("%%greentrace\n1 +", "line 2 of the cell"),
    ],
)
def test_a_mistake_is_one_line_and_an_error_of_the_cell(kernel: Kernel, code: str, says: str) -> None:
    cell = kernel.run(code)
    assert cell.error is not None
    assert says in cell.error
    assert "\n" not in cell.error


def test_what_a_traced_cell_raises_is_shown_with_its_line_and_the_timeline_is_kept(kernel: Kernel) -> None:
    cell = kernel.run("%%greentrace\nx = 1\nx / 0")
    assert "ZeroDivisionError" == cell.ename
    assert "----> 3" in (cell.error or "").replace("\x1b[32m", "").replace("\x1b[39m", "")
    assert "timeline: green threads waited for nothing in particular" in kernel.run("_timeline").value


def test_options_are_completed_and_explained(kernel: Kernel) -> None:
    assert "--concurrency" in kernel.complete("%%greentrace --")
    assert "--detach" not in kernel.complete("%%greentrace --")
    assert {"--all", "--count", "--show"} == set(kernel.complete("%greenstep --"))
    shown = kernel.client.inspect("%%greentrace", reply=True, timeout=20)["content"]["data"]["text/plain"]
    assert "Timeline" in shown
    assert "--concurrency" in shown
