"""Pools: where tasks run. One protocol (`protocol.py`), one module a pool.

`get` gives the pool of a name, warm if it ran before: pools live as long as the hub.

Must not import: runs, live, magics. Worker processes import this package, so it imports nothing at the top.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from greenlab.errors import UsageError

if TYPE_CHECKING:
    from greenlab.hub import GuestHub
    from greenlab.pools.protocol import Pool

NAMES = ("green", "prefork")
LATER = ("threads", "hybrid", "celery", "auto")

__all__ = ["LATER", "NAMES", "check_name", "get"]


def check_name(name: str) -> None:
    """Refuse a pool that does not exist, or not yet.

    Raises:
        UsageError: the message lists those there are.
    """
    have = " or ".join(NAMES)
    if name in LATER:
        raise UsageError(f"the pool {name!r} is planned for a later version of greenlab: use {have}")
    if name not in NAMES:
        raise UsageError(f"there is no pool {name!r}: use {have}")


def get(hub: GuestHub, name: str, workers: int | None = None) -> Pool:
    """Give the pool called `name`.

    Args:
        hub: whose pool it is.
        name: one of `NAMES`.
        workers: how many processes, for pools that have some; None for as many as there are cores.

    Raises:
        UsageError: no such pool, or workers for a pool that has none.
    """
    check_name(name)
    if name == "green":
        if workers is not None:
            raise UsageError("the green pool has no worker processes: -w goes with -p prefork")
        from greenlab.pools.green import GreenPool

        green: GreenPool = hub.keep("pool green", GreenPool)
        return green
    from greenlab.pools.prefork import PreforkPool
    from greenlab.pools.worker import count_cores

    count = workers or count_cores()
    # One pool for each size, so that two runs of different sizes at once do not resize under each other.
    pool: PreforkPool = hub.keep(f"pool prefork {count}", lambda: PreforkPool(count))
    if pool.workers != count:  # an earlier run was given more or fewer while it went on
        pool.resize(count)
    return pool
