"""What is exported, as text: the cells of a notebook, or a module, and the statements in them.

Guarantees: nothing is run or imported; a mistake in a cell is a `UsageError` of one line that names the cell.

Must not import: IPython before a notebook is read.
"""

from __future__ import annotations

import ast
import json
import symtable
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from greenlab.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

TRANSPARENT: Final = ("time", "capture")
"""Cell magics whose body is run as if they were not there."""


@dataclass(eq=False)
class Cell:
    """A piece of Python.

    Attributes:
        where: what it is called in messages, such as `code cell 3`.
        text: the code, as bytes of UTF-8, for that is what `ast` counts in.
        tree: the same, parsed.
        magic: the cell magic above it, such as `greenrun`; empty for none.
        line: the text behind the magic.
    """

    where: str
    text: bytes
    tree: ast.Module
    magic: str = ""
    line: str = ""
    starts: list[int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.starts = [0]
        for line in self.text.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))

    @classmethod
    def parse(cls, where: str, code: str, **magic: str) -> Cell:
        """Parse a piece.

        Raises:
            UsageError: it has a syntax error.
        """
        code = code.rstrip() + "\n"
        try:
            return cls(where, code.encode(), ast.parse(code), **magic)
        except SyntaxError as error:
            line = (error.lineno or 1) + bool(magic.get("magic"))
            what = f": {error.text.strip()}" if error.text and error.text.strip() else ""
            raise UsageError(f"{where}, line {line}: {error.msg}{what}") from None

    def span(self, node: Any) -> tuple[int, int]:
        """Return where a node begins and ends in the text, decorators included."""
        decorators = getattr(node, "decorator_list", ())
        begin = self.starts[node.lineno - 1] + node.col_offset
        if decorators:
            first = decorators[0]
            begin = self.text.rindex(b"@", 0, self.starts[first.lineno - 1] + first.col_offset)
        return begin, self.starts[node.end_lineno - 1] + node.end_col_offset

    def source(self, node: ast.AST) -> str:
        """Return the text of a node."""
        begin, end = self.span(node)
        return self.text[begin:end].decode()

    @cached_property
    def statements(self) -> list[Statement]:
        """The statements at its top level."""
        return [Statement(self, node) for node in self.tree.body]


@dataclass(eq=False)
class Statement:
    """A statement at the top level of a cell.

    Attributes:
        cell: where it stands.
        node: what it is.
    """

    cell: Cell
    node: Any

    @property
    def where(self) -> str:
        """What its place is called in messages."""
        return self.cell.where

    @cached_property
    def source(self) -> str:
        """Its text."""
        return self.cell.source(self.node)

    @cached_property
    def names(self) -> Names:
        """The names that it uses and binds."""
        return names_of(self.source)

    @cached_property
    def above(self) -> str:
        """The comment right above it, with its line ends."""
        lines = self.cell.text[: self.cell.span(self.node)[0]].decode().splitlines(keepends=True)
        found: list[str] = []
        while lines and lines[-1].startswith("#"):
            found.insert(0, lines.pop())
        return "".join(found)

    @cached_property
    def behind(self) -> str:
        """The comment on its last line."""
        rest = self.cell.text[self.cell.span(self.node)[1] :].decode().partition("\n")[0]
        return f"  {rest.strip()}" if rest.strip().startswith("#") else ""

    @property
    def is_import(self) -> bool:
        """Whether it is a plain import."""
        return isinstance(self.node, (ast.Import, ast.ImportFrom))

    @property
    def is_future(self) -> bool:
        """Whether it is an import that must come first: `from __future__ import ...`."""
        return isinstance(self.node, ast.ImportFrom) and self.node.module == "__future__"


@dataclass(frozen=True)
class Names:
    """The names of the module's namespace in a piece of code.

    Attributes:
        used: those that it reads.
        bound: those that it binds, at its top level.
        written: those that functions in it bind with `global`.
        local: those that functions in it have of their own.
    """

    used: frozenset[str] = frozenset()
    bound: frozenset[str] = frozenset()
    written: frozenset[str] = frozenset()
    local: frozenset[str] = frozenset()


def names_of(code: str) -> Names:
    """Return the names in a piece of code, by the compiler's own account of scopes."""
    try:
        top = symtable.symtable(code, "<exported>", "exec")
    except SyntaxError:  # an `await` outside of functions, which a notebook may have; CPython 3.14 looks for it here
        names = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)]
        read, stored = ({node.id for node in names if isinstance(node.ctx, kind)} for kind in (ast.Load, ast.Store))
        return Names(frozenset(read), frozenset(stored))
    used, bound, written, local = set(), set(), set(), set()
    for table in _tables(top):
        for symbol in table.get_symbols():
            name = symbol.get_name()
            if table is top:
                if symbol.is_referenced():
                    used.add(name)
                if symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace():
                    bound.add(name)
            elif symbol.is_global():
                if symbol.is_referenced():
                    used.add(name)
                if symbol.is_assigned() and symbol.is_declared_global():
                    written.add(name)
            else:
                local.add(name)
    # Comprehensions at the top level have no table of their own since CPython 3.12, nor annotations since 3.14.
    inlined = bound & _bound_in_comprehensions(code)
    used -= {*inlined, "__conditional_annotations__"}
    return Names(frozenset(used), frozenset(bound - inlined), frozenset(written), frozenset(local))


