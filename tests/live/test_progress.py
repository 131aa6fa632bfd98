"""The progress line: what it says, what it leaves of others' output, and what a log gets."""

from __future__ import annotations

import io
import itertools
import os
import re
import subprocess
import sys
import textwrap
import threading
from time import perf_counter
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pexpect
import pytest
from live_doubles import FakeRun

from greenlab.hub import eventlet
from greenlab.live import progress
from greenlab.live import terminal as terminal_module
from greenlab.live.progress import ProgressLine
from greenlab.live.terminal import ERASE, Part, TerminalLine, fitted

if TYPE_CHECKING:
    from collections.abc import Iterator

# pexpect forks while pytest-timeout's thread runs, and Python 3.12 and later say that this may go wrong.
pytestmark = pytest.mark.filterwarnings(r"ignore:.* use of forkpty\(\):DeprecationWarning")

PARTS = [Part("green: url in urls"), Part("90 of 200"), Part("3 failed", problem=True), Part("45 tasks/s")]


# -- what it says ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (90, "green: url in urls  45% █████████████▌················  90 of 200, 3 failed, 45 tasks/s"),
        (66, "green: url in urls  45% ███▋····  90 of 200, 3 failed, 45 tasks/s"),
        (60, "green: url in urls  45%  90 of 200, 3 failed, 45 tasks/s"),
        (45, "green: url in urls  45%  90 of 200, 3 failed"),
        (26, "green: url in urls  45%"),
        (14, "green: u…  45%"),
        (3, "…"),
    ],
)
def test_a_line_is_never_wider_than_its_terminal_and_says_the_most_important_first(width: int, expected: str) -> None:
    for each in (width, width + 1):
        line = fitted(PARTS, 0.45, each, plain=True, ascii_only=False)
        assert len(line) < each
    assert line.startswith(expected[:8])


def test_every_width_is_kept() -> None:
    for width, share, ascii_only in itertools.product(range(1, 130), (None, 0.0, 0.123, 1.0, 1.5), (False, True)):
        line = fitted(PARTS, share, width, plain=True, ascii_only=ascii_only)
        assert len(line) <= max(width - 1, 1)
        assert not ascii_only or line.isascii()
        coloured = fitted(PARTS, share, width, plain=False, ascii_only=ascii_only)
        assert line == re.sub(r"\x1b\[\d+m", "", coloured)
        assert ("\x1b" in coloured) == ("failed" in line)


def test_a_bar_grows_by_eighths_from_nothing_to_all() -> None:
    bars = [fitted(PARTS, n / 400, 100, plain=True, ascii_only=False).split("%")[1] for n in range(401)]
    assert len(set(bars)) > 8 * 20
    assert "█" not in bars[0]
    assert "·" not in bars[-1]


def test_a_run_is_told_by_its_counts_rate_and_estimate() -> None:
    run = FakeRun(total=200, elapsed_s=2.0, done=90, failed=3, in_flight=10)
    texts = [part.text for part in progress.parts_of(run, 45.0)]
    assert ["90 of 200", "3 failed", "45 tasks/s", "10 in flight", "2 s, about 2.4 s left"] == texts
    run.total = None
    assert ["90", "3 failed", "45 tasks/s", "10 in flight", "2 s"] == [
        part.text for part in progress.parts_of(run, 45.0)
    ]


def test_tasks_of_the_run_that_is_resumed_do_not_count_for_the_rate() -> None:
    run = FakeRun(total=200, elapsed_s=2.0, done=200, done_before=180, failed=3)
    run.cancelled = False  # type: ignore[attr-defined]
    assert "10 tasks/s" in [part.text for part in progress.end_parts(run)]


def test_the_rate_of_tasks_that_all_failed_is_one_of_failures() -> None:
    run = FakeRun(total=200, elapsed_s=2.0, done=200, done_before=180, failed=20)
    run.cancelled = False  # type: ignore[attr-defined]
    assert "10 failures/s" in [part.text for part in progress.end_parts(run)]
    assert "45 failures/s" in [part.text for part in progress.parts_of(run, 45.0)]
    assert "45 tasks/s" in [part.text for part in progress.parts_of(FakeRun(total=200), 45.0)]


def test_a_sweep_is_told_by_how_much_of_its_time_is_over(terminal: Terminal, line: TerminalLine) -> None:
    run: Any = FakeRun(total=None, elapsed_s=1.0, done=90)
    series: Any = SimpleNamespace(kind="sweep", stage="10 in flight, 2 of 4", current=run, share=0.25)
    shown = ProgressLine(line, may_write=lambda: True, says_end=lambda: True)
    shown._series, shown._began_s = series, perf_counter() - 20
    parts, share = shown._parts(run)
    assert 0.25 == share
    assert ["sweep: 10 in flight, 2 of 4", "90", "90 tasks/s"] == [part.text for part in parts[:3]]
    assert re.fullmatch(r"2\d(\.\d)? s, about 6\d s left", parts[-1].text)
    assert 0.25 == shown._parts(None)[1]


