"""Signed envelopes: nothing that came through a broker is unpickled before its signature has been checked.

To submit a function is to run code, so the secret is the permission: without it nobody can make a message that a
worker, or a kernel, would unpickle.

An envelope is its HMAC-SHA-256 (32 bytes), the length of its header (4 bytes, big endian), the header (JSON) and the
body. The HMAC is over all that follows it.

Guarantees: `open_envelope` looks at nothing but the length of what it is given before the HMAC is compared, in constant
time; a message that is for another queue, that has expired, or that was seen before is refused.

Must not import: pickle, celery, anything of greenlab but errors.
"""

from __future__ import annotations

import hmac
import json
import struct
import time
from typing import Any, Final, NamedTuple

from greenlab.errors import GreenlabError

MOST_BYTES: Final = 64 << 20
"""The largest envelope that is looked at."""
_DIGEST: Final = "sha256"
_MAC_BYTES: Final = 32
_LENGTH: Final = struct.Struct("!I")
_CLOCKS_APART_S: Final = 30.0
"""How far the clocks of two machines may be apart before a fresh message is taken for an expired one."""


class RefusedError(GreenlabError):
    """A message was not opened: its signature is wrong, or it is late, elsewhere or a second time."""


class Header(NamedTuple):
    """What is signed beside the body.

    Attributes:
        queue: the queue that the message is for.
        job: the job that it is of; empty for what is of none.
        id: its own id.
        expires_s: until when it is valid, in seconds since the epoch.
        reply_to: the queue that reports of it go to; empty where there are none.
    """

    queue: str
    job: str
    id: str
    expires_s: float
    reply_to: str = ""


def make_envelope(secret: bytes, header: Header, body: bytes) -> bytes:
    """Sign a message.

    Raises:
        RefusedError: it is larger than `MOST_BYTES`.
    """
    head = json.dumps(header).encode()
    signed = _LENGTH.pack(len(head)) + head + body
    if len(signed) + _MAC_BYTES > MOST_BYTES:
        raise RefusedError(
            f"a message of {len(signed) >> 20} MiB is more than the {MOST_BYTES >> 20} MiB that are sent"
        )
    return hmac.digest(secret, signed, _DIGEST) + signed


def open_envelope(secret: bytes, envelope: Any, queue: str) -> tuple[Header, memoryview]:
    """Check a message, and return its header and body.

    Args:
        secret: the key.
        envelope: what has arrived, whatever it is.
        queue: the queue that it has arrived by.

    Raises:
        RefusedError: it is no envelope that may be opened; the message says why.
    """
    if not isinstance(envelope, bytes | bytearray | memoryview):
        raise RefusedError(f"not an envelope, but a {type(envelope).__name__}")
    view = memoryview(envelope)
    if not _MAC_BYTES + _LENGTH.size <= len(view) <= MOST_BYTES:
        raise RefusedError(f"an envelope of {len(view):,} bytes")
    signed = view[_MAC_BYTES:]
    if not hmac.compare_digest(hmac.digest(secret, signed, _DIGEST), view[:_MAC_BYTES]):
        raise RefusedError("the signature is wrong: it was made with another secret, or changed on its way")
    (size,) = _LENGTH.unpack(signed[: _LENGTH.size])
    header = Header(*json.loads(bytes(signed[_LENGTH.size : _LENGTH.size + size])))
    if header.queue != queue:
        raise RefusedError(f"the message is for the queue {header.queue!r}, and came by {queue!r}")
    if header.expires_s + _CLOCKS_APART_S < time.time():
        raise RefusedError(f"the message expired {time.time() - header.expires_s:.0f} s ago")
    return header, signed[_LENGTH.size + size :]


class SeenMessages:
    """Remembers the ids of messages until they expire, so that none is taken twice."""

    def __init__(self) -> None:
        self._until_s: dict[str, float] = {}
        self._swept_s = time.time()

    def __len__(self) -> int:
        return len(self._until_s)

    def __contains__(self, id_: str) -> bool:
        return id_ in self._until_s

    def add(self, header: Header) -> None:
        """Remember a message.

        Raises:
            RefusedError: it was seen before.
        """
        now_s = time.time()
        if now_s - self._swept_s > 60:  # old ones are forgotten together, once a minute
            self._swept_s = now_s
            self._until_s = {id_: end_s for id_, end_s in self._until_s.items() if end_s + _CLOCKS_APART_S > now_s}
        if header.id in self._until_s:
            raise RefusedError(f"the message {header.id} was seen before")
        self._until_s[header.id] = header.expires_s
