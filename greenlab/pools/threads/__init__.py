"""The room of the threads pool: `pool` runs jobs, `workers` has the threads of one job.

Guarantees of the room: those of `pool.ThreadsPool`.
Must not import: prefork, hybrid, processes, green.
"""

from greenlab.pools.threads.pool import ThreadsPool

__all__ = ["ThreadsPool"]
