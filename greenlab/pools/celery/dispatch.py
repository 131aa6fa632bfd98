"""From jobs to workers: how many tasks travel in a message, and when.

Guarantees: tasks are pulled only as fast as they start; many brief tasks travel in one message; a task that takes long
is alone in its message where the tasks of a message run one after another.

Must not import: runs, live, magics, celery, kombu.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from greenlab.errors import NotSendableError
from greenlab.hub import eventlet
from greenlab.pools.celery import messages, signing
from greenlab.pools.celery.job import MOST_BYTES, ActiveJob, Message
from greenlab.pools.processes import serialization

if TYPE_CHECKING:
    from collections.abc import Callable

    from greenlab.pools.celery.connection import Connection
    from greenlab.pools.celery.workers import Workers

_BATCH_S: Final = 0.02
"""How long the tasks of one message may take together, where they run one after another."""
_MOST_TASKS: Final = 1000


class Dispatcher:
    """Sends the tasks of jobs to workers.

    Args:
        workers: those that are known.
        connect: returns the connection to them.
        blocked_after_s: returns how long a task may hold a hub before that is reported.
    """

    def __init__(
        self, workers: Workers, connect: Callable[[], Connection], blocked_after_s: Callable[[], float]
    ) -> None:
        self._workers = workers
        self._connect = connect
        self._blocked_after_s = blocked_after_s

    def limit(self, active: ActiveJob) -> int:
        """Return how many tasks of a job may run at a time."""
        return max(1, min(active.job.concurrency, self._workers.capacity(active.kind)))

    def _brief(self, active: ActiveJob) -> int:
        """How many tasks end within `_BATCH_S`, one after another; 0 of tasks that take longer than that."""
        task_s = active.task_s
        return 0 if task_s is None else min(_MOST_TASKS, int(_BATCH_S / max(task_s, 1e-6)))

    def _batch_size(self, active: ActiveJob) -> int:
        """How many tasks travel in one message: many brief ones, and of long ones no more than run at once there."""
        brief = self._brief(active)
        if self._workers.one_by_one(active.kind):
            return max(1, brief)
        return max(1, brief, -(-self.limit(active) // (4 * max(1, len(self._workers.serving(active.kind))))))

    def _room(self, active: ActiveJob) -> int:
        """How many tasks may be pulled now."""
        limit, count = self.limit(active), max(1, len(self._workers.serving(active.kind)))
        if self._workers.one_by_one(active.kind):
            capacity = self._workers.capacity(active.kind)
            # As many messages as may run, and where all processes may work, one more each that is on its way.
            most = 2 * capacity if limit >= capacity and self._brief(active) else limit
            return (most - len(active.out)) * self._batch_size(active) - len(active.waiting)
        # A worker runs no more of them at once than `limit`; what waits there is there when something ends.
        ahead = max(active.ahead if count == 1 else 0, 2 * count * self._brief(active))
        return limit + ahead - active.outstanding

    def pull(self, active: ActiveJob) -> None:
        """Pull tasks as there is room, until there are no more. The sender takes them from there."""
        job = active.job
        while active.failure is None:
            room = self._room(active)
            if room <= 0:
                active.wait()
                continue
            for _ in range(room):
                try:
                    index, item = job.pull()
                except StopIteration:
                    active.wake()
                    if not active.outstanding:
                        return
                    active.wait()  # what fails may be pulled again
                    break
                active.waiting.append((index, item))
                if len(active.waiting) == 1:
                    active.wake()
            eventlet.sleep(0)

    def send(self, active: ActiveJob) -> None:
        """Send what waits: all that came together while the last message was sent."""
        try:
            while True:
                while not active.waiting:
                    active.wait()
                message = self._pack(active)
                if message.tasks:
                    self._post(active, message)
        except Exception as error:
            active.failure = error
            active.wake()

    def _pack(self, active: ActiveJob) -> Message:
        message = Message()
        size = self._batch_size(active)
        while active.waiting and len(message.tasks) < size and message.size < MOST_BYTES:
            index, item = active.waiting.pop(0)
            try:
                message.add(index, item)
            except Exception as cause:
                active.fail_now(index, serialization.unsendable_item(index, item, cause))
                active.wake()
        if message.tasks:
            active.out[message.id] = message
        return message

    def _post(self, active: ActiveJob, message: Message) -> None:
        connection, job = self._connect(), active.job
        batch = messages.Batch(
            connection.reply_queue, active.id, active.func, _path_for(connection), job.timeout_s, self.limit(active),
            self._blocked_after_s(), message.plain, message.packed,
        )  # fmt: skip
        try:
            message.sent_s = connection.send_batch(message.id, active.kind, batch)
        except signing.RefusedError as error:
            self._send_less(active, message, error)

    def _send_less(self, active: ActiveJob, message: Message, why: signing.RefusedError) -> None:
        """Send the tasks of a message that is too large one by one; one that is so by itself fails.

        Raises:
            NotSendableError: it is the function that is too large.
        """
        if len(active.func) > message.size:
            size = f"{len(active.func) / (1 << 20):.3g} MiB"
            raise NotSendableError(
                f"cannot send the task's function to a worker: it has {size} with what it uses; "
                f"load that inside the task ({why})"
            )
        del active.out[message.id]
        if len(message.tasks) == 1:
            ((index, item),) = message.tasks.items()
            active.fail_now(index, serialization.unsendable_item(index, item, why))
            active.wake()
            return
        alone = [Message() for _ in message.tasks]
        for one, (index, item) in zip(alone, message.tasks.items(), strict=True):
            one.add(index, item)
        active.out |= {one.id: one for one in alone}
        for one in alone:
            self._post(active, one)

    def give_again(self, active: ActiveJob, tasks: list[tuple[int, Any]]) -> None:
        """Send tasks that were not begun, before the others."""
        for index, item in tasks:
            error = active.killed.pop(index, None)
            if error is None:
                active.waiting.insert(0, (index, item))
            else:
                active.fail_now(index, error)
        active.wake()


def _path_for(connection: Connection) -> tuple[str, ...]:
    return tuple(map(str, sys.path)) if connection.settings.embedded else ()
