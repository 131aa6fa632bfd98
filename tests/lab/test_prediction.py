"""`predict`: the guess that a reader commits, and how it is shown beside the outcome."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from greenlab.errors import UsageError
from greenlab.lab import predict

if TYPE_CHECKING:
    from kernel import Kernel

WIDGET = "application/vnd.jupyter.widget-view+json"
ASK = "from greenlab.lab import predict\np = predict('How many?', unit='feeds/s')"
# What ipywidgets does with a front end's message, without the front end.
TYPE = "p._widgets[2:] and [w for w in p._widgets if type(w).__name__ == 'Text'][0].set_state({{'value': {!r}}})"


def test_a_guess_stands_beside_the_outcome_with_how_far_off_it_was() -> None:
    prediction = predict("How many?", unit="feeds/s", guess=50)
    made = prediction.compare(500.0)
    assert "prediction: How many?\n  your guess  50 feeds/s\n  outcome     500 feeds/s\n  " in repr(made)
    assert "your guess was 10 times too low" == made.verdict


@pytest.mark.parametrize(
    ("guess", "outcome", "verdict"),
    [
        (None, 3, "you made no guess"),
        (3, 3, "exactly"),
        (110, 100, "close"),
        (300, 100, "your guess was 3.0 times too high"),
        (1, 5000, "your guess was 5,000 times too low"),
        (0, 7, "your guess was too low"),
        (7, 0, "your guess was too high"),
        (-1, -2, "your guess was too high"),
    ],
)
def test_the_verdict_is_said_in_words(guess: Any, outcome: float, verdict: str) -> None:
    assert verdict == predict("How many?", guess=guess).compare(outcome).verdict


def test_the_first_guess_counts() -> None:
    prediction = predict("How many?")
    prediction.commit("1,250")
    prediction.commit(7)
    assert 1250 == prediction.guess


@pytest.mark.parametrize("guess", ["many", "", float("nan"), True, [3]])
def test_what_is_no_number_is_no_guess(guess: Any) -> None:
    prediction = predict("How many?")
    with pytest.raises(UsageError, match="must be a number"):
        prediction.commit(guess)
    with pytest.raises(UsageError, match="must be a number"):
        prediction.compare(guess)
    assert prediction.guess is None


@pytest.mark.parametrize("question", ["", " ", 3])
def test_a_prediction_needs_a_question(question: Any) -> None:
    with pytest.raises(UsageError, match="needs a question"):
        predict(question)


def test_the_picture_is_html_in_which_nothing_of_the_reader_is_markup() -> None:
    shown = predict("<How> many?", unit="<b>", guess=1).compare(2)._repr_mimebundle_()["text/html"]
    assert "&lt;How&gt; many?" in shown
    assert "1 &lt;b&gt;" in shown
    assert "width:150px" in shown
    assert "width:300px" in shown


def test_asking_imports_neither_widgets_nor_ipython() -> None:
    code = (
        "from greenlab.lab import FeedHub\nimport sys\nassert 'greenlab.lab._prediction' not in sys.modules\n"
        "from greenlab.lab import predict\nprint(predict('How many?'))\n"
        "assert not {'IPython', 'ipywidgets', 'matplotlib'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (0, "<Prediction: How many?>\n") == (done.returncode, done.stdout), done.stderr


def test_a_notebook_has_a_field_and_a_text_for_those_who_show_none(kernel: Kernel) -> None:
    cell = kernel.run(ASK)
    assert cell.error is None
    assert [{WIDGET, "text/plain"}] == [set(data) for data in cell.displays]
    assert "How many? (your guess, in feeds/s)" == cell.displays[0]["text/plain"]


def test_a_guess_that_is_typed_replaces_the_field_and_closes_its_widgets(kernel: Kernel) -> None:
    before = kernel.run("import ipywidgets\nlen(ipywidgets.Widget.widgets)").value
    kernel.run(ASK)
    cell = kernel.run(TYPE.format("2,000"))
    assert cell.error is None
    assert (
        '<div class="greenlab-prediction"><b>How many?</b> your guess: 2,000 feeds/s</div>'
        == (cell.updates[0]["text/html"])
    )
    assert WIDGET not in cell.updates[0]
    assert before == kernel.run("len(ipywidgets.Widget.widgets)").value
    assert "2000.0" == kernel.run("p.guess").value


def test_what_is_typed_and_no_number_leaves_the_field(kernel: Kernel) -> None:
    kernel.run(ASK)
    cell = kernel.run(TYPE.format("lots"))
    assert cell.error is None
    assert [] == cell.updates
    assert "True" == kernel.run("p.guess is None and bool(p._widgets)").value
    kernel.run(TYPE.format("5"))
    assert "5.0" == kernel.run("p.guess").value


def test_an_outcome_closes_a_field_that_nobody_wrote_into(kernel: Kernel) -> None:
    kernel.run(ASK)
    cell = kernel.run("p.compare(12.345)")
    assert cell.value.endswith("outcome     12.3 feeds/s\n  you made no guess")
    assert "text/html" in cell.result
    assert [{"text/plain": "How many? (your guess, in feeds/s)"}] == cell.updates
    assert "False" == kernel.run("bool(p._widgets)").value


def test_without_ipywidgets_there_is_the_text(kernel: Kernel) -> None:
    kernel.run("import sys\nkept = {n: sys.modules.pop(n) for n in list(sys.modules) if n.startswith('ipywidgets')}")
    kernel.run("sys.modules['ipywidgets'] = None")
    cell = kernel.run(ASK)
    kernel.run("sys.modules.update(kept)\ndel sys.modules['ipywidgets']\nsys.modules.update(kept)")
    assert cell.error is None
    assert [{"text/plain"}] == [set(data) for data in cell.displays]
