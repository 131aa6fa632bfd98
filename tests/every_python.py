"""Run the tests under every Python of this machine that greenlab supports.

    python tests/every_python.py                      the whole suite under each one found
    python tests/every_python.py --fast               the part that depends most on the Python, in some two minutes each
    python tests/every_python.py --fast --another     only under the newest that is not the one that runs this script
    python tests/every_python.py --only 3.14 -- -x    under one, and what follows `--` goes to pytest

Looked at are `python3.N` on the path, pyenv's versions, and the usual folders; of several with one minor version, the
newest. Each gets an environment of its own, new, and removed afterwards. A Python that is not there is named and is no
error, unless none is there; with `--another` that is none either, as the script's own has run the tests already.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("/usr/local/bin", "/usr/bin", "/opt/homebrew/bin")
PYENV = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"

# What leans on the standard library's and the interpreter's insides: those differ from Python to Python.
FAST = [
    "greening/test_adopted.py",
    "greening/test_cooperation.py",
    "greening/test_identity.py",
    "greening/test_scope.py",
    "house/test_pythons.py",
    "house/test_terminal.py",
    "hub/test_hub.py",
    "hub/test_tasks.py",
    "magics/test_line.py",
    "magics/test_magics.py",
    "pools/test_contract.py",
    "pools/test_fair_scheduler.py",
    "pools/test_offload.py",
    "pools/test_prefork.py",
    "pools/test_processes.py",
    "pools/test_processes_sending.py",
    "pools/test_threads.py",
]


def supported() -> list[str]:
    """List the minor versions that pyproject.toml names, such as "3.11"."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = [re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", each) for each in project["classifiers"]]
    return [each[1] for each in found if each]


def ask(python: str) -> tuple[tuple[int, int, int], str] | None:
    """Ask an interpreter for its version and where it really is; None if it cannot run, or make environments."""
    code = "import sys, venv, ensurepip; print(*sys.version_info[:3], sys.executable)"
    try:
        asked = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if asked.returncode:
        return None
    *version, executable = asked.stdout.strip().split(" ", 3)
    major, minor, patch = map(int, version)
    return (major, minor, patch), executable


def find() -> dict[str, str]:
    """Find the newest interpreter of each supported minor version, as paths by version."""
    best: dict[str, tuple[tuple[int, int, int], str]] = {}
    for name in supported():
        program = f"python{name}"
        there = [
            shutil.which(program),
            *(str(path) for folder in FOLDERS if (path := Path(folder, program)).exists()),
            *(str(path) for path in sorted(PYENV.glob(f"{name}.*/bin/python"))),
        ]
        for python in dict.fromkeys(filter(None, there)):
            # The path may lead to pyenv's shims, which stand for one of its versions, or for none.
            answer = ask(python)
            if answer and "{}.{}".format(*answer[0]) == name and (name not in best or answer[0] > best[name][0]):
                best[name] = answer
    return {name: python for name, (_, python) in best.items()}


def run(python: str, arguments: list[str]) -> int:
    """Make an environment of this interpreter, install the tests' requirements, run the tests, and give the status."""
    with tempfile.TemporaryDirectory(prefix="greenlab-python-") as folder:
        subprocess.run([python, "-m", "venv", folder], check=True)
        inside = str(Path(folder, "bin", "python"))
        # An environment of another Python that is active must not shine through.
        environment = {
            key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PYENV_VERSION"))
        }
        environment |= {"VIRTUAL_ENV": folder, "PATH": f"{Path(folder, 'bin')}{os.pathsep}{os.environ['PATH']}"}
        install = [inside, "-m", "pip", "install", "--quiet", "-e", f"{ROOT}[test]"]
        tests = [inside, "-m", "pytest", "-n", "2", "--dist", "loadfile", *arguments]
        for command in (install, tests):
            status = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
            if status:
                return status
    return 0


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fast", action="store_true", help="only what depends most on the Python")
    parser.add_argument("--another", action="store_true", help="only the newest that is not this one")
    parser.add_argument("--only", metavar="3.N", action="append", help="only these")
    parser.add_argument("pytest", nargs="*", help="what pytest shall be told, after --")
    asked = parser.parse_args()

    pythons = find()
    for name in supported():
        print(f"Python {name}: {pythons.get(name, 'not found here')}", flush=True)
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    chosen = [name for name in pythons if not asked.only or name in asked.only]
    if asked.another:
        chosen = [name for name in chosen if name != own][-1:]
    if not chosen:
        print(f"no {'other ' if asked.another else ''}Python here to run the tests under", file=sys.stderr)
        return int(not asked.another)

    arguments = [*asked.pytest, *([f"tests/{name}" for name in FAST] if asked.fast else [])]
    outcome = {}
    for name in chosen:
        print(f"\n== Python {name}: {pythons[name]}", flush=True)
        begin = time.monotonic()
        status = run(pythons[name], arguments)
        outcome[name] = f"{'passed' if not status else f'FAILED ({status})'} in {time.monotonic() - begin:.0f} s"
    print("\n" + "\n".join(f"Python {name}: {words}" for name, words in outcome.items()))
    return int(any("FAILED" in words for words in outcome.values()))


if __name__ == "__main__":
    sys.exit(main())
