"""`predict`: a reader commits a guess before a cell runs, and sees it beside the outcome afterwards.

Guarantees: what test tools compare (strict nbval, nbconvert) depends on the question alone; a saved notebook shows text
and a picture made of HTML, and needs no kernel; once committed, a guess stays.
Must not import: at the top: ipywidgets, IPython; anything of greenlab but its errors and text.
"""

from __future__ import annotations

import math
import sys
import uuid
from html import escape
from numbers import Real
from typing import Any

from greenlab.errors import UsageError
from greenlab.text.format import times

__all__ = ["Comparison", "Prediction", "predict"]

_WIDGET_MIME = "application/vnd.jupyter.widget-view+json"
_CLOSE = 1.25
"""A guess that is off by this factor or less is called close."""
_GUESS_COLOUR, _OUTCOME_COLOUR = "#8c8c8c", "#2a9d8f"


def predict(question: str, *, unit: str = "", guess: float | None = None) -> Prediction:
    """Ask the reader for a guess: a field in a notebook, a line of text elsewhere.

        rate = predict("How many feeds a second?", unit="feeds/s")
        rate.compare(run.throughput)  # in a later cell

    Args:
        question: what is to be guessed; the answer is a number.
        unit: what the number counts, such as "feeds/s".
        guess: the guess itself, where there is no field to write it into.

    Returns:
        the prediction, without a guess as long as the reader has made none.

    Raises:
        UsageError: the question is empty, or the guess is no number.
    """
    if not isinstance(question, str) or not question.strip():
        raise UsageError('a prediction needs a question, such as predict("How many feeds a second?", unit="feeds/s")')
    prediction = Prediction(question.strip(), unit)
    if guess is not None:
        prediction.guess = _number("the guess", guess)
    prediction._show()
    return prediction


class Prediction:
    """A question, and the guess that a reader has committed. Made by `greenlab.lab.predict`.

    Attributes:
        question: what is to be guessed.
        unit: what the number counts; may be empty.
        guess: the reader's guess, or None.
    """

    def __init__(self, question: str, unit: str) -> None:
        self.question = question
        self.unit = unit
        self.guess: float | None = None
        self._id = uuid.uuid4().hex
        self._shown = False
        self._widgets: list[Any] = []

    def commit(self, guess: float | str) -> None:
        """Make a guess, as the field does it. The first one counts.

        Raises:
            UsageError: it is no number.
        """
        number = _number("the guess", guess)
        if self.guess is None:
            self.guess = number
            self._settle()

    def compare(self, outcome: float) -> Comparison:
        """Return the guess beside the outcome, which a notebook shows as a small picture.

        Raises:
            UsageError: the outcome is no number.
        """
        number = _number("the outcome", outcome)
        if self._widgets:
            self._settle()
        return Comparison(self.question, self.unit, self.guess, number)

    def __repr__(self) -> str:
        # Without the guess, which is the reader's: stored notebook outputs are compared.
        return f"<Prediction: {self.question}>"

    # -- the field -----------------------------------------------------------------------------------------

    def _text(self) -> str:
        unit = f", in {self.unit}" if self.unit else ""
        return f"{self.question} (your guess{unit})"

    def _show(self) -> None:
        if "IPython" not in sys.modules:
            return
        from IPython import get_ipython
        from IPython.display import display

        shell = get_ipython()
        if shell is None:
            return
        data: dict[str, Any] = {"text/plain": self._text()}
        if getattr(shell, "kernel", None) is not None:
            if self.guess is None:
                data |= self._field()
            else:
                data["text/html"] = self._html(self.guess)
        display(data, raw=True, display_id=self._id)
        self._shown = True

    def _field(self) -> dict[str, Any]:
        """Make the field. Front ends without widgets show the text."""
        try:
            import ipywidgets
        except ImportError:
            return {}
        # Text, not FloatText: that one has a number in it before the reader has thought of one.
        field = ipywidgets.Text(
            placeholder="a number, then Enter", continuous_update=False, layout={"width": "190px", "margin": "0 8px"}
        )
        asked = ipywidgets.HTML(f"<b>{escape(self.question)}</b>")
        row = ipywidgets.HBox(
            [asked, field, ipywidgets.HTML(escape(self.unit))],
            layout={"align_items": "center", "flex_flow": "row wrap"},
        )
        field.observe(self._typed, "value")
        for widget in (row, *row.children):
            self._widgets += [widget, widget.layout, *([widget.style] if hasattr(widget, "style") else [])]
        return {_WIDGET_MIME: {"version_major": 2, "version_minor": 0, "model_id": row.model_id}}

    def _typed(self, change: Any) -> None:
        try:
            self.commit(change["new"])
        except UsageError:
            if change["new"]:
                change["owner"].placeholder = "a number, such as 250"
                change["owner"].value = ""

    def _settle(self) -> None:
        """Replace the field by what was guessed, so that a saved notebook has no widget."""
        widgets, self._widgets = self._widgets, []
        if self._shown:
            from IPython.display import display

            data = {"text/plain": self._text()}
            if self.guess is not None:
                data["text/html"] = self._html(self.guess)
            display(data, raw=True, display_id=self._id, update=True)
        for widget in widgets:
            widget.close()

    def _html(self, guess: float) -> str:
        said = escape(f"your guess: {_amount(guess, self.unit)}")
        return f'<div class="greenlab-prediction"><b>{escape(self.question)}</b> {said}</div>'


