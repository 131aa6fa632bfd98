"""The tasks of a notebook or a module: which functions they are, which queue each goes to, what runs ask of them.

Guarantees: what cannot be a task of a worker is refused in one line that says what to do.

Must not import: IPython.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from greenlab.errors import UsageError
from greenlab.exporting.source import Cell, Statement, indent
from greenlab.magics.options import make_parser, parse
from greenlab.pools.routes import Routes

if TYPE_CHECKING:
    from greenlab.exporting.edits import Greenlab
    from greenlab.exporting.source import Source
    from greenlab.magics.options import MagicLine

RUN_MAGICS: Final = {"greenrun": "green", "preforkrun": "prefork"}
KINDS: Final = {"prefork": "cpu", "threads": "blocking"}
"""The queue of the tasks of a pool; those of all others wait, and go to `io`."""
IO: Final = "io"
HELPERS: Final = ("app", "on_worker", "within", "send", "show", "check_workers")
"""What the project's own modules define, and its tasks and smoke test use."""


@dataclass(frozen=True)
class Asked:
    """What one run asks of its tasks.

    Attributes:
        where: the cell.
        options: the options that were given, by the names of `RunOptions`.
    """

    where: str
    options: dict[str, Any]


@dataclass(eq=False)
class Task:
    """A function that becomes a Celery task.

    Attributes:
        name: its name.
        statement: its definition.
        decorator: the `@greenlab.task` above it; None for a function that is a task by its use.
        pool: where its calls are routed, as declared or by a pattern; None where nobody says.
        is_cell: whether it is the body of a `%%greenrun` cell.
        asked: what runs ask of it.
    """

    name: str
    statement: Statement
    decorator: ast.expr | None = None
    pool: str | None = None
    is_cell: bool = False
    asked: list[Asked] = field(default_factory=list)

    @property
    def where(self) -> str:
        """What its place is called in messages."""
        return self.statement.where

    @property
    def kind(self) -> str:
        """Its queue: `io`, `cpu` or `blocking`."""
        pools = [self.pool] if self.pool else [one.options.get("pool", "") for one in self.asked]
        return next((KINDS[pool] for pool in pools if pool in KINDS), IO)

    def all_asked(self, option: str) -> list[Asked]:
        """Return the runs that set an option."""
        return [one for one in self.asked if one.options.get(option)]


@dataclass(eq=False)
class CellRun:
    """A `%%greenrun` cell.

    Attributes:
        cell: the cell.
        parsed: its line.
        task: the task that it runs; None if it cannot be exported.
        arguments: what the task is called with, as text.
        reason: why it cannot be exported.
    """

    cell: Cell
    parsed: MagicLine
    task: Task | None = None
    arguments: str = ""
    reason: str = ""


