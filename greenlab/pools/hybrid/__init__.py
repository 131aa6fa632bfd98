"""The room of the hybrid pool: many tasks at a time in each worker process, by a hub of its own.

In the kernel, `pool` puts together which processes there are (`processes.supervisor`), which gets which task
(`dispatch`), and what is known of a process (`worker_handle`) and of a job (`job`, `job_on_worker`). In the process,
`worker` runs each job of the kernel (`remote`) in a green pool; `frames` is what both send each other.

Guarantees of the room: those of `pool.HybridPool`; and a process loads nothing of the kernel's half, so nothing is
imported here before it is asked for.

Must not import: prefork, threads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["HybridPool"]

if TYPE_CHECKING:
    from greenlab.pools.hybrid.pool import HybridPool
else:

    def __getattr__(name: str) -> object:
        if name == "HybridPool":
            from greenlab.pools.hybrid.pool import HybridPool

            return HybridPool
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
