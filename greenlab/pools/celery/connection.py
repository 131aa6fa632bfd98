"""The kernel's connection to Celery's workers: sends batches and questions, and reads reports as they come.

It needs kombu, which speaks with brokers, and not Celery, which would take a third of a second more to import: a batch
is a message as Celery's protocol describes it (version 2), a question one to the mailbox of its remote control.

Guarantees: nothing is unpickled before its signature was checked; a broker that goes away is waited for, and those who
listen hear of both, and of whatever else ends the reading; the green thread that reads is there only while somebody
listens, and `_REST_S` longer.

Must not import: celery, runs, live, magics.
"""

from __future__ import annotations

import base64
import contextlib
import math
import time
import uuid
import warnings
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol

import greenlet
import kombu
from kombu.exceptions import OperationalError

from greenlab.errors import UsageError
from greenlab.hub import eventlet
from greenlab.pools.celery import messages, parts, settings, signing

if TYPE_CHECKING:
    from greenlab.pools.celery.messages import Report

_VALID_S: Final = 24 * 3600.0
"""How long a batch may wait in its queue: workers may be started later."""
_QUESTION_VALID_S: Final = 60.0
_FORGET_S: Final = 3600
"""After how many idle seconds a broker may drop the queue of reports."""
_AGAIN_S: Final = (0.1, 0.2, 0.5, 1.0)
_REST_S: Final = 10.0
"""How long nothing may run before it is read no more: kombu (5.7) asks Redis each second for what has come."""
_CONNECT_S: Final = 4.0
_ANSWER_S: Final = 6.0
"""How long a broker that takes a connection may take to answer by it."""
_QUIET_S: Final = 3.0
"""How long nothing may come by a broker before it is looked whether it answers: workers speak every two seconds."""
_ECHO_S: Final = 3.0
"""How long what a kernel sends to itself may take."""
_ECHO: Final = "echo"
_LEAVE_S: Final = 2.0
"""How long a broker may take to answer that nobody reads any more. What reads would be left behind half-way else."""
_MAILBOX: Final = kombu.Exchange("celery.pidbox", type="fanout", durable=False, delivery_mode="transient")
"""Where all of Celery's workers hear what remote control asks."""


class Listener(Protocol):
    """What is told of reports, and of the connection."""

    @property
    def busy(self) -> bool:
        """Whether reports are waited for."""

    def heard(self, report: Report, offset_s: float) -> None:
        """A report has come. Its times and `offset_s` add up to this process's `time.perf_counter()`."""

    def lost_broker(self, why: str) -> None:
        """The broker is away."""

    def found_broker(self) -> None:
        """The broker is back; what was on its way may be gone."""

    def fail(self, error: Exception) -> None:
        """Nobody reads reports any more, because of an error that is not the broker's."""


