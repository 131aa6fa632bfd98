"""What loading costs: `import greenlab` in a fresh interpreter, `%load_ext greenlab` in a fresh kernel.

Run as `python tests/benchmarks/bench_load.py [--quick]`. Fresh processes alternate. The kernel has imported
eventlet when the extension is loaded: what is charged is what greenlab adds to that.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "kit"))

import bench
from kernel import Kernel

HEAVY = (
    "matplotlib", "numpy", "pandas", "ipywidgets", "IPython", "ipykernel", "celery", "eventlet", "asyncio",
)  # fmt: skip
FORBIDDEN = ("matplotlib", "ipywidgets", "IPython", "celery")

TIMED = """
import json, sys, time
before, began_s = set(sys.modules), time.perf_counter()
{statement}
taken_s = time.perf_counter() - began_s
new = sorted(set(sys.modules) - before)
print(json.dumps([taken_s * 1e3, new]))
"""
IMPORT_GREENLAB = TIMED.format(statement="import greenlab")
IMPORT_EVENTLET = TIMED.format(
    statement="import warnings\nwith warnings.catch_warnings(action='ignore'): import eventlet"
)
LOAD_EXT = TIMED.format(statement="get_ipython().run_line_magic('load_ext', 'greenlab')")


def in_fresh_python(code: str) -> tuple[float, list[str]]:
    """Give milliseconds, and the modules that were loaded."""
    command = [sys.executable, "-c", code]
    answer: Any = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return answer[0], answer[1]


def in_fresh_kernel() -> tuple[float, float, float, list[str]]:
    """Give milliseconds of `import eventlet`, of `%load_ext` after it, and of that cell as a front end sees it."""
    with Kernel() as kernel:
        eventlet_ms, _ = bench.ask(kernel, IMPORT_EVENTLET)
        cell = kernel.run(LOAD_EXT)
        assert cell.error is None, cell.error
        load_ms, new = json.loads(cell.stdout)
    return eventlet_ms, load_ms, cell.seconds * 1e3, new


def main() -> None:
    rounds = 2 if bench.quick(__doc__) else 9
    print(f"{rounds} rounds, Python {sys.version.split()[0]}")
    names = "import eventlet", "import greenlab", "import eventlet, in a kernel", "%load_ext greenlab"
    found: dict[str, list[float]] = {name: [] for name in (*names, "the cell of %load_ext")}
    for _ in range(rounds):
        found[names[0]].append(in_fresh_python(IMPORT_EVENTLET)[0])
        taken_ms, imported = in_fresh_python(IMPORT_GREENLAB)
        found[names[1]].append(taken_ms)
        eventlet_ms, load_ms, cell_ms, loaded = in_fresh_kernel()
        found[names[2]].append(eventlet_ms)
        found[names[3]].append(load_ms)
        found["the cell of %load_ext"].append(cell_ms)
    bench.show("loading, each in a fresh process", "ms", found)
    heavy = [name for name in HEAVY if name in imported]
    added = [name for name in FORBIDDEN if name in loaded]
    forbidden = sum(name in FORBIDDEN for name in imported)
    print(f"  → import greenlab loads {len(imported)} modules, heavy ones: {', '.join(heavy) or 'none'}")
    print(f"  → of {', '.join(FORBIDDEN)} import greenlab loads: {forbidden}, target 0")
    print(f"  → %load_ext greenlab loads {len(loaded)} modules, heavy ones: {', '.join(added) or 'none'}")
    bench.show_ratio("%load_ext after import eventlet", found[names[3]], "< 150 ms", "ms")
    bench.show_ratio("%load_ext against import eventlet", bench.divide(found[names[3]], found[names[2]]), "none")


if __name__ == "__main__":
    main()
