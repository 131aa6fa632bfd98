"""Changes of source text by position: what is not changed keeps its comments and its layout."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from greenlab.exporting.source import Cell, Statement

_LAB: Final = "lab"


class Edits:
    """Changes of one cell's text, each of a span of it.

    Args:
        cell: the cell.
    """

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self._changes: list[tuple[int, int, str]] = []

    def replace(self, begin: int, end: int, text: str) -> None:
        """Put a text in the place of a span."""
        self._changes.append((begin, end, text))

    def apply(self, begin: int, end: int) -> str:
        """Return a span of the text with its changes. Of changes within a change the outer one counts."""
        out, at = [], begin
        for first, last, text in sorted(self._changes, key=lambda change: (change[0], -change[1])):
            if first >= at and last <= end:
                out += [self.cell.text[at:first].decode(), text]
                at = last
        return "".join([*out, self.cell.text[at:end].decode()])


class Greenlab:
    """What greenlab is called in a notebook, from its imports.

    Args:
        statements: those that may import it.
    """

    def __init__(self, statements: list[Statement]) -> None:
        self.modules: set[str] = set()
        self.functions: dict[str, str] = {}
        self.from_lab: set[str] = set()
        for statement in statements:
            for node in ast.walk(statement.node):
                if isinstance(node, ast.Import):
                    for one in node.names:
                        if one.name.partition(".")[0] == "greenlab":
                            self._import(one)
                elif isinstance(node, ast.ImportFrom):
                    self._import_from(node)

    def _import(self, one: ast.alias) -> None:
        if one.asname is None or one.name == "greenlab":
            self.modules.add(one.asname or "greenlab")
        else:
            self.from_lab.add(one.asname)

    def _import_from(self, node: ast.ImportFrom) -> None:
        if node.module == "greenlab":
            for one in node.names:
                name = one.asname or one.name
                if one.name == _LAB:
                    self.from_lab.add(name)
                else:
                    self.functions[name] = one.name
        elif (node.module or "").startswith("greenlab."):
            self.from_lab |= {one.asname or one.name for one in node.names}

    @property
    def names(self) -> set[str]:
        """All names that stand for something of greenlab's."""
        return self.modules | set(self.functions) | self.from_lab

    @property
    def own(self) -> set[str]:
        """Those of them that an exported task cannot have: all but what is imported from the lab."""
        return self.modules | set(self.functions)

    def called(self, node: Any) -> str:
        """Return which function of greenlab's an expression names, such as `run`; empty for none."""
        if isinstance(node, ast.Name):
            return self.functions.get(node.id, "")
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in self.modules:
            return node.attr
        return ""

    def uses(self, node: ast.AST) -> list[tuple[ast.AST, str]]:
        """Return each place where greenlab is used, and what of it."""
        found: list[tuple[ast.AST, str]] = []
        inner: set[int] = set()
        for one in ast.walk(node):
            name = self.called(one)
            if name:
                found.append((one, name))
                inner.add(id(getattr(one, "value", None)))
            elif isinstance(one, ast.Name) and id(one) not in inner:
                if one.id in self.modules:
                    found.append((one, ""))
                elif one.id in self.from_lab:
                    found.append((one, _LAB))
        return found
