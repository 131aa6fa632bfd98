"""The smoke test: what the notebook does with its tasks, by way of workers.

Must not import: IPython.
"""

from __future__ import annotations

import ast
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from greenlab.exporting.source import Cell, Statement, names_of
from greenlab.exporting.tasks import RUN_MAGICS
from greenlab.exporting.translate import SENT, SIMPLE, Untranslatable, import_text, smoke_text

if TYPE_CHECKING:
    from greenlab.exporting.carrying import Carried
    from greenlab.exporting.edits import Greenlab
    from greenlab.exporting.source import Source
    from greenlab.exporting.tasks import CellRun, Tasks

_LAST: Final = {
    "greenrun": "_run", "preforkrun": "_run", "greenrace": "_race", "greensweep": "_sweep", "greenadvise": "_advice",
}  # fmt: skip
"""The variable that each magic leaves behind."""
_DROPPED: Final = ("get_ipython().run_line_magic('load_ext', 'greenlab')", "greenlab.start()", "greenlab.stop()")
"""What nobody misses."""


class Smoke:
    """The text of a smoke test.

    Args:
        source: the notebook or module.
        greenlab: what greenlab is called there.
        tasks: its tasks.
        carried: what went along with them.

    Attributes:
        left_out: what could not be translated: place and reason.
    """

    def __init__(self, source: Source, greenlab: Greenlab, tasks: Tasks, carried: Carried) -> None:
        self._greenlab = greenlab
        self._tasks = tasks
        self._carried = carried
        self._missing: set[str] = set()
        self._sent: set[str] = set()
        self.left_out: list[tuple[str, str]] = []
        self._pieces: list[tuple[str, Statement | None]] = []
        for cell in source.cells:
            self._title(cell)
            if cell.magic in RUN_MAGICS:
                self._cell_run(tasks.runs[cell])
            elif cell in source.plain:
                for number, statement in enumerate(cell.statements):
                    self._statement(statement, last=number == len(cell.statements) - 1 and "cell" in cell.where)
            else:
                self._leave_out_cell(cell, f"%%{cell.magic} has no counterpart")

    @property
    def used(self) -> set[str]:
        """All names that its statements use."""
        code = "\n".join(text for text, statement in self._pieces if statement is None or not statement.is_import)
        return set(names_of(code).used)

    @property
    def body(self) -> str:
        """Its statements: imports only where something uses them."""
        used, out = self.used, []
        for text, statement in self._pieces:
            if statement is not None and statement.is_import:
                names = statement.names.bound
                if not (used & names or "*" in text) or statement.is_future:
                    continue
                text = import_text(statement, self._greenlab.own - used)  # noqa: PLW2901
            out.append(text)
        titled = [
            text for text, after in zip(out, [*out[1:], "# --- "], strict=True)
            if not (text.startswith("\n# --- ") and after.lstrip().startswith("# --- "))
        ]  # fmt: skip
        return "\n".join(titled).strip() + "\n"

    def _title(self, cell: Cell) -> None:
        self._pieces.append((f"\n# --- {cell.where} ---", None))

    def _statement(self, statement: Statement, *, last: bool = False) -> None:
        if self._carried.has(statement) and not statement.is_import:
            return
        if self._carried.is_superseded(statement):
            self._leave_out(statement, "it is defined again below, and exported as it is there")
            return
        names = statement.names
        try:
            self._refuse(statement)
            text = smoke_text(statement, self._tasks, self._greenlab)
        except Untranslatable as error:
            if statement.source not in _DROPPED:
                self._leave_out(statement, f"it {error}")
            return
        self._missing -= names.bound
        self._sent -= names.bound
        node = statement.node
        send = f"{self._tasks.helpers['send']}("
        if isinstance(node, ast.Assign) and text.partition("=")[2].lstrip().startswith(send):
            self._sent |= names.bound
        after = statement.cell.text[statement.cell.span(node)[1] :].lstrip(b" ")[:1]
        if last and isinstance(node, ast.Expr) and after != b";" and not text.startswith("print("):
            text = f"{self._tasks.helpers['show']}({text})"
        self._pieces.append((statement.above + text + statement.behind, statement))

    def _refuse(self, statement: Statement) -> None:
        names = statement.names
        if "get_ipython" in names.used:
            raise Untranslatable("is a magic or a shell command")
        missing = sorted(names.used & self._missing)
        if missing:
            raise Untranslatable(f"uses `{missing[0]}`, which was left out above")
        for node in ast.walk(statement.node):
            if isinstance(node, ast.Attribute) and node.attr not in SENT:
                value = node.value
                sent = isinstance(value, ast.Name) and value.id in self._sent
                if sent or (isinstance(value, ast.Call) and self._greenlab.called(value.func) == "run"):
                    raise Untranslatable(f"uses .{node.attr} of a Run, which is greenlab's")
        try:
            compile(statement.source, "<exported>", "exec")
        except SyntaxError:
            raise Untranslatable("awaits, for which the notebook has a loop") from None

    def _cell_run(self, run: CellRun) -> None:
        cell, parsed = run.cell, run.parsed
        if run.task is None:
            self._leave_out_cell(cell, run.reason)
            return
        target, items = parsed.target or "i", parsed.iterable or f"range({parsed.options.count})"
        if run.task.is_cell and not target.isidentifier():
            target = "item"  # which the task unpacks
        value: Any = ast.parse(items, mode="eval").body
        items = items if isinstance(value, SIMPLE) else f"({items})"
        name = f"{parsed.options.out} = _run" if parsed.options.out else "_run"
        code = f"{name} = {self._tasks.helpers['send']}({run.task.name}.s{run.arguments} for {target} in {items})"
        made = Cell.parse(cell.where, code).statements[0]
        self._pieces.append((f"# %%{cell.magic} {cell.line}", None))
        before = len(self.left_out)
        self._statement(made)
        if len(self.left_out) == before:
            self._sent |= {"_run", *([parsed.options.out] if parsed.options.out else [])}

    def _leave_out(self, statement: Statement, reason: str) -> None:
        self._missing |= statement.names.bound - (self._carried.names if self._carried.has(statement) else set())
        self._comment(statement.where, reason, _as_typed(statement))

    def _leave_out_cell(self, cell: Cell, reason: str) -> None:
        words = cell.line.split()
        for flag, name in pairwise(words):
            if flag in ("-o", "--out"):
                self._missing.add(name)
        last = _LAST.get(cell.magic)
        self._missing |= {last} if last else set()
        body = cell.text.decode()
        if not cell.magic.startswith(("green", "prefork")):
            body = str(ast.literal_eval(body.strip()))
        self._comment(cell.where, reason, f"%%{cell.magic} {cell.line}\n{body}")

    def _comment(self, where: str, reason: str, code: str) -> None:
        self.left_out.append((where, reason))
        lines = "\n".join(f"#     {line}".rstrip() for line in code.strip().splitlines())
        self._pieces.append((f"# Left out: {reason}.\n{lines}", None))


def _as_typed(statement: Statement) -> str:
    """Return a statement as it stood in the cell: a magic as a magic."""
    node = statement.node
    call = node.value if isinstance(node, (ast.Expr, ast.Assign)) else None
    if isinstance(call, ast.Call) and ast.unparse(call.func).startswith("get_ipython()."):
        kind = ast.unparse(call.func).rpartition(".")[2]
        words = [str(one.value) for one in call.args if isinstance(one, ast.Constant)]
        mark = "%" if "magic" in kind else "!"
        to = f"{ast.unparse(node.targets[0])} = " if isinstance(node, ast.Assign) else ""
        return f"{to}{mark}{' '.join(words)}".strip()
    return statement.source
