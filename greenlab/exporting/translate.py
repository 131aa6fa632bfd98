"""From greenlab's calls to Celery's: in the tasks themselves, and in what the notebook does with them.

Guarantees: what cannot be translated is left as it is, and said.

Must not import: IPython.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Final

from greenlab.errors import UsageError
from greenlab.exporting.edits import Edits
from greenlab.exporting.tasks import IO

if TYPE_CHECKING:
    from greenlab.exporting.edits import Greenlab
    from greenlab.exporting.source import Statement
    from greenlab.exporting.tasks import Task, Tasks

SENT: Final = frozenset(
    ("results", "outcomes", "errors", "counts", "elapsed_s", "throughput", "wait", "total", "failed")
)
"""What the smoke test's `Sent` has of what a `Run` has."""
SIMPLE: Final = (
    ast.Name, ast.Call, ast.Attribute, ast.Subscript, ast.Constant, ast.List, ast.Tuple, ast.Set, ast.Dict,
    ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp,
)  # fmt: skip
"""Items that may stand behind `for x in` without brackets."""


class Untranslatable(Exception):  # noqa: N818 - never seen by a user
    """Something has no counterpart in Celery; the message says what, in a few words."""


def task_text(task: Task | None, statement: Statement, tasks: Tasks, greenlab: Greenlab) -> str:
    """Return the text of a task, or of what goes along with tasks, without its `@greenlab.task`.

    Raises:
        UsageError: it uses something that workers do not have.
    """
    edits = Edits(statement.cell)
    try:
        _Translator(tasks, greenlab, edits, statement, in_task=True, kind=task.kind if task else IO).go()
    except Untranslatable as error:
        head = statement.source.partition("\n")[0]
        who = f"`{head}`" if task is None else "the body" if task.is_cell else f"the task {task.name}"
        raise UsageError(f"{who} ({statement.where}) {error}: leave it out of what workers run") from None
    begin, end = statement.cell.span(statement.node)
    if task is not None and task.decorator is not None:
        first, last = statement.cell.span(task.decorator)
        at = statement.cell.text.rindex(b"@", 0, first)
        text = statement.cell.text
        while last < end and text[last : last + 1] != b"\n":  # a comment behind it goes too
            last += 1
        edits.replace(at, last + 1, "")
    return statement.above + edits.apply(begin, end) + statement.behind


def import_text(statement: Statement, unwanted: set[str]) -> str:
    """Return the text of an import without the names that are not wanted; empty if it has no others."""
    node = statement.node
    kept = [one for one in node.names if (one.asname or one.name.partition(".")[0]) not in unwanted]
    if len(kept) == len(node.names):
        return statement.above + statement.source + statement.behind
    again = ast.Import(kept) if isinstance(node, ast.Import) else ast.ImportFrom(node.module, kept, node.level)
    return ast.unparse(again) if kept else ""


def smoke_text(statement: Statement, tasks: Tasks, greenlab: Greenlab) -> str:
    """Return the text of a statement of the smoke test.

    Raises:
        Untranslatable: it has no counterpart.
    """
    edits = Edits(statement.cell)
    _Translator(tasks, greenlab, edits, statement, in_task=False, kind="").go()
    return edits.apply(*statement.cell.span(statement.node))


class _Translator:
    def __init__(
        self, tasks: Tasks, greenlab: Greenlab, edits: Edits, statement: Statement, *, in_task: bool, kind: str
    ) -> None:
        self._tasks = tasks.by_name
        self._on_worker, self._send = tasks.helpers["on_worker"], tasks.helpers["send"]
        self._greenlab = greenlab
        self._edits = edits
        self._cell = statement.cell
        self._node = statement.node
        self._local = statement.names.local
        self._in_task = in_task
        self._kind = kind
        self._done: set[int] = set()

    def go(self) -> None:
        if isinstance(self._node, (ast.Import, ast.ImportFrom)):
            return
        for node in ast.walk(self._node):
            if isinstance(node, ast.Call):
                self._call(node)
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in self._tasks:
                self._attribute(node, node.value)
        for node, name in self._greenlab.uses(self._node):
            if id(node) in self._done or name == "task":
                continue
            if name == "lab":
                continue  # servers and work for lessons: those who use them need greenlab installed
            raise Untranslatable(f"uses greenlab.{name}" if name else "uses greenlab itself")
        for node in ast.walk(self._node):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and id(node) not in self._done:
                self._name(node)

    def _call(self, call: ast.Call) -> None:
        name = self._greenlab.called(call.func)
        if name == "offload" or (name in ("run", "spawn") and not self._in_task):
            task = self._task_of(call, name)
            if name == "run":
                self._run(call, task)
            elif name == "spawn":
                self._replace_head(call, f"{task.name}.delay(")
            else:
                self._replace_head(call, f"{self._on_worker}({task.name})(")
                if call.keywords:
                    end = self._cell.span(call.args[-1])[1] if call.args[1:] else None
                    begin, last = self._cell.span(call)
                    self._edits.replace(
                        *((end, last, ")") if end else (begin, last, f"{self._on_worker}({task.name})()"))
                    )
            self._done |= {id(call.func), id(call.args[0])}

    def _task_of(self, call: ast.Call, name: str) -> Task:
        func = call.args[0] if call.args else None
        task = self._tasks.get(func.id) if isinstance(func, ast.Name) else None
        if task is None or any(isinstance(one, ast.Starred) for one in call.args):
            what = ast.unparse(func) if func is not None else "something"
            raise Untranslatable(f"calls greenlab.{name} of {what}, which is no @greenlab.task of its own")
        return task

    def _replace_head(self, call: ast.Call, head: str) -> None:
        begin, end = self._cell.span(call)
        after = min((self._cell.span(one)[0] for one in (*call.args[1:], *call.keywords)), default=end - 1)
        self._edits.replace(begin, after, head)

    def _run(self, call: ast.Call, task: Task) -> None:
        options = {one.arg: one.value for one in call.keywords}
        items = call.args[1] if len(call.args) > 1 else options.get("items")
        begin, end = self._cell.span(call)
        if items is None:
            if "count" not in options:
                raise Untranslatable("calls greenlab.run in a way that cannot be read")
            count = self._cell.source(options["count"])
            self._edits.replace(begin, end, f"{self._send}({task.name}.s(i) for i in range({count}))")
            return
        first, last = self._cell.span(items)
        opened, closed = ("", "") if isinstance(items, SIMPLE) else ("(", ")")
        self._edits.replace(begin, first, f"{self._send}({task.name}.s(item) for item in {opened}")
        self._edits.replace(last, end, f"{closed})")

    def _attribute(self, node: ast.Attribute, name: ast.Name) -> None:
        """`parse.local(x)` is a call here; the others are Celery's own."""
        self._done.add(id(name))
        if node.attr == "local":
            self._edits.replace(self._cell.span(name)[1], self._cell.span(node)[1], "")

    def _name(self, node: ast.Name) -> None:
        task = self._tasks.get(node.id)
        if task is None or node.id in self._local or (task.decorator is None and not task.is_cell):
            return  # a function that is no declared task is called where it is
        if self._in_task and (task.kind in (IO, self._kind) or self._kind != IO):
            return  # a plain call, as in greenlab
        if self._cell.source(node) != node.id:
            raise Untranslatable("calls a task within an f-string")  # whose places Python 3.11 does not know
        self._edits.replace(*self._cell.span(node), f"{self._on_worker}({node.id})")