# -- other people's output ---------------------------------------------------------------------------------


class Terminal(io.TextIOWrapper):
    """A stream that says it is a terminal; its class lies in `_io` as those of real ones do."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", write_through=True)

    def isatty(self) -> bool:
        return True

    @property
    def text(self) -> str:
        return str(self.buffer.getvalue(), "utf-8")  # type: ignore[attr-defined]


Terminal.__module__ = "_io"


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    made = Terminal()
    # Not in `sys` itself, where pytest puts its own for the test's time.
    monkeypatch.setattr(terminal_module, "sys", SimpleNamespace(stdout=made, stderr=made))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    return made


@pytest.fixture
def line(terminal: Terminal) -> Iterator[TerminalLine]:
    made = TerminalLine()
    yield made
    made.close()


def seen(text: str) -> list[str]:
    """The lines that a terminal shows."""
    return [row.rpartition(ERASE)[2].rstrip("\r") for row in text.split("\n")]


def test_what_is_printed_stands_above_the_line_and_the_line_comes_back(terminal: Terminal, line: TerminalLine) -> None:
    line.show(PARTS)
    print("a page", file=terminal)
    print("another", "page", file=terminal)
    rows = seen(terminal.text)
    assert ["a page", "another page"] == rows[:2]
    assert rows[2].startswith("green: url in urls  90 of 200")
    line.erase()
    assert ["a page", "another page", ""] == seen(terminal.text)


def test_a_line_that_somebody_has_begun_is_not_written_over(terminal: Terminal, line: TerminalLine) -> None:
    line.show(PARTS)
    print("half ", end="", file=terminal)
    line.show(PARTS)
    print("a page", file=terminal)
    assert "half a page" == seen(terminal.text)[0]
    print("unfinished", end="", file=terminal)
    line.log([Part("green run of f"), Part("2 tasks")])
    assert ["half a page", "unfinished", "green run of f: 2 tasks", ""] == seen(terminal.text)


def bar_widths(terminal: Terminal) -> list[int]:
    return [len(bar) for bar in re.findall("% ([█▏▎▍▌▋▊▉·]+)  ", terminal.text)]


def test_a_bar_keeps_its_width_while_the_figures_beside_it_change(
    terminal: Terminal, line: TerminalLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal_module, "_width", lambda: 80)
    for rate in ("9 tasks/s", "99.5 tasks/s", "100 tasks/s", "1,234 tasks/s", "90 tasks/s"):
        line.show([PARTS[0], Part("90 of 200"), Part(rate)], 0.45)
    widths = bar_widths(terminal)
    assert [widths[0]] * 5 == widths
    line.show([PARTS[0], Part("90 of 200"), Part("1,234 tasks/s, about 31.5 s left")], 0.45)
    line.show([PARTS[0], Part("90 of 200"), Part("9 tasks/s")], 0.45)
    shorter = bar_widths(terminal)[5:]
    assert [shorter[0]] * 2 == shorter
    assert shorter[0] < widths[0]
    line.show([Part("green: x"), Part("90 of 200"), Part("9 tasks/s")], 0.45)  # another run
    assert widths[0] < bar_widths(terminal)[-1]


def test_a_print_of_another_thread_erases_the_line_too(terminal: Terminal, line: TerminalLine) -> None:
    line.show(PARTS)
    thread = threading.Thread(target=print, args=("from a thread",), kwargs={"file": terminal})
    thread.start()
    thread.join()
    assert ["from a thread", ""] == seen(terminal.text)


def test_the_streams_are_the_same_and_as_they_were_when_no_line_is_shown(
    terminal: Terminal, line: TerminalLine
) -> None:
    assert "write" not in vars(terminal)
    line.show(PARTS)
    assert 4 == terminal.write("abc\n")
    line.erase()
    assert "write" not in vars(terminal)
    kept: list[str] = []  # as IPython does, to keep a copy
    vars(terminal)["write"] = write = kept.append
    line.show(PARTS)
    print("a page", file=terminal)
    line.erase()
    assert write is vars(terminal)["write"]
    assert ERASE + "a page" == kept[0]


def test_a_terminal_that_is_gone_does_not_end_a_run(terminal: Terminal, line: TerminalLine) -> None:
    terminal.close()
    line.show(PARTS)
    line.log(PARTS)


@pytest.mark.parametrize("term", ["dumb", ""])
def test_a_terminal_that_cannot_erase_gets_lines_as_a_log_does(
    terminal: Terminal, line: TerminalLine, monkeypatch: pytest.MonkeyPatch, term: str
) -> None:
    monkeypatch.setenv("TERM", term or "dumb")
    if not term:
        monkeypatch.delenv("TERM")
    assert not line.in_place
    monkeypatch.setattr(progress, "LOG_S", 0.0)
    run: Any = FakeRun(total=200, elapsed_s=2.0, done=90)
    run.cancelled = False
    shown = ProgressLine(line, may_write=lambda: True, says_end=lambda: True)
    shown.run_started(run)
    shown.tick()
    run.done = 200
    shown.run_ended(run)
    assert "\x1b" not in terminal.text
    assert "green: url in feeds: 90 of 200, 45 tasks/s, 0 in flight" == terminal.text.partition(", 2 s")[0]
    assert "green run of url in feeds: 200 tasks, 100 tasks/s, 2 s" == terminal.text.splitlines()[-1]


def test_nothing_is_written_while_a_prompt_waits_and_nothing_is_left_at_the_end(
    terminal: Terminal, line: TerminalLine
) -> None:
    prompt = True
    run: Any = FakeRun(total=200, elapsed_s=2.0, done=90)
    shown = ProgressLine(line, may_write=lambda: not prompt, says_end=lambda: prompt)
    shown.run_started(run)
    ticker = shown._ticker
    shown.tick()
    assert "" == terminal.text
    prompt = False
    shown.tick()
    assert "green: url in feeds  45%" in terminal.text
    shown.run_ended(run)
    eventlet.sleep(0)
    assert ticker.dead
    assert [""] == seen(terminal.text)


# -- a script ----------------------------------------------------------------------------------------------

SCRIPT = """
    import greenlab, itertools, sys, time

    def task(x):
        time.sleep(0.02)
        if x == 3:
            print("from a task", flush=True)
        if x == 7:
            raise ValueError(x)
        return x

    items = itertools.count() if "endless" in sys.argv else range(40)
    greenlab.run(task, items, pool=sys.argv[1], concurrency=1, workers=1, live=True)
    print("went on")
