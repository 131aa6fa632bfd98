"""The tools agree with the code: lint, format, types; and what tests, their notes and the tasks of nox say is so."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("tool", ["ruff check", "ruff format --check", "mypy"])
def test_the_tools_have_nothing_to_say(tool: str) -> None:
    done = subprocess.run([sys.executable, "-m", *tool.split()], cwd=ROOT, capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stdout + done.stderr


def test_the_fast_tests_take_no_kernel_and_no_browser() -> None:
    tree = ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8"))
    (names,) = (
        node.value for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "FAST"
    )
    files = [
        file
        for name in ast.literal_eval(names)
        for file in ((ROOT / "tests" / name).glob("test_*.py") if "/" not in name else [ROOT / f"tests/{name}.py"])
    ]
    assert len(files) > 20
    takes = {"kernel", "shared_kernel", "page", "lab"}
    found = [
        f"{file.name}: {node.name}"
        for file in files
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and takes & {arg.arg for arg in node.args.args}
    ]
    assert [] == found


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_no_file_of_tests_outgrows_its_subject(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def test_every_module_that_tests_share_is_in_their_readme() -> None:
    said = (ROOT / "tests" / "README.md").read_text(encoding="utf-8")
    assert [] == [path.stem for path in sorted((ROOT / "tests" / "kit").glob("*.py")) if f"`{path.stem}`" not in said]


def test_the_docs_configuration_names_files_that_exist() -> None:
    named = re.findall(r"\btests/[\w/]+\.py", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert named
    assert [] == [name for name in named if not (ROOT / name).is_file()]
