"""Streams, displays and figures in a real kernel, while tasks that use them overlap."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING

import pytest

from greenlab.runs import Ledger

if TYPE_CHECKING:
    from kernel import Kernel


def test_three_tasks_that_show_a_figure_show_three(kernel: Kernel) -> None:
    kernel.run("%matplotlib inline\nimport matplotlib.pyplot as plt, time")
    cell = kernel.run(
        "%%greenrun --no-live i in range(3)\nplt.figure(); plt.plot([i, i + 1]); time.sleep(0.05); plt.show()"
    )
    assert cell.error is None
    assert 3 == sum("image/png" in display for display in cell.displays)


def test_what_is_flushed_in_a_task_comes_at_once_and_in_order(kernel: Kernel) -> None:
    kernel.run("import sys, time")
    cell = kernel.run(
        "%%greenrun --no-live -c 3 i in range(3)\nfor n in range(5):\n    print(i, n, flush=True); time.sleep(0.001)"
    )
    assert cell.error is None
    lines = [line for line in cell.stdout.splitlines() if line[:1].isdigit()]
    assert 15 == len(lines)
    for task in "012":
        assert [f"{task} {n}" for n in range(5)] == [line for line in lines if line.startswith(task)]


def test_after_tasks_that_captured_output_at_once_the_next_cell_is_heard(kernel: Kernel) -> None:
    kernel.run("from IPython.utils.capture import capture_output\nimport time")
    cell = kernel.run(
        "%%greenrun --no-live -c 3 i in range(3)\n"
        "with capture_output() as kept:\n    print(i); display(i); time.sleep(0.01 * (i + 1))"
    )
    assert cell.error is None
    assert "task 2 left sys.stdout, sys.stderr, sys.displayhook, the shell.display_pub replaced" in cell.stderr
    following = kernel.run("print('heard')\ndisplay('shown')\n6 * 7")
    assert "heard\n" == following.stdout
    assert ["'shown'"] == [display["text/plain"] for display in following.displays]
    assert "42" == following.value


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize("fails", [False, True])
def test_a_task_that_ends_while_a_stream_is_replaced_is_noted_and_no_other(
    monkeypatch: pytest.MonkeyPatch, stream: str, fails: bool
) -> None:
    ledger = Ledger(abs, range(2), concurrency=2)

    def end(index: int) -> None:
        if fails:
            ledger.fail(index, 0.0, 1.0, ValueError("mine"))
        else:
            ledger.succeed(index, 0.0, 1.0, index)

    assert [(0, 0), (1, 1)] == [ledger.pull(), ledger.pull()]
    end(0)
    assert ledger.replaced_by is None
    monkeypatch.setattr(sys, stream, io.StringIO())
    end(1)
    assert 1 == ledger.replaced_by


def test_after_tasks_that_redirected_output_in_the_background_the_next_cell_is_heard(kernel: Kernel) -> None:
    kernel.run("import contextlib, io, time")
    started = kernel.run(
        "%%greenrun --no-live --detach -c 3 i in range(3)\n"
        "with contextlib.redirect_stdout(io.StringIO()):\n    time.sleep(0.01 * (i + 1))"
    )
    assert started.error is None
    kernel.run("_run.wait(); None")
    assert "heard\n" == kernel.run("print('heard')").stdout
