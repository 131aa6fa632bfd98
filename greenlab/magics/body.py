"""The compiler of cell bodies: from the text of a cell to a function of one item.

The body becomes the body of a function: it reads the notebook's globals, what it assigns is its own, and the value
of its last expression is what it returns. It is compiled under the cell's name, from its syntax tree, so that
tracebacks show the lines of the cell with the numbers that the reader sees.
"""

from __future__ import annotations

import ast
import keyword
import linecache
import re
import sys
from typing import TYPE_CHECKING, Any

from greenlab.api.session import spawn
from greenlab.errors import UsageError
from greenlab.text.format import shortened

if TYPE_CHECKING:
    from collections.abc import Callable

_FUNCTION = "task"
_ITEM = "item"
_EXPANDED = re.compile(r"\{([^{}]*)\}|\$(\w+)")
_NAME = re.compile(r"[A-Za-z_]\w*")
_CELL = "Cell In["


def cell_name(ip: Any) -> str:
    """Return the name of the present cell in tracebacks, with the number that is shown beside it.

    The shell's own count is of this cell in older IPythons, and of the next one in newer (9.18 counts up before it runs
    a cell); which number a cell was compiled under is known by its file's name, so the cell is looked for on the stack.
    It is the outermost: `%%capture` and the like run their body as a cell of its own, which nobody has typed.
    """
    found = None
    frame: Any = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(_CELL):  # compiled here: a background task that uses magics
            found = name
        elif words := ip.compile.format_code_name(name):
            found = " ".join(words)
        frame = frame.f_back
    return found or f"{_CELL}{ip.execution_count}]"


def compile_body(
    ip: Any, magic: str, line: str, cell: str, target: str | None, namespace: dict[str, Any]
) -> Callable[[Any], Any]:
    """Return the function of one item.

    Args:
        ip: the shell, for the cell's number and for `!` and `%` in the body.
        magic: the magic's name.
        line: the text after it.
        cell: the body.
        target: the name, or tuple of names, that the item is bound to; None for `i`.
        namespace: the globals of the function.

    Raises:
        UsageError: the body cannot be a task; the message names the line.
    """
    name = cell_name(ip)
    source = f"%%{magic} {line}\n{cell}"
    # So that tracebacks, also those of worker processes, find the lines. No mtime: checkcache keeps the entry.
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    tree = _parse(ip, cell, name)
    body = tree.body
    if not body:
        raise UsageError(f"{magic}: the cell is empty: write what each task does below the first line")
    _refuse(body, magic)
    if isinstance(body[-1], ast.Expr):
        body[-1] = ast.copy_location(ast.Return(body[-1].value), body[-1])
    body[:0] = _names_in_commands(tree)
    function = _function(target or "i", body)
    ast.increment_lineno(tree, 1)  # the magic itself is line 1
    code = compile(ast.fix_missing_locations(ast.Module([function], [])), name, "exec", dont_inherit=True)
    made: dict[str, Any] = {}
    exec(code, namespace, made)  # noqa: S102 (the user's own cell)
    task: Any = made[_FUNCTION]
    task.__module__ = "__main__"
    return task  # type: ignore[no-any-return]


def _parse(ip: Any, cell: str, name: str) -> ast.Module:
    # IPython drops leading blank lines when it transforms a cell; they are put back to keep the numbering.
    blank = len(cell) - len(cell.lstrip("\n"))
    text = "\n" * blank + ip.transform_cell(cell[blank:])
    try:
        tree: ast.Module = ast.parse(text, filename=name)
    except SyntaxError as error:
        what = (error.text or "").strip()
        raise UsageError(
            f"line {(error.lineno or 0) + 1} of the cell: {error.msg}" + (f": {what}" if what else "")
        ) from None
    return tree


