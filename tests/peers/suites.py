"""The suites of others: where their tests come from, in which parts they run, and how greenlab gets into them."""

from __future__ import annotations

import importlib.util
import os
import pkgutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

HERE = Path(__file__).parent


class NotHad(Exception):  # noqa: N818 (an answer)
    """A suite cannot be had here; the message says why."""


@dataclass(frozen=True)
class Part:
    """What one process runs.

    Attributes:
        title: its name in the report.
        command: what follows the interpreter.
        folder: where it runs.
    """

    title: str
    command: list[str]
    folder: Path


@dataclass(frozen=True)
class Suite:
    """A suite.

    Attributes:
        parts: give its parts; it may use a folder of its own, and raises `NotHad`.
        green: the environment variables that bring greenlab in.
        needs: requirements beside greenlab's and pytest's.
        differ: tests that are bound to differ: the end of an id, and the reason.
        limit_s: how long one part may take.
    """

    parts: Callable[[Path], list[Part]]
    green: dict[str, str] = field(default_factory=lambda: {"GREENLAB_STARTED": "1"})
    needs: tuple[str, ...] = ()
    differ: dict[str, str] = field(default_factory=dict)
    limit_s: float = 300


def _unittests(modules: Iterable[str], folder: Path) -> list[Part]:
    return [Part(name, [str(HERE / "report_outcomes.py"), name], folder) for name in modules]


def cpython(*names: str) -> Callable[[Path], list[Part]]:
    """Give the parts of some modules and packages of CPython's `test` package."""

    def parts(folder: Path) -> list[Part]:
        if importlib.util.find_spec("test") is None or importlib.util.find_spec("test.support") is None:
            raise NotHad("this Python comes without its tests (Debian has them in libpython3.N-testsuite)")
        modules: list[str] = []
        for name in names:
            spec = importlib.util.find_spec(f"test.{name}")
            if spec is None:
                raise NotHad(f"this Python has no test.{name}")
            inside = [each.name for each in pkgutil.iter_modules(spec.submodule_search_locations or [])]
            tests = [f"test.{name}.{each}" for each in inside if each.startswith("test_")]
            modules += tests or [f"test.{name}"]
        return _unittests(modules, folder)

    return parts


