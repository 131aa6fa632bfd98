"""What a project must have installed: the libraries that its code imports, in the versions that are installed here."""

from __future__ import annotations

import ast
import sys
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_ALWAYS = ("celery", "eventlet", "redis")


@dataclass
class Requirements:
    """What code imports.

    Attributes:
        text: `requirements.txt`.
        local: the modules and packages that stand beside the notebook.
        uses_greenlab: whether one of these imports greenlab.
    """

    text: str = ""
    local: list[Path] = field(default_factory=list)
    uses_greenlab: bool = False


def requirements(codes: Iterable[str], folder: Path, package: str) -> Requirements:
    """Return what pieces of code import, as far as imports that are written out tell.

    Args:
        codes: the pieces.
        folder: where modules of the notebook's own may be.
        package: what the project's own package is called.
    """
    found, todo, names = Requirements(), list(codes), {package}
    while todo:
        code = todo.pop()
        for name in imported(code) - names:
            names.add(name)
            local = next((path for path in (folder / f"{name}.py", folder / name) if path.exists()), None)
            if local is None or name in sys.stdlib_module_names:
                continue
            if local.is_dir() and not any(local.glob("*.py")):
                continue
            found.local.append(local)
            paths = local.rglob("*.py") if local.is_dir() else [local]
            texts = [path.read_text("utf-8", "replace") for path in paths]
            found.uses_greenlab |= any("greenlab" in imported(text) for text in texts)
            todo += texts
    ours = {package, *(path.stem for path in found.local)}
    found.text = _pinned(sorted(name for name in names - ours if name not in sys.stdlib_module_names))
    return found


def imported(code: str) -> set[str]:
    """Return the top packages that code imports."""
    found: set[str] = set()
    try:
        tree = ast.parse(code)
    except SyntaxError:
        return found
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {one.name.partition(".")[0] for one in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found.add(node.module.partition(".")[0])
    return found


def _pinned(modules: list[str]) -> str:
    where = packages_distributions()
    lines, unknown = {}, []
    for name in _ALWAYS:
        lines[name] = _pin(name)
    for module in modules:
        if module == "greenlab":
            unknown.append("# greenlab: see README.md")
        elif module in where:
            # Several distributions may fill one namespace (google, say): all that are installed are named.
            lines |= {name.lower(): _pin(name) for name in sorted(set(where[module]))}
        else:
            unknown.append(f"# {module}: of no package that is installed here; workers must be able to import it")
    head = "# What the code imports by name, with the versions that were installed where it was written.\n"
    return head + "".join(f"{line}\n" for line in [*(lines[name] for name in sorted(lines)), *unknown])


def _pin(name: str) -> str:
    try:
        return f"{name}=={version(name)}"
    except PackageNotFoundError:
        return name
