"""What this process is and has: whether it is a worker of some pool, and how many cores it may use.

Must not import: anything of greenlab but children. Worker processes load it first.
"""

from __future__ import annotations

from greenlab.children import count_cores

__all__ = ["count_cores", "enter_worker", "inside_worker"]

# A worker process may not have workers of its own: each of them would bring its own, and so on.
_here = {"worker": False}


def enter_worker() -> None:
    """Note that this process is a worker of some pool; it stays one."""
    _here["worker"] = True


def inside_worker() -> bool:
    """Return whether this process is a worker of some pool."""
    return _here["worker"]
