"""Cooperative TLS: the methods of `ssl.SSLSocket` that call OpenSSL.

OpenSSL reads and writes the descriptor itself, in the mode that the socket's timeout sets. So each attempt is made
with timeout 0, which turns waiting into SSLWantReadError or SSLWantWriteError, and the timeout is put back before
the wait: another green thread may write while this one reads. Plain `recv`, `accept` and the rest come from sockets.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

from greenlab.greening.sockets import NATIVE, Deadline, green_timeout, set_timeout
from greenlab.greening.waiting import READ, WRITE

if TYPE_CHECKING:
    from greenlab.greening.patches import Patches


def _cooperative(name: str) -> Any:
    native = getattr(ssl.SSLSocket, name)

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        timeout = green_timeout(self)
        if timeout == NATIVE or self._sslobj is None:
            return native(self, *args, **kwargs)
        deadline = None
        while True:
            set_timeout(self, 0.0)
            try:
                return native(self, *args, **kwargs)
            except ssl.SSLWantReadError:
                event = READ
            except ssl.SSLWantWriteError:
                event = WRITE
            finally:
                if self.fileno() >= 0:
                    set_timeout(self, timeout)
            deadline = deadline or Deadline(self, timeout)
            deadline.wait(event)

    method.__name__ = name
    method.__qualname__ = f"SSLSocket.{name}"
    method.__doc__ = native.__doc__
    return method


def patch(patches: Patches) -> None:
    """Make `ssl.SSLSocket` cooperate."""
    for name in ("read", "write", "send", "do_handshake", "unwrap"):
        patches.replace(ssl.SSLSocket, name, _cooperative(name))
