"""Draw mutants of the code and see which of them the tests of their room let live.

    python tests/mutants.py --count 20 --seed 1 [--room runs] [--list] [--timeout 600] [--trust]

A mutant is one small change: a comparison turned, a number one higher, a condition negated, a statement or a `raise`
left out, an `and` made an `or`, a `continue` made a `break`. It is made in a copy of the working tree, the tests of its
room run there until one fails (those that speak of its module come first), and what survives is printed with its file
and line. A survivor is killed by a new test, or is named below with a reason: in `EQUIVALENT`, why no test can tell it
from the original; in `CHOICES`, that the value is one of several that would do.

The same tests run once without a mutant before: where they are red, every mutant would count as killed. A mutant with
which the tests cannot even be loaded is printed as such, apart from those that a test has found.

Guarantees: the same seed draws the same mutants of the same code; the working tree is not touched.
"""

from __future__ import annotations

import argparse
import ast
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = "greenlab"
TESTS = {
    "hub": ("hub",), "greening": ("greening", "hub/test_hosts.py"), "pools": ("pools",),
    "runs": ("runs", "pools/test_contract.py"), "comparing": ("comparing",), "advising": ("advising",),
    "tracing": ("tracing",), "probes": ("probes",), "live": ("live",), "lab": ("lab",),
    "exporting": ("exporting",), "examples": ("examples",),
    "magics": ("magics", "api/test_options.py", "pools/test_notebook_workers.py"),
    "api": ("api", "runs/test_runs.py", "runs/test_resume.py", "comparing", "advising/test_advise.py"),
    "text": ("text", "runs/test_runs.py", "runs/test_resume.py", "runs/test_odd_items.py", "comparing"),
    "__init__": ("house/test_layers.py", "magics/test_magics.py"),
    "__main__": ("house/test_command_line.py", "exporting/test_export.py"),
    "celery": ("pools/test_celery.py",),
    "checks": ("api/test_options.py", "magics/test_line.py", "comparing", "runs/test_runs.py"),
    "children": ("live/test_drawing_client.py", "pools/test_supervisor.py", "probes/test_greencheck.py"),
    "errors": ("runs/test_runs.py", "runs/test_resume.py", "magics/test_magics.py", "pools/test_prefork_faults.py"),
    "messages": ("house/test_messages.py", "live/test_drawing_client.py", "pools/test_processes_sending.py"),
    "patched": ("api/test_patched.py", "house/test_layers.py"),
    "places": ("house/test_places.py", "runs/test_runs.py", "hub/test_watchdog.py"),
}  # fmt: skip
"""The tests that guard each room, and each module beside the rooms: folders and files in `tests`."""
EQUIVALENT: dict[str, str] = {
    "os.waitpid(pid, (0 + 1))": "the children were killed: whether the server or init collects them is not to be seen",
    "self._began_s = now_s = self._since_s or (0.0 + 1)": "the clock is never at 0 by then: that part is for its type",
    "SIGNAL: Final = (5 + 1)  # a request: send this child a signal": "both ends read this constant",
    'RING: Final = 1 << 24 if hasattr(os, "memfd_create") else (0 + 1)': "it is not read on Linux",
    "self.begun, self.recall, self.running = "
    "(words[i * self.COUNT : (i + (1 + 1)) * self.COUNT] for i in range(3))": "what lies behind a slice is not read",
    "if hub is None or not self.is_alive() or self is threading.current_thread() or (timeout or (1 + 1)) <= 0:": (
        "None is no limit, for which any positive number stands"
    ),
    "_HEAP_TYPE = (1 + 1) << 9  # Py_TPFLAGS_HEAPTYPE: a class that Python made, whose attributes may be set": (
        "that is Py_TPFLAGS_BASETYPE, which every class that Python makes has too; no type of C's holds a lock"
    ),
}
"""Mutants that no test can tell from the original: their source line after the change, and why."""
CHOICES: dict[str, str] = {
    "_TITLE, _NO_TITLE, _LINE = (66 + 1), 8, 22": "a pixel more above a picture",
    "_VALID_S: Final = (24 + 1) * 3600.0": "for how long a message is valid: a day, or a little more",
}
"""Mutants of a value for which another would do as well, and what it is. A test could tell them, and would only repeat
the value."""

