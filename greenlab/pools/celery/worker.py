"""A Celery worker's side of the pool: it checks messages, runs their tasks, and reports how they ended.

One `WorkerSide` lives in each process: in the worker's main process, which receives messages, answers the kernel's
questions and tells what it holds; and in each child of a prefork worker, which runs batches.

Guarantees: a message is checked before anything of it is unpickled, and at most once is it run by this worker;
while messages are held the worker says so every two seconds, and otherwise no timer runs.

Must not import: runs, live, magics.
"""

from __future__ import annotations

import base64
import logging
import os
import platform
from time import perf_counter
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from celery import signals
from celery.bootsteps import StartStopStep
from celery.exceptions import InvalidTaskError
from celery.utils.log import get_logger
from celery.worker import state
from celery.worker.control import control_command
from celery.worker.request import Request
from celery.worker.strategy import default as celerys_strategy

from greenlab.pools.celery import messages, signing
from greenlab.pools.celery.green_batches import GreenBatches
from greenlab.pools.celery.lease import Lease
from greenlab.pools.celery.reports import Reports
from greenlab.pools.celery.serial_batches import SerialBatches
from greenlab.pools.celery.workers import PROCESSES
from greenlab.pools.this_process import count_cores, enter_worker
from greenlab.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable

    from greenlab.pools.celery.batch import Batches

HELD_EVERY_S: Final = 2.0

_log = get_logger(__name__)
_side: dict[str, WorkerSide] = {}


def begin(controller: Any, pool: str, secret: bytes) -> None:
    """Make a worker of this process."""
    # Its tasks wait for calls as green threads: calls that compute need not hold its hub.
    enter_worker(offloads_to="celery" if pool == "eventlet" else None)
    _side["here"] = WorkerSide(controller, pool, secret)
    controller.app.steps["consumer"].add(Reconnect)


def begin_process(app: Any, name: str, secret: Callable[[], bytes]) -> None:
    """Make this a process of a prefork worker, unless it has been forked from one.

    Args:
        app: the Celery application, as this process has it.
        name: the worker's node name.
        secret: returns the key that messages are signed with.
    """
    if not _side:
        enter_worker()
        _side["here"] = WorkerSide(SimpleNamespace(app=app, hostname=name), "prefork", secret(), shares_lease=False)


def here() -> WorkerSide:
    """Return the worker that this process is."""
    return _side["here"]


