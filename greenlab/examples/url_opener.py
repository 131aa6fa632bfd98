"""The url opener: one task that fetches a page, a group of them, and their results as they come.

    celery -A greenlab.examples.url_opener worker -P eventlet -c 500
    python -m greenlab.examples.url_opener http://127.0.0.1:8080/ …

A task waits nearly all of its time, so an eventlet worker has hundreds of them in flight on one thread. Its body is
plain blocking code: the worker has patched the sockets below it.
"""

from __future__ import annotations

import sys
import time
import urllib.request
from typing import TYPE_CHECKING
from urllib.error import HTTPError

from celery import group

from greenlab.celery import app

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["app", "open_url", "open_urls"]

SILENCE_S = 10.0
"""How long a server may say nothing."""


@app.task(name="greenlab.examples.open_url")  # type: ignore[untyped-decorator]
def open_url(url: str) -> int:
    """Fetch a page.

    Returns:
        its size in bytes.

    Raises:
        OSError: it cannot be had; a status of 400 or more counts as that.
    """
    try:
        with urllib.request.urlopen(url, timeout=SILENCE_S) as answer:  # noqa: S310 - who sends tasks chooses
            return len(answer.read())
    except HTTPError as error:
        error.close()
        # Celery makes an error anew from its arguments, and this class does not keep those that it takes.
        raise OSError(f"{error.code} {error.reason}") from None


def open_urls(urls: Iterable[str], *, timeout_s: float | None = None) -> Iterator[tuple[str, int | Exception]]:
    """Fetch pages, all at once, in one group.

    Args:
        urls: their addresses.
        timeout_s: how long to wait for the next one.

    Yields:
        address and size of each page, or address and error, in the order in which they come.

    Raises:
        celery.exceptions.TimeoutError: nothing came for `timeout_s`.
    """
    wanted = list(urls)
    if not wanted:
        return
    sent = group(open_url.s(url) for url in wanted).apply_async()
    url_of = dict(zip((result.id for result in sent.results), wanted, strict=True))
    # Not `sent.get()`: that has nothing before it has everything, and raises the first error.
    for task_id, answer in sent.iter_native(timeout=timeout_s):
        yield url_of[task_id], answer["result"]


def main(urls: Sequence[str]) -> None:
    """Fetch pages and print their sizes as they come; without addresses, a hundred feeds of the lab."""
    from greenlab.lab import FeedHub

    if not urls:
        with FeedHub() as hub:
            return main(hub.urls(100))
    begun = time.perf_counter()
    for url, size in open_urls(urls, timeout_s=60):
        print(f"{time.perf_counter() - begun:6.2f} s  {url}  {size}")  # noqa: T201 - a script prints
    return None


if __name__ == "__main__":
    main(sys.argv[1:])
