"""Pools: where tasks run. One protocol (`protocol.py`), one registry (`registry.py`), one module or folder a pool.

`get` returns the pool of a name, warm if it ran before: pools live as long as the hub.

Must not import: runs, live, magics. Worker processes import this package, so it loads no pool at the top.
"""

from __future__ import annotations

from greenlab.pools.registry import (
    AUTO,
    LOCAL,
    NAMES,
    PROMISES,
    SPECS,
    PoolSpec,
    check_name,
    check_promises,
    get,
    spec_of,
    width,
)
from greenlab.pools.this_process import count_cores, enter_worker, inside_worker

__all__ = [
    "AUTO",
    "LOCAL",
    "NAMES",
    "PROMISES",
    "SPECS",
    "PoolSpec",
    "check_name",
    "check_promises",
    "count_cores",
    "enter_worker",
    "get",
    "inside_worker",
    "spec_of",
    "width",
]
