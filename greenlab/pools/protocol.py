"""What a run and a pool know of each other: the two contracts, `Job` and `Pool`.

A run hands a pool a `Job`; the pool pulls tasks from it, runs `job.func` on each item and tells the job how
each task ended. A pool knows nothing of records, retries or figures; a job knows nothing of workers.

Guarantees asked of every pool, and held by one contract suite (tests/pools/test_contract.py):

* each task that is pulled is ended exactly once, by `succeed` or `fail`, unless the run is cancelled;
* a task that raises fails alone; the others go on;
* tasks are pulled only as fast as they start (a pool may prefetch a bounded number of tiny ones);
* `run` returns when the job has nothing more to pull and all that was pulled has ended;
* killing the green thread that is in `run` stops the tasks in flight before `run` lets go.

What a pool cannot keep it does not ignore: `greenlab.pools.check_promises` refuses the option up front, and the pool's
own docstring states the bound.

Must not import: runs, live, magics.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from greenlab.hub.blocks import Block


class Job(Protocol):
    """The tasks of one run, as a pool sees them.

    Every method is called on the hub's thread, from the green threads of the pool.

    Attributes:
        concurrency: how many tasks may be in flight; it may change while the run goes on, see `Pool.adjust`.
        workers: how many worker processes may serve the job, for pools that have some.
        timeout_s: how long one task may take, or None.
        max_tasks: after how many tasks a worker process is replaced, or None for never.
        max_memory: above how many bytes of resident memory a worker process is replaced, or None for never.
        kind: what its tasks mostly do, "io" or "cpu", for pools that have workers for each; None if that is not known.
    """

    @property
    def concurrency(self) -> int: ...  # noqa: D102 (see Attributes, as the five below)
    @property
    def workers(self) -> int: ...  # noqa: D102
    @property
    def timeout_s(self) -> float | None: ...  # noqa: D102
    @property
    def max_tasks(self) -> int | None: ...  # noqa: D102
    @property
    def max_memory(self) -> int | None: ...  # noqa: D102
    @property
    def kind(self) -> str | None: ...  # noqa: D102

    @property
    def func(self) -> Any:
        """The function of one item: `func(item)` is the task."""

    def pull(self) -> tuple[int, Any]:
        """Take the next task.

        Returns:
            its index (0, 1, 2 … in input order) and its item.

        Raises:
            StopIteration: there is nothing more to do (the items are exhausted, their iterator raised, or the
                run was cancelled).
        """

    def succeed(self, index: int, started_s: float, ended_s: float, value: Any) -> None:
        """Take note that a task returned `value`. Times are `time.perf_counter()` seconds, of any process."""

    def fail(self, index: int, started_s: float, ended_s: float, error: BaseException) -> None:
        """Take note that a task raised `error`."""

    def size_hint(self) -> int | None:
        """Return how many tasks are left to pull at the most, or None if that is not known."""

    def write(self, stream: str, text: str, index: int | None = None) -> None:
        """Print what a task in another process printed.

        Args:
            stream: "stdout" or "stderr".
            text: what it printed.
            index: the task that printed it, or None if that is not known.
        """

    def note_block(self, block: Block) -> None:
        """Take note that a task held the hub of its worker process; `block.worker` says which."""


def whole_of(job: Job) -> Job:
    """Return the job that a run knows: of one that stands for a part of it, its attribute `whole`."""
    whole: Job = getattr(job, "whole", job)
    return whole


@dataclass(frozen=True)
class InFlight:
    """A task in flight.

    Attributes:
        index: its index in the job.
        started_s: when it began, `time.perf_counter()` seconds.
        worker: the process id of its worker, or the native id of its OS thread; None in this thread.
        where: file name, line number and function in which it stands, the user's own where there is one; None
            if that cannot be told (it computes in C, or its process does not answer).
    """

    index: int
    started_s: float
    worker: int | None = None
    where: tuple[str, int, str] | None = None


class TaskSpan(NamedTuple):
    """A task that has begun: what it is called, from when to when it ran, and how it ended.

    Attributes:
        name: its index, and its item where that prints.
        start_s, end_s: in seconds; the end of one that runs is now, and the start of one that was cut short is nan
            where it is not known.
        outcome: "succeeded", "failed", "cancelled" or "running".
    """

    name: str
    start_s: float
    end_s: float
    outcome: str


class Pool(Protocol):
    """Runs jobs. A pool is long-lived: it may run many jobs, one after another or at once.

    Attributes:
        name: the word that `-p` takes.
    """

    name: str

    @property
    def pids(self) -> tuple[int, ...]:
        """The process ids of its worker processes; empty where it has none, or none yet."""

    @property
    def in_flight(self) -> int:
        """Tasks being run at this moment, over all jobs."""

    def count(self, job: Job) -> int:
        """Count the tasks of one job that are being run at this moment."""

    def start(self, job: Job) -> None:
        """Make the workers ready that this job will want. What this costs is charged apart from the run."""

    def run(self, job: Job) -> None:
        """Run every task of `job`; wait for the last. Called from a green thread, and cooperates."""

    def adjust(self, job: Job) -> None:
        """Follow `job.concurrency`, which was changed while the job runs: upwards at once, downwards as tasks end."""

    def begun(self, job: Job) -> list[tuple[int, float]]:
        """List the tasks of a job that are being run: index, and when each began, `time.perf_counter()` seconds.

        Asks no process and does not wait, so where that would be needed it is when the task was sent.
        """

    def held(self, job: Job) -> list[InFlight]:
        """List the tasks of a job that are being run. May wait, cooperatively and shortly, for processes to answer."""

    def kill(self, job: Job, index: int, error: BaseException) -> bool:
        """End one task that is being run: it fails with `error`, and the others go on.

        Returns:
            whether there was such a task in flight, and it can be ended.
        """

    def close(self) -> None:
        """End the workers. Safe to call twice."""