def _names_in_commands(tree: ast.Module) -> list[ast.stmt]:
    """Return a statement that names what `!command {name} $name` uses, so that it is sent to worker processes too.

    Returns:
        the statement `lambda: (name, …)`, which does nothing; or none.
    """
    commands = [
        node.args[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("system", "getoutput")
        and ast.unparse(node.func.value) == "get_ipython()"
        and node.args
        and isinstance(node.args[0], ast.Constant)
    ]
    expanded = " ".join(" ".join(parts) for command in commands for parts in _EXPANDED.findall(str(command)))
    names = sorted({name for name in _NAME.findall(expanded) if not keyword.iskeyword(name)})
    if not names:
        return []
    return [ast.copy_location(ast.parse(f"lambda: ({', '.join(names)},)").body[0], tree.body[0])]


def _refuse(body: list[ast.stmt], magic: str) -> None:
    """Raise for statements that would make the function a coroutine or a generator."""
    for node in _own_nodes(body):
        line = getattr(node, "lineno", 0) + 1
        if isinstance(node, (ast.Await, ast.AsyncFor, ast.AsyncWith)):
            raise UsageError(
                f"line {line} of the cell: a task is blocking code, without await: call the blocking function"
            )
        if isinstance(node, (ast.Yield, ast.YieldFrom)):
            raise UsageError(f"line {line} of the cell: a task has one result: {magic} cannot run a yield")


def _own_nodes(body: list[ast.stmt]) -> Any:
    """Walk the statements, but not into functions and classes that they define."""
    todo: list[ast.AST] = list(body)
    while todo:
        node = todo.pop()
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
            todo.extend(ast.iter_child_nodes(node))


def _function(target: str, body: list[ast.stmt]) -> ast.FunctionDef:
    """Return the function, made from a parsed one so that only the body has the cell's line numbers."""
    if target.isidentifier():
        shell: Any = ast.parse(f"def {_FUNCTION}({target}): pass").body[0]
        shell.body = body
        return shell  # type: ignore[no-any-return]
    shell = ast.parse(f"def {_FUNCTION}({_ITEM}):\n {target} = {_ITEM}").body[0]
    node: Any
    for node in ast.walk(shell):
        if hasattr(node, "lineno"):
            node.lineno = node.end_lineno = 0  # becomes line 1: the magic's own line does the unpacking
    shell.body += body
    return shell  # type: ignore[no-any-return]


def evaluate(ip: Any, text: str) -> Any:
    """Evaluate the iterable in the notebook's globals. What it raises is the cell's error, at its first line."""
    __tracebackhide__ = True
    # `compile_body` has put the cell's lines into `linecache` under this name.
    code = compile(text, cell_name(ip), "eval", dont_inherit=True)
    return eval(code, ip.user_ns)  # noqa: S307 (the user's own cell)


def spawn_statement(ip: Any, line: str, cell: str | None) -> Any:
    """Start a line, or a cell, as a background task.

    Raises:
        UsageError: it cannot be compiled, or it is empty.
    """
    name = cell_name(ip)
    text = line if cell is None else cell
    if not text.strip():
        raise UsageError("greenspawn: nothing to run: %greenspawn f(x), or %%greenspawn above a cell")
    if cell is not None and line.strip():
        raise UsageError(f"greenspawn: the cell takes no options, and {line.strip()!r} is one: leave it out")
    shift = 0 if cell is None else 1
    source = f"%greenspawn {text}" if cell is None else f"%%greenspawn\n{text}"
    if cell is not None:
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    tree = _parse(ip, text, name)
    last: Any = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    ast.increment_lineno(tree, shift)
    before = compile(tree, name, "exec", dont_inherit=True)
    value = None
    if last is not None:
        ast.increment_lineno(last, shift)
        value = compile(ast.Expression(last.value), name, "eval", dont_inherit=True)
    namespace = ip.user_ns

    def background() -> Any:
        exec(before, namespace)  # noqa: S102 (the user's own cell)
        return None if value is None else eval(value, namespace)  # noqa: S307

    background.__name__ = shortened(text.strip().splitlines()[0], 40)
    return spawn(background)
