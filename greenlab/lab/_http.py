"""As much of HTTP as the lab's servers need: GET, HEAD and POST without a body, answered after a delay.

Guarantees: one bad client harms only itself: heads, and what is sent ahead of an answer, are limited to 8 KB;
who does not read is not read either; a hang-up cancels the answer. Answers go out in the order of requests.
It shares the machine's cores with the client that a lesson measures, hence the plain parsing.
Must not import: anything of greenlab.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_HEAD_BYTES = 8192

_REASONS = {
    200: b"OK",
    301: b"Moved Permanently",
    302: b"Found",
    400: b"Bad Request",
    404: b"Not Found",
    405: b"Method Not Allowed",
    431: b"Request Header Fields Too Large",
    503: b"Service Unavailable",
}
_HEADS = {
    status: b"HTTP/1.1 %d %b\r\n" % (status, reason)
    + b"Content-Type: %b\r\nContent-Length: %d\r\nConnection: %b\r\n\r\n"
    for status, reason in _REASONS.items()
}
_METHODS = (b"GET", b"HEAD", b"POST")


class Response(NamedTuple):
    """What to send, and when.

    Attributes:
        body: the content; a HEAD request gets its length only.
        status: an HTTP status, one of those that this module knows.
        kind: the media type.
        delay_s: seconds from the request's arrival to the answer.
        counted: whether the counters take notice.
        location: where a redirect leads to.
    """

    body: bytes
    status: int = 200
    kind: bytes = b"text/plain; charset=utf-8"
    delay_s: float = 0.0
    counted: bool = True
    location: bytes = b""


@dataclass(slots=True)
class Counters:
    """What a server counts; `greenlab.lab.Stats` says what each means."""

    requests: int = 0
    in_flight: int = 0
    peak_in_flight: int = 0
    bytes_sent: int = 0
    errors: int = 0

    def arrive(self) -> None:
        """Count a request that has arrived."""
        self.requests += 1
        self.in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)

    def reset(self) -> None:
        """Set the counts to zero, and the peak to what is in flight."""
        self.requests = self.bytes_sent = self.errors = 0
        self.peak_in_flight = self.in_flight


class Connection(asyncio.Protocol):
    """One client's connection.

    Args:
        respond: gives the answer to a method and a path (without its query).
        counters: told of each request and answer.
    """

    __slots__ = (
        "_buffer", "_counters", "_keep", "_loop", "_method", "_respond", "_response", "_timer",
        "_transport",
    )  # fmt: skip

    _transport: asyncio.Transport

    def __init__(self, respond: Callable[[bytes, bytes], Response], counters: Counters) -> None:
        self._respond = respond
        self._counters = counters
        self._loop = asyncio.get_running_loop()
        self._buffer = b""
        self._response: Response | None = None
        self._timer: asyncio.Handle | None = None
        self._method = b""
        self._keep = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = transport  # type: ignore[assignment]  # of a socket, hence a full Transport

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  the protocol's signature
        """Drop the request, which no client waits for any more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._response is not None:
            if self._response.counted:
                self._counters.in_flight -= 1
            self._response = None

    def pause_writing(self) -> None:
        """Stop reading requests, since the client does not read."""
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Read requests again, since the client has read."""
        self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        """Receive bytes; one request is answered at a time."""
        self._buffer += data
        if self._response is None and self._timer is None:
            self._read_request()
        if len(self._buffer) > MAX_HEAD_BYTES and not self._transport.is_closing():
            self._transport.abort()  # it sends more and more, and waits for no response

    def _read_request(self) -> None:
        head, end, rest = self._buffer.partition(b"\r\n\r\n")
        if len(head) > MAX_HEAD_BYTES:
            self._accept(b"GET", Response(b"the request's head is longer than 8 KB\n", 431), keep=False)
            return
        if not end:
            return
        self._buffer = rest
        line, _, fields = head.partition(b"\r\n")
        words = line.split(b" ")
        if len(words) != 3 or words[2] not in (b"HTTP/1.1", b"HTTP/1.0"):
            self._accept(b"GET", Response(b"not a request of HTTP/1.0 or 1.1\n", 400), keep=False)
            return
        method, target, version = words
        fields = b"\r\n" + fields.lower() + b"\r\n"
        if _field(fields, b"content-length") not in (b"", b"0") or b"\r\ntransfer-encoding:" in fields:
            self._accept(method, Response(b"requests have no body here\n", 400), keep=False)
            return
        wish = _field(fields, b"connection")
        keep = b"close" not in wish if version == b"HTTP/1.1" else b"keep-alive" in wish
        if method in _METHODS:
            response = self._respond(method, target.partition(b"?")[0])
        else:
            response = Response(b"the methods are GET and HEAD\n", 405)
        self._accept(method, response, keep=keep)

    def _accept(self, method: bytes, response: Response, *, keep: bool) -> None:
        if response.counted:
            self._counters.arrive()
        self._method, self._response, self._keep = method, response, keep
        if response.delay_s > 0:
            self._timer = self._loop.call_later(response.delay_s, self._send)
        else:
            self._send()

    def _send(self) -> None:
        response = self._response
        assert response is not None  # noqa: S101  a hang-up cancels the timer that leads here
        self._response = self._timer = None
        head = _HEADS[response.status] % (
            response.kind,
            len(response.body),
            b"keep-alive" if self._keep else b"close",
        )
        if response.location:
            head = head[:-2] + b"Location: %b\r\n\r\n" % response.location
        data = head if self._method == b"HEAD" else head + response.body
        if response.counted:
            counters = self._counters
            counters.in_flight -= 1
            counters.bytes_sent += len(data)
            counters.errors += response.status >= 400
        self._transport.write(data)
        if not self._keep:
            self._transport.close()
        elif self._buffer:
            # Not at once: a client that sends many short requests together would fill the stack.
            self._timer = self._loop.call_soon(self._read_next)

    def _read_next(self) -> None:
        self._timer = None
        self._read_request()


def _field(fields: bytes, name: bytes) -> bytes:
    """Return the value of a header field, empty if there is none. `fields` is all of them, in lower case."""
    return fields.partition(b"\r\n" + name + b":")[2].partition(b"\r\n")[0].strip()
