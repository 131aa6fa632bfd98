"""The check of the docs site finds what it looks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from check_site import main, problems

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site of two pages without a fault."""
    (tmp_path / "more").mkdir()
    (tmp_path / "index.html").write_text(
        '<a href="more/page.html#part">it</a> <a href="https://elsewhere.example">a</a>'
    )
    (tmp_path / "more" / "page.html").write_text(
        '<h2 id="part"></h2> <a href="../index.html">home</a> <img src="a.png">'
    )
    (tmp_path / "more" / "a.png").touch()
    return tmp_path


def test_a_site_without_a_fault_passes(site: Path) -> None:
    assert [] == problems(site)
    assert 0 == main([str(site)])


@pytest.mark.parametrize(
    ("html", "wrong"),
    [
        ('<a href="gone.html">', "gone.html is not there"),
        ('<a href="more/page.html#gone">', "more/page.html#gone has no such part"),
        ('<a href="#gone">', "#gone has no such part"),
        ('<img src="more/gone.png">', "more/gone.png is not there"),
        ('<script src="https://elsewhere.example/a.js">', "loads https://elsewhere.example/a.js"),
        ('<script src="//elsewhere.example/a.js">', "loads //elsewhere.example/a.js"),
        ('<link rel="stylesheet" href="https://elsewhere.example/a.css">', "loads https://elsewhere.example/a.css"),
        ('<link rel="preconnect" href="https://fonts.example">', "loads https://fonts.example"),
        ('<img srcset="https://elsewhere.example/a.png 2x">', "loads https://elsewhere.example/a.png"),
        ("<style>@font-face {src: url(https://elsewhere.example/f)}</style>", "loads https://elsewhere.example/f"),
        ('<pre class="mermaid">', "a diagram, for which the theme loads a script from elsewhere"),
    ],
)
def test_what_leads_nowhere_or_is_loaded_from_elsewhere_is_found(site: Path, html: str, wrong: str) -> None:
    (site / "bad.html").write_text(html)
    assert [f"bad.html: {wrong}"] == problems(site)
    assert 1 == main([str(site)])


def test_a_style_sheet_that_loads_from_elsewhere_is_found(site: Path) -> None:
    (site / "a.css").write_text("@import 'https://elsewhere.example/b.css';")
    assert ["a.css: loads https://elsewhere.example/b.css"] == problems(site)


def test_a_folder_without_pages_is_no_site(tmp_path: Path) -> None:
    assert [f"{tmp_path}: there are no pages"] == problems(tmp_path)
