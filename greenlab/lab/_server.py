"""The feed hub's server: `python -m greenlab.lab._server OPTIONS`, started by `ServerProcess`. Other sites serve as it.

Guarantees: listens on 127.0.0.1 only; announces itself by one line on stdout; ignores SIGINT, which a front
end sends to the whole process group; ends when its stdin does, or when its parent is gone.
Must not import: anything of greenlab but this folder.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import signal
import socket
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Protocol

from greenlab.lab._feeds import Feeds, latency_s
from greenlab.lab._http import Connection, Counters, Response

if TYPE_CHECKING:
    from collections.abc import Callable

_BACKLOG = 4096  # a short one makes hundreds of clients that connect at once wait for a retry, 1 s and more
_PARENT_CHECK_S = 0.5
_STDIN, _STDOUT = 0, 1
_RSS = b"application/rss+xml; charset=utf-8"
_HELP = b"nothing here; there are /feeds/0.xml and on, /delay/SECONDS, /stats\n"


class Served(Protocol):
    """What is served: responses by path, and what is counted of them."""

    counters: Counters

    def respond(self, method: bytes, path: bytes) -> Response:
        """Return the response to a request. `path` has no query."""


class FeedSite:
    """The responses, by path.

    Args:
        options: as `FeedHub` sends them.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        self.counters = Counters()
        self._feeds = Feeds(options["seed"])
        self._seed: int = options["seed"]
        self._count: int = options["feeds"]
        self._latency_s: float | None = options["latency_s"]
        self._fail_every: int = options["fail_every"]
        self._max_delay_s: float = options["max_delay_s"]

    def respond(self, method: bytes, path: bytes) -> Response:
        """Return the response to a request. `path` has no query."""
        if path == b"/reset" and method == b"POST":
            self.counters.reset()
            return Response(b"", counted=False)
        if method == b"POST":
            return Response(b"the methods are GET and HEAD\n", 405)
        if path.startswith(b"/feeds/") and path.endswith(b".xml"):
            return self._feed(path[7:-4])
        if path.startswith(b"/delay/"):
            return self._delay(path[7:])
        if path == b"/stats":
            body = json.dumps(asdict(self.counters)).encode()
            return Response(body, kind=b"application/json", counted=False)
        return Response(_HELP, 404)

    def _feed(self, name: bytes) -> Response:
        # Checked by length first: int() takes quadratic time, and refuses more than 4300 digits.
        if not name.isdigit() or len(name) > 9 or int(name) >= self._count:
            return Response(b"no such feed: they are /feeds/0.xml to /feeds/%d.xml\n" % (self._count - 1), 404)
        index = int(name)
        delay_s = latency_s(self._seed, index) if self._latency_s is None else self._latency_s
        if self._fail_every and (index + 1) % self._fail_every == 0:
            return Response(b"this feed is out of order\n", 503, delay_s=delay_s)
        return Response(self._feeds.body(index), kind=_RSS, delay_s=delay_s)

    def _delay(self, text: bytes) -> Response:
        try:
            delay_s = float(text)
        except ValueError:
            delay_s = -1.0
        if not 0 <= delay_s <= self._max_delay_s:
            return Response(b"a delay is a number of seconds, 0 to %d\n" % self._max_delay_s, 400)
        return Response(b"waited %b s\n" % text, delay_s=delay_s)


def main(make_site: Callable[[dict[str, Any]], Served]) -> None:
    """Serve until stdin ends.

    Args:
        make_site: makes what is served of the options, which come on the command line.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _raise_file_limit()
    asyncio.run(_serve(make_site, json.loads(sys.argv[1])))


async def _serve(make_site: Callable[[dict[str, Any]], Served], options: dict[str, Any]) -> None:
    loop = asyncio.get_running_loop()
    parent_gone = asyncio.Event()
    loop.add_reader(_STDIN, _read_stdin, parent_gone)
    _watch_parent(loop, os.getppid(), parent_gone)
    site = make_site(options)
    try:
        listener = socket.create_server(("127.0.0.1", options["port"]), backlog=_BACKLOG)
    except OSError as error:
        reason = error.strerror or str(error)
        _announce(error=f"port {options['port']} cannot be used ({reason}): take port=0 for any free one")
        return
    server = await loop.create_server(lambda: Connection(site.respond, site.counters), sock=listener, backlog=_BACKLOG)
    # What is loaded stays: no collection needs to walk it while a client measures.
    gc.freeze()
    _announce(port=listener.getsockname()[1])
    await parent_gone.wait()
    server.close()


def _announce(**what: object) -> None:
    os.write(_STDOUT, json.dumps(what).encode() + b"\n")


def _read_stdin(parent_gone: asyncio.Event) -> None:
    if not os.read(_STDIN, 4096):
        parent_gone.set()


def _watch_parent(loop: asyncio.AbstractEventLoop, parent_pid: int, parent_gone: asyncio.Event) -> None:
    """Check now and then for the parent: its forked children may hold this stdin open after it died."""
    if os.getppid() != parent_pid:
        parent_gone.set()
    else:
        loop.call_later(_PARENT_CHECK_S, _watch_parent, loop, parent_pid, parent_gone)


def _raise_file_limit() -> None:
    """Allow as many connections as the system does: macOS starts with 256 descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):
            pass  # macOS refuses more than its kern.maxfilesperproc; the present limit will do


if __name__ == "__main__":
    main(FeedSite)
