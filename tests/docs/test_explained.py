"""Reading the pictures: each word that a picture, or the report below one, has is explained there."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

import pytest
from doc_pages import ROOT
from every_picture import states, texts

from greenlab.advising import advice_report
from greenlab.comparing import race_report, sweep_report
from greenlab.hub.blocks import Block

PAGE = (ROOT / "docs" / "pictures.md").read_text(encoding="utf-8")
EXPLAINED = " ".join(PAGE.split()).lower()
KEPT: dict[str, Any] = json.loads((ROOT / "docs" / "every_picture.json").read_text(encoding="utf-8"))
CODE = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "greenlab").rglob("*.py")))


@pytest.mark.parametrize("report", [race_report, sweep_report, advice_report], ids=lambda report: report.__name__)
def test_each_column_of_a_table_is_explained(report: Any) -> None:
    assert [] == [name for name in report._HEADER if name.lower() not in EXPLAINED]


def test_each_word_of_a_block_is_explained() -> None:
    block = Block(0.0, 1.0, "cell.py", 3, "parse", cpu_s=0.2, queued_s=0.7, who="task 7", waiting=5)
    kind, queued, who, waiting = str(block).partition(": ")[2].split(", ")
    assert ("CPU and waiting", "task 7") == (kind, who)
    assert "*CPU*, *waiting*" in PAGE
    assert f"*{waiting}*" in PAGE
    assert f"*{queued.partition(' of it ')[2]}*" in PAGE


@pytest.mark.parametrize(
    "words", ["failures/s", "warming up", "warms up", "cut short", "stand in line", "slow each other down", "p90"]
)
def test_what_reports_and_stages_say_is_explained(words: str) -> None:
    assert words in CODE
    assert words in EXPLAINED


def test_each_mark_in_a_legend_is_explained() -> None:
    drawn = {state.name: state.make for state in itertools.chain(*states().values())}
    marks = set()
    for name in ("run", "few-running", "few-stopped", "timeline", "timeline-blocked"):
        marks |= {text.get_text() for text in texts(drawn[name]()) if text.get_gid() == "key"}
    words = {re.sub(r" (-c|-w)? ?[\d,.]+$", "", mark) for mark in marks if len(mark) > 1}
    assert {"holds the hub", "limit", "mean", "failed", "cancelled"} <= words
    assert [] == [word for word in sorted(words) if word.lower() not in EXPLAINED]


def test_the_figures_that_a_picture_has_are_said_of_it() -> None:
    (table,) = re.findall(
        r"^!\[[^\n]*images/run\.png.*?^\| word \| means \|\n(.*?)\n\n", PAGE, re.MULTILINE | re.DOTALL
    )
    figures = [word for word in re.findall(r"^\| \*([^*|]+)\* \|", table, re.MULTILINE) if word[0].isdigit()]
    on_it = KEPT["run"]["words"]
    assert {"2,000 tasks", "3.16 s"} <= set(figures)
    assert [] == [figure for figure in figures if figure not in on_it and "waited behind it" not in figure]
