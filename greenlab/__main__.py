"""The command line: the course in JupyterLab, Celery workers for this machine, a notebook's tasks as a project."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

from greenlab.errors import UsageError
from greenlab.text.format import how_to_add
from greenlab.version import __version__

COURSE = "greenlab-course"
_PLACES = (
    "--notebook-dir",
    "--ServerApp.root_dir",
    "--ServerApp.notebook_dir",
    "--LabApp.default_url",
    "--ServerApp.sock",
)
"""Options of JupyterLab that say where it opens: then it is given the file alone."""
_CONFIGURATIONS = "jupyter_*config.py", "jupyter_*config.json", "jupyter_*config.d/*.json"
_SAYS_ROOT = re.compile("allow[-_]root|^--config")
EXPORT_CELERY = """\
Write a Celery project of the @greenlab.task functions and %%greenrun cells of a notebook, or of a module.

The project has the tasks with what they need of the notebook (imports, functions, constants), their retries, rates and
time limits, a route for each (tasks that wait to eventlet workers, tasks that compute to prefork workers), settings
with their reasons, the commands that start the workers, requirements.txt, and a smoke test: the notebook's other cells.
It runs without greenlab. Nothing of the notebook is run for it, and no file is written over.
"""
EXPORT_EXAMPLES = """\
examples:
  greenlab export celery feeds.ipynb            writes feeds-celery/
  greenlab export celery shop.tasks -o project  of a module that can be imported from here
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line.

    Returns:
        the exit status: 0, or 2 for a mistake, which is printed in one line.
    """
    parser = argparse.ArgumentParser(prog="greenlab", description=__doc__)
    parser.add_argument("--version", action="version", version=f"greenlab {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    lab = commands.add_parser(
        "lab", help="open JupyterLab on the course", description="Open JupyterLab on your copy of the course.",
        usage="greenlab lab [-h] [folder] [JupyterLab's options]",
        epilog="All other options go to JupyterLab, such as --no-browser and --port 9999: see jupyter lab -h.",
    )  # fmt: skip
    lab.add_argument("folder", nargs="?", default=COURSE, help=f"where your copy of the course is kept ({COURSE})")
    worker = commands.add_parser(
        "worker", help="run Celery workers for this machine, for -p celery",
        description="Run an eventlet worker and a prefork worker of Celery, and a broker unless there is one.",
        epilog="All other options go to both workers, such as --loglevel info: see celery worker --help.",
    )  # fmt: skip
    worker.add_argument("-c", "--concurrency", type=int, default=1000, metavar="N",
                        help="tasks at a time of the eventlet worker (1000); 0 for none")  # fmt: skip
    worker.add_argument("-w", "--workers", type=int, default=None, metavar="N",
                        help="processes of the prefork worker (one a core); 0 for none")  # fmt: skip
    worker.add_argument("-A", "--app", default="greenlab.celery", metavar="MODULE",
                        help="a module with tasks of your own on greenlab.celery.app")  # fmt: skip
    worker.add_argument("--parent", type=int, default=None, metavar="PID",
                        help="end when the program that started it, which has this id, has ended")  # fmt: skip
    _add_export(commands)
    given = sys.argv[1:] if arguments is None else arguments
    known, rest = parser.parse_known_args(given)
    try:
        if known.command == "export":
            if rest:
                parser.error(f"export takes one notebook or module, and not {' '.join(rest)}")
            return export(known.source, known.output)
        if known.command == "worker":
            return run_workers(known.concurrency, known.workers, rest, app=known.app, parent=known.parent)
        # Not what argparse found: of `lab --port 9999` it takes 9999 for the folder.
        named = given[1:2] and not given[1].startswith("-")
        open_lab(Path(given[1] if named else COURSE), given[2 if named else 1 :])
    except UsageError as error:
        print(f"greenlab: {error}", file=sys.stderr)  # noqa: T201 (a command line prints)
        return 2
    return 0


def _add_export(commands: Any) -> None:
    parser = commands.add_parser("export", help="write a notebook's tasks as a project that needs no greenlab")
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="celery")
    celery = kinds.add_parser(
        "celery", help="a Celery project", formatter_class=argparse.RawDescriptionHelpFormatter,
        description=EXPORT_CELERY, epilog=EXPORT_EXAMPLES,
    )  # fmt: skip
    celery.add_argument("source", metavar="NOTEBOOK|MODULE",
                        help="a notebook (.ipynb), a file of Python, or a module's importable name")  # fmt: skip
    celery.add_argument("-o", "--output", type=Path, metavar="DIR",
                        help="the folder to write, a new one (by default NAME-celery, here)")  # fmt: skip


def export(source: str, folder: Path | None) -> int:
    """Write a Celery project, and say what to do with it.

    Args:
        source: a notebook, a file of Python, or the name of a module.
        folder: where to; None for a new one here, named after it.

    Returns:
        the exit status.

    Raises:
        UsageError: it cannot be exported; the message says what to change.
    """
    from greenlab.exporting import export_celery

    where, project = export_celery(source, folder)
    names = ", ".join(f"{task.name} ({task.kind})" for task in project.tasks)
    print(f"{where}: {len(project.tasks)} task{'s' * (len(project.tasks) != 1)}: {names}")  # noqa: T201
    for place, reason in project.left_out:
        print(f"  left out of the smoke test, {place}: {reason}")  # noqa: T201
    print(f"{where / 'README.md'} says how to start its workers and run smoke_test.py")  # noqa: T201
    return 0


def run_workers(concurrency: int, processes: int | None, options: list[str], *, app: str, parent: int | None) -> int:
    """Run Celery workers until they are ended.

    Args:
        concurrency: tasks at a time of the eventlet worker; 0 for none.
        processes: processes of the prefork worker; None for one a core, 0 for none.
        options: what else to tell both, as `celery worker` takes it.
        app: the module of the application.
        parent: the id of the program that started this process, with which they end; None for none.

    Returns:
        the exit status.

    Raises:
        UsageError: Celery is not installed, there is no worker to run, or there is no broker.
    """
    if find_spec("celery") is None:
        raise UsageError(f"Celery is not installed: {how_to_add('celery')}")
    if concurrency < 0 or (processes or 0) < 0 or (not concurrency and processes == 0):
        raise UsageError("there is no worker to run: -c and -w are whole numbers, and one of them is above 0")
    from greenlab.pools.celery import launcher

    return launcher.run(concurrency, processes, options, app=app, parent=parent)


def open_lab(folder: Path, options: list[str]) -> None:
    """Copy the lessons that are not there yet into `folder`, and become JupyterLab on it.

    Args:
        folder: your own copy; lessons that you changed stay as they are.
        options: options that are passed on to JupyterLab, such as `--no-browser`.

    Raises:
        UsageError: JupyterLab is not installed, or the folder cannot be made.
    """
    if find_spec("jupyterlab") is None:
        raise UsageError(f"JupyterLab is not installed: {how_to_add('lab')}")
    _refuse_root(options)
    lessons = sorted(lessons_folder().glob("*.ipynb"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for lesson in lessons:
            copy = folder / lesson.name
            if not copy.exists():
                shutil.copyfile(lesson, copy)
    except OSError as error:
        raise UsageError(f"cannot keep the course in {folder}: {error.strerror}; name another folder") from None
    os.execv(sys.executable, [sys.executable, "-m", "jupyterlab", *_page(folder / lessons[0].name, options), *options])  # noqa: S606


def _page(lesson: Path, options: list[str]) -> list[str]:
    """Return the arguments by which JupyterLab opens a lesson, and prints the lesson's own address."""
    if any(option.partition("=")[0] in _PLACES for option in options):
        return [str(lesson)]
    # With the file alone JupyterLab 4 opens it in a browser, but the address that it prints is the launcher's.
    folder = lesson.absolute().parent
    return [f"--ServerApp.root_dir={folder}", f"--LabApp.default_url=/lab/tree/{quote(lesson.name)}"]


def _refuse_root(options: list[str]) -> None:
    """Raise where JupyterLab would refuse to start for root, in a message that says less.

    Raises:
        UsageError: the user is root, and neither an option nor a configuration file speaks of that.
    """
    if os.geteuid() != 0 or any(_SAYS_ROOT.search(one) for one in options):
        return
    from jupyter_core.paths import jupyter_config_path

    files = [file for folder in jupyter_config_path() for kind in _CONFIGURATIONS for file in Path(folder).glob(kind)]
    if not any("allow_root" in file.read_text(encoding="utf-8", errors="replace") for file in files):
        raise UsageError("JupyterLab does not start for root: use another user, or greenlab lab --allow-root")


def lessons_folder() -> Path:
    """Return the folder of the lessons: beside the package in a checkout, inside it when installed."""
    package = Path(__file__).parent
    installed = package / "course"
    return installed if installed.is_dir() else package.parent / "notebooks"


if __name__ == "__main__":
    sys.exit(main())
