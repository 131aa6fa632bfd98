"""What tasks need of the notebook: imports, functions, classes and constants, as far as they can be made in a worker.

A worker imports the module of the tasks, so all that goes along is run there once. A function, a class or an import can
be; of assignments those that a worker can repeat: of constants, and of calls of what is imported, built in or carried.

Guarantees: what cannot go along is refused in one line that names the task, the name and the cell.

Must not import: IPython.
"""

from __future__ import annotations

import ast
import builtins
from typing import TYPE_CHECKING, Any, Final

from greenlab.errors import UsageError
from greenlab.exporting.translate import task_text

if TYPE_CHECKING:
    from greenlab.exporting.edits import Greenlab
    from greenlab.exporting.source import Source, Statement
    from greenlab.exporting.tasks import Task, Tasks

_BUILTINS: Final = {*dir(builtins), "__name__", "__file__", "__doc__"}
_UNREPEATABLE: Final = {"open", "input", "print", "exec", "eval", "iter", "next", "globals", "locals", "vars"}
_PLAIN_NAMES: Final = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)


class Carried:
    """What goes along with tasks.

    Args:
        source: the notebook or module.
        greenlab: what greenlab is called there.
        tasks: its tasks.

    Attributes:
        statements: what goes along, the tasks too, in order; imports first.
    """

    def __init__(self, source: Source, greenlab: Greenlab, tasks: Tasks) -> None:
        self._greenlab = greenlab
        self._tasks = tasks
        self._order = {id(statement): number for number, statement in enumerate(source.statements)}
        self._defined: dict[str, list[Statement]] = {}
        self._changed: dict[str, list[Statement]] = {}
        self._stars = [one for one in source.statements if one.is_import and any(a.name == "*" for a in one.node.names)]
        for statement in source.statements:
            for name in statement.names.bound:
                self._defined.setdefault(name, []).append(statement)
            root = _changes(statement.node)
            if root:
                self._changed.setdefault(root, []).append(statement)
        futures = [one for one in source.statements if one.is_future]
        found: dict[int, Statement] = {id(one): one for one in (*self._stars, *futures)}
        for task in list(tasks.by_name.values()):
            reached = dict(found)
            try:
                self._gather(task, task.statement, (), reached)
            except UsageError as error:
                if not tasks.drop(task, str(error)):
                    raise
                if not tasks.by_name:  # there is nothing else
                    raise
            else:
                found = reached
        self._found = found
        after = len(self._order)
        self.statements = sorted(
            found.values(), key=lambda one: (not one.is_future, not one.is_import, self._order.get(id(one), after))
        )

    @property
    def names(self) -> set[str]:
        """The names that what goes along defines, imports left out."""
        return {name for one in self.statements if not one.is_import for name in one.names.bound}

    def has(self, statement: Statement) -> bool:
        """Whether a statement goes along."""
        return id(statement) in self._found

    def is_superseded(self, statement: Statement) -> bool:
        """Whether something that goes along defines again all that a function or a class of this name was."""
        return isinstance(statement.node, _PLAIN_NAMES[2:]) and not self.has(statement) and any(
            self.has(other) for name in statement.names.bound for other in self._defined[name]
        )  # fmt: skip

    def _gather(self, task: Task, statement: Statement, by: tuple[str, ...], found: dict[int, Statement]) -> None:
        if id(statement) in found:
            return
        found[id(statement)] = statement
        names = statement.names
        # Raises for what has no counterpart.
        task_text(self._tasks.of(statement), statement, self._tasks, self._greenlab)
        if "get_ipython" in names.used:
            raise UsageError(f"{_who(task, by)} uses a magic or a shell command, which workers have not: use Python")
        for name in names.written:
            raise UsageError(
                f"{_who(task, by)} sets the global `{name}`, which workers do not share: return the value instead"
            )
        for name in sorted(names.used - names.bound - self._greenlab.own):
            if name in self._defined or name not in _BUILTINS:
                for needed in self._needed(task, name, by):
                    way = () if needed.is_import else (*by, name)
                    self._gather(task, needed, way, found)

    def _needed(self, task: Task, name: str, by: tuple[str, ...]) -> list[Statement]:
        if name in self._tasks.by_name:
            return [self._tasks.by_name[name].statement]
        defined = self._defined.get(name, [])
        if not defined:
            if self._stars:
                return []
            raise UsageError(
                f"{_who(task, by)} uses `{name}`, which nothing here defines: "
                "define it at the top level, or pass it as an argument"
            )
        last = defined[-1]
        needed = defined if name in last.names.used and not isinstance(last.node, _PLAIN_NAMES) else [last]
        # What is called of a module is not repeated: it may do anything. What is set in one, is.
        needed = [
            *needed,
            *(one for one in self._changed.get(name, ()) if self._order[id(one)] > self._order[id(last)]
              and not (last.is_import and isinstance(one.node, ast.Expr))),
        ]  # fmt: skip
        for one in needed:
            if not self._can_repeat(one.node):
                raise UsageError(
                    f"{_who(task, by)} uses `{name}`, which {one.where} makes as it runs, and a worker cannot: "
                    "pass it as an argument, make it in the task, or assign a constant"
                )
        return needed

    def _can_repeat(self, node: Any) -> bool:
        if isinstance(node, _PLAIN_NAMES):
            return True
        if isinstance(node, (ast.If, ast.Try)):
            below = [child for child in ast.walk(node) if isinstance(child, ast.stmt) and child is not node]
            return all(isinstance(child, ast.Pass) or self._can_repeat(child) for child in below)
        if isinstance(node, (ast.Assign, ast.AnnAssign, ast.Expr)):
            return node.value is not None and not any(self._runs(child) for child in ast.walk(node))
        return False

    def _runs(self, node: ast.AST) -> bool:
        """Whether evaluating this does what only the notebook can."""
        if isinstance(node, (ast.Await, ast.Yield, ast.YieldFrom)):
            return True
        if isinstance(node, ast.Name):
            return node.id in self._greenlab.names or node.id == "get_ipython"
        if not isinstance(node, ast.Call):
            return False
        root: Any = node.func
        while isinstance(root, ast.Attribute):
            root = root.value
        return not isinstance(root, (ast.Name, ast.Constant, ast.JoinedStr)) or (
            isinstance(root, ast.Name) and (root.id in _UNREPEATABLE or root.id in self._tasks.by_name)
        )


def _who(task: Task, by: tuple[str, ...]) -> str:
    what = "the body" if task.is_cell else f"the task {task.name}"
    return f"{what} ({task.where})" + (f", by way of {' and '.join(f'`{name}`' for name in by)}," if by else "")


def _changes(node: Any) -> str:
    """Return the name of an object that a statement changes: `session.headers["x"] = 1`, `session.mount(...)`."""
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        root: Any = node.targets[0]
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        root = node.value.func
    else:
        return ""
    if not isinstance(root, (ast.Attribute, ast.Subscript)):
        return ""
    while isinstance(root, (ast.Attribute, ast.Subscript)):
        root = root.value
    return root.id if isinstance(root, ast.Name) else ""
