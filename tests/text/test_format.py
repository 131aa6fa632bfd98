"""How times, throughputs, types and tables are written."""

from __future__ import annotations

from typing import Any

import pytest

from greenlab.text import format as texts
from greenlab.text import table


@pytest.mark.parametrize(
    ("value", "expected"),
    [(float("nan"), "none"), (0.0, "0 µs"), (0.00094, "940 µs"), (0.001, "1.0 ms"), (0.0994, "99.4 ms"),
     (0.1, "100 ms"), (0.9, "900 ms"), (1.0, "1.00 s"), (75.5, "75.50 s")],
)  # fmt: skip
def test_a_time_has_the_unit_that_suits_it(value: float, expected: str) -> None:
    assert expected == texts.seconds(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.123, "0.12 tasks/s"), (9.96, "10 tasks/s"), (10, "10.0 tasks/s"), (99.9, "99.9 tasks/s"),
     (100, "100 tasks/s"), (12_345.6, "12,346 tasks/s")],
)  # fmt: skip
def test_a_throughput_has_the_digits_that_matter(value: float, expected: str) -> None:
    assert expected == texts.rate(value)


@pytest.mark.parametrize(("value", "expected"), [(1, "an int"), ("", "a str"), (OSError(), "an OSError")])
def test_a_type_is_named_with_its_article(value: Any, expected: str) -> None:
    assert expected == texts.with_article(value)


def test_a_row_of_two_cells_is_a_name_and_a_remark_that_widens_no_column() -> None:
    header, rows = ["pool", "tasks/s"], [["green", "1,000"], ["prefork", "9"]]
    assert ["  pool     tasks/s", "  green      1,000", "  prefork        9"] == table.plain(header, rows)
    wide = [["a", "1", "2"], ["a longer name", "is remarked upon at some length"]]
    assert [
        "  name           x  y",
        "  a              1  2",
        "  a longer name  is remarked upon at some length",
    ] == table.plain(["name", "x", "y"], wide)


def test_in_html_cells_are_escaped_and_a_remark_spans_the_figures() -> None:
    made = table.rich(["name", "x", "y"], [["<b>", "1", "2"], ["c", "a < b"]])
    assert "<b>&lt;b&gt;</b>" in made
    assert 'colspan="2">a &lt; b</td>' in made
