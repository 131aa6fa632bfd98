"""The crawler: one task a page, which sends a task for each page that it finds and nobody has seen.

    celery -A greenlab.examples.crawler worker -P eventlet -c 500
    python -m greenlab.examples.crawler http://127.0.0.1:8080/

What was seen is a set in the result backend, Redis or Valkey, that all tasks share: `SADD` says in one step whether an
address is new, so two tasks that find it at once send one task. Messages hold an address, and not what was seen so far.

A crawl stays on one host. No page is fetched twice, whatever leads to it: fragments are cut off, and a redirect is a
link like any other. A page that takes longer than its time limit is given up.
"""

from __future__ import annotations

import json
import sys
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urldefrag

from greenlab.celery import app
from greenlab.errors import UsageError
from greenlab.examples.pages import fetch

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Crawl", "app", "crawl_page"]

_NAMES = ("seen", "waiting", "statuses", "ended")
_KEPT_S = 3600
_SLICE_S = 30.0  # below the socket timeout of Celery's backend, 120 s


@app.task(name="greenlab.examples.crawl_page", ignore_result=True)  # type: ignore[untyped-decorator]
def crawl_page(url: str, crawl: str, limit_s: float) -> None:
    """Fetch a page of a crawl, and send the tasks for those that it leads to."""
    Crawl(limit_s, crawl).visit(url)


@dataclass(frozen=True)
class Crawl:
    """A crawl: which addresses were seen, which wait, and what came of the others, all of it in the result backend.

    Attributes:
        limit_s: how long a page may take.
        id: what tells it from others.
    """

    limit_s: float = 5.0
    id: str = field(default_factory=lambda: uuid.uuid4().hex)

    def begin(self, url: str) -> Self:
        """Send the first task.

        Raises:
            UsageError: the result backend is neither Redis nor Valkey, or no worker is in reach.
        """
        url = urldefrag(url).url
        self._store.sadd(self._key("seen"), url)
        self._store.sadd(self._key("waiting"), url)
        self._send([url])
        return self

    def visit(self, url: str) -> None:
        """Do what a task does for its page."""
        store = self._store
        if not store.sismember(self._key("waiting"), url):
            return  # the crawl was stopped, or the message has come twice
        page = fetch(url, self.limit_s)
        with store.pipeline() as ask:
            for link in page.links:
                ask.sadd(self._key("seen"), link)
            ask.sismember(self._key("waiting"), url)
            *are_new, is_wanted = ask.execute()
        if not is_wanted:
            self.stop()  # it was stopped meanwhile: what has just been added goes too
            return
        new = [link for link, is_new in zip(page.links, are_new, strict=True) if is_new]
        with store.pipeline() as step:  # all at once: no reader sees a moment at which nothing waits
            for link in new:
                step.sadd(self._key("waiting"), link)
            step.hset(self._key("statuses"), url, json.dumps(page.status))
            step.srem(self._key("waiting"), url)
            for name in _NAMES:
                step.expire(self._key(name), _KEPT_S)
            step.scard(self._key("waiting"))
            *_, left = step.execute()
        self._send(new)
        if not left:
            store.rpush(self._key("ended"), 1)

    def wait(self, timeout_s: float = 600.0) -> dict[str, int | str]:
        """Wait until no page is left.

        Returns:
            the HTTP status of each address, or in words why there is none.

        Raises:
            TimeoutError: pages are left after `timeout_s`; `waiting` has them.
        """
        end = time.monotonic() + timeout_s
        while not self._store.blmove(self._key("ended"), self._key("ended"), min(_SLICE_S, max(timeout_s, 0.01))):
            timeout_s = end - time.monotonic()
            if timeout_s <= 0:
                raise TimeoutError(f"{len(self.waiting)} pages are left")
        return self.statuses

    @property
    def statuses(self) -> dict[str, int | str]:
        """What came of each address so far."""
        return {url.decode(): json.loads(text) for url, text in self._store.hgetall(self._key("statuses")).items()}

    @property
    def waiting(self) -> set[str]:
        """The addresses of which nothing has come yet: those that are fetched, and those that a lost worker had."""
        return {url.decode() for url in self._store.smembers(self._key("waiting"))}

    def stop(self) -> None:
        """Forget all of it; tasks that are on their way do nothing any more."""
        self._store.delete(*map(self._key, _NAMES))

    @property
    def _store(self) -> Any:
        if not hasattr(app.backend, "client"):
            raise UsageError("the crawler keeps what it has seen in Redis or Valkey: set GREENLAB_BACKEND to one")
        return app.backend.client

    def _key(self, name: str) -> str:
        return f"greenlab.crawl.{self.id}.{name}"

    def _send(self, urls: Iterable[str]) -> None:
        for url in urls:
            crawl_page.delay(url, self.id, self.limit_s)


def main(urls: Sequence[str]) -> None:
    """Crawl a site and print what came of its pages; without an address, that of the lab."""
    from greenlab.lab import Site

    if not urls:
        with Site() as site:
            return main([site.home])
    begun = time.perf_counter()
    statuses = Crawl(limit_s=2.0).begin(urls[0]).wait()
    print(f"{len(statuses)} pages in {time.perf_counter() - begun:.2f} s")  # noqa: T201 - a script prints
    for status, count in Counter(statuses.values()).most_common():
        print(f"{count:6}  {status}")  # noqa: T201 - a script prints
    return None


if __name__ == "__main__":
    main(sys.argv[1:])