def tornado(folder: Path) -> list[Part]:
    """Give the parts of tornado's, which are in its wheel."""
    # Its test package imports all of the suite, and there are several kinds of tests that are not of unittest.
    listed = "from tornado.test.runtests import TEST_MODULES; print(*TEST_MODULES)"
    done = subprocess.run([sys.executable, "-c", listed], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotHad(f"tornado came without its tests: {done.stderr.strip().splitlines()[-1]}")
    modules = [
        name for name in done.stdout.split() if not name.endswith(".doctests") and name.startswith("tornado.test.")
    ]
    return _unittests(modules, folder)


def trio(folder: Path) -> list[Part]:
    """Give the parts of trio's, which are in its wheel."""
    spec = importlib.util.find_spec("trio")
    if spec is None or spec.origin is None:
        raise NotHad("trio is not installed")
    root = Path(spec.origin).parent
    files = [*sorted(root.glob("_tests/test_*.py")), *sorted(root.glob("_core/_tests/test_*.py"))]
    if not files:
        raise NotHad("trio came without its tests")
    # These two ask other tools about trio's own source.
    files = [path for path in files if path.stem not in {"test_exports", "test_tools"}]
    names = [".".join(("trio", *path.relative_to(root).with_suffix("").parts)) for path in files]
    options = ["-p", "trio._tests.pytest_plugin", "-p", "no:anyio", "-p", "no:asyncio", "--pyargs"]
    return [Part(name, _pytest(*options, name), folder) for name in names]


def source_of(project: str, pattern: str, *options: str) -> Callable[[Path], list[Part]]:
    """Give the parts of a project whose tests are in its source distribution, one a file."""

    def parts(folder: Path) -> list[Part]:
        from importlib.metadata import version

        wanted = f"{project}=={version(project)}"
        get = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", project, wanted]
        done = subprocess.run([*get, "--dest", folder], capture_output=True, text=True, check=False)
        archives = list(folder.glob(f"{project}-*.tar.gz"))
        if done.returncode or not archives:
            raise NotHad(f"no source distribution of {wanted}: {done.stderr.strip()[-300:]}")
        with tarfile.open(archives[0]) as archive:
            archive.extractall(folder, filter="data")
        root = folder / archives[0].name.removesuffix(".tar.gz")
        if not (root / "tests").is_dir():
            raise NotHad(f"the source distribution of {wanted} has no tests")
        # What is installed is to be tested, not what lies beside the tests.
        (root / project).rename(root / f"not-{project}")
        files = [path for path in sorted((root / "tests").rglob("*.py")) if path.match(pattern)]
        names = [str(path.relative_to(root)) for path in files]
        return [Part(name, _pytest(*options, name), root) for name in names]

    return parts


def _pytest(*arguments: str) -> list[str]:
    return ["-m", "pytest", "-q", "-p", "report_outcomes", "-p", "no:cacheprovider", *arguments]


SUITES: dict[str, Suite] = {
    "ipykernel": Suite(
        # pytest-asyncio warns where this is not said, and for ipykernel's tests each warning is an error.
        source_of("ipykernel", "test_*.py", "-o", "asyncio_default_fixture_loop_scope=function"),
        # As people load an extension for good: see `configure`.
        green={"GREENLAB_IN_KERNELS": "1"},
        needs=("pytest-asyncio", "flaky", "pytest-timeout", "ipyparallel"),
    ),
    "eventlet": Suite(
        source_of("eventlet", "*_test.py"),
        green={"EVENTLET_HUB": "eventlets_hub:Hub"},
        needs=("pyopenssl",),
        differ={
            "TestDeadRunLoop": "throws into the hub what ends eventlet's; an exception never ends greenlab's",
            "test_wait_except": "a KeyboardInterrupt that a green thread itself raises ends that, and not the hub",
        },
    ),
    "httplib": Suite(cpython("test_httplib")),
    "asyncio": Suite(
        cpython("test_asyncio"),
        differ={"test_log_slow_callbacks": "with a limit of 0 s it also finds the callback that turns the hub"},
    ),
    "signal": Suite(cpython("test_signal")),
    "files": Suite(cpython("test_shutil", "test_tempfile")),
    "multiprocessing": Suite(
        cpython("test_multiprocessing_fork", "test_multiprocessing_spawn", "test_multiprocessing_forkserver",
                "test_multiprocessing_main_handling"),
        differ={
            "WithManagerTestRemoteManager.test_remote":
                "XML-RPC refuses a builtin, and sends the empty `__dict__` of a function, as a greened time.sleep is",
        },
        limit_s=900,
    ),
    "futures": Suite(
        cpython("test_concurrent_futures"),
        differ={
            "test_shutdown_deadlock_pickle":
                "may hang natively too: 3.13.0 joins the feeder while it holds the lock that the feeder wants"
        },
        limit_s=900,
    ),
    "tornado": Suite(tornado, needs=("tornado",)),
    "trio": Suite(trio, needs=("trio", "trustme", "pyopenssl")),
}  # fmt: skip


def configure(environment: Path) -> None:
    """Have every kernel of a virtual environment load greenlab, if GREENLAB_IN_KERNELS is set where it starts."""
    folder = environment / "etc" / "ipython"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ipython_kernel_config.py").write_text(
        "import os\n"
        'if os.environ.get("GREENLAB_IN_KERNELS"):\n'
        '    get_config().InteractiveShellApp.extensions = ["greenlab"]\n',
        encoding="utf-8",
    )


def environment(suite: Suite, outcomes: Path, *, green: bool) -> dict[str, str]:
    """Give the environment variables for a part."""
    return {
        **os.environ,
        "GREENLAB_OUTCOMES": str(outcomes),
        "PYTHONPATH": str(HERE),
        "PYTHONFAULTHANDLER": "1",
        **(suite.green if green else {}),
    }
