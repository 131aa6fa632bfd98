"""The room of the celery pool: the same tasks on Celery's workers, on this machine or on others.

In the kernel, `pool` runs jobs: `dispatch` packs tasks into messages, `connection` sends them and reads what workers
send back, `workers` and `job` are what it knows. In a worker, `app` is the Celery application; `worker` takes messages
there, `green_batches` and `serial_batches` run their tasks, `reports` tells how they ended. `launcher` is
`greenlab worker`, with the broker of `embedded`. All use `settings` (which broker, which secret), `signing` (what is
signed, and checked before it is unpickled) and `messages` (what travels).

Guarantees of the room: those of `pool.CeleryPool`; kombu is imported when the pool is first used, and Celery where it
makes workers: `app` and `worker`.

Must not import: prefork, threads; celery in the kernel; kombu before the pool is used, or a worker begins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["CeleryPool"]

if TYPE_CHECKING:
    from greenlab.pools.celery.pool import CeleryPool
else:

    def __getattr__(name: str) -> object:
        if name == "CeleryPool":
            from greenlab.pools.celery.pool import CeleryPool

            return CeleryPool
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
