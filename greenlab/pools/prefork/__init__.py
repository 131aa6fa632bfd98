"""The room of the prefork pool: one task at a time in each worker process.

In the kernel, `pool` puts together which workers there are (`processes.supervisor`), which gets which task
(`dispatch`), and what is known of a worker (`worker_handle`) and of a job (`job`). In the worker process runs `worker`.

Guarantees of the room: those of `pool.PreforkPool`; and a worker process loads neither eventlet nor the kernel's half,
so nothing is imported here before it is asked for.

Must not import: hybrid, green, threads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["PreforkPool"]

if TYPE_CHECKING:
    from greenlab.pools.prefork.pool import PreforkPool
else:

    def __getattr__(name: str) -> object:
        if name == "PreforkPool":
            from greenlab.pools.prefork.pool import PreforkPool

            return PreforkPool
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
