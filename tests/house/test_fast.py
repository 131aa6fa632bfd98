"""What `nox -s fast` runs: the promise of CONTRIBUTING that it needs no kernel, browser or real server."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
SLOW_KITS = {"brokers", "browser", "celery_workers", "kernel", "lab_client", "late_broker", "servers"}
"""Modules of `kit/` that start one of these, or speak with it."""
TYPE_CHECKS = {"house/test_style.py", "house/test_typing.py"}
"""Files that run mypy, for tens of seconds."""


def _fast_names() -> list[str]:
    noxfile = ast.parse((TESTS.parent / "noxfile.py").read_text(encoding="utf-8"))
    (fast,) = [
        node.value
        for node in noxfile.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "FAST"
    ]
    return list(ast.literal_eval(fast))


def _files_of(name: str) -> list[Path]:
    return [TESTS / f"{name}.py"] if "/" in name else sorted((TESTS / name).glob("test_*.py"))


FILES = [file for name in _fast_names() for file in _files_of(name)]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(TESTS)))
def test_a_fast_test_needs_no_kernel_browser_or_real_server(file: Path) -> None:
    tree = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    imported = {node.module for node in tree if isinstance(node, ast.ImportFrom)}
    imported |= {alias.name for node in tree if isinstance(node, ast.Import) for alias in node.names}
    fixtures = {argument.arg for node in tree if isinstance(node, ast.FunctionDef) for argument in node.args.args}
    assert set() == SLOW_KITS & imported
    assert "kernel" not in fixtures
    assert not any(str(name).startswith("greenlab.lab") for name in imported)


def test_fast_tests_leave_the_types_to_nox_s_lint() -> None:
    assert set() == TYPE_CHECKS & {str(file.relative_to(TESTS)) for file in FILES}
