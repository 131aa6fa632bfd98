"""The page of every picture: what is on each, that it is the one that is saved, and that nothing on it collides."""

from __future__ import annotations

import itertools
import json
import struct
from typing import TYPE_CHECKING, Any

import pytest
from doc_pages import ROOT
from every_picture import content, page, states, texts

from greenlab.live.drawing.style import size_px
from greenlab.text import theme

if TYPE_CHECKING:
    from every_picture import State

DOCS = ROOT / "docs"
KEPT: dict[str, Any] = json.loads((DOCS / "every_picture.json").read_text(encoding="utf-8"))
STATES = [state for each in states().values() for state in each]


@pytest.fixture(params=STATES, ids=lambda state: state.name)
def state(request: pytest.FixtureRequest) -> State:
    """Each picture in turn."""
    found: State = request.param
    return found


def test_every_kind_and_state_is_there_and_no_more_are_kept() -> None:
    assert list(KEPT) == [state.name for state in STATES]
    kinds = {state.name.partition("-")[0] for state in STATES}
    assert {"run", "few", "race", "sweep", "timeline"} == kinds
    assert {"run-running", "run-failed", "run-stopped", "run-empty", "run-huge"} <= set(KEPT)


def test_a_picture_has_on_it_what_is_kept_of_it_and_nothing_on_it_collides(state: State) -> None:
    figure, kept = state.make(), KEPT[state.name]
    found = content(figure)
    assert kept["size"] == found["size"]
    assert kept["words"] == found["words"]
    assert kept["alt"] == figure.alt
    assert kept["series"] == {
        name: pytest.approx(values, rel=0.01, abs=1e-9) for name, values in found["series"].items()
    }
    assert [] == collisions(figure)


def collisions(figure: Any) -> list[str]:
    """Return the texts of a figure that leave its card or lie on each other."""
    width, height = (size * figure.dpi / 100 for size in size_px(figure))
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts(figure)]
    found = [f"{words!r} leaves the card" for words, box in boxes if not is_on(box, width, height)]
    for (one, box), (other, beside) in itertools.combinations(boxes, 2):
        wide = min(box.x1, beside.x1) - max(box.x0, beside.x0)
        high = min(box.y1, beside.y1) - max(box.y0, beside.y0)
        # Boxes are a little higher than what is written in them.
        if wide > 1 and high > 0.3 * min(box.height, beside.height):
            found.append(f"{one!r} lies on {other!r}")
    return found


def is_on(box: Any, width: float, height: float) -> bool:
    return bool(-1 < box.x0 and box.x1 < width + 1 and -1 < box.y0 and box.y1 < height + 1)


def test_a_saved_picture_has_the_size_that_it_is_drawn_with(state: State) -> None:
    png = (DOCS / "images" / f"{state.name}.png").read_bytes()
    assert [2 * size for size in KEPT[state.name]["size"]] == list(struct.unpack("!II", png[16:24]))


def test_the_page_is_the_one_that_the_script_makes_and_turns_pictures_round_as_notebooks_do() -> None:
    made = page({name: kept["alt"] for name, kept in KEPT.items()})
    assert made == (DOCS / "every_picture.md").read_text(encoding="utf-8")
    assert made.count("prediction: How many") == 2
    rule = f"invert({theme.INVERTED}) hue-rotate({theme.TURNED_DEG}deg)"
    assert rule in made
    assert rule in (DOCS / "site.css").read_text(encoding="utf-8")