class WorkerSide:
    """What greenlab does in one worker process.

    Args:
        controller: Celery's `WorkController`.
        pool: the name of Celery's pool.
        secret: the key that messages are signed with.
        shares_lease: whether this process knows what the worker's main process has told last.
    """

    def __init__(self, controller: Any, pool: str, secret: bytes, *, shares_lease: bool = True) -> None:
        self.controller = controller
        self.pool = pool
        self.secret = secret
        self.name = controller.hostname
        self._seen = signing.SeenMessages()
        self._held: dict[str, str] = {}  # the reply queue of each message that is here
        self._telling: Any = None
        self._lease = Lease()
        self._shares_lease = shares_lease
        self._begin_process()
        signals.celeryd_after_setup.connect(lambda **_: _show_warnings(), weak=False)
        signals.worker_process_init.connect(lambda **_: self._begin_process(), weak=False)

    def _begin_process(self) -> None:
        """Make what belongs to one process: also in each child, after the fork."""
        self.pid = os.getpid()
        self.reports = Reports(self.controller.app, self.secret, self.name, self._lease.renew)
        is_green = self.pool == "eventlet"
        self._batches: Batches = GreenBatches(self.reports, self._room) if is_green else SerialBatches(self.reports)
        _show_warnings()

    # --- messages

    def receive(self, request: Any, envelope: Any) -> None:
        """Check a message that has arrived, in the main process.

        Raises:
            InvalidTaskError: it is refused. Celery says so in the log and drops it.
        """
        try:
            header, _ = signing.open_envelope(self.secret, envelope, request.delivery_info["routing_key"])
            self._seen.add(header)
            if not header.reply_to:
                raise signing.RefusedError("it names no queue for reports")
        except signing.RefusedError as error:
            raise InvalidTaskError(f"greenlab refused a message: {error}") from None
        except Exception as error:
            raise InvalidTaskError(f"greenlab refused a message: {type(error).__name__}") from None
        if request.id not in state.revoked:  # else Celery drops it without another word
            self._held[request.id] = header.reply_to
            self._tell_held()

    def refuse_redelivered(self, envelope: Any, queue: str) -> bool:
        """Refuse a message that the broker has given to another worker before: what that one began, nobody runs again.

        Its kernel is told, and sends again what was not begun. Return False where it is no message that may be opened,
        or this worker has had it itself: those are refused like any other.
        """
        try:
            header, _ = signing.open_envelope(self.secret, envelope, queue)
        except Exception:
            return False
        if header.id in self._seen or not header.reply_to:
            return False
        self.reports.tell(header.reply_to, messages.REDELIVERED, header.id)
        return True

    def forget(self, message: str) -> None:
        """A message is through."""
        self._held.pop(message, None)

    def lost(self, message: str, pid: int, signum: int | None, code: int | None) -> None:
        """Report that the process that had a message has died."""
        queue = self._held.pop(message, None)
        if queue is not None:
            self.reports.tell(queue, messages.LOST, message, pid, signum, code)

    def run(self, request: Any, envelope: bytes) -> None:
        """Run a batch: what Celery calls a task. Returns when each of its tasks has ended, or was returned."""
        if request.id in state.revoked:  # since Celery looked: a green thread begins a little later
            return
        header, body = signing.open_envelope(self.secret, envelope, request.delivery_info["routing_key"])
        batch = messages.load_batch(header, body)
        if self._shares_lease and not self._lease.holds(request.greenlab_received_s):
            back = [index for index, _ in messages.tasks_of(batch)]
            self.reports.tell(header.reply_to, messages.RETURNED, str(request.id), back)
            self.reports.flush()
            return
        self._batches.run(str(request.id), batch)

    def reconnected(self) -> None:
        """The broker was lost, and is back: go on telling what is held, without what Celery dropped with it.

        With the connection Celery 5.6 clears its timers, and forgets each message that no process has accepted: it
        counts on the broker to deliver it again. Of those some may run all the same, so nobody runs them again.
        """
        if self.pool in PROCESSES:
            accepted = {job.correlation_id for job in self.controller.pool._pool._cache.values()}
            self._held = {message: queue for message, queue in self._held.items() if message in accepted}
        self._telling = None
        if self._held:
            self._tell_held()

    def _tell_held(self) -> None:
        """Report now and then what is held, as long as anything is."""
        if self._telling is None:
            self._telling = self.controller.timer.call_after(HELD_EVERY_S, self._held_again)

    def _held_again(self) -> None:
        self._telling = None
        by_queue: dict[str, list[str]] = {}
        for message, queue in self._held.items():
            by_queue.setdefault(queue, []).append(message)
        for queue, held in by_queue.items():
            self.reports.tell(queue, messages.HELD, held)
        if self._held:
            self._tell_held()

    # --- questions

    def answer(self, sealed: str) -> None:
        """Do what a kernel asks of all workers."""
        envelope = base64.b64decode(sealed)
        header, body = signing.open_envelope(self.secret, envelope, messages.CONTROL)
        self._seen.add(header)
        kind, *about = messages.load(body)
        if kind == messages.ASK_HELLO:
            self.reports.tell(about[0], messages.HELLO, tuple(self.facts()))
        elif kind == messages.ASK_AGAIN:
            queue, ids = about
            self.reports.tell_again(queue)
            self.reports.tell(queue, messages.STATE, *self._sort(ids))
        elif kind == messages.ASK_END:
            self._end(*about)
        elif kind == messages.ASK_KILL:
            self._kill(*about)
        elif kind == messages.ASK_LIMIT:
            self._batches.set_limit(*about)

    def _sort(self, ids: list[str]) -> tuple[list[str], list[str], list[str]]:
        """Return those of some messages that are here, those that are through, and those that never came.

        The last are refused from now on: the kernel that is told that they are not here may send their tasks again.
        """
        held = [id_ for id_ in ids if id_ in self._held]
        through = [id_ for id_ in ids if id_ in self._seen and id_ not in self._held]
        strange = [id_ for id_ in ids if id_ not in self._seen]
        state.revoked.update(strange)
        return held, through, strange

    def _room(self) -> int:
        """How many tasks it may run at a time, `-c`: Celery sets it a little after this is made."""
        return int(self.controller.concurrency or 1)

    def facts(self) -> messages.WorkerFacts:
        """Return what this worker is."""
        queues = tuple(self.controller.app.amqp.queues.consume_from)
        running = self._batches.running or len(state.active_requests)
        return messages.WorkerFacts(
            self.name, self.pool, self._room(), queues, platform.python_version(),
            __version__, self.pid, running, self.pool == "eventlet",
            platform.node(), count_cores(),
        )  # fmt: skip

    def _kill(self, job: str, message: str, index: int) -> None:
        if self.pool in PROCESSES:
            # Those behind a task that is worth killing were returned long ago: it is alone in its process.
            self._terminate([message] if message in self._held else [])
        else:
            self._batches.kill(job, message, index)

    def _terminate(self, held: list[str]) -> None:
        """End the processes that run these messages. Celery reports each as lost, see `BatchRequest.on_failure`."""
        for request in list(state.reserved_requests):
            if request.id in held:
                request.terminate(self.controller.pool, signal="KILL")

    def _end(self, queue: str, job: str, held: list[str]) -> None:
        """Stop what runs of a job, and let none of its messages begin that is still on its way here."""
        state.revoked.update(held)
        mine = [message for message in held if message in self._held]
        self._batches.end(job)
        if self.pool in PROCESSES:
            self._terminate(mine)
        for message in mine:
            self.forget(message)
        self.reports.tell(queue, messages.ENDED, job)


