"""How numbers, failures and progress are written."""

from __future__ import annotations

import pytest
from live_doubles import NAN, facts

from greenlab.live import displays, words


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, "0"), (0.25, "0.25"), (4.321, "4.32"), (99.97, "100"), (433.4, "433"), (12_300, "12,300"),
     (1.25e6, "1.25M"), (NAN, "\N{EN DASH}")],
)  # fmt: skip
def test_counts_say_what_matters(value: float, expected: str) -> None:
    assert expected == words.format_count(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.0, "0 µs"), (12e-6, "12 µs"), (0.0034, "3.4 ms"), (0.9999, "1 s"), (2.312, "2.31 s"),
     (200, "3 min 20 s"), (7500, "2 h 5 min"), (NAN, "\N{EN DASH}")],
)  # fmt: skip
def test_durations_say_what_matters(value: float, expected: str) -> None:
    assert expected == words.format_duration(value)


def test_a_label_is_escaped_in_the_header() -> None:
    assert "&lt;b&gt;" in words.header_html(facts(label="<b>"), 1, 2.0)
    assert "<b></b>" not in words.header_html(facts(label="<b>"), 1, 2.0)


def test_the_header_counts_failures_by_type_and_says_how_long_the_hub_was_blocked() -> None:
    bad = facts(failed=3, error_types=(("ValueError", 2), ("Key<b>", 1)), blocked=((0.5, 1.25),), p50_s=0.01, p99_s=0.2)
    said = words.header_html(bad, 1, 2.0)
    assert "<b>3</b> failed: 2 ValueError, 1 Key&lt;b&gt;" in said
    assert "hub blocked <b>750 ms</b>" in said
    assert "more line" not in said
    assert "p50 <b>10 ms</b>" in said
    assert "p99 <b>200 ms</b>" in said
    assert "failed" not in words.header_html(facts(), 1, 2.0)


def test_the_rate_of_tasks_that_all_failed_is_one_of_failures() -> None:
    bad, good = facts(done=3, failed=3), facts(done=3, failed=2)
    assert "<b>2</b> failures/s" in words.header_html(bad, 1, 2.0)
    assert "<b>2</b> tasks/s" in words.header_html(good, 1, 2.0)
    assert ", 2 failures/s, " in words.progress_line("run", bad, 1, 2.0)
    assert ", 2 tasks/s, " in words.progress_line("run", good, 1, 2.0)


def test_the_header_names_the_line_that_held_the_hub_longest_and_counts_the_others() -> None:
    lines = ("0.75 s at line 3 of Cell In[2], in <lambda>: CPU, task 7, 9 waited behind it", "0.10 s at line 4 of a.py")
    said = words.header_html(facts(blocked=((0.5, 1.25),), blocked_lines=lines[:1]), 1, 2.0)
    assert f"<span>{lines[0].replace('<lambda>', '&lt;lambda&gt;')}</span>" in said
    assert "behind it; 1 more line<" in words.header_html(facts(blocked_lines=lines), 1, 2.0)
    assert "behind it; 2 more lines<" in words.header_html(facts(blocked_lines=(*lines, lines[1])), 1, 2.0)


def test_the_header_estimates_how_long_it_takes_once_there_is_something_to_go_by() -> None:
    assert "about 3 s left<" in words.header_html(facts(running=True, done=2, elapsed_s=2.0), 1, 2.0)
    assert " left<" not in words.header_html(facts(running=True, done=2, elapsed_s=0.5), 1, 2.0)
    assert " left<" not in words.header_html(facts(running=True, total=None), 1, 2.0)
    assert " left<" not in words.header_html(facts(running=True, done=2, elapsed_s=9.0), 1, 0.0)


def test_the_first_failure_is_folded_and_escaped() -> None:
    said = words.failure_html("ValueError: <b>")
    assert said.startswith("<details")
    assert "<summary" in said
    assert "ValueError: &lt;b&gt;" in said
    assert "" == words.failure_html("")


def test_a_text_that_is_cut_inside_keeps_its_end() -> None:
    assert "http:/…eeds/7" == words.shortened_inside("http://127.0.0.1:8080/feeds/7", 13)
    assert "as it is" == words.shortened_inside("as it is", 8)


def test_how_far_a_run_is_can_be_heard() -> None:
    said = words.header_html(facts(running=True, done=3), 1, 2.0)
    assert 'role="progressbar" aria-label="tasks ended" aria-valuemin="0" aria-valuemax="8" aria-valuenow="3"' in said


def test_a_report_is_one_line_of_words_for_its_picture_without_a_traceback() -> None:
    report = "green run of f: 1 of 2 tasks succeeded\n  2 tasks/s\n  the first, task 1:\n    Traceback"
    assert "green run of f: 1 of 2 tasks succeeded; 2 tasks/s" == displays.alt_text(report)


def test_an_option_in_the_header_is_not_broken_into_two_lines() -> None:
    said = words.header_html(facts(), 1, 2.0)
    assert 'white-space:nowrap">-c 4</span>' in said
