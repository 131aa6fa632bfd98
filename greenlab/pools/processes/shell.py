"""What a task meets in a worker process in place of the notebook: its shell, its keyboard, its debugger.

Guarantees: what a cell's `!command` becomes runs, and its output goes where the task prints; whatever wants the
notebook itself (magics, an answer, a prompt of the debugger) fails with one line that says where it works.
Must not import: eventlet, asyncio, IPython; worker processes load this.
"""

from __future__ import annotations

import builtins
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from greenlab.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

_INPUT = (
    "input() has nobody to answer it in a worker process: "
    "ask before the run, in a cell of its own, and let the tasks use the answer"
)
_BREAKPOINT = (
    "a debugger has no keyboard in a worker process: "
    "call the function for one item in a cell of its own, or run it with -p green -c 1"
)
_BY_PDB = frozenset({None, "", "pdb.set_trace"})


class WorkerShell:
    """What `get_ipython()` returns in a worker process. It runs commands; the rest of a shell lives in the notebook."""

    def get_ipython(self) -> WorkerShell:
        """Return itself: what the notebook calls `get_ipython` is a method of its shell."""
        return self

    def system(self, command: str) -> None:
        """Do what `!command` does: run it, and print its output line by line."""
        for line in _run(_expand(command, sys._getframe(1))):
            sys.stdout.write(line)
        sys.stdout.flush()

    system_piped = system_raw = system

    def getoutput(self, command: str, split: bool = True, depth: int = 0) -> Any:
        """Do what `x = !command` does: return the lines of its output."""
        text = "".join(_run(_expand(command, sys._getframe(depth + 1))))
        if not split:
            return text
        return _tools().SList(text.splitlines())

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise UsageError(
            f"the notebook's shell stays in the notebook, and in a worker process only !commands work (here: {name}): "
            "do this before the run, or use -p green"
        )

    def __reduce__(self) -> tuple[object, ...]:
        return WorkerShell, ()


def make_getter() -> Callable[[], WorkerShell]:
    """Return what stands for `IPython.get_ipython`, of which a worker process has none."""
    return WorkerShell


def is_shell(value: object) -> bool:
    """Whether a value is the notebook's shell."""
    made_by = sys.modules.get("IPython.core.interactiveshell")
    return made_by is not None and isinstance(value, made_by.InteractiveShell)


def is_getter(value: object) -> bool:
    """Whether a value is `IPython.get_ipython`."""
    module = sys.modules.get("IPython.core.getipython")
    return module is not None and value is module.get_ipython


def install() -> None:
    """In a worker process: say what does not work in it."""
    builtins.input = _refuse_input
    sys.breakpointhook = _refuse_breakpoint


def _refuse_input(*_: object) -> NoReturn:
    # pdb reads its commands by this too.
    debugged = sys._getframe(1).f_globals.get("__name__") in ("cmd", "pdb", "bdb")
    raise UsageError(_BREAKPOINT if debugged else _INPUT)


def _refuse_breakpoint(*args: object, **options: object) -> object:
    if os.environ.get("PYTHONBREAKPOINT") in _BY_PDB:
        raise UsageError(_BREAKPOINT)
    # One of the user's, over a socket perhaps; or none at all.
    return sys.__breakpointhook__(*args, **options)  # noqa: T100


def _run(command: str) -> Any:
    with subprocess.Popen(  # noqa: S602 - the user's own command
        command,
        shell=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        executable=os.environ.get("SHELL") or None,
    ) as process:
        yield from process.stdout or ()


def _expand(command: str, frame: FrameType) -> str:
    """Put in what `{x}` and `$x` stand for, as IPython does."""
    if "{" not in command and "$" not in command:
        return command
    names = {**frame.f_globals, **frame.f_locals}
    try:
        text: str = _tools().DollarFormatter().vformat(command, args=[], kwargs=names)
    except Exception:  # as IPython: then the command is as it stands
        return command
    return text


def _tools() -> Any:
    """IPython's, which only a task loads that needs them: they take a quarter of a second."""
    import importlib

    return importlib.import_module("IPython.utils.text")
