"""The walls of the house: arrows point down only, and the heavy things come late."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PACKAGE = Path(__file__).parents[2] / "greenlab"

# The house, from the ground up. A room may import what lies on a lower floor, and nothing beside it or above it: so
# `live` knows no runs and `runs` no views, typing-only imports included.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("children", "errors", "messages", "places", "text", "version"),
    ("checks", "patched"),
    ("hub", "lab"),
    ("greening",),
    ("pools",),
    ("tracing",),
    ("runs", "live", "probes"),
    ("comparing",),
    ("advising",),
    ("api",),
    ("magics",),
    ("exporting",),
    ("__init__", "__main__", "celery"),
    ("examples",),
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
# What each part of the pools may import of the pools, beside itself and the package's own few functions.
WITHIN_POOLS: dict[str, set[str]] = {
    "__init__": {"registry", "this_process"},
    "this_process": set(),
    "protocol": set(),
    "fair_scheduler": set(),
    "partial_job": {"protocol"},
    "registry": {"this_process", "protocol", "green", "threads", "prefork", "hybrid", "celery"},
    "green": {"fair_scheduler", "protocol"},
    "threads": {"fair_scheduler", "protocol"},
    "offload": {"registry", "this_process", "protocol", "processes"},
    "routes": {"offload", "this_process"},
    "processes": {"protocol", "this_process"},
    "prefork": {"protocol", "processes"},
    "hybrid": {"protocol", "processes", "green", "registry"},
    "celery": {"protocol", "this_process", "processes", "hybrid"},
}
LATE = {"matplotlib", "ipywidgets", "IPython", "celery", "pandas", "numpy", "scipy", "psutil"}


def modules() -> Any:
    return sorted(PACKAGE.rglob("*.py"))


def room_of(path: Any) -> Any:
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else path.stem


def imports(source: str) -> Any:
    """Every module that a file imports, wherever in it, typing-only imports too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
            # `import greenlab.hub` gives the name greenlab, and with it the facade.
            yield from ("greenlab" for alias in node.names if alias.name.startswith("greenlab.") and not alias.asname)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            if node.module != "greenlab":
                yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_imported(name: str) -> str:
    """The room of an imported module or name; `__init__`, the facade, for greenlab itself and for what it offers."""
    first, _, rest = name.partition(".")
    if first != "greenlab":
        return ""
    room = rest.partition(".")[0]
    return room if room in FLOOR else "__init__"


def wrong_arrows(room: str, source: str) -> list[str]:
    """What a file of a room imports and may not."""
    others = ((name, room_imported(name)) for name in imports(source))
    return [name for name, other in others if other and other != room and FLOOR[other] >= FLOOR[room]]


