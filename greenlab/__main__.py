"""The command line: `greenlab lab` opens the course in JupyterLab."""

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
    known, rest = parser.parse_known_args(arguments)
    try:
        open_lab(Path(known.folder), rest)
    except UsageError as error:
        print(f"greenlab: {error}", file=sys.stderr)  # noqa: T201 (a command line prints)
        return 2
    return 0


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
