"""What of a hold is the line's own: the tables of `greenlab.hub.hold`, case by case."""

from __future__ import annotations

import pytest

from greenlab.hub.blocks import Block
from greenlab.hub.hold import Hold, Reading, span


def held(*readings: Reading, started_s: float = 0.0) -> Hold:
    """Return a hold that was looked at once after each reading but the first."""
    hold = Hold(started_s, readings[0])
    for reading in readings[1:]:
        hold.look(reading)
    return hold


def of(hold: Hold) -> Block:
    return hold.block(("f.py", 1, "f"), "")


@pytest.mark.parametrize(
    ("cpu_s", "queued_s", "turns", "process_s", "missed_s", "foreign"),
    [
        (0.3, 0.0, 1, 0.3, 0.28, 0.0),  # it computed
        (0.0, 0.0, 1, 0.0, 0.0, 0.0),  # it waited natively
        (0.0, 0.0, 1, 0.28, 0.05, 0.0),  # it waited natively, while others computed
        (0.0, 0.0, 1, 0.0, 0.28, 0.0),  # it waited natively, with the GIL
        (0.0, 0.0, 60, 0.28, 0.28, 0.3),  # it asked for the GIL every 5 ms, and others computed: they had it
        (0.0, 0.0, 40, 0.28, 0.0, 0.3),  # the same on a busy machine
        (0.0, 0.15, 30, 0.2, 0.1, 0.3),  # the same, and it stood in the run queue each time
        (0.06, 0.0, 48, 0.3, 0.24, 0.24),  # it computed, and then another thread kept the GIL
        (0.0, 0.0, 60, 0.0, 0.28, 0.3),  # it asked, and the watchdog missed the GIL too: who has it waits natively
        (0.0, 0.0, 300, 0.0, 0.0, 0.0),  # it woke up often, but nobody had the GIL: short native waits in a loop
        (0.15, 0.0, 30, 0.28, 0.1, 0.15),  # they took turns
        (0.05, 0.25, 5, 0.05, 0.0, 0.0),  # it had no processor
        (0.292, 0.0, 2, 0.3, 0.28, 0.0),  # it slept for less than can be told
        (0.0, 0.0, None, 0.28, 0.28, 0.3),  # not known; others computed, the watchdog missed the GIL
        (0.0, 0.0, None, 0.3, 0.05, 0.0),  # others computed, and the watchdog had the GIL whenever it wanted it
        (0.0, 0.0, None, 0.0, 0.28, 0.0),  # nobody computed: it was the hub's thread that kept the GIL
    ],
)
def test_a_sleep_is_a_native_wait_or_one_for_the_gil(
    cpu_s: float, queued_s: float, turns: int | None, process_s: float, missed_s: float, foreign: float
) -> None:
    before = Reading(0, 0, 0, None if turns is None else 0, 0, 0)
    after = Reading(0.3, cpu_s, queued_s, turns, process_s, missed_s)
    assert pytest.approx(foreign) == span(before, after).foreign_s


@pytest.mark.parametrize(
    ("lasted_s", "cpu_s", "queued_s", "turns", "block"),
    [
        (0.3, 0.3, 0.0, 1, True),  # it computed
        (0.3, 0.0, 0.0, 1, True),  # it waited
        (0.101, 0.101, 0.0, 1, True),
        (0.099, 0.099, 0.0, 1, False),  # short
        (0.12, 0.006, 0.114, 20, True),  # one that computes, and gets a processor for a twentieth of the time
        (0.2, 0.003, 0.137, 5, True),  # it waited for long, and then stood in the run queue
        (0.3, 0.003, 0.297, 20, False),  # it did nearly nothing, and the machine let it wait
        (0.2, 0.003, 0.167, 20, False),  # the same, and it handed over the GIL
        (2.0, 0.03, 1.97, 20, False),  # the machine stood still
        (0.3, 0.05, 0.0, 60, False),  # another thread had the GIL for most of it
        (0.3, 0.15, 0.0, 30, True),  # others had it too
    ],
)
def test_a_block_is_long_by_the_clock_and_the_lines_own_doing(
    lasted_s: float, cpu_s: float, queued_s: float, turns: int, block: bool
) -> None:
    before, after = Reading(0, 0, 0, 0, 0, 0), Reading(lasted_s, cpu_s, queued_s, turns, 0.95 * lasted_s, 0)
    hold = held(before, after)
    assert block == hold.is_block(0.1)
    assert lasted_s == of(hold).duration_s


def test_spans_are_added_up() -> None:
    hold = held(Reading(0, 0, 0, 0, 0, 0), Reading(0.1, 0.1, 0, 1, 0.1, 0), Reading(0.2, 0.1, 0, 1, 0.1, 0))
    assert pytest.approx(0.1) == of(hold).cpu_s
    assert "CPU and waiting" == of(hold).kind


def test_a_reading_that_comes_too_late_is_dropped() -> None:
    hold = held(Reading(0, 0, 0, 0, 0, 0), Reading(0.3, 0.3, 0, 1, 0.3, 0), Reading(0.2, 0.2, 0, 1, 0.2, 0))
    assert 0.3 == of(hold).cpu_s
    assert 0.3 == of(hold).duration_s


def test_where_the_system_tells_nothing_all_the_time_is_the_lines_own() -> None:
    hold = held(Reading(0, None, None, None, 0, 0), Reading(0.3, None, None, None, 0.3, 0))
    assert hold.is_block(0.3)
    assert of(hold).cpu_s is None
    assert "" == of(hold).kind


def test_a_block_tells_how_long_it_had_no_processor_if_that_was_long() -> None:
    assert "2 s at line 1 of f.py, in f: CPU" == str(Block(0, 2, "f.py", 1, "f", cpu_s=1.8, queued_s=0.2))
    busy = Block(0, 2, "f.py", 1, "f", cpu_s=0.5, queued_s=1.5, who="task 1")
    assert "2 s at line 1 of f.py, in f: CPU, 1.5 s of it without a processor, task 1" == str(busy)
