"""`%greenstep`, in a real kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from kernel import Kernel

TASKS = "import time, greenlab\ndef f(x):\n    time.sleep(x)\n    return x\ns = greenlab.stepper((f, 2), (f, 1))"


def test_greenstep_steps_the_latest_stepper_or_the_one_that_is_named(kernel: Kernel) -> None:
    kernel.run(TASKS)
    assert "  1  at 0 s  f 1 runs, then sleeps until 2 s\n" == kernel.run("%greenstep").stdout
    assert "  2  at 0 s  f 2 runs, then sleeps until 1 s\n" == kernel.run("%greenstep s").stdout
    shown = kernel.run("%greenstep --show s")
    assert "stepper at 0 s, after 2 steps\n  f 1 sleeps until 2 s\n  f 2 sleeps until 1 s" == shown.value
    assert "" == shown.stdout
    assert (
        "  3  at 1 s  f 2 runs, then returns 1\n  4  at 2 s  f 1 runs, then returns 2\n     all tasks have ended\n"
    ) == kernel.run("%greenstep --all s").stdout


def test_a_cell_gives_the_same_output_each_time_it_is_run(kernel: Kernel) -> None:
    outputs = {kernel.run(f"{TASKS}\n%greenstep -n 3").stdout for _ in range(3)}
    assert 1 == len(outputs)


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("%greenstep 3", "make a stepper first"),
        ("%greenstep -n 0", "1 or more"),
        ("%greenstep --nonsense", "no option --nonsense"),
        ("%greenstep s -n 2", "options come first"),
    ],
)
def test_a_mistake_in_the_line_is_one_line_and_an_error_of_the_cell(kernel: Kernel, code: str, says: str) -> None:
    cell = kernel.run(code)
    assert says in (cell.error or "")
    assert "\n" not in (cell.error or "")
