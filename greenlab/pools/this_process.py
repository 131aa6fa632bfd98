"""What this process is and has: whether it is a worker of some pool, and how many cores it may use.

Must not import: anything of greenlab but children. Worker processes load it first.
"""

from __future__ import annotations

from typing import Any

from greenlab.children import count_cores

__all__ = ["count_cores", "enter_worker", "inside_worker", "offloads_to"]

# A worker process may not have workers of its own: each of them would bring its own, and so on.
_here: dict[str, Any] = {"worker": False, "offloads_to": None}


def enter_worker(offloads_to: str | None = None) -> None:
    """Note that this process is a worker of some pool; it stays one.

    Args:
        offloads_to: the pool that takes calls which a task here offloads to processes; None where none can.
    """
    _here.update(worker=True, offloads_to=offloads_to)


def offloads_to() -> str | None:
    """Return the pool that takes the calls which a task of this worker offloads; None in other processes."""
    pool: str | None = _here["offloads_to"]
    return pool


def inside_worker() -> bool:
    """Return whether this process is a worker of some pool."""
    return bool(_here["worker"])
