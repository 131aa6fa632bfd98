"""What a worker tells kernels, sent in the background: everything that has come together while the last was sent.

Guarantees: what is told first arrives first, for one kernel; what is too large for a message costs nothing that is told
with it; a broker that is away is waited for; the thread that sends is there only while there is something to send. In
an eventlet worker it is a green thread, for `threading` is patched there.

Must not import: runs, live, magics.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from kombu import Producer

from greenlab.pools.celery import messages, parts, signing

if TYPE_CHECKING:
    from collections.abc import Callable

VALID_S: Final = 3600.0
_MOST: Final = 2000
"""How much is told in one message: it is unpickled in the kernel's hub."""
_MOST_BYTES: Final = 4 << 20
_PATIENCE_S: Final = 600.0
_LINGER_S: Final = 5.0


class Reports:
    """Sends reports from one process.

    Attributes:
        worker: the worker's node name.

    Args:
        app: the Celery application.
        secret: the key to sign with.
        worker: the worker's node name.
        told_held: is called when it was told what the worker holds, with the `time.perf_counter()` of that.
    """

    def __init__(self, app: Any, secret: bytes, worker: str, told_held: Callable[[float], None]) -> None:
        self._app = app
        self._secret = secret
        self.worker = worker
        self._told_held = told_held
        self._pid = os.getpid()
        self._waiting: deque[tuple[str, tuple[Any, ...], int]] = deque()
        self._changed = threading.Condition()
        self._sender: threading.Thread | None = None
        self._connection: Any = None
        self._count = 0
        self._sending = False
        self._recent: deque[tuple[str, tuple[Any, ...], int]] = deque()
        self._recent_bytes = 0

    def tell(self, queue: str, kind: str, *about: Any, size: int = 0) -> None:
        """Have something told to the kernel that reads a queue. Returns at once."""
        with self._changed:
            self._waiting.append((queue, (kind, *about), size))
            if self._sender is None:
                self._sender = threading.Thread(target=self._send_all, daemon=True, name="greenlab reports")
                self._sender.start()
            else:
                self._changed.notify()

    def tell_again(self, queue: str) -> None:
        """Report once more how tasks ended of late: the broker was away, and may have forgotten it."""
        with self._changed:  # what is told is kept once more, so here it goes
            recent, self._recent, self._recent_bytes = self._recent, deque(), 0
        for told_to, one, size in recent:
            if told_to == queue:
                self.tell(queue, *one, size=size)
            else:
                self._keep(told_to, one, size)

    def flush(self, timeout_s: float = 10.0) -> None:
        """Wait until all that was told has been sent."""
        end_s = time.monotonic() + timeout_s
        with self._changed:
            while self._waiting or self._sending:
                if not self._changed.wait(max(0.0, end_s - time.monotonic())):
                    return

    def _send_all(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    # A thread to each report would cost more than the report.
                    if not self._changed.wait(_LINGER_S) and not self._waiting:
                        self._sender = None
                        return
                queue, told = self._take()
                self._sending = True
            try:
                self._send(queue, told)
            finally:
                with self._changed:
                    self._sending = False
                    self._changed.notify_all()

    def _take(self) -> tuple[str, list[tuple[Any, ...]]]:
        queue, size = self._waiting[0][0], 0
        told: list[tuple[Any, ...]] = []
        while self._waiting and self._waiting[0][0] == queue and len(told) < _MOST and size < _MOST_BYTES:
            _, one, bytes_ = self._waiting.popleft()
            size += bytes_
            told.append(one)
            if one[0] in messages.ENDS:
                self._keep(queue, one, bytes_)
        while self._recent_bytes > _MOST_BYTES and len(self._recent) > 1:
            self._recent_bytes -= self._recent.popleft()[2] + 100
        return queue, told

    def _keep(self, queue: str, one: tuple[Any, ...], size: int) -> None:
        self._recent.append((queue, one, size))
        self._recent_bytes += size + 100

    def _send(self, queue: str, told: list[tuple[Any, ...]]) -> None:
        """Send a report; of one that is too large each thing by itself, and that in parts if need be."""
        built_s = time.perf_counter()
        try:
            sent = self._send_patiently(queue, self._seal(queue, told, built_s))
        except signing.RefusedError as error:
            for one in told if len(told) > 1 else parts.smaller(told[0], str(error)):
                self._send(queue, [one])
        else:
            if sent and any(one[0] == messages.HELD for one in told):
                self._told_held(built_s)

    def _seal(self, queue: str, told: list[tuple[Any, ...]], built_s: float) -> bytes:
        self._count += 1
        header = signing.Header(queue, "", f"{self.worker}/{self._pid}/{self._count}", time.time() + VALID_S)
        body = messages.dump(messages.Report(self.worker, messages.this_clock(), built_s, told))
        return signing.make_envelope(self._secret, header, body)

    def _send_patiently(self, queue: str, envelope: bytes) -> bool:
        """Send an envelope, once the broker is there; return whether it came.

        Raises:
            RefusedError: it is larger than the broker takes.
        """
        end_s = time.monotonic() + _PATIENCE_S
        while True:
            try:
                self._publish(queue, envelope)
            except Exception as error:
                connection, self._connection = self._connection, None
                if why := parts.refusal(error):
                    if connection is not None:  # its channel is closed, and it is not
                        connection.release()
                    raise signing.RefusedError(why) from None
                if time.monotonic() > end_s:  # the broker is away
                    return False
                time.sleep(0.2)
            else:
                return True

    def _publish(self, queue: str, envelope: bytes) -> None:
        if self._connection is None:
            self._connection = self._app.connection_for_write()
            self._producer = Producer(self._connection)
        self._producer.publish(
            envelope, exchange="", routing_key=queue,
            content_type="application/data", content_encoding="binary", expiration=VALID_S,
        )  # fmt: skip
        parts.ask_if_taken(self._producer, len(envelope))