def _show_warnings() -> None:
    """Have warnings written where prints go, to the cell whose task warns: Celery (5.7) makes them lines of its log."""
    logging.captureWarnings(False)


class Reconnect(StartStopStep):  # type: ignore[misc]  # Celery ships no types
    """Informs the worker's side each time that there is a connection to the broker, before a message comes by it."""

    requires = ("celery.worker.consumer.connection:Connection",)

    def start(self, parent: Any) -> None:  # noqa: ARG002 - as StartStopStep
        """The consumer has connected."""
        here().reconnected()


def take_messages(task: Any, app: Any, consumer: Any, **options: Any) -> Callable[..., Any]:
    """Return what takes messages of ours from Celery, and refuses those that are none of a task's, or come again.

    Of the former Celery's own (5.7) ends the worker, and the message is there again for the next one.
    """
    take = celerys_strategy(task, app, consumer, **options)

    def take_checked(message: Any, *args: Any, **options: Any) -> Any:
        payload = message.payload
        is_tasks = isinstance(payload, list) and len(payload) == 3
        if not is_tasks or not all(map(isinstance, payload, (list, dict, dict))):
            raise InvalidTaskError("greenlab refused a message: its body is none of a task's")
        if not isinstance(message.headers.get("id"), str):
            raise InvalidTaskError("greenlab refused a message: it has no id")
        if message.delivery_info.get("redelivered"):
            envelope = payload[0][0] if payload[0] else None
            if here().refuse_redelivered(envelope, message.delivery_info["routing_key"]):
                message.ack_log_error(_log, consumer.connection_errors)
                return None
        return take(message, *args, **options)

    return take_checked


class BatchRequest(Request):  # type: ignore[misc]  # Celery ships no types
    """A message of ours, as the worker's main process has it."""

    def __init_subclass__(cls, **options: Any) -> None:
        """Have the class that Celery runs forget what is through.

        Celery 5.6.3 makes a subclass of its own (`create_request_cls`), whose `on_success` calls none of this class.
        """
        super().__init_subclass__(**options)
        of_celery = cls.on_success

        def on_success(self: BatchRequest, *args: Any, **options: Any) -> Any:
            """All of its tasks have been reported by the process that ran them."""
            try:
                return of_celery(self, *args, **options)
            finally:
                here().forget(self.id)

        cls.on_success = on_success

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._request_dict["greenlab_received_s"] = perf_counter()  # what the process that runs it is handed
        here().receive(self, self.args[0] if self.args else None)

    def on_failure(self, exc_info: Any, *args: Any, **options: Any) -> Any:
        """The process that ran it has died, or greenlab itself failed there."""
        error = exc_info.exception
        signum, code = _how_it_ended(str(error))
        here().lost(self.id, self.worker_pid or 0, signum, code)
        return super().on_failure(exc_info, *args, **options)


def _how_it_ended(said: str) -> tuple[int | None, int | None]:
    """Read the signal or the exit code from what billiard says of a dead process (4.2: "signal 9", "exitcode 3")."""
    import re
    import signal

    found = re.search(r"signal (\d+)", said)
    if found:
        return int(found[1]), None
    found = re.search(r"\((SIG[A-Z]+)\)", said)
    if found:
        return int(getattr(signal, found[1])), None
    found = re.search(r"exitcode (-?\d+)", said)
    return None, int(found[1]) if found else None


@control_command(name=messages.CONTROL, args=[("sealed", str)], signature="<envelope>", visible=False)  # type: ignore[untyped-decorator]
def _on_control(_state: Any, sealed: str) -> None:
    try:
        here().answer(sealed)
    except signing.RefusedError as error:
        _log.warning("greenlab refused a question: %s", error)