def module_name(path: Any) -> str:
    return ".".join(("greenlab", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")


def graph() -> dict[str, set[str]]:
    """Which modules each module imports, wherever in it, typing-only imports too."""
    known = {module_name(path): path for path in modules()}
    found: dict[str, set[str]] = {}
    for name, path in known.items():
        found[name] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found[name] |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                # `from package import module` is an arrow to the module alone.
                names = {f"{node.module}.{alias.name}" for alias in node.names}
                found[name] |= {one if one in known else node.module or "" for one in names}
        found[name] = (found[name] & set(known)) - {name}
    return found


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The groups of modules that import each other, by way of others too."""
    reach: dict[str, set[str]] = {}
    for start, first in graph.items():
        seen: set[str] = set()
        todo = list(first)
        while todo:
            name = todo.pop()
            if name not in seen:
                seen.add(name)
                todo += graph.get(name, ())
        reach[start] = seen
    groups = {tuple(sorted(other for other in reach[name] if name in reach.get(other, ()))) for name in graph}
    return [list(group) for group in sorted(groups) if group]


def house() -> str:
    """Draw the house: floors from the roof down, their rooms with files and lines of code."""
    out = []
    for floor in reversed(range(len(FLOORS))):
        rooms = []
        for room in FLOORS[floor]:
            files = [path for path in modules() if room_of(path) == room]
            lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files)
            rooms.append(f"{room} ({len(files)} file{'s' * (len(files) != 1)}, {lines:,} lines)")
        out.append(f"{floor:2}  " + "   ".join(rooms))
    return "\n".join(out)


def test_every_room_has_a_floor() -> None:
    print(house())
    assert set(FLOOR) == {room_of(path) for path in modules()}


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_arrows_point_down_only(path: Any) -> None:
    assert [] == wrong_arrows(room_of(path), path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("def f(): from greenlab import run, start", ["greenlab.run", "greenlab.start"]),
        ("import greenlab", ["greenlab"]),
        ("import greenlab.text", ["greenlab"]),
        ("import greenlab.runs as runs", ["greenlab.runs"]),
        ("from greenlab.pools.registry import get", ["greenlab.pools.registry", "greenlab.pools.registry.get"]),
        ("from greenlab import patched, lab", ["greenlab.lab"]),
        ("import greenlab.text as text", []),
        ("from greenlab.text.format import count", []),
        ("from greenlab.hub import guest", []),
    ],
)
def test_an_arrow_up_is_found_and_the_facade_lies_above_the_rooms(line: str, wrong: list[str]) -> None:
    assert wrong == wrong_arrows("hub", line)


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert {name for name in graph() if name.count(".") < 1} == {"greenlab"}
    assert [] == circles(graph())


def test_a_circle_is_found() -> None:
    assert [["a", "b", "c"]] == circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})


@pytest.mark.parametrize("path", sorted((PACKAGE / "pools").rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_arrows_within_the_pools_point_down_only(path: Any) -> None:
    part = path.relative_to(PACKAGE / "pools").parts[0].removesuffix(".py")
    for name in imports(path.read_text(encoding="utf-8")):
        other = name.removeprefix("greenlab.pools.").partition(".")[0]
        if name.startswith("greenlab.pools.") and other in WITHIN_POOLS:
            assert other == part or other in WITHIN_POOLS[part], f"{part} must not import {name}"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_eventlets_hub_classes_are_known_in_the_hub_alone(path: Any) -> None:
    if room_of(path) == "hub":
        return
    text = path.read_text(encoding="utf-8")
    for word in ("get_default_hub", "use_hub", "hubs.epolls", "hubs.poll", "BaseHub"):
        assert word not in text


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_file_outgrows_its_room(path: Any) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_nothing_is_patched_by_eventlets_own_means(path: Any) -> None:
    for name in imports(path.read_text(encoding="utf-8")):
        assert not name.startswith("eventlet.green."), f"{path}: {name}"
        if path.name != "_quiet.py":
            assert name.partition(".")[0] != "eventlet", f"{path}: take it from greenlab.hub, which silences it"


def loaded_by(code: Any) -> Any:
    out = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.partition(".")[0] for name in out.stdout.split()}


def test_importing_greenlab_loads_nothing_heavy_and_no_eventlet() -> None:
    assert not (LATE | {"eventlet", "greenlet", "asyncio"}) & loaded_by("import greenlab")


def test_running_tasks_in_a_script_loads_nothing_heavy() -> None:
    code = "import greenlab; greenlab.run(abs, [1, 2]); greenlab.stop()"
    assert not LATE & loaded_by(code)


def test_every_public_name_is_there() -> None:
    import greenlab

    for name in greenlab.__all__:
        assert getattr(greenlab, name) is not None
    with pytest.raises(AttributeError):
        _ = greenlab.nonsense


def test_importing_greenlab_does_not_warn_of_eventlet() -> None:
    code = "import warnings; warnings.simplefilter('error'); import greenlab; greenlab.start(); greenlab.stop()"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_warning_of_another_library_is_not_silenced() -> None:
    code = (
        "import greenlab.hub, warnings\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    warnings.simplefilter('always'); warnings.warn('Eventlet is not it', UserWarning)\n"
        "print(len(caught))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "1" == out.stdout.strip()
