"""How times, throughputs, types and tables are written."""

from __future__ import annotations

import ast
import functools
import itertools
import re
from pathlib import Path
from typing import Any

import pytest

from greenlab.text import format as texts
from greenlab.text import table

PACKAGE = Path(texts.__file__).parents[1]


@pytest.mark.parametrize(
    ("value", "expected"),
    [(float("nan"), "none"), (0.0, "0 µs"), (0.00094, "940 µs"), (0.001, "1 ms"), (0.0994, "99.4 ms"),
     (0.1, "100 ms"), (0.9, "900 ms"), (1.0, "1 s"), (75.5, "75.5 s"), (200, "3 min 20 s")],
)  # fmt: skip
def test_a_time_has_the_unit_that_suits_it(value: float, expected: str) -> None:
    assert expected == texts.seconds(value)


@pytest.mark.parametrize(
    ("number", "noun", "expected"),
    [(0, "task", "0 tasks"), (1, "task", "1 task"), (2000, "task", "2,000 tasks"), (1, "switch", "1 switch"),
     (2, "switch", "2 switches"), (2, "green thread", "2 green threads"), (1, "more line", "1 more line"),
     (4, "concurrency", "4 concurrencies"), (2, "key", "2 keys")],
)  # fmt: skip
def test_a_noun_agrees_with_its_number(number: int, noun: str, expected: str) -> None:
    assert expected == texts.counted(number, noun)


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [
        (1.0, "about as fast as"), (1.00004, "about as fast as"), (1.004, "1.004 times as fast as"),
        (1.03, "1.03 times as fast as"), (1.29, "1.29 times as fast as"), (1.3, "1.3 times as fast as"),
        (2.0, "2.0 times as fast as"), (9.94, "9.9 times as fast as"), (9.96, "10 times as fast as"),
        (34.4, "34 times as fast as"), (1234.5, "1,200 times as fast as"),
        (float("inf"), "infinitely many times as fast as"), (0.996, "99.6% as fast as"), (0.9997, "99.97% as fast as"),
        (0.5, "50% as fast as"), (0.004, "0.4% as fast as"), (0.0, "0% as fast as"),
    ],
)  # fmt: skip
def test_a_ratio_is_never_once_and_says_no_more_than_was_measured(ratio: float, expected: str) -> None:
    assert expected == texts.times_as(ratio, "fast")


@pytest.mark.parametrize("ratio", [1.1, 1.05, 1.0, 1 / 1.05, 1 / 1.1])
def test_figures_that_differ_by_no_more_than_chance_are_about_the_same(ratio: float) -> None:
    assert "about as much as" == texts.times_as(ratio, "much", alike=texts.ALIKE)


def test_figures_that_differ_by_more_are_not() -> None:
    assert "1.11 times as much as" == texts.times_as(1.11, "much", alike=texts.ALIKE)
    assert "90% as much as" == texts.times_as(0.9, "much", alike=texts.ALIKE)


@functools.cache
def numbers_in_messages() -> list[tuple[str, str, str]]:
    """Where a message has a value, as it is written there, and the words behind it."""
    return [
        (f"{path.name}:{number.lineno}", ast.unparse(ast.JoinedStr([number])).removeprefix("f")[1:-1], words.value)
        for path in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.JoinedStr)
        for number, words in itertools.pairwise(node.values)
        if isinstance(number, ast.FormattedValue) and isinstance(words, ast.Constant) and isinstance(words.value, str)
    ]


_RATIO_IN_WORDS = re.compile(r" times (as|the|that|too)\b")


def test_no_sentence_words_a_ratio_of_its_own() -> None:
    assert [] == [
        f"{place}: {number}{words!r}" for place, number, words in numbers_in_messages() if _RATIO_IN_WORDS.match(words)
    ]


# Numbers that are never 1, or that are no whole numbers.
_NEVER_ONE = {
    "{figures.loops}", "{race.repeat}", "{cores}", "{probes.TIMES}", "{much:.1f}", "{self.dropped:,}", "{self.name}",
    "{statement.where}", "{round(ratio, 1 - math.floor(math.log10(ratio))):,.0f}", "{ratio:.1f}",
    "{ratio:.{max(2, math.ceil(-math.log10(more)))}f}",
}  # fmt: skip
_NOUNS = re.compile(
    r"(?:</b>)? (?:green |more |background )?"
    r"(tasks|runs|calls|times|lines|switches|steps|feeds|workers|cores|threads|others|items|points|blocks|errors)\b(?!/s)"
)


def test_no_message_counts_with_a_plural_of_its_own() -> None:
    assert [] == [
        f"{place}: {number}{words!r}"
        for place, number, words in numbers_in_messages()
        if _NOUNS.match(words) and number not in _NEVER_ONE
    ]


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.123, "0.123 tasks/s"), (9.96, "9.96 tasks/s"), (10, "10 tasks/s"), (99.9, "99.9 tasks/s"),
     (100, "100 tasks/s"), (12_345.6, "12,346 tasks/s"), (1.25e6, "1.25M tasks/s")],
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
