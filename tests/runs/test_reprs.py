"""How a run that goes on, the hub and a task show: in words that do not vary, and in HTML."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import greenlab
from greenlab.api.run import prepare
from greenlab.hub import eventlet
from greenlab.live.snapshot import facts_of
from greenlab.live.words import failures_text, problem_lines
from greenlab.probes import judge
from greenlab.probes.verdict import Verdict
from greenlab.runs import report
from greenlab.text.theme import PICTURE_LINE_CHARS as LINE_CHARS

if TYPE_CHECKING:
    from collections.abc import Callable

    from greenlab.hub import GuestHub

SANITIZE = Path(__file__).parents[2] / "notebooks" / "sanitize.cfg"


@pytest.fixture(scope="module")
def sanitized() -> Callable[[str], str]:
    """What nbval does with the shipped rules."""
    rules = re.findall(r"^regex: (.*)\nreplace: ?(.*)$", SANITIZE.read_text(), re.MULTILINE)
    assert rules

    def apply(text: str) -> str:
        for regex, replacement in rules:
            text = re.sub(regex, replacement, text)
        return text

    return apply


def test_a_run_that_goes_on_reads_the_same_at_any_time_once_sanitized(
    started: GuestHub, sanitized: Callable[[str], str]
) -> None:
    def task(item: int) -> None:
        eventlet.sleep(0.001)
        if item % 3 == 1:
            raise ValueError(item)

    run = prepare(task, range(10**6), concurrency=10, live=False)
    run.start()
    before = {kind: sanitized(text) for kind, text in run._repr_mimebundle_().items()}
    while run.failed < 10:
        eventlet.sleep(0.001)
    words = repr(run)
    assert re.search(r"so far: [\d,]+ of 1,000,000 tasks, \d+ failed, ", words), words
    assert before == {kind: sanitized(text) for kind, text in run._repr_mimebundle_().items()}
    assert "green run of task: still running" == before["text/plain"]
    run.cancel()
    assert "cancelled: " in repr(run)


def test_a_verdict_reads_the_same_whatever_the_figures_once_sanitized(sanitized: Callable[[str], str]) -> None:
    for kind in set(judge.KINDS) - {judge.UNKNOWN, judge.UNSENDABLE}:
        one, other = (Verdict("fetch(x)", kind, [f"it computed for {part} % of its time"]) for part in (3, 4))
        assert str(one) != str(other)
        assert f"{kind}: fetch(x)" == sanitized(str(one)) == sanitized(str(other))
        assert sanitized(one._repr_html_()) == sanitized(other._repr_html_())
        assert kind in sanitized(one._repr_html_())


def test_a_hub_says_whose_guest_it_is(started: GuestHub) -> None:
    assert "<GuestHub: turns while this thread waits>" == repr(started)
    greenlab.run(lambda x: x, [1], live=False)
    bundle: dict[str, Any] = started._repr_mimebundle_()
    assert repr(started) == bundle["text/plain"]
    assert "keeps: pool green" in bundle["text/html"]


def test_a_hub_that_was_stopped_says_so() -> None:
    here = greenlab.start()
    greenlab.stop()
    assert "<GuestHub: stopped>" == repr(here)


def test_a_task_shows_its_name_escaped_and_its_state(started: GuestHub) -> None:
    def odd() -> None:
        """Do nothing."""

    odd.__name__ = "<odd>"
    task = greenlab.spawn(odd)
    assert "waiting to start" in task._repr_mimebundle_()["text/html"]
    task.wait()
    bundle = task._repr_mimebundle_()
    assert f"<Task {task.id} <odd>: done>" == bundle["text/plain"]
    assert "&lt;odd&gt;: done" in bundle["text/html"]


def test_a_report_says_how_long_the_pool_took_to_start_where_that_took_time(started: GuestHub) -> None:
    run = greenlab.run(abs, [-1], live=False)
    assert "start-up" not in repr(run)
    run.startup_s = 0.25
    assert "start-up of the pool, not counted above: 250 ms" in repr(run)


def test_the_report_of_a_run_in_which_every_task_failed_counts_failures_a_second(started: Any) -> None:
    with pytest.raises(greenlab.RunError) as caught:
        greenlab.run(lambda _: 1 / 0, range(3), live=False)
    said = repr(caught.value.run)
    assert " failures/s in " in said
    assert "tasks/s" not in said
    assert " tasks/s in " in greenlab.run(lambda x: 1 / x, range(3), live=False).summary()


@pytest.mark.usefixtures("started")
@pytest.mark.parametrize(
    ("blocked", "below"),
    [
        (["0.9 s at line 2 of Cell In[3], in f"], []),
        (["0.9 s at line 2 of Cell In[3], in f: " + "7 waited behind it, " * 5], [0]),
        (["0.9 s at line 2 of Cell In[3]", "0.3 s at line 3 of Cell In[3]"], [0, 1]),
    ],
)
def test_below_a_picture_a_block_is_said_again_where_the_picture_has_cut_it(
    blocked: list[str], below: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = greenlab.run(lambda x: x, range(3))
    monkeypatch.setattr(type(run), "blocked_lines", property(lambda _: blocked))
    said = report.rich(run, below_picture=True).partition("<b>")[2]
    assert [f"blocked: {blocked[at]}".strip() for at in below] == re.findall("blocked: [^<]*[^< ]", said)
    facts = facts_of(run, titled=True)
    cut = problem_lines(facts, LINE_CHARS) != [f"blocked: {line}" for line in blocked]
    assert cut is bool(below)


@pytest.mark.usefixtures("started")
@pytest.mark.parametrize("count", [3, 4])
def test_below_a_picture_all_types_of_failures_are_said_where_the_picture_has_left_some_out(count: int) -> None:
    kinds = [ValueError, KeyError, OSError, TypeError]

    def fails(item: int) -> None:
        if item < count:
            raise kinds[item]

    run = greenlab.run(fails, range(6))
    said = report.rich(run, below_picture=True).partition("<b>")[2]
    types = ", ".join(f"{number} {name}" for name, number in run.error_types.items())
    assert (count > 3) is (f"failed: {types}" in said)
    assert (count > 3) is ("1 other" in failures_text(facts_of(run, titled=True)))
