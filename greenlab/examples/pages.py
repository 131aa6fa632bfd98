"""One page for the crawler: fetched within a time limit, and the links in it that lead to the same host."""

from __future__ import annotations

import urllib.request
from contextlib import nullcontext
from html.parser import HTMLParser
from http.client import HTTPException
from typing import Any, NamedTuple
from urllib.error import HTTPError
from urllib.parse import urldefrag, urljoin, urlsplit

from greenlab.hub import eventlet

LATE = "timed out"
_MOST_BYTES = 1 << 20


class Page(NamedTuple):
    """What came of an address.

    Attributes:
        status: the HTTP status, `LATE`, or the name of the error that it met.
        links: the addresses on the same host that it leads to, each once, without fragments.
    """

    status: int | str
    links: list[str]


def fetch(url: str, limit_s: float) -> Page:
    """Fetch one page, and follow nothing.

    Args:
        url: its address.
        limit_s: how long it may take in a process that eventlet has patched; elsewhere, how long it may be silent.
    """
    patched = eventlet.patcher.is_monkey_patched("socket")
    # A socket's own timeout begins anew with each byte that comes.
    with eventlet.Timeout(limit_s, False) if patched else nullcontext():
        return _fetch(url, limit_s)
    return Page(LATE, [])


def _fetch(url: str, limit_s: float) -> Page:
    try:
        with _opener.open(url, timeout=limit_s) as answer:
            is_html = answer.headers.get_content_type() == "text/html"
            text = answer.read(_MOST_BYTES).decode("utf-8", "replace") if is_html else ""
            return Page(answer.status, _same_host(url, _Links.of(text)))
    except HTTPError as error:
        with error:
            return Page(error.code, _same_host(url, error.headers.get_all("Location", [])))
    except TimeoutError:
        return Page(LATE, [])
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        return Page(LATE if isinstance(reason, TimeoutError) else type(reason).__name__, [])


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Leaves a redirect an answer like any other."""

    def redirect_request(self, *_: Any) -> None:
        """Return no request, whereupon urllib raises an `HTTPError`."""


_opener = urllib.request.build_opener(_NoRedirects)


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    @classmethod
    def of(cls, text: str) -> list[str]:
        parser = cls()
        parser.feed(text)
        return parser.found

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.found += [value for name, value in attrs if name == "href" and value]


def _same_host(url: str, links: list[str]) -> list[str]:
    """Return the addresses that links of a page lead to, if they are on its host."""
    found: dict[str, None] = {}
    for link in links:
        try:
            address = urldefrag(urljoin(url, link.strip())).url
            if urlsplit(address)[:2] == urlsplit(url)[:2]:
                found[address] = None
        except ValueError:
            continue  # no address at all
    return list(found)
