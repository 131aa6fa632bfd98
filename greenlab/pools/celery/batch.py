"""What running a batch takes, whichever way its tasks run: their function, their results, and what they print.

Guarantees: each task is reported once, or returned; whatever it raises is its own failure.

Must not import: runs, live, magics, celery.
"""

from __future__ import annotations

import io
import sys
import threading
from functools import lru_cache, partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, Protocol

from greenlab.pools.celery import messages
from greenlab.pools.celery.job import MOST_ITEM_BYTES
from greenlab.pools.hybrid.output import Output, Task, this_task
from greenlab.pools.processes import pickling, serialization
from greenlab.pools.processes.environment import raiser
from greenlab.pools.processes.remote_task import Killed, Packed, dump_task_error

if TYPE_CHECKING:
    from greenlab.pools.celery.reports import Reports

TOGETHER_S: Final = 0.02
"""Results of short tasks that end within this are told together."""
_MOST_PRINTED: Final = 1 << 20
"""How many characters are told at once of what a task prints."""


@lru_cache(maxsize=64)
def load_function(func: bytes, path: tuple[str, ...]) -> Any:
    """Return a job's function, unpickled once; where that fails, one that raises why."""
    sys.path += [entry for entry in path if entry not in sys.path]
    try:
        return serialization.load_function(func)
    except Exception as error:
        return raiser(error)


def prepare(batch: messages.Batch, owner: Task, item: Any) -> tuple[Any, Any]:
    """Return what a task calls, and with what; called within the task, whose prints are known from then on."""
    this_task.set(owner)
    func = load_function(batch.func, batch.path)
    return func, item.load(pickling.has_class) if isinstance(item, Packed) else item


class Results:
    """Reports how the tasks of one message end: results of short ones together."""

    def __init__(self, reports: Reports, queue: str, message: str) -> None:
        self._reports = reports
        self._queue = queue
        self._message = message
        self._plain: tuple[list[int], list[float], list[float], list[Any]] = ([], [], [], [])
        self._lock = threading.Lock()
        self._told_s = perf_counter()

    def tell(self, kind: str, *about: Any, size: int = 0) -> None:
        """Report something else of the message, after the results so far."""
        self.flush()
        self._reports.tell(self._queue, kind, self._message, *about, size=size)

    def succeed(self, index: int, started_s: float, ended_s: float, value: Any) -> None:
        """A task has returned."""
        if serialization.is_plain(value) and (type(value) not in (str, bytes) or len(value) < messages.LONG):
            with self._lock:
                indexes, starts, ends, values = self._plain
                indexes.append(index)
                starts.append(started_s)
                ends.append(ended_s)
                values.append(value)
            if ended_s - self._told_s > TOGETHER_S:
                self.flush()
            return
        try:
            packed = messages.flatten(serialization.dump(value))
            if len(packed[2]) > MOST_ITEM_BYTES:
                raise ValueError(_too_large(packed[2]))
        except BaseException as cause:
            self.fail(index, started_s, ended_s, serialization.unsendable_result(value, cause))
            return
        self.tell(messages.RESULT, index, started_s, ended_s, packed, size=len(packed[2]))

    def fail(self, index: int, started_s: float, ended_s: float, error: BaseException) -> None:
        """A task has raised."""
        if isinstance(error, Killed):
            self.tell(messages.KILLED, index, started_s, ended_s)
            return
        packed = messages.flatten(dump_task_error(error))
        if len(packed[2]) > MOST_ITEM_BYTES:
            packed = messages.flatten(serialization.shorten_error(packed[2], _too_large(packed[2])))
        self.tell(messages.FAILURE, index, started_s, ended_s, packed, size=len(packed[2]))

    def flush(self) -> None:
        """Send the results that wait."""
        with self._lock:
            plain, self._plain = self._plain, ([], [], [], [])
            self._told_s = perf_counter()
        if plain[0]:
            self._reports.tell(self._queue, messages.RESULTS, self._message, *plain, size=64 * len(plain[0]))


def _too_large(body: bytes) -> str:
    return f"it has {len(body) >> 20} MiB, and a message at most {MOST_ITEM_BYTES >> 20} MiB"


class Batches(Protocol):
    """Runs batches in one process."""

    @property
    def running(self) -> int:
        """How many tasks run in this process; 0 where that is not known."""

    def run(self, message: str, batch: messages.Batch) -> None:
        """Run the tasks of a batch, and report them."""

    def kill(self, job: str, message: str, index: int) -> None:
        """End one task."""

    def end(self, job: str) -> None:
        """Stop what runs of a job here, and report nothing more of it."""

    def set_limit(self, job: str, limit: int) -> None:
        """Run as many tasks of a job at once from now on."""


class Printing:
    """What tasks print: shipped to their kernel; what anybody else prints goes where it went."""

    def __init__(self, reports: Reports) -> None:
        self._reports = reports
        # Files, as eventlet (0.41) greens `os.write`: that waits for a hub, which prints too, where callbacks raise.
        self.streams = tuple(
            Output(partial(self.ship, name, io.FileIO(fd, "w", closefd=False)), fd)
            for name, fd in (("stdout", 1), ("stderr", 2))
        )
        sys.stdout, sys.stderr = self.streams

    def ship(self, name: str, file: io.FileIO, task: Task | None, text: str) -> None:
        """Send text to the kernel of the task that printed it."""
        if task is None:
            file.write(text.encode("utf-8", "replace"))
            return
        (queue, job), index = task
        for start in range(0, len(text), _MOST_PRINTED):
            piece = text[start : start + _MOST_PRINTED]
            self._reports.tell(queue, messages.PRINTED, job, index, name, piece, size=len(piece))

    def end(self, task: Task) -> None:
        """Send what a task has printed and not ended with a line end."""
        for stream in self.streams:
            if stream.partial:
                stream.end(task)
