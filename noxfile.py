"""Tasks for those who work on greenlab: `nox -l` lists them, `nox -s NAME` runs one, in the present environment."""

from __future__ import annotations

import nox

nox.options.default_venv_backend = "none"
FAST = (
    "account", "advice", "hold", "judge", "layers", "live_curves", "live_figure", "live_words",
    "odd_items", "options", "places", "queues", "race", "runs", "stepper", "sweep", "threads", "timeline", "typing",
)  # fmt: skip
nox.options.sessions = ["lint", "fast"]


@nox.session
def fast(session: nox.Session) -> None:
    """Run the tests that need no kernel, browser or real server."""
    session.run(
        "pytest", "-n", "2", "--dist", "loadfile", *(f"tests/test_{name}.py" for name in FAST), *session.posargs
    )


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
