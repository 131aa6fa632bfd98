"""`FeedHub`: hundreds of RSS feeds with the latency of the open web, served from this machine.

Guarantees: arguments are checked here, before a process is started; what is served depends on them alone.
Must not import: asyncio, anything of greenlab but errors and this folder.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from greenlab.errors import GreenlabError, UsageError
from greenlab.lab._feeds import MEDIAN_LATENCY_S, latency_s
from greenlab.lab._process import ServerProcess

MAX_DELAY_S = 3600.0
_CONTROL_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Stats:
    """What a server has counted since it started, or since `reset()`; asking for it is not counted.

    Attributes:
        requests: requests that arrived.
        in_flight: requests that have arrived and are not yet answered; those whose client hung up are gone.
        peak_in_flight: the most that were in flight at once.
        bytes_sent: bytes of all answers, with their headers.
        errors: answers with a status of 400 or more.
    """

    requests: int
    in_flight: int
    peak_in_flight: int
    bytes_sent: int
    errors: int


class FeedHub(ServerProcess):
    """An HTTP server of RSS feeds, each of ~20 KB and ~30 items, in a process of its own on 127.0.0.1.

    The latency of a feed is fixed: log-normal over the feeds, with a median of 150 ms, a sigma of 0.5 and no
    more than 2 s. The same seed gives the same feeds and latencies everywhere. It is a context manager.

        with FeedHub(seed=7) as hub:
            feeds = hub.urls(500)

    Args:
        seed: what the feeds and their latencies are made from.
        latency_s: seconds that every feed takes instead; 0 answers at once.
        feeds: how many feeds there are.
        port: the port to listen on; 0 takes a free one at each start.
        fail_every: with k > 0, every k-th feed (k-1, 2k-1 …) answers 503, after its latency.

    Raises:
        UsageError: an argument is out of its range.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        latency_s: float | None = None,
        feeds: int = 10_000,
        port: int = 0,
        fail_every: int = 0,
    ) -> None:
        super().__init__("greenlab.lab._server")
        _check_whole("seed", seed, "such as seed=7")
        _check_whole("feeds", feeds, "1 or more", low=1)
        _check_whole("port", port, "0 for any free port, or up to 65535", low=0, high=65535)
        _check_whole("fail_every", fail_every, "0 for never, or k to fail every k-th feed", low=0)
        if latency_s is not None:
            _check_seconds("latency_s", latency_s)
        self._seed = seed
        self._latency_s = latency_s
        self._feeds = feeds
        self._asked_port = port
        self._fail_every = fail_every

    def urls(self, n: int) -> list[str]:
        """Return the addresses of the first `n` feeds, such as http://127.0.0.1:40123/feeds/17.xml.

        Raises:
            UsageError: the hub is not started, or has fewer than `n` feeds.
        """
        self._check_count(n)
        port = self._running_port()
        return [f"http://127.0.0.1:{port}/feeds/{index}.xml" for index in range(n)]

    def latencies(self, n: int) -> list[float]:
        """Return how long each of the first `n` feeds takes to answer, in seconds. The hub need not be started.

        Raises:
            UsageError: the hub has fewer than `n` feeds.
        """
        self._check_count(n)
        if self._latency_s is not None:
            return [self._latency_s] * n
        return [latency_s(self._seed, index) for index in range(n)]

    def delay_url(self, seconds: float) -> str:
        """Return the address of a short text that is answered after `seconds` (0 to 3600).

        Raises:
            UsageError: the hub is not started, or `seconds` is out of range.
        """
        _check_seconds("seconds", seconds)
        return f"http://127.0.0.1:{self._running_port()}/delay/{float(seconds)}"

    def stats(self) -> Stats:
        """Return what the server has counted.

        Raises:
            UsageError: the hub is not started.
            GreenlabError: the server does not answer.
        """
        return Stats(**json.loads(self._ask("GET", "/stats")))

    def reset(self) -> None:
        """Set the counts to zero, and the peak to what is in flight now.

        Raises:
            UsageError: the hub is not started.
            GreenlabError: the server does not answer.
        """
        self._ask("POST", "/reset")

    def __repr__(self) -> str:
        # Without the port, which changes at each start: stored notebook outputs are compared.
        latency = (
            f"{MEDIAN_LATENCY_S * 1e3:g} ms median latency"
            if self._latency_s is None
            else f"{self._latency_s * 1e3:g} ms latency"
        )
        failing = f", 1 in {self._fail_every} fails" if self._fail_every else ""
        state = "stopped" if self._process is None else "started"
        return f"<FeedHub seed={self._seed}: {self._feeds} feeds, {latency}{failing}, {state}>"

    def _options(self) -> dict[str, Any]:
        return {
            "seed": self._seed,
            "latency_s": self._latency_s,
            "feeds": self._feeds,
            "port": self._asked_port,
            "fail_every": self._fail_every,
            "max_delay_s": MAX_DELAY_S,
        }

    def _check_count(self, n: int) -> None:
        _check_whole("n", n, "0 or more, such as hub.urls(500)", low=0)
        if n > self._feeds:
            raise UsageError(f"this hub has {self._feeds} feeds, not {n}: FeedHub(feeds={n}) makes as many")

    def _ask(self, method: str, path: str) -> bytes:
        # Late, so that the server, which loads this folder too, starts sooner. And not urllib, which would
        # ask a proxy that the environment names.
        from http.client import HTTPConnection, HTTPException

        connection = HTTPConnection("127.0.0.1", self._running_port(), timeout=_CONTROL_TIMEOUT_S)
        try:
            connection.request(method, path, headers={"Connection": "close"})
            return connection.getresponse().read()
        except (OSError, HTTPException) as error:
            raise GreenlabError(f"the hub's server does not answer ({error}): hub.stop(), hub.start()") from error
        finally:
            connection.close()


def _check_whole(name: str, value: object, wanted: str, *, low: int | None = None, high: int | None = None) -> None:
    if (
        not isinstance(value, int)
        or isinstance(value, bool)
        or (low is not None and value < low)
        or (high is not None and value > high)
    ):
        raise UsageError(f"{name} is {value!r}: give a whole number, {wanted}")


def _check_seconds(name: str, value: object) -> None:
    if (
        not isinstance(value, int | float)
        or isinstance(value, bool)
        or not math.isfinite(value)
        or not 0 <= value <= MAX_DELAY_S
    ):
        raise UsageError(f"{name} is {value!r}: give seconds, 0 to {MAX_DELAY_S:g}")
