"""Pools: where tasks run. One protocol (`protocol.py`), one module a pool.

`get` gives the pool of a name, warm if it ran before: pools live as long as the hub.

Must not import: runs, live, magics. Worker processes import this package, so it imports nothing at the top.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from greenlab.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from greenlab.hub import GuestHub
    from greenlab.pools.protocol import Pool

AUTO = "auto"
NAMES = ("green", "threads", "prefork", "hybrid", AUTO)
"""What `-p` takes. The last one is no pool of its own: it begins in green, and goes where the tasks belong."""
LATER = ("celery",)

# What only some pools can keep. The others say so before anything starts.
_KEPT_BY = {
    "workers": ("prefork", "hybrid", AUTO),
    "max_tasks": ("prefork",),
    "max_memory": ("prefork",),
}
_WHY_NOT = {
    "workers": "has no worker processes: -w goes with",
    "max_tasks": "does not replace workers: --max-tasks goes with",
    "max_memory": "does not replace workers: --max-memory goes with",
}

# In a worker process, which may not have workers of its own: each of them would bring its own, and so on.
_here = {"worker": False}

__all__ = [
    "AUTO",
    "LATER",
    "NAMES",
    "check_name",
    "check_options",
    "count_cores",
    "enter_worker",
    "get",
    "inside_worker",
    "keeps",
    "width",
]


def enter_worker() -> None:
    """Note that this process is a worker of some pool; it stays one."""
    _here["worker"] = True


def inside_worker() -> bool:
    """Whether this process is a worker of some pool."""
    return _here["worker"]


def check_name(name: str) -> None:
    """Refuse a pool that does not exist, or not yet.

    Raises:
        UsageError: the message lists those there are.
    """
    have = f"{', '.join(NAMES[:-1])} or {NAMES[-1]}"
    if name in LATER:
        raise UsageError(f"the pool {name!r} is planned for a later version of greenlab: use {have}")
    if name not in NAMES:
        raise UsageError(f"there is no pool {name!r}: use {have}")


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Refuse an option that the pool cannot keep; None means that it was not asked for.

    Raises:
        UsageError: the message says which pools can.
    """
    for option, pools in _KEPT_BY.items():
        if options.get(option) is not None and not keeps(name, option):
            able = " or ".join(f"-p {pool}" for pool in pools if pool in NAMES and pool != AUTO)
            raise UsageError(f"the {name} pool {_WHY_NOT[option]} {able}")


def keeps(name: str, option: str) -> bool:
    """Tell whether a pool can keep an option."""
    return name in _KEPT_BY.get(option, (name,))


def width(name: str, concurrency: int, workers: int) -> int:
    """Say how many tasks a run has in flight: prefork holds one a worker, the others `concurrency` in all."""
    return workers if name == "prefork" else concurrency


def get(hub: GuestHub, name: str) -> Pool:
    """Give the pool called `name`, made if need be. It lives as long as the hub, and sizes itself by its jobs.

    Raises:
        UsageError: no such pool, or one of processes within a worker process. `auto` is one of the runs' room, which
            knows what tasks cost: see `greenlab.advising.auto_pool.get_pool`.
    """
    check_name(name)
    if name == AUTO:
        raise UsageError("auto is made of the other pools: use greenlab.run(..., pool='auto')")
    if name in ("prefork", "hybrid") and inside_worker():
        raise UsageError(
            "a task in a worker process cannot start worker processes: "
            "run the outer tasks in green, or the inner ones with pool='green'"
        )

    def make() -> Pool:
        pool: Pool
        if name == "green":
            from greenlab.pools.green import GreenPool

            pool = GreenPool()
        elif name == "threads":
            from greenlab.pools.threads import ThreadsPool

            pool = ThreadsPool()
        elif name == "hybrid":
            from greenlab.hub.watchdog import watchdog_of
            from greenlab.pools.hybrid import HybridPool

            pool = HybridPool(lambda: watchdog_of(hub).after_s)
        else:
            from greenlab.pools.prefork import PreforkPool

            pool = PreforkPool()
        return pool

    pool: Pool = hub.keep(f"pool {name}", make)
    return pool


def count_cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "process_cpu_count"):
        return os.process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
