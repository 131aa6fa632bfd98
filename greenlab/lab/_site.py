"""`Site`: a web site to crawl, as knotted as real ones, served from this machine.

Guarantees: arguments are checked here, before a process is started; what is served depends on them alone.
Must not import: asyncio, anything of greenlab but errors and this folder.
"""

from __future__ import annotations

import json
from functools import cached_property
from typing import Any

from greenlab.lab._checks import check_seconds, check_whole
from greenlab.lab._counting import CountingServer
from greenlab.lab._pages import HOME, Pages

MAX_PAGES = 100_000


class Site(CountingServer):
    """An HTTP server of pages that link to each other, in a process of its own on 127.0.0.1.

    Beside pages it has what a crawler meets: loops, redirects to pages that others link to as well and two that lead to
    each other, pages that are gone (404), pages that take `slow_s`, links to another host, and one page under
    several spellings. The same seed gives the same links everywhere. It is a context manager.

        with Site(seed=7) as site:
            site.home

    Args:
        seed: what the links are made from.
        pages: how many pages there are.
        latency_s: seconds that an answer takes; 0 answers at once.
        slow_s: seconds that a slow page takes.
        port: the port to listen on; 0 takes a free one at each start.

    Raises:
        UsageError: an argument is out of its range.
    """

    def __init__(
        self, seed: int = 0, *, pages: int = 200, latency_s: float = 0.05, slow_s: float = 30.0, port: int = 0
    ) -> None:
        super().__init__("greenlab.lab._site_server", "site")
        check_whole("seed", seed, "such as seed=7")
        check_whole("pages", pages, "1 to 100000", low=1, high=MAX_PAGES)
        check_seconds("latency_s", latency_s)
        check_seconds("slow_s", slow_s)
        check_whole("port", port, "0 for any free port, or up to 65535", low=0, high=65535)
        self._seed = seed
        self._pages = pages
        self._latency_s = latency_s
        self._slow_s = slow_s
        self._asked_port = port

    @property
    def home(self) -> str:
        """The address to begin at, such as http://127.0.0.1:40123/.

        Raises:
            UsageError: the site is not started.
        """
        return f"http://127.0.0.1:{self._running_port()}{HOME}"

    def statuses(self) -> dict[str, int]:
        """Return the HTTP status of each address of this site that can be reached from its home page.

        Slow pages are among them, with the 200 that comes in the end.

        Raises:
            UsageError: the site is not started.
        """
        home = self.home.removesuffix(HOME)
        return {home + path: status for path, status in self._graph.reachable().items()}

    def slow(self) -> set[str]:
        """Return the addresses that take `slow_s`.

        Raises:
            UsageError: the site is not started.
        """
        home = self.home.removesuffix(HOME)
        return {home + path for path in self._graph.reachable() if self._graph.is_slow(path)}

    def visits(self) -> dict[str, int]:
        """Return how often each address was asked for since the server started, or since `reset()`.

        Raises:
            UsageError: the site is not started.
            GreenlabError: the server does not answer.
        """
        home = self.home.removesuffix(HOME)
        return {home + path: count for path, count in json.loads(self._ask("GET", "/visits")).items()}

    def __repr__(self) -> str:
        # Without the port, which changes at each start: stored notebook outputs are compared.
        state = "stopped" if self._process is None else "started"
        return f"<Site seed={self._seed}: {self._pages} pages, {self._latency_s * 1e3:g} ms latency, {state}>"

    @cached_property
    def _graph(self) -> Pages:
        return Pages(self._seed, self._pages)

    def _options(self) -> dict[str, Any]:
        return {
            "seed": self._seed,
            "pages": self._pages,
            "latency_s": self._latency_s,
            "slow_s": self._slow_s,
            "port": self._asked_port,
        }
