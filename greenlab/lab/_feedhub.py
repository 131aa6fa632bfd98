"""`FeedHub`: hundreds of RSS feeds with the latency of the open web, served from this machine.

Guarantees: arguments are checked here, before a process is started; what is served depends on them alone.
Must not import: asyncio, anything of greenlab but errors and this folder.
"""

from __future__ import annotations

from typing import Any

from greenlab.errors import UsageError
from greenlab.lab._checks import MAX_DELAY_S, check_seconds, check_whole
from greenlab.lab._counting import CountingServer
from greenlab.lab._feeds import MEDIAN_LATENCY_S, latency_s


class FeedHub(CountingServer):
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
        super().__init__("greenlab.lab._server", "hub")
        check_whole("seed", seed, "such as seed=7")
        check_whole("feeds", feeds, "1 or more", low=1)
        check_whole("port", port, "0 for any free port, or up to 65535", low=0, high=65535)
        check_whole("fail_every", fail_every, "0 for never, or k to fail every k-th feed", low=0)
        if latency_s is not None:
            check_seconds("latency_s", latency_s)
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
        check_seconds("seconds", seconds)
        return f"http://127.0.0.1:{self._running_port()}/delay/{float(seconds)}"

    def __repr__(self) -> str:
        # Without the port, which changes at each start: stored notebook outputs are compared.
        latency = (
            f"{MEDIAN_LATENCY_S * 1e3:g} ms median latency"
            if self._latency_s is None
            else f"{self._latency_s * 1e3:g} ms latency"
        )
        failing = f", 1 in {self._fail_every} fails" if self._fail_every else ""
        state = "stopped" if self._process is None else "started"
        return f"<FeedHub seed={self._seed}: {self._feeds} feed{'s' * (self._feeds != 1)}, {latency}{failing}, {state}>"

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
        check_whole("n", n, "0 or more, such as hub.urls(500)", low=0)
        if n > self._feeds:
            raise UsageError(f"this hub's feeds are {self._feeds}, not {n}: FeedHub(feeds={n}) makes as many")
