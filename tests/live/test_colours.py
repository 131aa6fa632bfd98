"""Colours that stand apart in greys, for the colour-blind, and on dark pages."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from greenlab.live import POOL_COLORS, words
from greenlab.live.drawing import style, timeline_figure
from greenlab.text import theme

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Color = NDArray[np.float64]

# G. M. Machado and others, A Physiologically-based Model for Simulation of Color Vision Deficiency, IEEE TVCG 15(6),
# 2009: the severest of each kind, for linear RGB.
SIGHTS = {
    "all colours": np.eye(3),
    "no long waves": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.052]],
    "no middle waves": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "no short waves": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
    "greys": [[0.2126, 0.7152, 0.0722]] * 3,
}  # fmt: skip
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
WHITE = TO_XYZ.sum(1)
APART = 8.0
"""Three times the difference in CIE L*a*b* that an eye just sees (2.3)."""


def rgb(color: str) -> Color:
    return np.array([int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)])


def linear(color: Color) -> Color:
    made: Color = np.where(color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055) ** 2.4)
    return made


def lab(color: Color, sight: Any) -> Color:
    seen = TO_XYZ @ np.clip(np.asarray(sight) @ linear(color), 0, 1) / WHITE
    x, y, z = np.where(seen > 0.008856, np.cbrt(seen), 7.787 * seen + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def on_dark(color: Color) -> Color:
    """Return a colour as the rule of CSS turns it round: https://www.w3.org/TR/filter-effects-1."""
    assert f"invert({theme.INVERTED}) hue-rotate({theme.TURNED_DEG}deg)" in theme.STYLE
    inverted = color * (1 - theme.INVERTED) + (1 - color) * theme.INVERTED
    grey = np.array([0.213, 0.715, 0.072])
    turned: Color = np.clip(2 * (grey @ inverted) - inverted, 0, 1)  # by half a turn, sine 0 and cosine -1
    return turned


def contrast(one: Color, other: Color) -> float:
    lights = sorted(TO_XYZ[1] @ linear(color) for color in (one, other))
    return float((lights[1] + 0.05) / (lights[0] + 0.05))


@pytest.mark.parametrize("sight", SIGHTS)
@pytest.mark.parametrize("pool", POOL_COLORS)
@pytest.mark.parametrize("page", ["light", "dark"])
def test_failures_stand_apart_from_what_succeeded_for_every_eye(pool: str, sight: str, page: str) -> None:
    good, bad = rgb(POOL_COLORS[pool]), rgb(words.RED)
    if page == "dark":
        good, bad = on_dark(good), on_dark(bad)
    assert np.linalg.norm(lab(good, SIGHTS[sight]) - lab(bad, SIGHTS[sight])) > APART


@pytest.mark.parametrize("sight", [sight for sight in SIGHTS if sight != "greys"])
def test_pools_stand_apart_for_the_colour_blind(sight: str) -> None:
    # In greys six colours cannot all stand apart: each line says its pool beside it.
    seen = {pool: lab(rgb(color), SIGHTS[sight]) for pool, color in POOL_COLORS.items()}
    near = [pair for pair in itertools.combinations(seen, 2) if np.linalg.norm(seen[pair[0]] - seen[pair[1]]) < APART]
    assert [] == near


@pytest.mark.parametrize("color", [style.TEXT_COLOR, style.MUTED, words.RED])
def test_text_can_be_read_on_the_card_on_light_and_dark_pages(color: str) -> None:
    ink, card = rgb(color), rgb(style.CARD_COLOR)
    assert 4.5 < contrast(ink, card)  # WCAG 2, level AA
    assert 4.5 < contrast(on_dark(ink), on_dark(card))