class Connection:
    """Sends to workers, and reads what they report.

    Args:
        listener: what is told of reports, and of whether the broker is there.

    Attributes:
        broken: whether the broker is away.
        lost_s: when it was last found to be, `time.perf_counter()`.

    Raises:
        UsageError: no broker is configured, and the embedded one does not run.
    """

    def __init__(self, listener: Listener) -> None:
        self.settings = settings.find()
        self.reply_queue = f"greenlab.reply.{uuid.uuid4().hex}"
        self._listener = listener
        self._reader: Any = None
        self._resting: Any = None
        self._sending = eventlet.semaphore.Semaphore(1)
        self._producer: Any = None
        self._offsets: dict[str, float] = {}
        self._seen = signing.SeenMessages()
        self._arrived_s = perf_counter()
        self._echo_s = math.inf  # when the last message to this kernel itself was sent, while it has not come
        self.broken = False
        self.lost_s = -math.inf

    @property
    def broker(self) -> str:
        """The broker's URL without its password."""
        return str(self._new_link().as_uri())

    def open(self) -> None:
        """Read reports from now on.

        Raises:
            OSError, kombu.exceptions.OperationalError: the broker cannot be reached.
        """
        if self._reader is None or self._reader.dead:
            connection = self._connect()
            self.broken = False  # whatever ended the last reader
            self._reader = eventlet.spawn(self._read, connection)
        self._rest_later()

    def _rest_later(self) -> None:
        if self._resting is not None:
            self._resting.cancel()
        self._resting = eventlet.spawn_after(_REST_S, self._rest)

    def _rest(self) -> None:
        self._resting = None
        self._rest_later() if self._listener.busy else self.close()

    def close(self) -> None:
        """Read no more. Waits, cooperatively, until the reader has taken leave of the broker."""
        if self._resting is not None:
            self._resting.cancel()
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.kill()
            with eventlet.Timeout(_LEAVE_S, False), contextlib.suppress(greenlet.GreenletExit):
                reader.wait()
        if self._producer is not None:
            self._producer.connection.release()
            self._producer = None

    # --- sending

    def send_batch(self, message: str, kind: str, batch: messages.Batch) -> float:
        """Send a batch; return when it was handed to the broker. Waits, cooperatively, also for one that is away.

        Raises:
            RefusedError: it is larger than is sent, or than the broker takes.
        """
        queue = settings.queue_of(kind)
        header = signing.Header(queue, batch.job, message, time.time() + _VALID_S, batch.reply_queue)
        envelope = signing.make_envelope(self.settings.secret, header, messages.dump_batch(batch))
        body: Any = [envelope], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
        headers = {
            "lang": "py", "task": messages.TASK, "id": message, "root_id": message, "parent_id": None, "group": None,
            "retries": 0, "eta": None, "expires": None, "timelimit": [None, None], "argsrepr": "", "kwargsrepr": "",
            "origin": self.reply_queue, "ignore_result": True,
        }  # fmt: skip

        def send() -> None:
            producer = self._make_producer()
            producer.publish(
                body, serializer="json", headers=headers, exchange="", routing_key=queue, correlation_id=message,
                declare=[kombu.Queue(queue, routing_key=queue)], retry=False,
            )  # fmt: skip
            parts.ask_if_taken(producer, len(envelope))

        return self._retry(send)

    def ask(self, kind: str, *about: Any) -> None:
        """Ask something of all workers. Answers come as reports: where nobody reads them, nothing is asked."""
        if self._reader is None:  # it was closed since this was begun: a new link would be left open
            return
        header = signing.Header(messages.CONTROL, "", uuid.uuid4().hex, time.time() + _QUESTION_VALID_S)
        envelope = signing.make_envelope(self.settings.secret, header, messages.dump((kind, *about)))
        sealed = base64.b64encode(envelope).decode()
        body: Any = {"method": messages.CONTROL, "arguments": {"sealed": sealed}, "destination": None}
        self._retry(lambda: self._make_producer().publish(
            body, serializer="json", exchange=_MAILBOX.name, declare=[_MAILBOX], retry=False,
        ))  # fmt: skip

    def answers(self) -> bool:
        """Return whether the broker answers: something has come by it of late, or what this kernel sends itself comes.

        One that stands still keeps its connections, and all workers seem silent.
        """
        now_s = perf_counter()
        if now_s - self._arrived_s < _QUIET_S:
            return True
        if self._echo_s == math.inf:
            self._echo_s = now_s
            eventlet.spawn(self._send_echo)
        return now_s - self._echo_s < _ECHO_S

    def note_arrival(self) -> None:
        """Something has come, or nobody has listened."""
        self._arrived_s, self._echo_s = perf_counter(), math.inf

    def _send_echo(self) -> None:
        header = signing.Header(self.reply_queue, _ECHO, uuid.uuid4().hex, time.time() + _QUESTION_VALID_S)
        envelope = signing.make_envelope(self.settings.secret, header, b"")
        self._retry(lambda: self._make_producer().publish(
            envelope, exchange="", routing_key=self.reply_queue, content_type="application/data",
            content_encoding="binary", expiration=_QUESTION_VALID_S, retry=False,
        ))  # fmt: skip

    def _retry(self, send: Any) -> float:
        """Send; return when that began. By when it ended, a broker that took it may have been lost again."""
        with self._sending:
            for wait_s in (*_AGAIN_S, *[_AGAIN_S[-1]] * 600):
                began_s = perf_counter()
                try:
                    send()
                except self._errors as error:  # of a broker that is away the reader finds out too, and reports it
                    producer, self._producer = self._producer, None
                    if why := parts.refusal(error):
                        producer.connection.release()  # its channel is closed, and it is not
                        raise signing.RefusedError(why) from None
                    if self._reader is None:  # as in `ask`
                        return began_s
                    eventlet.sleep(wait_s)
                else:
                    return began_s
            began_s = perf_counter()
            send()
            return began_s

    def _make_producer(self) -> Any:
        if self._producer is None:
            self._producer = kombu.Producer(self._new_link())
        return self._producer

    def _new_link(self) -> Any:
        try:
            link = kombu.Connection(
                self.settings.broker, connect_timeout=_CONNECT_S, ssl=settings.tls_of(self.settings.broker) or False
            )
            link.get_transport_cls()
        except (KeyError, ImportError) as error:
            scheme = self.settings.broker.partition("://")[0]
            raise UsageError(
                f"{settings.BROKER} names a {scheme} broker, which cannot be used here ({error}): use redis://, "
                "rediss://, amqp:// or amqps://"
            ) from None
        return link

    @property
    def _errors(self) -> tuple[type[BaseException], ...]:
        connection = self._new_link()
        return (*connection.connection_errors, *connection.channel_errors, OperationalError, OSError)

    # --- reading

    def _connect(self) -> Any:
        connection = self._new_link()
        limit = eventlet.Timeout(_ANSWER_S)  # is no Exception: kombu would try again, without one
        try:
            connection.ensure_connection(max_retries=1, interval_start=0.2, timeout=5)
        except eventlet.Timeout as error:
            if error is not limit:
                raise
            raise TimeoutError("it takes connections, and does not answer") from None
        finally:
            limit.cancel()
        return connection

    def _read(self, connection: Any) -> None:
        try:
            self._read_on(connection)
        except Exception as error:  # such as a warning that is an error by the program's filters
            self._listener.fail(error)

    def _read_on(self, connection: Any) -> NoReturn:
        waits = list(_AGAIN_S)
        while True:
            try:
                queue = kombu.Queue(self.reply_queue, exchange="", routing_key=self.reply_queue, durable=False,
                              auto_delete=False, expires=_FORGET_S)  # fmt: skip
                with connection, kombu.Consumer(connection, [queue], on_message=self._take, no_ack=True):
                    self.note_arrival()
                    if self.broken:
                        self.broken = False
                        self._listener.found_broker()
                    waits = list(_AGAIN_S)
                    while True:
                        connection.drain_events()
            except self._errors as error:
                self._tell_lost(error)
            while True:
                eventlet.sleep(waits.pop(0) if len(waits) > 1 else waits[0])
                try:
                    connection = self._connect()
                except Exception as error:  # whatever the transport raises: it is away
                    self._tell_lost(error)
                else:
                    break

    def _tell_lost(self, error: BaseException) -> None:
        if not self.broken:
            self.broken = True
            self.lost_s = perf_counter()
            self._listener.lost_broker(f"{type(error).__name__}: {error}")

    def _take(self, message: Any) -> None:
        try:
            header, body = signing.open_envelope(self.settings.secret, message.body, self.reply_queue)
            self._seen.add(header)
        except signing.RefusedError as error:
            warnings.warn(f"a report was refused: {error}", RuntimeWarning, stacklevel=2)
            return
        self.note_arrival()
        if header.job == _ECHO:
            return
        report = messages.Report(*messages.load(body))
        self._listener.heard(report, self._offset_s(report))

    def _offset_s(self, report: Report) -> float:
        """Return what the worker's clock and this one are apart.

        The least difference that was seen is what they are apart and the fastest way here; the rest is delay.
        """
        if report.clock and report.clock == messages.this_clock():
            return 0.0
        apart_s = min(perf_counter() - report.sent_s, self._offsets.get(report.worker, math.inf))
        self._offsets[report.worker] = apart_s
        return apart_s