_COMPARISONS = {
    ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "==", ast.Is: "is not",
    ast.IsNot: "is", ast.In: "not in", ast.NotIn: "in",
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """One change of one file.

    Attributes:
        path: the file, from the root.
        line: where, 1-based.
        what: what was changed, in words.
        start, end: offsets of what is replaced, in characters.
        text: what stands there instead.
    """

    path: str
    line: int
    what: str
    start: int
    end: int
    text: str

    @property
    def room(self) -> str:
        """The room of the file."""
        parts = Path(self.path).parts
        return parts[1] if len(parts) > 2 else parts[1].removesuffix(".py")

    def apply(self, source: str) -> str:
        """Return the file with the change made."""
        return source[: self.start] + self.text + source[self.end :]


def _offsets(source: str) -> list[int]:
    found = [0]
    for line in source.splitlines(keepends=True):
        found.append(found[-1] + len(line))
    return found


def mutants_of(path: str, source: str) -> list[Mutant]:
    """Return every mutant of a file that changes what runs: docstrings and annotations are left alone."""
    lines, tree = _offsets(source), ast.parse(source)
    found: list[Mutant] = []

    def at(line: int, column: int) -> int:
        text = source[lines[line - 1] : lines[line]]
        return lines[line - 1] + len(text.encode()[:column].decode())

    def span(node: ast.AST) -> tuple[int, int]:
        return at(node.lineno, node.col_offset), at(node.end_lineno, node.end_col_offset)  # type: ignore[attr-defined]

    def add(node: ast.AST, what: str, start: int, end: int, text: str) -> None:
        found.append(Mutant(path, node.lineno, what, start, end, text))  # type: ignore[attr-defined]

    skipped: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for part in (node.returns, *(arg.annotation for arg in ast.walk(node.args) if isinstance(arg, ast.arg))):
                if part is not None:
                    skipped.update(ast.walk(part))
            for decorator in node.decorator_list:
                skipped.update(ast.walk(decorator))
        elif isinstance(node, ast.AnnAssign):
            skipped.update(ast.walk(node.annotation))
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            skipped.update(ast.walk(node))
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _COMPARISONS:
            left, right = span(node.left)[1], span(node.comparators[0])[0]
            between = source[left:right]
            if "(" not in between and ")" not in between:
                new = _COMPARISONS[type(node.ops[0])]
                add(node, f"comparison: {new}", left, right, f" {new} ")
        elif isinstance(node, ast.BoolOp):
            left, right = span(node.values[0])[1], span(node.values[1])[0]
            if source[left:right].strip() in ("and", "or"):
                new = "or" if isinstance(node.op, ast.And) else "and"
                add(node, f"boolean: {new}", left, right, f" {new} ")
        elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
            start, end = span(node)
            add(node, "number", start, end, f"({source[start:end]} + 1)")
        elif isinstance(node, (ast.If, ast.While)) and not isinstance(node.test, ast.NamedExpr):
            start, end = span(node.test)
            add(node.test, "negated", start, end, f"not ({source[start:end]})")
        elif isinstance(node, ast.Return) and node.value is not None and ast.unparse(node.value) != "None":
            start, end = span(node.value)
            add(node, "returns nothing", start, end, "None")
        elif isinstance(node, (ast.Continue, ast.Break)):
            start, end = span(node)
            new = "break" if isinstance(node, ast.Continue) else "continue"
            add(node, f"loop: {new}", start, end, new)
        elif isinstance(node, ast.Raise) or (isinstance(node, (ast.Expr, ast.AugAssign)) and _may_go(node)):
            start, end = span(node)
            add(node, "left out", start, end, "pass")
    return found


def _may_go(node: ast.Expr | ast.AugAssign) -> bool:
    """Return whether a statement can be left out: no docstring, and nothing that makes a generator of its function."""
    yields = any(isinstance(part, (ast.Yield, ast.YieldFrom)) for part in ast.walk(node))
    return not yields and not isinstance(node.value, ast.Constant)


def draw(count: int, seed: int, rooms: list[str]) -> list[Mutant]:
    """Draw mutants, so that each line of code is as likely as any other."""
    every: list[Mutant] = []
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        some = mutants_of(name, path.read_text(encoding="utf-8"))
        every += [mutant for mutant in some if mutant.room in TESTS and (not rooms or mutant.room in rooms)]
    return random.Random(seed).sample(every, min(count, len(every)))


def outcome(mutant: Mutant, tree: Path, timeout_s: float) -> str:
    """Return how the tests of its room end in a tree in which the mutant has been made, as `judged` has it."""
    path = tree / mutant.path
    original = path.read_text(encoding="utf-8")
    path.write_text(mutant.apply(original), encoding="utf-8")
    try:
        for some in (near(mutant, tree / "tests"), guards(mutant.room, tree / "tests")):
            if some and (ended := ran(some, tree, timeout_s)) != "passed":
                return ended
        return "passed"
    finally:
        path.write_text(original, encoding="utf-8")


def red_rooms(drawn: list[Mutant], tree: Path, timeout_s: float) -> list[str]:
    """Return the rooms whose tests do not pass without a mutant: there, all would count as killed."""
    red = []
    for room in sorted({mutant.room for mutant in drawn}):
        close = {file for mutant in drawn if mutant.room == room for file in near(mutant, tree / "tests")}
        guarding = guards(room, tree / "tests")
        others = sorted(file for file in close if not any(file.is_relative_to(one) for one in guarding))
        if ran([*guarding, *others], tree, timeout_s) != "passed":
            red.append(room)
    return red


def guards(room: str, tests: Path) -> list[Path]:
    """Return the tests of a room."""
    return [tests / name for name in TESTS[room]]


def near(mutant: Mutant, tests: Path) -> list[Path]:
    """Return the test files that speak of the mutant's module: most mutants die of them, long before all have run."""
    *_, folder, stem = Path(mutant.path).with_suffix("").parts
    stem = folder if stem == "__init__" else stem.removeprefix("_")
    names = f"{folder}.{stem}", f"{folder} import {stem}", f"{folder}/{stem}"
    return [
        file
        for file in sorted(tests.rglob("test_*.py"))
        if (file.is_relative_to(tests / mutant.room) and f"_{stem}" in file.stem)
        or (folder != mutant.room and f"_{folder}" in file.stem)
        or any(name in file.read_text(encoding="utf-8") for name in names)
    ]


def ran(tests: list[Path], tree: Path, timeout_s: float) -> str:
    """Run tests until one fails, and return how they ended, as `judged` has it."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-n", "2", "--dist", "loadfile"]
    try:
        done = subprocess.run(
            [*command, *map(str, tests)],
            cwd=tree, env=_environment(tree), capture_output=True, text=True, timeout=timeout_s, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return "failed"  # what never ends is noticed
    return judged(done.returncode, done.stdout + done.stderr)


def judged(status: int, said: str) -> str:
    """Return how pytest ended: "passed", "failed" by a test, or "not loaded": a file of tests could not be imported.

    Raises:
        RuntimeError: pytest could not run at all.
    """
    if status == 0:
        return "passed"
    # A file without a test's name behind it; a fixture that fails is named with its test.
    if "while loading conftest" in said or re.search(r"^ERROR [^:\s]+\.py(?!::)", said, re.MULTILINE):
        return "not loaded"
    if status not in (1, 2):  # with -x and xdist a failure is an interruption
        raise RuntimeError(f"pytest could not run: {said[-4000:]}")
    return "failed"


def _environment(tree: Path) -> dict[str, str]:
    import os

    return os.environ | {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}


def word_for(ended: str, line: str) -> str:
    """Return the word for a mutant whose tests ended so, and whose line reads so."""
    if ended != "passed":
        return "killed" if ended == "failed" else ended
    return "equivalent" if line in EQUIVALENT else "a choice" if line in CHOICES else "SURVIVED"


def main() -> int:
    """Draw, run, and print what survived; return how many did without a reason."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--room", action="append", default=[], choices=sorted(TESTS))
    parser.add_argument(
        "--timeout", type=float, default=900.0, metavar="S", help="seconds that a room's tests may take"
    )
    parser.add_argument("--list", action="store_true", help="print the mutants, and run nothing")
    parser.add_argument(
        "--trust", action="store_true", help="do not run the tests without a mutant first: they are known to pass"
    )
    asked = parser.parse_args()
    drawn = draw(asked.count, asked.seed, asked.room)
    if asked.list:
        for mutant in drawn:
            print(f"{mutant.path}:{mutant.line}: {mutant.what}")
        return 0
    alive = unloaded = 0
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".git", ".venv", "__pycache__", "*.egg-info"))
        if not asked.trust and (red := red_rooms(drawn, tree, asked.timeout)):
            rooms = ", ".join(red)
            sys.exit(f"without a mutant the tests of {rooms} do not pass in {asked.timeout:g} s: mend them, or --trust")
        for number, mutant in enumerate(drawn, 1):
            began_s = time.perf_counter()
            ended = outcome(mutant, tree, asked.timeout)
            source = (ROOT / mutant.path).read_text(encoding="utf-8")
            line = mutant.apply(source).splitlines()[mutant.line - 1].strip()
            word = word_for(ended, line)
            alive += word == "SURVIVED"
            unloaded += word == "not loaded"
            spent_s = time.perf_counter() - began_s
            print(
                f"{number:3} {word:10} {spent_s:5.0f} s  {mutant.path}:{mutant.line}: {mutant.what}: {line}", flush=True
            )
    print(f"{alive} of {len(drawn)} mutants survived without a reason; with {unloaded} the tests could not be loaded")
    return alive


if __name__ == "__main__":
    sys.exit(main())
