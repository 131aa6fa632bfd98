"""Places: whose code a frame is, and how it is named."""

from __future__ import annotations

import json
import os
import sys

import pytest

import greenlab
from greenlab import places


@pytest.mark.parametrize(
    ("filename", "own"),
    [
        (__file__, True),
        ("/tmp/ipykernel_1/2.py", True),
        ("<stdin>", True),
        (json.__file__, False),
        (greenlab.__file__, False),
        ("<frozen importlib._bootstrap>", False),
        ("/usr/lib/python3/dist-packages/requests/api.py", False),
        ("/venv/lib/python3.12/site-packages/requests/api.py", False),
    ],
)
def test_whose_code_a_file_is(filename: str, own: bool) -> None:
    assert own == places.is_own(filename)


def test_the_place_of_a_stack_is_the_users_innermost_line() -> None:
    found = []

    class Spy(json.JSONEncoder):
        def default(self, _value: object) -> None:
            found.append(places.user_place(sys._getframe(1)))

    json.dumps({"a": object()}, cls=Spy)  # the line that called the library
    (place,) = found
    assert place is not None
    assert (__file__, "test_the_place_of_a_stack_is_the_users_innermost_line") == (place[0], place[2])
    assert place[1] == sys._getframe().f_lineno - 4
    assert f"line {place[1]} of {os.path.basename(__file__)}, in test_" in places.format_place(place)  # noqa: PTH119
    assert places.user_place(None) is None


def test_a_cell_is_never_called_by_the_file_that_is_made_up_for_it() -> None:
    made_up = "/tmp/ipykernel_123/1491016913.py"
    assert "line 2 of a cell, in f" == places.format_place((made_up, 2, "f"))
    line = f'  File "{made_up}", line 2, in f'
    assert '  File "a cell", line 2, in f' == places.with_cells_named(line)
    assert '  File "a cell", line 2, in f' == places.with_cells_named('  File "<ipython-input-7-8f9b45>", line 2, in f')
    assert '  File "/home/me/2.py", line 2' == places.with_cells_named('  File "/home/me/2.py", line 2')
