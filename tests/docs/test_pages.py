"""The pages of the documentation: their Python runs as it stands, their links lead somewhere, nothing is left out.

What mkdocs makes of them is checked by `tests/kit/check_site.py`, for which CI builds the site.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING

import pytest
from course import notebooks
from doc_pages import ROOT, blocks, links, pages

import greenlab

if TYPE_CHECKING:
    from pathlib import Path

    from doc_pages import Block
    from kernel import Kernel

TEXTS = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in pages()}
WITH_CELLS = [page for page, text in TEXTS.items() if any(not b.title and not b.reason for b in blocks(text))]
SCRIPTS = [(page, b.title) for page, text in TEXTS.items() for b in blocks(text) if b.title and not b.reason]


# -- what stands on a page runs ----------------------------------------------------------------------------------


@pytest.mark.parametrize("page", WITH_CELLS)
def test_the_cells_of_a_page_run_one_after_another(page: str, kernel: Kernel) -> None:
    for block in blocks(TEXTS[page]):
        if not block.title and not block.reason:
            cell = kernel.run(block.code)
            assert cell.error is None, f"{page}:{block.line}\n{cell.error}"


@pytest.mark.parametrize(("page", "title"), SCRIPTS, ids=[title for _, title in SCRIPTS])
def test_a_script_of_a_page_runs(page: str, title: str, tmp_path: Path) -> None:
    (script,) = [block for block in blocks(TEXTS[page]) if block.title == title]
    (tmp_path / title).write_text(script.code, encoding="utf-8")
    done = subprocess.run([sys.executable, title], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stderr
    assert done.stdout


def test_what_a_page_says_runs_in_scripts_is_run_as_one() -> None:
    said = [b for text in TEXTS.values() for b in blocks(text) if _before(text, b).endswith("in scripts too:")]
    assert said
    assert [] == [block.code for block in said if not block.title]


def _before(text: str, block: Block) -> str:
    return text[: text.index(block.code)].rpartition("\n```")[0].rstrip()


def test_the_page_on_scripts_shows_what_a_run_raises_in_which_every_task_failed() -> None:
    (script,) = [block.code for block in blocks(TEXTS["docs/howto/script.md"]) if block.title == "failures.py"]
    assert "except greenlab.RunError as error:" in script
    assert "*every* task failed" in TEXTS["docs/howto/script.md"]


def test_a_block_that_is_not_run_says_why() -> None:
    left_out = {f"{page}:{b.line}": b.reason for page, text in TEXTS.items() for b in blocks(text) if b.reason}
    print(*(f"{where} is not run: {reason}" for where, reason in left_out.items()), sep="\n")
    assert [] == [where for where, reason in left_out.items() if len(reason.split()) < 3]
    fences = {page: len(re.findall(r"^```python", text, re.MULTILINE)) for page, text in TEXTS.items()}
    assert fences == {page: len(blocks(text)) for page, text in TEXTS.items()}


def test_blocks_are_found_with_their_titles_and_the_reasons_why_they_do_not_run() -> None:
    text = (
        'words\n\n```python\na = 1\n```\n\n<!-- not run: it needs the moon -->\n\n```python title="b.py"\nb = 2\n```\n'
    )
    plain, titled = blocks(text)
    assert ("a = 1\n", "", "") == (plain.code, plain.title, plain.reason)
    assert ("b = 2\n", "b.py", "it needs the moon") == (titled.code, titled.title, titled.reason)


# -- what a page links to is there -------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [*TEXTS, "CONTRIBUTING.md", "notebooks/TEACHING.md", "tests/README.md"])
def test_links_to_files_lead_somewhere(page: str) -> None:
    inner = [url.partition("#")[0] for url in links((ROOT / page).read_text(encoding="utf-8")) if ":" not in url]
    assert [] == [url for url in inner if not ((ROOT / page).parent / url).exists()]


def test_links_in_code_are_not_taken_for_links() -> None:
    assert ["a.md", "b.png"] == links("[a](a.md) ![b](b.png) `[c](c.md)`\n\n```python\nd[0](e)\n```\n")


# -- nothing is left out -----------------------------------------------------------------------------------------


def test_every_public_name_is_in_the_reference() -> None:
    written = "\n".join(text for page, text in TEXTS.items() if page.startswith("docs/reference/"))
    wanted = {f"greenlab.{name}" for name in greenlab.__all__ if name != "lab"}
    wanted |= {f"greenlab.lab.{name}" for name in greenlab.lab.__all__}
    assert set() == wanted - set(re.findall(r"^::: ([\w.]+)$", written, re.MULTILINE))


def test_every_page_and_every_notebook_is_in_the_contents_of_the_site() -> None:
    contents = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    wanted = {page.removeprefix("docs/") for page in TEXTS if page != "README.md"}
    wanted |= {f"tutorial/{path.stem}.md" for path in notebooks()} | {"tutorial/teaching.md", "changelog.md"}
    assert wanted == set(re.findall(r"[\w/]+\.md", contents))


def test_every_picture_is_small_and_shown() -> None:
    pictures = sorted((ROOT / "docs" / "images").glob("*.png"))
    assert [] == [path.name for path in pictures if path.stat().st_size > 100_000]
    shown = {url.rpartition("/")[2] for text in TEXTS.values() for url in links(text)}
    assert [] == [path.name for path in pictures if path.name not in shown]


def test_readme_says_what_it_is_called_and_from_where_it_comes() -> None:
    about = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    readme = TEXTS["README.md"]
    assert f"`{about['name']}`" in readme
    assert 'pip install ".[lab]"' in readme
    assert "asyncio is enough" in readme
    assert "`concurrent.futures` is enough" in readme
