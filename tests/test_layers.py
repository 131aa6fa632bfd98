"""The walls of the house: arrows point down only, and the heavy things come late."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PACKAGE = Path(__file__).parents[1] / "greenlab"

# What each room may import of greenlab, beside itself.
MAY = {
    "errors": set(),
    "places": set(),
    "children": set(),
    "lab": {"children", "errors"},
    "hub": {"places", "errors"},
    "greening": {"hub", "errors"},
    "pools": {"children", "places", "hub", "greening", "errors"},
    "probes": {"children", "places", "pools", "hub", "greening", "errors"},
    "runs": {"places", "pools", "hub", "greening", "errors"},
    "live": {"children", "runs", "hub", "errors"},
    "patched": {"errors"},
    "api": {"patched", "places", "live", "runs", "pools", "greening", "hub", "errors"},
    "choose": {"places", "api", "runs", "pools", "hub", "errors"},
    "compare": {"places", "api", "live", "runs", "pools", "hub", "errors"},
    "explain": {"places", "api", "probes", "runs", "pools", "hub", "errors"},
    "magics": {
        "places",
        "api",
        "choose",
        "compare",
        "explain",
        "live",
        "probes",
        "runs",
        "pools",
        "greening",
        "hub",
        "errors",
    },
    "__main__": {"errors", "lab"},
    "__init__": {
        "api",
        "choose",
        "compare",
        "explain",
        "errors",
        "hub",
        "lab",
        "live",
        "magics",
        "patched",
        "probes",
        "runs",
    },
}
# What each part of the pools may import of the pools, beside itself and the package's own few functions.
WITHIN_POOLS: dict[str, set[str]] = {
    "__init__": {"green", "threads", "prefork", "hybrid", "protocol"},
    "protocol": set(),
    "gate": set(),
    "green": {"gate", "protocol"},
    "threads": {"gate", "protocol"},
    "offload": {"protocol", "processes"},
    "routes": {"offload"},
    "processes": {"protocol"},
    "prefork": {"protocol", "processes"},
    "hybrid": {"protocol", "processes", "green"},
}
LATE = {"matplotlib", "ipywidgets", "IPython", "celery", "pandas", "numpy", "scipy", "psutil"}


def modules() -> Any:
    return sorted(PACKAGE.rglob("*.py"))


def room_of(path: Any) -> Any:
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else path.stem


def imports(path: Any) -> Any:
    """Every module that a file imports, wherever in it, typing-only imports too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_every_room_has_its_rule() -> None:
    assert set(MAY) >= {room_of(path) for path in modules()}


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_arrows_point_down_only(path: Any) -> None:
    room = room_of(path)
    for name in imports(path):
        if not name.startswith("greenlab."):
            continue
        other = name.split(".")[1]
        if other in MAY:
            assert other == room or other in MAY[room], f"{room} must not import {name}"


@pytest.mark.parametrize("path", sorted((PACKAGE / "pools").rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_arrows_within_the_pools_point_down_only(path: Any) -> None:
    part = path.relative_to(PACKAGE / "pools").parts[0].removesuffix(".py")
    for name in imports(path):
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
    for name in imports(path):
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