@pytest.mark.parametrize("page", ["light", "dark"])
@pytest.mark.parametrize("sight", SIGHTS)
def test_the_waits_of_a_trace_stand_apart_for_every_eye_by_colour_or_by_hatch(sight: str, page: str) -> None:
    seen = {
        kind: lab(on_dark(rgb(color)) if page == "dark" else rgb(color), SIGHTS[sight])
        for kind, color in {**timeline_figure.KIND_COLORS, "the card": style.CARD_COLOR}.items()
    }
    near = [
        pair
        for pair in itertools.combinations(seen, 2)
        if np.linalg.norm(seen[pair[0]] - seen[pair[1]]) < APART
        and timeline_figure.KIND_HATCHES.get(pair[0]) == timeline_figure.KIND_HATCHES.get(pair[1])
    ]
    assert [] == near
    assert 2 * APART < min(np.linalg.norm(seen[kind] - seen["the card"]) for kind in timeline_figure.KIND_COLORS)


def contrast_on_each(one: str, other: str) -> tuple[float, float]:
    """Return the contrast on a light and on a dark page."""
    return contrast(rgb(one), rgb(other)), contrast(on_dark(rgb(one)), on_dark(rgb(other)))


@pytest.mark.parametrize("pool", POOL_COLORS)
def test_a_pools_badge_and_its_name_beside_a_line_can_be_read_on_light_and_dark_pages(pool: str) -> None:
    fill, ink = words.badge_colors(POOL_COLORS[pool])
    assert 4.5 <= min(contrast_on_each(fill, ink)) + 0.05  # colours are in steps of 1/255
    name = words.moved_away(POOL_COLORS[pool], style.CARD_COLOR)
    assert 4.5 <= min(contrast_on_each(name, style.CARD_COLOR)) + 0.05
    assert np.linalg.norm(lab(rgb(fill), np.eye(3)) - lab(rgb(POOL_COLORS[pool]), np.eye(3))) < 25, "it is its colour"


@pytest.mark.parametrize("color", [*POOL_COLORS.values(), words.RED, style.CARD_COLOR])
def test_words_know_what_becomes_of_a_colour_on_a_dark_page(color: str) -> None:
    assert list(on_dark(rgb(color))) == pytest.approx(list(rgb(theme.turned_round(color))), abs=1 / 255)


@pytest.mark.parametrize("page", ["#ffffff", "#111111", "#1e1e1e"])
@pytest.mark.parametrize("color", ["#2a7d2a", "#b03030", "#666666"])
def test_words_in_a_colour_can_be_read_on_light_and_dark_pages(color: str, page: str) -> None:
    share = re.search(r"(\d+)%,currentColor", theme.ink(color))
    assert share is not None
    own = np.full(3, 0.13 if page == "#ffffff" else 0.87)  # a page's text, as JupyterLab has it
    part = int(share[1]) / 100
    assert 4.5 < contrast(part * rgb(color) + (1 - part) * own, rgb(page))


def test_a_picture_is_as_wide_as_the_rule_says_and_nothing_moves() -> None:
    assert f'img[width="{style.WIDTH_PX}"]' in theme.STYLE
    moves, _, reduced = theme.STYLE.partition("@media (prefers-reduced-motion:reduce)")
    assert not re.search("transition|animation", moves)
    assert f".{theme.VIEW_CLASS} *{{transition:none!important;animation:none!important}}" in reduced


def test_a_picture_as_html_brings_the_rule_along_and_is_described() -> None:
    shown = theme.picture_html(b"png", {"width": 760, "height": 100, "alt": 'a "<b>" & c'}, "<p>below</p>")
    assert shown.startswith(f'<img src="data:image/png;base64,cG5n" class="{theme.PICTURE_CLASS}" ')
    assert 'width="760" height="100" alt="a &quot;&lt;b&gt;&quot; &amp; c">' in shown
    assert shown.endswith(f"<p>below</p>{theme.STYLE}")


@pytest.mark.parametrize("shown", ["run", "race", "sweep", "timeline"])
def test_every_picture_that_is_shown_alone_follows_the_theme(shown: str) -> None:
    from every_picture import states

    (state,) = [one for each in states().values() for one in each if one.name == shown]
    data, about = state.make()._repr_mimebundle_()
    assert data["image/png"].startswith(b"\x89PNG")
    assert data["text/html"].endswith(theme.STYLE)
    assert about["image/png"]["alt"]
