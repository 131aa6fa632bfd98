"""What travels between the kernel and Celery's workers, in signed envelopes: batches there, reports back.

A batch is the tasks of one job that travel in one message, with the job's function. A report is what a worker has to
tell of the batches of one kernel: a list of tuples that begin with their kind, together with the worker's name and its
clock, for tasks are timed by clocks of different machines.

Must not import: celery, kombu, eventlet.
"""

from __future__ import annotations

import pickle
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from greenlab.pools.processes.remote_task import Packed

if TYPE_CHECKING:
    from greenlab.pools.celery.signing import Header
    from greenlab.pools.processes.framing import Parcel

TASK: Final = "greenlab.batch"
"""The name of the Celery task that runs a batch."""
CONTROL: Final = "greenlab"
"""The name of the remote control command, and of the queue that its envelopes are signed for."""

# What a report may say, and what follows the kind:
HELLO: Final = "hello"  # a `WorkerFacts`
BEGUN: Final = "begun"  # message: its first task begins
RESULTS: Final = "results"  # message, indexes, starts, ends, plain values
RESULT: Final = "result"  # message, index, start, end, packed value
FAILURE: Final = "failure"  # message, index, start, end, packed error
KILLED: Final = "killed"  # message, index, start, end: it was ended as asked
RETURNED: Final = "returned"  # message, indexes that were not begun, and shall go elsewhere
REDELIVERED: Final = "redelivered"  # message: another worker had it before, so it is not run here
LOST: Final = "lost"  # message, process id, signal or None, exit code or None: the process that had it has died
PRINTED: Final = "printed"  # job, index or None, stream, text
BLOCKED: Final = "blocked"  # job, a `Block`
HELD: Final = "held"  # messages that the worker has; regularly while there are some
STATE: Final = "state"  # answers ASK_AGAIN: those that it has; those that are through; the others it will never run
ENDED: Final = "ended"  # job: nothing of it runs there any more

# What the kernel asks of all workers:
ASK_HELLO: Final = "who"  # reply queue
ASK_AGAIN: Final = "again"  # reply queue, messages: the broker was away, so say again what became of these
ASK_END: Final = "end"  # reply queue, job, its messages
ASK_KILL: Final = "kill"  # job, message, index
ASK_LIMIT: Final = "limit"  # job, limit

ENDS: Final = frozenset((BEGUN, RESULTS, RESULT, FAILURE, KILLED, RETURNED, REDELIVERED, LOST))
"""What may be told twice: it is of a message, and a kernel that knows it already ignores it."""

LONG: Final = 8192
"""Text and bytes longer than this travel by themselves."""


class WorkerFacts(NamedTuple):
    """What a worker says of itself.

    Attributes:
        name: its node name.
        pool: Celery's pool: "eventlet", "prefork", "threads" …
        capacity: how many tasks it runs at a time (`-c`).
        queues: what it consumes.
        python: the version of Python.
        greenlab: the version of greenlab.
        pid: its process id.
        running: tasks that run there.
        on_hub: whether its tasks are green threads of one process.
        host: the machine that it runs on.
        cores: how many processors of it the worker may use.
    """

    name: str
    pool: str
    capacity: int
    queues: tuple[str, ...]
    python: str
    greenlab: str
    pid: int
    running: int
    on_hub: bool
    host: str = ""
    cores: int = 1


class Batch(NamedTuple):
    """Tasks of one job in one message.

    Attributes:
        reply_queue: where reports go; stands in the header of the envelope.
        job: the job; stands there too.
        func: its function, as `serialization.dump_function` gives it.
        path: where its modules are, for workers on this machine; empty for others, which have their own.
        timeout_s: how long one task may take, or None.
        limit: how many tasks of the job may run in one worker.
        blocked_after_s: how long a task may hold a hub before that is reported.
        plain: the indexes and items of tasks with a small plain item.
        packed: index, form, number of buffers and body of the others.
    """

    reply_queue: str
    job: str
    func: bytes
    path: tuple[str, ...]
    timeout_s: float | None
    limit: int
    blocked_after_s: float
    plain: tuple[list[int], list[Any]]
    packed: list[tuple[int, int, int, bytes]]


class Report(NamedTuple):
    """What a worker tells a kernel at once.

    Attributes:
        worker: its node name.
        clock: whose clock it goes by, see `this_clock`.
        sent_s: its `time.perf_counter()` as the report was sent.
        told: what it tells: tuples that begin with their kind.
    """

    worker: str
    clock: str
    sent_s: float
    told: list[tuple[Any, ...]]


@cache
def this_clock() -> str:
    """Return what names the clock of `time.perf_counter()`: on Linux all processes since one boot share it.

    Elsewhere it is empty, and no two clocks count as the same.
    """
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""


def flatten(parcel: Parcel) -> tuple[int, int, bytes]:
    """Return a parcel's form, its number of buffers, and its body in one piece."""
    return parcel.form, parcel.buffers, b"".join(parcel.parts)


def tasks_of(batch: Batch) -> list[tuple[int, Any]]:
    """Return the tasks of a batch: index, and item or `Packed`."""
    tasks: list[tuple[int, Any]] = list(zip(*batch.plain, strict=True))
    tasks += [(index, Packed(form, buffers, body)) for index, form, buffers, body in batch.packed]
    return sorted(tasks, key=lambda task: task[0])


def dump_batch(batch: Batch) -> bytes:
    """Pickle a batch, without what stands in its header."""
    return dump(batch[2:])


def load_batch(header: Header, body: Any) -> Batch:
    """Undo `dump_batch`. Only for an envelope that was opened."""
    return Batch(header.reply_to, header.job, *load(body))


def dump(content: Any) -> bytes:
    """Pickle a report or a question."""
    return pickle.dumps(tuple(content), 5)


def load(body: Any) -> Any:
    """Undo `dump`. Only for the body of an envelope that was opened."""
    return pickle.loads(body)
