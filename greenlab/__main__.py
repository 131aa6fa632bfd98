"""The command line: `greenlab lab` opens the course in JupyterLab, `greenlab worker` runs Celery workers."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from greenlab.errors import UsageError

COURSE = "greenlab-course"


def main(arguments: list[str] | None = None) -> int:
    """Run the command line.

    Returns:
        the exit status: 0, or 2 for a mistake, which is printed in one line.
    """
    parser = argparse.ArgumentParser(prog="greenlab", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    lab = commands.add_parser("lab", help="open JupyterLab on the course", add_help=True)
    lab.add_argument("folder", nargs="?", default=COURSE, help=f"where your copy of the course is kept ({COURSE})")
    worker = commands.add_parser("worker", help="run Celery workers for this machine, for -p celery")
    worker.add_argument("-c", "--concurrency", type=int, default=1000, metavar="N",
                        help="tasks at a time of the eventlet worker (1000); 0 for none")  # fmt: skip
    worker.add_argument("-w", "--workers", type=int, default=None, metavar="N",
                        help="processes of the prefork worker (one a core); 0 for none")  # fmt: skip
    known, rest = parser.parse_known_args(arguments)
    try:
        if known.command == "worker":
            return run_workers(known.concurrency, known.workers, rest)
        open_lab(Path(known.folder), rest)
    except UsageError as error:
        print(f"greenlab: {error}", file=sys.stderr)  # noqa: T201 (a command line prints)
        return 2
    return 0


def run_workers(concurrency: int, processes: int | None, options: list[str]) -> int:
    """Run Celery workers until they are ended.

    Args:
        concurrency: tasks at a time of the eventlet worker; 0 for none.
        processes: processes of the prefork worker; None for one a core, 0 for none.
        options: what else to tell both, as `celery worker` takes it.

    Returns:
        the exit status.

    Raises:
        UsageError: Celery is not installed, there is no worker to run, or there is no broker.
    """
    if find_spec("celery") is None:
        raise UsageError('Celery is not installed: pip install "jupyter-greenlab[celery]"')
    if concurrency < 0 or (processes or 0) < 0 or (not concurrency and processes == 0):
        raise UsageError("there is no worker to run: -c and -w are whole numbers, and one of them is above 0")
    from greenlab.pools.celery import launcher

    return launcher.run(concurrency, processes, options)


def open_lab(folder: Path, options: list[str]) -> None:
    """Copy the lessons that are not there yet into `folder`, and become JupyterLab on it.

    Args:
        folder: your own copy; lessons that you changed stay as they are.
        options: options that are passed on to JupyterLab, such as `--no-browser`.

    Raises:
        UsageError: JupyterLab is not installed, or the folder cannot be made.
    """
    if find_spec("jupyterlab") is None:
        raise UsageError('JupyterLab is not installed: pip install "jupyter-greenlab[lab]"')
    lessons = sorted(lessons_folder().glob("*.ipynb"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for lesson in lessons:
            copy = folder / lesson.name
            if not copy.exists():
                shutil.copyfile(lesson, copy)
    except OSError as error:
        raise UsageError(f"cannot keep the course in {folder}: {error.strerror}; name another folder") from None
    first = folder / lessons[0].name
    os.execv(sys.executable, [sys.executable, "-m", "jupyterlab", str(first), *options])  # noqa: S606


def lessons_folder() -> Path:
    """Return the folder of the lessons: beside the package in a checkout, inside it when installed."""
    package = Path(__file__).parent
    installed = package / "course"
    return installed if installed.is_dir() else package.parent / "notebooks"


if __name__ == "__main__":
    sys.exit(main())
