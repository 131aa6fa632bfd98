"""The course and the tour: what every lesson has, and that no claim holds whatever happens.

That the notebooks run, and say what their saved outputs say, is for nbval: `pytest notebooks`.
"""

from __future__ import annotations

import ast
import builtins
import os
import re
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from nbconvert.filters import strip_ansi

from course_breaks import OTHERS, QUICK, Break
from course import FOLDER, TOUR, WIDGET, execute, lessons, load, notebooks, short_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ALL = [*QUICK, *OTHERS]
BROKEN = ALL if os.environ.get("GREENLAB_ALL_BREAKS") else QUICK
RUNS = re.compile(r"^(%%(?:greenrun|preforkrun|greenrace|greensweep))\b(?!.*--no-live)(.*)", re.MULTILINE)


@pytest.fixture(params=lessons(), ids=lambda path: path.stem)
def lesson(request: pytest.FixtureRequest) -> Any:
    """Each lesson, read."""
    return read(request.param)


@pytest.fixture(params=notebooks(), ids=lambda path: path.stem)
def notebook(request: pytest.FixtureRequest) -> Any:
    """Each lesson, and the tour, read."""
    return read(request.param)


def read(path: Path) -> Any:
    found = load(path)
    found.metadata["path"] = path
    return found


def prose(notebook: Any) -> str:
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


# -- what every lesson has ---------------------------------------------------------------------------------------


def test_the_lessons_are_numbered_from_0() -> None:
    assert [f"{number:02}" for number in range(13)] == [path.name[:2] for path in lessons()]


def test_a_notebook_is_valid_and_needs_no_kernel_to_be_read(notebook: Any) -> None:
    path = notebook.metadata.pop("path")
    nbformat.validate(notebook)
    names = [cell.id for cell in notebook.cells]
    assert len(names) == len(set(names))
    assert "widgets" not in notebook.metadata
    written = path.read_text(encoding="utf-8")
    assert WIDGET not in written
    assert len(written) < 500_000
    assert not re.search(r"/(root|home|tmp|work|usr|Users)/", written)


def test_a_lesson_says_what_it_is_for_has_readers_predict_breaks_something_and_ends_with_exercises(lesson: Any) -> None:
    text = prose(lesson)
    number = int(lesson.metadata.path.name[:2])
    assert text.startswith(f"# {number}. ")
    assert re.search("After this lesson you can|By the end you will know", text)
    assert "Celery's page" in text or "Celery's\ndocumentation" in text
    assert "**Predict" in text
    assert any(re.search(r"\bpredict\(", cell.source) for cell in lesson.cells if cell.cell_type == "code")
    assert any(".compare(" in cell.source for cell in lesson.cells if cell.cell_type == "code")
    assert "## Something is wrong here" in text
    exercises, answers = text.split("## Try it")[1].split("<details><summary>Answers</summary>")
    for part in (exercises, answers):
        assert ["1", "2", "3"] == re.findall(r"^(\d)\. ", part, re.MULTILINE)
    assert answers.rstrip().endswith("</details>")


def test_what_is_asserted_stands_in_cells_of_its_own_with_the_figures_beside_it(notebook: Any) -> None:
    for cell in notebook.cells:
        if cell.cell_type == "code":
            asserts = re.search(r"^\s*assert ", cell.source, re.MULTILINE) is not None
            assert cell.id.startswith("claim-") == asserts, cell.id
            assert not asserts or "print(" in cell.source, cell.id
            assert "nbval" not in cell.source, "no cell is skipped"


def test_a_mistake_that_the_tour_shows_is_an_error_of_its_cell_and_one_line_of_text() -> None:
    cells = [cell for cell in load(TOUR).cells if cell.cell_type == "code"]
    assert len(cells) == 30
    failing = [cell for cell in cells if "raises-exception" in cell.metadata.get("tags", ())]
    assert ["mistake", "all-fail"] == [cell.id for cell in failing]
    ends = [cell.outputs[-1] for cell in failing]
    assert ["UsageError", "RunError"] == [end.ename for end in ends]
    assert "; did you mean --concurrency? %%greenrun? lists" in ends[0].traceback[0]
    assert 1 == len(ends[0].traceback[0].splitlines())


def test_an_output_that_is_sanitised_has_a_reason_in_the_sanitising_file() -> None:
    rules = (FOLDER / "sanitize.cfg").read_text(encoding="utf-8").strip().split("\n\n")[1:]
    assert rules
    for rule in rules:
        assert re.fullmatch(r"[A-Z].*\.\nregex: .+\nreplace:.*", rule), rule


def test_links_between_notebooks_lead_somewhere(notebook: Any) -> None:
    for name in re.findall(r"\]\((\w+\.ipynb)\)", prose(notebook)):
        assert (FOLDER / name).exists(), name


