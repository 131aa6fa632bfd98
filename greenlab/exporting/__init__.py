"""Exports: from the tasks of a notebook to a Celery project that needs no greenlab.

`source` reads cells and statements, `tasks` finds the tasks and what runs ask of them, `carrying` what they need of the
notebook, `translate` changes calls of greenlab to Celery's, `smoke` makes the smoke test, `project` the files.

Guarantees: nothing of the notebook is run; a file that is there is never written over; a mistake is one line that says
what to do, and then nothing is written.

Must not import: IPython before a notebook is read, celery.
"""

from __future__ import annotations

import ast
import keyword
import re
import sys
from importlib.util import find_spec
from pathlib import Path

from greenlab.errors import UsageError
from greenlab.exporting.carrying import Carried
from greenlab.exporting.edits import Greenlab
from greenlab.exporting.project import Project
from greenlab.exporting.smoke import Smoke
from greenlab.exporting.source import Source, read
from greenlab.exporting.tasks import Tasks

__all__ = ["export_celery"]


def export_celery(what: str, folder: Path | None = None) -> tuple[Path, Project]:
    """Write a Celery project of a notebook's or a module's tasks.

    Args:
        what: a notebook, a file of Python, or the name of a module.
        folder: where to; by default a new one here, named after it.

    Returns:
        the folder, and what was written.

    Raises:
        UsageError: it cannot be exported, or something is there already; nothing was written.
    """
    source = read(what)
    where = folder or Path(f"{source.name}-celery")
    if where.exists() and not (where.is_dir() and not any(where.iterdir())):
        raise UsageError(f"{where} is there already: name a new folder with -o, or remove it")
    greenlab = Greenlab([statement for cell in source.cells for statement in cell.statements])
    tasks = Tasks(source, greenlab)
    if not tasks.by_name:
        raise UsageError(
            f"there are no tasks in {source.title}: write @greenlab.task above the functions that workers shall run"
        )
    _refuse_relative(source)
    carried = Carried(source, greenlab, tasks)
    project = Project(_package_name(source), source, greenlab, tasks, carried, Smoke(source, greenlab, tasks, carried))
    try:
        where.mkdir(parents=True, exist_ok=True)
        project.write(where)
    except OSError as error:
        raise UsageError(f"cannot write to {where}: {error.strerror}; name another folder with -o") from None
    return where, project


def _refuse_relative(source: Source) -> None:
    for statement in source.statements:
        for node in ast.walk(statement.node):
            if isinstance(node, ast.ImportFrom) and node.level:
                raise UsageError(
                    f"{statement.where} imports relative to its package, and the tasks move to another: "
                    f"write the full name instead of `{ast.unparse(node)}`"
                )


def _package_name(source: Source) -> str:
    """Return a name for the package that hides no other module."""
    found = re.sub(r"\W+", "_", source.name).strip("_").lower() or "project"
    if found[0].isdigit():
        found = f"tasks_{found}"
    try:
        taken = keyword.iskeyword(found) or found in sys.stdlib_module_names or find_spec(found) is not None
    except (ImportError, ValueError):
        taken = True
    beside = source.folder / f"{found}.py"
    taken = taken or (beside.exists() and beside.name != source.title)
    return f"{found}_project" if taken else found
