"""A job, as a pool of worker processes sees it while it runs.

Guarantees: nothing here waits, but `ActiveJob.wait` and `ActiveJob.await_end`; what the job itself raises ends its run,
and no one else's.
Must not import: runs, live, magics, eventlet.green.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from greenlab.hub import eventlet, nested
from greenlab.pools.processes import framing, serialization

if TYPE_CHECKING:
    from collections.abc import Callable

    from greenlab.hub import GuestHub
    from greenlab.hub.blocks import Block
    from greenlab.pools.processes.framing import Bytes, Parcel
    from greenlab.pools.protocol import Job

Event = eventlet.event.Event
GreenletExit = eventlet.greenlet.GreenletExit

STREAMS: Final = {framing.STDOUT: "stdout", framing.STDERR: "stderr"}
"""The stream that a kind of frame is of."""


class ActiveJob:
    """A job that runs now. Each pool adds how it deals with its tasks.

    Attributes:
        number: what the worker processes know it by.
        pending: how many tasks have been pulled and have not ended.
        error: why `run` is to raise, or None.
        puller: the green thread that takes tasks from the job now, and may have to wait for one; or None.
    """

    def __init__(self, number: int, job: Job) -> None:
        self.number = number
        self.job = job
        self.pending = 0
        self.error: BaseException | None = None
        self.puller: Any = None
        self._event: Any = None

    def wait(self) -> None:
        """Wait for a change: room at a worker, an ended task, an error."""
        if self._event is None:
            self._event = Event()
        self._event.wait()

    def wake(self) -> None:
        """End the wait."""
        if self._event is not None:
            event, self._event = self._event, None
            event.send()

    def await_end(self) -> None:
        """Wait until all tasks that have been pulled have ended.

        Raises:
            BaseException: the error of `stop`.
        """
        while self.pending and self.error is None:
            self.wait()
        if self.error is not None:
            raise self.error

    def stop(self, error: BaseException) -> None:
        """Make `run` raise; what still comes for this job is dropped."""
        if self.error is None:
            self.error = error
        self.wake()
        if self.puller is not None:
            hub = eventlet.hubs.get_hub()
            hub.schedule_call_global(0, self._end_pull, hub)

    def _end_pull(self, hub: GuestHub) -> None:
        """End a wait for the job's next task, which may be long in coming. The hub calls this."""
        if self.puller is not None:
            nested.throw(hub, self.puller, self.error)

    def pack(self, index: int, item: Any) -> Parcel | None:
        """Pickle an item for its way to a process; a task whose item cannot be sent fails, and there is None."""
        try:
            return serialization.dump(item)
        except GreenletExit:  # the run is being cancelled
            raise
        except BaseException as cause:
            now_s = perf_counter()
            self.tell(index, now_s, now_s, None, serialization.unsendable_item(index, item, cause))
            return None

    def tell(self, index: int, start_s: float, end_s: float, value: Any, error: BaseException | None = None) -> None:
        """Report to the job how a task ended."""
        self.pending -= 1
        if self.error is not None:
            return
        try:
            if error is None:
                self.job.succeed(index, start_s, end_s, value)
            else:
                self.job.fail(index, start_s, end_s, error)
        except BaseException as broken:  # the job itself, whose run must not wait for ever
            self.stop(broken)

    def write(self, stream: str, text: str, index: int | None) -> None:
        """Send the job what a task printed."""
        self._give(self.job.write, stream, text, index)

    def note_block(self, block: Block) -> None:
        """Report to the job a block in a process."""
        self._give(self.job.note_block, block)

    def _give(self, take: Callable[..., object], *what: Any) -> None:
        if self.error is not None:
            return
        try:
            take(*what)
        except BaseException as broken:
            self.stop(broken)


class Printed:
    """What tasks have printed, joined while it is of one task and stream."""

    def __init__(self) -> None:
        self._to: tuple[ActiveJob, str, int | None] | None = None
        self._texts: list[str] = []

    def add(self, active: ActiveJob, stream: str, index: int | None, body: Bytes) -> None:
        """Keep a text; pass on what is there if it is another task's."""
        to = active, stream, index
        if self._to != to:
            self.flush()
            self._to = to
        self._texts.append(str(body, "utf-8", "replace"))

    def flush(self) -> None:
        """Pass on what is there."""
        if self._to is not None:
            active, stream, index = self._to
            self._to = None
            texts, self._texts = self._texts, []
            active.write(stream, "".join(texts), index)