@pytest.mark.parametrize("page", ["notebooks/TEACHING.md", "docs/course.md", "notebooks/00_start_here.ipynb"])
def test_a_page_that_lists_the_lessons_lists_all_and_the_tour(page: str) -> None:
    written = (FOLDER.parent / page).read_text(encoding="utf-8")
    assert [] == [path.name for path in notebooks() if path.name not in written and short_name(path) != "00"]


# -- no claim holds whatever happens -----------------------------------------------------------------------------


def test_each_claim_is_broken_once_and_so_is_each_relation_of_a_lesson() -> None:
    asserted = [
        (short_name(path), cell.id, number)
        for path in notebooks()
        for cell in load(path).cells
        for number, _ in enumerate(relations(cell), 1)
    ]
    broken = [(each.notebook, each.claim, number) for each in ALL for number in each.relations]
    assert sorted(one for one in asserted if one[0] != "tour") == sorted(one for one in broken if one[0] != "tour")
    assert {one[:2] for one in asserted} == {one[:2] for one in broken}
    assert [*map(short_name, notebooks())] == [each.notebook for each in QUICK]


@pytest.mark.parametrize("broken", BROKEN, ids=str)
def test_a_relation_whose_cause_is_taken_away_fails(broken: Break) -> None:
    notebook = load(path_of(broken.notebook))
    by_id = {cell.id: cell for cell in notebook.cells}
    assert broken.old in by_id[broken.cell].source
    by_id[broken.cell].source = by_id[broken.cell].source.replace(broken.old, broken.new)
    *causes, claim = needed(notebook, broken.claim)
    alone = [only(claim, number) for number in broken.relations]
    notebook.cells = [*causes, *alone]
    execute(notebook)
    for cell in alone:
        errors = [output for output in cell.outputs if output.output_type == "error"]
        traceback = strip_ansi("\n".join(line for error in errors for line in error.traceback))
        assert re.search(r"^-+> *\d+ +assert ", traceback, re.MULTILINE), (cell.source, cell.outputs)


def relations(cell: Any) -> list[ast.Assert]:
    """What a cell asserts, in the order in which it stands there."""
    if cell.cell_type != "code" or not cell.id.startswith("claim-"):
        return []
    asserts = [node for node in ast.walk(parsed(cell.source)) if isinstance(node, ast.Assert)]
    return sorted(asserts, key=lambda node: node.lineno)


def only(claim: Any, number: int) -> Any:
    """A claim's cell with one of its relations alone, in which an error ends nothing but itself."""
    lines = claim.source.splitlines()
    for other, node in enumerate(relations(claim), 1):
        if other != number:
            lines[node.lineno - 1 : node.end_lineno] = [
                f"{' ' * node.col_offset}pass", *[""] * ((node.end_lineno or 0) - node.lineno)
            ]  # fmt: skip
    return nbformat.v4.new_code_cell("\n".join(lines), metadata={"tags": ["raises-exception"]})


def path_of(name: str) -> Path:
    return next(path for path in notebooks() if short_name(path) == name)


def needed(notebook: Any, claim: str) -> Iterator[Any]:
    """The code cells that a claim rests on, and itself: those that bind a name that a needed one uses."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    last = [cell.id for cell in cells].index(claim)
    wanted: set[str] = set()
    kept = []
    for cell in reversed(cells[: last + 1]):
        binds, uses = names(cell.source)
        if cell.id == claim or "%load_ext" in cell.source or binds & wanted:
            wanted |= uses
            kept.append(cell)
    for cell in reversed(kept):
        cell.source = RUNS.sub(r"\1 --no-live\2", cell.source)
        yield cell


def names(source: str) -> tuple[set[str], set[str]]:
    """The names that a cell binds, and those that it uses."""
    binds = set(re.findall(r"^%%.* -o (\w+)", source, re.MULTILINE))
    uses = set(re.findall(r"\w+", source.splitlines()[0])) if source.startswith("%%") else set()
    local: set[str] = set()
    loops: set[str] = set()
    for node in ast.walk(parsed(source)):
        if isinstance(node, ast.Name):
            (uses if isinstance(node.ctx, ast.Load) else binds).add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            binds.add(node.name)
        elif isinstance(node, ast.alias):
            binds.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, ast.arg):
            local.add(node.arg)
        elif isinstance(node, ast.comprehension | ast.For):
            loops |= {each.id for each in ast.walk(node.target) if isinstance(each, ast.Name)}
    return binds - loops, uses - local - loops - set(dir(builtins))


def parsed(source: str) -> ast.Module:
    """A cell's code, without its magics."""
    code = source.partition("\n")[2] if source.startswith("%%") else TransformerManager().transform_cell(source)
    tree = compile(code, "", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    assert isinstance(tree, ast.Module)
    return tree