"""


IN_TERMINAL = os.environ | {"TERM": "xterm", "NO_COLOR": "1"}


@pytest.mark.parametrize("pool", ["green", "threads", "prefork", "hybrid"])
def test_a_script_with_live_has_a_line_in_its_terminal(pool: str) -> None:
    arguments = ["-c", textwrap.dedent(SCRIPT), pool]
    child = pexpect.spawn(
        sys.executable,
        arguments,
        encoding="utf-8",
        timeout=60,
        dimensions=(20, 100),
        env=IN_TERMINAL,
    )
    child.expect_exact(f"{pool}: task")
    child.expect_exact(f"{pool} run of task: 40 tasks, 1 failed, ")
    child.expect_exact("went on")
    child.close()


def test_an_interrupt_of_an_endless_run_says_what_has_ended() -> None:
    child = pexpect.spawn(
        sys.executable, ["-c", textwrap.dedent(SCRIPT), "green", "endless"], encoding="utf-8", timeout=60,
        dimensions=(20, 200), env=IN_TERMINAL,
    )  # fmt: skip
    child.expect(r"green: task  \d+, 1 failed")
    child.sendintr()
    child.expect(r"green run of task: stopped, \d+ of \d+ tasks, 1 failed")
    child.expect(r"the run was interrupted after \d+ of \d+ tasks \(1 failed\); what has ended is in the exception's")
    child.close()


def test_an_advice_says_what_is_tried_and_when_it_has_ended() -> None:
    code = """
        import greenlab, time
        greenlab.advise(lambda _: time.sleep(0.15), range(20), sample=20, live=True, label="a wait")
        print("went on")
    """
    child = pexpect.spawn(
        sys.executable,
        ["-c", textwrap.dedent(code)],
        encoding="utf-8",
        timeout=60,
        dimensions=(20, 120),
        env=IN_TERMINAL,
    )
    child.expect_exact("advice: a sample of 20 tasks  ")
    child.expect(r"advice on a wait: ended after [\d.]+ m?s\r\n")
    child.expect_exact("went on")
    child.close()


def test_a_script_whose_output_is_a_file_writes_no_control_character_and_one_line_at_the_end() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(SCRIPT), "green"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "from a task\nwent on\n" == done.stdout
    assert re.fullmatch(r"green run of task: 40 tasks, 1 failed, [\d.]+ tasks/s, [\d.]+ m?s\n", done.stderr)


def test_a_script_without_live_shows_nothing() -> None:
    code = "import greenlab; greenlab.run(abs, range(10)); greenlab.race(abs, range(10), pools=('green',))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ("", "") == (done.stdout, done.stderr)