def _bound_in_comprehensions(code: str) -> set[str]:
    """Return the names that comprehensions bind, and nothing else does."""
    tree = ast.parse(code)
    targets = [one.target for one in ast.walk(tree) if isinstance(one, ast.comprehension)]
    inside = {id(node) for target in targets for node in ast.walk(target)}
    stored = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    return {node.id for node in stored if id(node) in inside} - {node.id for node in stored if id(node) not in inside}


def _tables(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    yield table
    for child in table.get_children():
        yield from _tables(child)


@dataclass(frozen=True)
class Source:
    """What is exported.

    Attributes:
        title: what the reader calls it, such as `feeds.ipynb`.
        name: its name without folder and suffix.
        folder: where it is, and where modules of its own may be.
        cells: its pieces, in order.
    """

    title: str
    name: str
    folder: Path
    cells: list[Cell]

    @cached_property
    def plain(self) -> list[Cell]:
        """The pieces that are run as they are."""
        return [cell for cell in self.cells if not cell.magic or cell.magic in TRANSPARENT]

    @cached_property
    def statements(self) -> list[Statement]:
        """The statements at the top level of `plain`, in order."""
        return [statement for cell in self.plain for statement in cell.statements]


def read(what: str) -> Source:
    """Read a notebook, a file of Python, or a module by its importable name.

    Raises:
        UsageError: there is no such thing, or it cannot be read; the message says what to write.
    """
    path = Path(what)
    if path.suffix not in (".ipynb", ".py") and not path.exists():
        path = _module_file(what)
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise UsageError(f"there is no {what}: name a notebook (.ipynb), a file of Python, or a module") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {what}: {getattr(error, 'strerror', None) or 'it is not UTF-8'}") from None
    cells = _cells(path.name, text) if path.suffix == ".ipynb" else list(_parts_of_module(path.name, text))
    return Source(path.name, path.stem, path.parent, cells)


def _module_file(name: str) -> Path:
    import sys

    sys.path.insert(0, "")  # as `python -m` has it
    try:
        spec = find_spec(name) if all(part.isidentifier() for part in name.split(".")) else None
    except (ImportError, ValueError):
        spec = None
    finally:
        sys.path.remove("")
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        raise UsageError(
            f"there is no notebook or module {name!r}: name a notebook (.ipynb), a file of Python, or a module "
            "that can be imported from here"
        )
    return Path(spec.origin)


def _cells(title: str, text: str) -> list[Cell]:
    from IPython.core.inputtransformer2 import TransformerManager

    try:
        notebook = json.loads(text)
        sources = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    except (ValueError, KeyError, TypeError):
        raise UsageError(f"{title} is not a notebook of format 4: open it in JupyterLab and save it again") from None
    manager = TransformerManager()
    found = []
    for number, source in enumerate(sources, 1):
        where, magic, line, body = f"code cell {number}", "", "", source
        if source.lstrip().startswith("%%"):
            first, _, body = source.lstrip().partition("\n")
            magic, _, line = first[2:].partition(" ")
        # The body of `%%bash` and its like is no Python: it is kept as a text.
        python = not magic or magic.startswith(("green", "prefork")) or magic in TRANSPARENT
        code = manager.transform_cell(body) if python and body.strip() else body if python else repr(body)
        how = {"magic": magic.strip(), "line": line.strip()} if magic else {}
        found.append(Cell.parse(where, code, **how))
    return found


def _parts_of_module(title: str, text: str) -> Iterable[Cell]:
    """Split a module: what is below `if __name__ == "__main__":` is a part of its own, at the top level."""
    whole = Cell.parse(title, text)
    for node in whole.tree.body:
        if isinstance(node, ast.If) and not node.orelse and _is_main(node.test):
            begin, end = whole.span(node)
            inside = whole.text[whole.starts[node.body[0].lineno - 1] : end].decode()
            yield Cell.parse(title, (whole.text[:begin] + whole.text[end:]).decode())
            yield Cell.parse(f"the main block of {title}", dedent(inside))
            return
    yield whole


def _is_main(test: ast.expr) -> bool:
    return ast.unparse(test) in ("__name__ == '__main__'", "'__main__' == __name__")


def dedent(code: str) -> str:
    """Move code to the left margin, text over several lines in it left as it is."""
    margin = len(code) - len(code.lstrip(" \t"))
    within = _within_text("if 1:\n" + code, 1)
    return "".join(
        line if number in within else line[min(margin, len(line) - len(line.lstrip(" \t"))) :]
        for number, line in enumerate(code.splitlines(keepends=True), 1)
    )


def indent(code: str) -> str:
    """Move code four columns to the right, text over several lines in it left as it is."""
    within = _within_text(code, 0)
    return "".join(
        line if number in within or not line.strip() else "    " + line
        for number, line in enumerate(code.splitlines(keepends=True), 1)
    )


def _within_text(code: str, above: int) -> set[int]:
    """Return the numbers of the lines that begin inside a text."""
    return {
        number - above
        for node in ast.walk(ast.parse(code))
        if isinstance(node, (ast.Constant, ast.JoinedStr))
        and (isinstance(node, ast.JoinedStr) or isinstance(node.value, (str, bytes)))
        for number in range(node.lineno + 1, (node.end_lineno or node.lineno) + 1)
    }