class Tasks:
    """All tasks of a source, by name, and the cells that run them.

    Args:
        source: the notebook or module.
        greenlab: what greenlab is called there.

    Attributes:
        by_name: the tasks.
        runs: the `%%greenrun` cells.
        helpers: what each of `HELPERS` is called in tasks and smoke test.

    Raises:
        UsageError: a task cannot be one of a worker.
    """

    def __init__(self, source: Source, greenlab: Greenlab) -> None:
        code = "\n".join(cell.text.decode() for cell in source.cells)
        # By another name where the notebook has one of its own, or a parameter, of this name.
        self.helpers = {name: f"celery_{name}" if re.search(rf"\b(?<!\.){name}\b", code) else name for name in HELPERS}
        self.by_name: dict[str, Task] = {}
        self.runs: dict[Cell, CellRun] = {}
        self._source = source
        self._greenlab = greenlab
        for statement in source.statements:
            self._add_decorated(statement)
        self._add_by_use()
        self._route()
        for cell in source.cells:
            if cell.magic in RUN_MAGICS:
                self.runs[cell] = self._cell_run(cell)
        for statement in source.statements:
            self._note_calls_of_run(statement)

    def _add_decorated(self, statement: Statement) -> None:
        node: Any
        for node in ast.walk(statement.node):
            if isinstance(node, ast.Call) and self._greenlab.called(node.func) == "task" and node.args:
                raise UsageError(f"{statement.where} calls greenlab.task: write @greenlab.task above the function")
            decorator = self._decorator(node)
            if decorator is None:
                continue
            if node is not statement.node or isinstance(node, ast.ClassDef):
                raise UsageError(
                    f"the task {node.name} ({statement.where}) is defined within something else, and workers import "
                    "tasks by name: move it to the top level, and pass what it needs as arguments"
                )
            if isinstance(node, ast.AsyncFunctionDef):
                raise UsageError(f"the task {node.name} ({statement.where}) is async: write def, and blocking calls")
            pool = _declared_pool(decorator, statement)
            self.by_name[statement.node.name] = Task(statement.node.name, statement, decorator, pool)

    def _decorator(self, node: ast.AST) -> ast.expr | None:
        for one in getattr(node, "decorator_list", ()):
            if self._greenlab.called(one.func if isinstance(one, ast.Call) else one) == "task":
                return one  # type: ignore[no-any-return]
        return None

    def _add_by_use(self) -> None:
        """Add functions that are offloaded, or run by `greenlab.run`: they are tasks by what is done with them."""
        defined = {one.node.name: one for one in self._source.statements if isinstance(one.node, ast.FunctionDef)}
        for cell in self._source.cells:
            for node in ast.walk(cell.tree):
                use = self._greenlab.called(node.func) if isinstance(node, ast.Call) and node.args else ""
                if use in ("offload", "run"):
                    func = node.args[0]  # type: ignore[attr-defined]
                    name = func.id if isinstance(func, ast.Name) else ""
                    if name in defined and name not in self.by_name:
                        pool = offloaded_to(node) if use == "offload" else None  # type: ignore[arg-type]
                        self.by_name[name] = Task(name, defined[name], None, pool)

    def _route(self) -> None:
        """Apply the last patterns that the notebook sets."""
        routes = Routes()
        for statement in self._source.statements:
            for node in ast.walk(statement.node):
                if isinstance(node, ast.Call) and self._greenlab.called(node.func) == "route" and node.args:
                    try:
                        routes.replace(ast.literal_eval(node.args[0]))
                    except ValueError:
                        raise UsageError(f"{statement.where}: the routes are computed: write them as a dict") from None
        for task in self.by_name.values():
            if task.pool is None:
                task.pool = routes.find(_named(task.name))

    # --- runs ----------------------------------------------------------------------------------------------

    def _cell_run(self, cell: Cell) -> CellRun:
        parser = make_parser(cell.magic)
        parser.set_defaults(pool=RUN_MAGICS[cell.magic])
        try:
            parsed = parse(parser, cell.line)
        except UsageError as error:
            raise UsageError(f"{cell.where}: {error}") from None
        run = CellRun(cell, parsed)
        bad = next((node for node in ast.walk(cell.tree) if isinstance(node, (ast.Await, ast.Yield, ast.YieldFrom))), 0)
        if not cell.tree.body or bad:
            run.reason = "it is empty, or waits or yields as no task does"
            return run
        call = cell.tree.body[0].value if len(cell.tree.body) == 1 and isinstance(cell.tree.body[0], ast.Expr) else None
        name = call.func.id if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) else ""
        if isinstance(call, ast.Call) and name in self.by_name:
            begin, end = cell.span(call.func)[1], cell.span(call)[1]
            run.task, run.arguments = self.by_name[name], cell.text[begin:end].decode()
        else:
            run.task, run.arguments = self._body_as_task(cell, parsed.target or "i")
        run.task.asked.append(Asked(cell.where, _given(parsed.run_options)))
        return run

    def _body_as_task(self, cell: Cell, target: str) -> tuple[Task, str]:
        """Make a task of the body of a cell: its last expression is what it returns."""
        taken = set().union(*(one.names.bound for one in self._source.statements)) if self._source.statements else set()
        name = "cell_" + cell.where.rpartition(" ")[2]
        while name in taken or name in self.by_name:
            name += "_"
        text, last = cell.text, cell.tree.body[-1]
        if isinstance(last, ast.Expr):
            at = cell.span(last)[0]
            text = text[:at] + b"return " + text[at:]
        single = target.isidentifier()
        head = f"def {name}({target if single else 'item'}):\n" + ("" if single else f"    {target} = item\n")
        code = text.decode().rstrip().removesuffix(";")
        # Parsed as the body of a function: at the top level there is no `return`.
        made = Cell.parse(cell.where, head + indent(code))
        task = Task(name, made.statements[0], is_cell=True)
        self.by_name[name] = task
        return task, f"({target if single else 'item'})"

    def imported(self, *helpers: str) -> str:
        """Return what is written behind `import` for helpers."""
        return ", ".join(
            one if self.helpers[one] == one else f"{one} as {self.helpers[one]}" for one in sorted(helpers)
        )

    def of(self, statement: Statement) -> Task | None:
        """Return the task that a statement defines."""
        return next((task for task in self.by_name.values() if task.statement is statement), None)

    def drop(self, task: Task, reason: str) -> bool:
        """Leave out what nobody declared a task, and cannot be one; return whether it was left out."""
        if task.decorator is not None:
            return False
        del self.by_name[task.name]
        for run in self.runs.values():
            if run.task is task:
                run.task, run.reason = None, reason
        return True

    def _note_calls_of_run(self, statement: Statement) -> None:
        for node in ast.walk(statement.node):
            if isinstance(node, ast.Call) and self._greenlab.called(node.func) == "run" and node.args:
                func = node.args[0]
                task = self.by_name.get(func.id) if isinstance(func, ast.Name) else None
                if task is not None:
                    given = {one.arg: one.value.value for one in node.keywords
                             if one.arg and isinstance(one.value, ast.Constant)}  # fmt: skip
                    task.asked.append(Asked(statement.where, _given(given)))


def _declared_pool(decorator: ast.expr, statement: Statement) -> str | None:
    keywords = decorator.keywords if isinstance(decorator, ast.Call) else []
    pool = next((keyword.value for keyword in keywords if keyword.arg == "pool"), None)
    if pool is None or (isinstance(pool, ast.Constant) and pool.value is None):
        return None
    if isinstance(pool, ast.Constant) and isinstance(pool.value, str):
        return pool.value
    raise UsageError(
        f"the pool of {statement.node.name} ({statement.where}) is computed: write its name, such as pool='prefork'"
    )


def offloaded_to(call: ast.Call) -> str:
    """Return the pool that a call of `offload` names."""
    pool = next((one.value for one in call.keywords if one.arg == "pool"), None)
    return pool.value if isinstance(pool, ast.Constant) and isinstance(pool.value, str) else "prefork"


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value}


def _named(name: str) -> Any:
    def stand_in() -> None: ...

    stand_in.__qualname__, stand_in.__module__ = name, "__main__"
    return stand_in
