"""Run the test suites of others without greenlab and with it, and print where the outcomes differ.

    python tests/peers/compare.py                       all suites
    python tests/peers/compare.py tornado trio          some of them
    python tests/peers/compare.py asyncio -k test_events   only parts, files or modules, with this in their name
    python tests/peers/compare.py --list

It makes an environment of its own, with the versions that are installed where it is started (those that are not there
it takes as they come), and removes it at the end, unless `--environment FOLDER` names one to be made, kept and used
again. ipykernel's and eventlet's tests come from their source distributions, tornado's and trio's from their wheels,
and CPython's from this Python. What cannot be had is named, and skipped.

Each part, a file or module of tests, has a process of its own, first without greenlab and then with it. A test that
passed without and does not pass with greenlab is run once more in both ways, since some suites depend on the clock: it
counts if it comes out so again. The status is 1 if any counts.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING

import suites

if TYPE_CHECKING:
    from suites import Part, Suite

ROOT = Path(__file__).resolve().parents[2]


def prepare(folder: Path, needs: set[str]) -> Path:
    """Make the environment, if it is not there, and give its interpreter."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pins = folder / "pins.txt"
    own = "jupyter-greenlab"
    installed = {each.name: each.version for each in distributions() if each.name and each.name != own}
    pins.write_text("".join(f"{name}=={version}\n" for name, version in sorted(installed.items())), encoding="utf-8")
    install = [
        str(python),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--constraint",
        str(pins),
        "-e",
        str(ROOT),
        "pytest",
        *sorted(needs),
    ]
    subprocess.run(install, check=True)
    suites.configure(folder)
    return python


def run(part: Part, suite: Suite, *, green: bool) -> dict[str, tuple[str, str]]:
    """Run a part and give what became of each test: an outcome, and a traceback if it is no good one."""
    with tempfile.TemporaryDirectory(prefix="greenlab-peer-", ignore_cleanup_errors=True) as folder:
        outcomes = Path(folder, "outcomes")
        outcomes.touch()
        printed = Path(folder, "printed")
        with printed.open("w") as out:
            process = subprocess.Popen(
                [sys.executable, *part.command], cwd=part.folder, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                env=suites.environment(suite, outcomes, green=green), start_new_session=True,
            )  # fmt: skip
            try:
                ending = f"the process ended with status {process.wait(suite.limit_s)}"
            except subprocess.TimeoutExpired:
                ending = f"the process hung for {suite.limit_s:g} s"
                # A traceback of where it hangs, and then the end of it and of what it started.
                process.send_signal(signal.SIGABRT)
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    pass
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()
        found: dict[str, tuple[str, str]] = {}
        for line in outcomes.read_text(encoding="utf-8").splitlines():
            told = json.loads(line)
            found[told["test"]] = told["outcome"], told["text"]
        tail = printed.read_text(encoding="utf-8", errors="replace")[-4000:]
    left = [test for test, (outcome, _) in found.items() if outcome == "began"]
    for test in left:
        found[test] = "not ended", f"{ending}\n{tail}"
    if green and "greenlab.stop" not in found and suite.green.get("GREENLAB_STARTED") and not left and found:
        found["greenlab.stop"] = "not ended", f"{ending}\n{tail}"
    return found


def worse(before: dict[str, tuple[str, str]], after: dict[str, tuple[str, str]]) -> dict[str, str]:
    """List the tests that passed before and did not after, with the reason."""
    found = {}
    for test, (outcome, _) in before.items():
        now, text = after.get(test, ("not run", ""))
        if outcome == "passed" and now != "passed":
            found[test] = f"{now}\n{text}"
    if after.get("greenlab.stop", ("passed", ""))[0] != "passed":
        found["greenlab.stop"] = "\n".join(after["greenlab.stop"])
    return found


def compare(part: Part, suite: Suite) -> tuple[Counter[str], Counter[str], dict[str, str]]:
    """Run a part in both ways; count the outcomes natively and with greenlab, and give what counts as worse."""
    before, after = run(part, suite, green=False), run(part, suite, green=True)
    found = worse(before, after)
    if found:
        again = worse(run(part, suite, green=False), run(part, suite, green=True))
        found = {test: text for test, text in found.items() if test in again}
    after.pop("greenlab.stop", None)
    counts = [Counter(outcome for outcome, _ in each.values()) for each in (before, after)]
    return counts[0], counts[1], found


def words(counts: Counter[str]) -> str:
    """Give counts of outcomes in words."""
    return ", ".join(f"{number} {outcome}" for outcome, number in sorted(counts.items())) or "no test"


def compare_suite(name: str, asked: argparse.Namespace, folder: Path) -> bool:
    """Run a suite, print what differs, and tell whether nothing does that should not."""
    suite = suites.SUITES[name]
    try:
        parts = [part for part in suite.parts(folder) if not asked.k or asked.k in part.title]
    except suites.NotHad as why:
        print(f"{name}: skipped: {why}", flush=True)
        return True
    natively: Counter[str] = Counter()
    green: Counter[str] = Counter()
    bad: dict[str, str] = {}
    with ThreadPoolExecutor(asked.jobs) as pool:
        for part, (one, other, found) in zip(parts, pool.map(lambda part: compare(part, suite), parts), strict=True):
            natively.update(one)
            green.update(other)
            print(f"  {part.title}: {words(one)} natively; {words(other)} with greenlab", flush=True)
            for test, text in found.items():
                reason = next((words for end, words in suite.differ.items() if end in test), None)
                if reason is not None:
                    print(f"    {test}: differs as it must: {reason}")
                else:
                    bad[test] = text
    print(f"{name}: {words(natively)} natively; {words(green)} with greenlab; {len(bad)} worse", flush=True)
    for test, text in bad.items():
        print(f"\n--- {name}: {test}: {text}\n", flush=True)
    if not natively["passed"]:
        print(f"{name}: no test passes here without greenlab either, so this says nothing")
    return bool(natively["passed"]) and not bad


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"of {', '.join(suites.SUITES)}")
    parser.add_argument("-k", metavar="WORD", help="only parts with this in their name")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="parts at a time (default 2)")
    parser.add_argument("--environment", type=Path, metavar="FOLDER", help="make, keep and use this environment")
    parser.add_argument("--list", action="store_true", help="list the suites")
    parser.add_argument("--prepared", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.list:
        print(*suites.SUITES, sep="\n")
        return 0
    names = asked.suites or list(suites.SUITES)
    unknown = [name for name in names if name not in suites.SUITES]
    if unknown:
        parser.error(f"no suite {unknown[0]}; there are {', '.join(suites.SUITES)}")
    with tempfile.TemporaryDirectory(prefix="greenlab-peers-", ignore_cleanup_errors=True) as temporary:
        if not asked.prepared:
            environment = asked.environment or Path(temporary, "environment")
            python = prepare(environment.absolute(), {need for name in names for need in suites.SUITES[name].needs})
            return subprocess.run([python, *sys.argv, "--prepared"], check=False).returncode
        good = []
        for name in names:
            folder = Path(temporary, name)
            folder.mkdir()
            good.append(compare_suite(name, asked, folder))
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
