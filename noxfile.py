"""Tasks for those who work on greenlab: `nox -l` lists them, `nox -s NAME` runs one, in the present environment."""

from __future__ import annotations

import nox

nox.options.default_venv_backend = "none"
FAST = (
    "advising/test_advice", "api/test_options", "comparing", "greening/test_queues", "house/test_layers",
    "house/test_places", "hub/test_account", "hub/test_hold", "live/test_curves", "live/test_run_figure",
    "pools/test_pickling", "pools/test_threads", "probes/test_judge", "runs/test_odd_items", "runs/test_resume",
    "runs/test_runs", "text", "tracing/test_stepper", "tracing/test_stepper_isolation", "tracing/test_timeline",
    "tracing/test_timeline_shown",
)  # fmt: skip
nox.options.sessions = ["lint", "fast"]


@nox.session
def fast(session: nox.Session) -> None:
    """Run the short tests that need no kernel, browser or real server; tests/house/test_fast.py holds that."""
    paths = [f"tests/{name}.py" if "/" in name else f"tests/{name}" for name in FAST]
    session.run("pytest", "-n", "2", "--dist", "loadfile", *paths, *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Run every test and lesson, as CI does."""
    session.run("pytest", "-n", "2", "--dist", "loadfile", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check lint, format and types."""
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the docs site into site/, and check its links and that nothing is loaded from elsewhere."""
    session.run("mkdocs", "build", "--strict")
    session.run("python", "tests/kit/check_site.py", "site")


@nox.session
def pythons(session: nox.Session) -> None:
    """Run the tests under every Python of this machine: `nox -s pythons -- --fast`."""
    session.run("python", "tests/every_python.py", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Run benchmarks by name: `nox -s bench -- green prefork`."""
    for name in session.posargs or ["green"]:
        session.run("python", f"tests/benchmarks/bench_{name}.py")


@nox.session
def mutants(session: nox.Session) -> None:
    """Draw mutants of the code, and print those that the tests of their room let live."""
    session.run("python", "tests/mutants.py", *session.posargs)
