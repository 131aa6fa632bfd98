"""The words of the package's code: those that a reader of English knows, for things as for people."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import greenlab

PACKAGE = Path(greenlab.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
# "Give the hub back" and "give up" are what is meant there.
VAGUE = re.compile(r"(Gives?|Tells?|Says?)\b(?!( the \w+)? (up|back)\b)")


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_programs_are_no_persons_and_docstrings_begin_with_return_raise_or_send(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert [] == re.findall(r"(?i)\b(?:whoever|befalls?)\b", text), "name the program, or write: happens to"
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    docstrings = [ast.get_docstring(node) or "" for node in ast.walk(ast.parse(text)) if isinstance(node, kinds)]
    assert [] == [docstring.split("\n")[0] for docstring in docstrings if VAGUE.match(docstring)], "Return, Send, Start"
