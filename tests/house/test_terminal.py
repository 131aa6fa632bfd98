"""IPython in a terminal: the hub turns while the prompt waits for the next line."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pexpect
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# pexpect forks while pytest-timeout's thread runs, and Python 3.12 and later say that this may go wrong.
pytestmark = pytest.mark.filterwarnings(r"ignore:.* use of forkpty\(\):DeprecationWarning")


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[pexpect.spawn]:
    child = pexpect.spawn(
        sys.executable,
        [
            "-m",
            "IPython",
            "--no-banner",
            "--no-confirm-exit",
            "--colors=NoColor",
            f"--ipython-dir={tmp_path}",
        ],
        encoding="utf-8",
        timeout=30,
        dimensions=(40, 120),
        env={**__import__("os").environ, "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"},
    )
    child.expect(r"In \[\d+\]:")
    child.send("%load_ext greenlab\r")
    child.expect(r"In \[\d+\]:")
    yield child
    child.close(force=True)


def say(shell: pexpect.spawn, line: str, expected: str) -> None:
    shell.send(line + "\r")
    shell.expect(expected)
    shell.expect(r"In \[\d+\]:")


def test_a_background_task_prints_while_the_prompt_waits(shell: pexpect.spawn) -> None:
    shell.send("import time; t = %greenspawn time.sleep(0.5) or print('from ' + 'the background')\r")
    # Nothing is typed any more: only the hub can bring this.
    shell.expect("from the background")


def test_cells_runs_and_await_work_in_a_terminal(shell: pexpect.spawn) -> None:
    say(shell, "import greenlab, time", r"In \[\d+\]")
    say(shell, "sum(greenlab.run(lambda x: time.sleep(0.1) or x, range(50)).results)", "1225")
    say(shell, "await greenlab.spawn(lambda: time.sleep(0.05) or 7 * 6)", "42")
    say(shell, "%unload_ext greenlab", "")
    say(shell, "type(time.sleep).__name__", "builtin_function_or_method")


def test_ctrl_c_stops_a_waiting_line_and_the_prompt_is_back(shell: pexpect.spawn) -> None:
    shell.send("import time; time.sleep(60)\r")
    shell.expect("sleep")
    __import__("time").sleep(1)
    shell.sendintr()
    shell.expect("KeyboardInterrupt")
    say(shell, "2 + 3", "5")


def test_a_cell_magic_is_typed_line_by_line_and_its_report_has_the_number_of_its_prompt(shell: pexpect.spawn) -> None:
    # As with any cell magic, two blank lines after the body end it.
    shell.send("%%greenrun -n 5\rx = i * 2\rx // (i - 5)\r\r\r")
    shell.expect("latency p50")
    shell.send("_run.results\r")
    shell.expect(r"\[0, -1, -2, -3, -8\]")
    shell.send("%%greenrun -n 3\r1 / 0\r\r\r")
    shell.expect(r"every task failed: 3 ZeroDivisionError")
    shell.expect(r"Cell In\[(\d+)\]")
    number = int(shell.match.group(1))
    shell.expect(rf"In \[{number + 1}\]:")
    say(shell, "def broken(x): return x / 0", rf"In \[{number + 1}\]")
    shell.send("%%greenrun -n 3\rbroken(i)\r\r\r")
    shell.expect(rf"Cell In\[{number + 1}\].{{0,20}}line 1, in broken")
    # Without a body it says what is missing, once blank lines have ended it.
    shell.send("%%greenrun -n 5\r\r\r")
    shell.expect("the cell is empty")


def test_a_run_has_a_line_while_its_cell_waits_and_a_detached_one_says_how_it_ended(shell: pexpect.spawn) -> None:
    say(shell, "import time", r"In \[\d+\]")
    shell.send("%%greenrun -c 5 -n 50\rtime.sleep(0.1)\r\r\r")
    shell.expect(r"green: 50 calls +\d+% .*5 in flight")
    shell.expect("50 tasks succeeded")
    shell.expect(r"In \[\d+\]:")
    shell.send("%%greenrun --detach -c 5 -n 20\rtime.sleep(0.1); print('of a task')\r\r\r")
    shell.expect("still running")
    shell.expect(r"green run of 20 calls: 20 tasks, ")
    # The prompt has streams of its own, and IPython other hooks in a cell: no task has replaced them.
    assert "Warning" not in shell.before
    say(shell, "6 * 7", "42")
    assert "Warning" not in shell.before


def test_a_race_has_a_line_while_it_goes_on_and_its_report_alone_says_how_it_ended(shell: pexpect.spawn) -> None:
    say(shell, "import time", r"In \[\d+\]")
    shell.send("%%greenrace -p green,threads -c 5 -n 50\rtime.sleep(0.05)\r\r\r")
    shell.expect(r"race: green.* 5 in flight")
    shell.expect("hub blocked")  # a column of the report
    assert "ended after" not in shell.before
