"""The site's search, read from the disk, where a browser lets no page start a worker or read a file."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from doc_pages import ROOT
from system import needs_system

pytest.importorskip("playwright.sync_api")
pytest.importorskip("material")

from browser import CHROMIUMS, PATIENCE_MS, browsing
from mkdocs.utils.yaml import yaml_load
from playwright.sync_api import expect

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.browser


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site of two pages with the theme, the search and the scripts of the real one."""
    real: dict[str, Any] = yaml_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    kept = {name: real[name] for name in ("site_name", "theme", "use_directory_urls", "extra")}
    kept["theme"]["favicon"] = ""
    kept["plugins"] = [plugin for plugin in real["plugins"] if isinstance(plugin, str)]
    pages = tmp_path / "docs"
    pages.mkdir()
    (pages / "index.md").write_text("# Home\n\nNothing.\n")
    (pages / "other.md").write_text("# Another page\n\nIt has a coherency in it.\n")
    for script in (ROOT / "docs").glob("*.js"):
        shutil.copy(script, pages)
    (tmp_path / "mkdocs.yml").write_text(json.dumps(kept))  # which is YAML too
    subprocess.run([sys.executable, "-m", "mkdocs", "build", "-q"], cwd=tmp_path, check=True, capture_output=True)
    return tmp_path / "site"


def test_a_page_that_is_read_from_the_disk_can_be_searched_for_a_word_and_asks_no_network(site: Path) -> None:
    asked: list[str] = []
    with browsing(needs_system(*CHROMIUMS)) as page:
        page.on("request", lambda request: asked.append(request.url))
        page.goto((site / "index.html").as_uri())
        page.keyboard.press("f")
        page.keyboard.type("coherency", delay=20)
        found = page.locator(".md-search-result__item")
        expect(found).to_have_count(1, timeout=PATIENCE_MS)
        expect(found).to_contain_text("Another page")
    assert [] == [url for url in asked if not url.startswith(("file:", "data:", "about:"))]
