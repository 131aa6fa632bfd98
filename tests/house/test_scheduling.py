"""How tests are shared out: what takes long first, and beside what waits something that computes."""

from __future__ import annotations

from pathlib import Path

import pytest
from scheduling import COMPUTING, WAITING, next_file

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", [*WAITING, *COMPUTING])
def test_a_file_that_takes_long_is_there(name: str) -> None:
    assert (ROOT / name).is_file()


def test_one_process_begins_with_what_waits_and_its_neighbour_with_what_computes() -> None:
    left = ["short", *COMPUTING[::-1], *WAITING[::-1]]
    assert [WAITING[0], COMPUTING[0], WAITING[0]] == [next_file(left, at) for at in range(3)]
    assert COMPUTING[1] == next_file([name for name in left if name != COMPUTING[0]], 1)


def test_what_takes_long_is_run_before_all_else_and_then_the_usual_order_holds() -> None:
    assert WAITING[-1] == next_file(["short", "shorter", WAITING[-1]], 1)
    assert "short" == next_file(["short", "shorter"], 1)
