"""As much of an AMQP broker as a client needs to connect and to wait for a message, in threads of this process."""

from __future__ import annotations

import contextlib
import socketserver
import time
from typing import TYPE_CHECKING, Any

import pika
from pika import spec
from servers import LATE_S, serving

if TYPE_CHECKING:
    from collections.abc import Iterator


class Handler(socketserver.BaseRequestHandler):
    """Sends each consumer one message, `late`, late."""

    def handle(self) -> None:
        self.request.recv(8)  # "AMQP" and the version
        self._send(0, spec.Connection.Start(server_properties={"product": "late"}))
        received = b""
        while data := self.request.recv(65536):
            received += data
            while True:
                used, frame = pika.frame.decode_frame(received)
                if frame is None:
                    break
                received = received[used:]
                if not self._answer(frame.channel_number, frame.method):
                    return

    def _answer(self, channel: int, method: Any) -> bool:
        tag = getattr(method, "consumer_tag", "")
        answers = {
            "Connection.StartOk": spec.Connection.Tune(channel_max=9, frame_max=131072, heartbeat=0),
            "Connection.Open": spec.Connection.OpenOk(),
            "Channel.Open": spec.Channel.OpenOk(),
            "Channel.Close": spec.Channel.CloseOk(),
            "Basic.Cancel": spec.Basic.CancelOk(tag),
            "Basic.Consume": spec.Basic.ConsumeOk(tag),
            "Connection.Close": spec.Connection.CloseOk(),
        }
        if answer := answers.get(method.NAME):
            self._send(channel, answer)
        if method.NAME == "Basic.Consume":
            time.sleep(LATE_S)
            self._send(channel, spec.Basic.Deliver(tag, 1, exchange="", routing_key="late"))
            self.request.sendall(pika.frame.Header(channel, 4, spec.BasicProperties()).marshal())
            self.request.sendall(pika.frame.Body(channel, b"late").marshal())
        return bool(method.NAME != "Connection.Close")

    def _send(self, channel: int, method: Any) -> None:
        self.request.sendall(pika.frame.Method(channel, method).marshal())


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """A thread a connection."""

    request_queue_size = 64
    block_on_close = False
    daemon_threads = True


@contextlib.contextmanager
def broker() -> Iterator[int]:
    """Serve; give the port."""
    with serving(server := Server(("127.0.0.1", 0), Handler)):
        yield server.server_address[1]