class Comparison:
    """A guess beside its outcome: two bars in a notebook, two lines elsewhere. Made by `Prediction.compare`.

    Attributes:
        question: what was to be guessed.
        unit: what the numbers count.
        guess: the reader's guess, or None.
        outcome: what came out.
    """

    def __init__(self, question: str, unit: str, guess: float | None, outcome: float) -> None:
        self.question = question
        self.unit = unit
        self.guess = guess
        self.outcome = outcome

    @property
    def verdict(self) -> str:
        """How far off the guess was, in words."""
        if self.guess is None:
            return "you made no guess"
        if self.guess == self.outcome:
            return "exactly"
        if self.guess <= 0 or self.outcome <= 0:
            return "your guess was too high" if self.guess > self.outcome else "your guess was too low"
        factor = self.guess / self.outcome
        if max(factor, 1 / factor) <= _CLOSE:
            return "close"
        return f"your guess was {times(max(factor, 1 / factor))} too {'high' if factor > 1 else 'low'}"

    def __repr__(self) -> str:
        lines = [f"prediction: {self.question}"]
        if self.guess is not None:
            lines.append(f"  your guess  {_amount(self.guess, self.unit)}")
        lines.append(f"  outcome     {_amount(self.outcome, self.unit)}")
        return "\n".join([*lines, f"  {self.verdict}"])

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:  # noqa: ARG002
        bars = [("outcome", self.outcome, _OUTCOME_COLOUR)]
        if self.guess is not None:
            bars.insert(0, ("your guess", self.guess, _GUESS_COLOUR))
        longest = max((abs(value) for _, value, _ in bars), default=0) or 1
        rows = "".join(
            # The row is one line high and bar and number share it: front ends strip what would position them.
            f'<div style="display:flex; align-items:center; margin:2px 0">'
            f'<span style="width:88px; text-align:right; margin-right:8px">{name}</span>'
            f'<span style="width:{max(2, round(300 * abs(value) / longest))}px; height:14px; '
            f'background-color:{colour}"></span>'
            f'<span style="margin-left:8px">{escape(_amount(value, self.unit))}</span></div>'
            for name, value, colour in bars
        )
        verdict = f'<div style="margin:2px 0 0 96px">{escape(self.verdict)}</div>'
        heading = f'<div class="greenlab-prediction"><b>prediction: {escape(self.question)}</b>'
        return {"text/plain": repr(self), "text/html": f"{heading}{rows}{verdict}</div>"}


def _number(name: str, value: Any) -> float:
    """Return a number from what a reader or a run says it is.

    Raises:
        UsageError: it is no finite number.
    """
    if isinstance(value, str):
        try:
            value = float(value.replace(",", "").replace("_", "").strip())
        except ValueError:
            raise UsageError(f"{name} must be a number, not {value!r}") from None
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise UsageError(f"{name} must be a number, not {value!r}")
    return float(value)


def _amount(value: float, unit: str) -> str:
    number = f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"
    return f"{number} {unit}".rstrip()
