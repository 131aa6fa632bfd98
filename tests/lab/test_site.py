"""The lab's site: what it links to, that all of it can be reached, and how it counts."""

from __future__ import annotations

import hashlib
import http.client
from typing import TYPE_CHECKING
from urllib.parse import urldefrag, urljoin, urlsplit

import pytest
from waiting import wait_until

from greenlab.errors import UsageError
from greenlab.lab import Site, Stats
from greenlab.lab._pages import Pages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="module")
def shared() -> Iterator[Site]:
    """A site that answers at once, but for its slow pages."""
    with Site(seed=7, pages=60, latency_s=0, slow_s=600) as site:
        yield site


@pytest.fixture
def site(shared: Site) -> Site:
    """The same, with its counts at zero."""
    shared.reset()
    return shared


def ask(url: str) -> tuple[int, str, str]:
    """Return status, location and body, following nothing."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=30)
    try:
        connection.request("GET", parts.path)
        answer = connection.getresponse()
        return answer.status, answer.headers.get("Location", ""), answer.read().decode()
    finally:
        connection.close()


def test_what_can_be_reached_is_what_the_site_says(site: Site) -> None:
    found: dict[str, int] = {}
    todo = [site.home]
    while todo:
        url = todo.pop()
        if url in found:
            continue
        status, location, body = (200, "", "") if url in site.slow() else ask(url)
        found[url] = status
        links = [location] if location else [part.partition('"')[0] for part in body.split('href="')[1:]]
        addresses = [urldefrag(urljoin(url, link)).url for link in links]
        todo += [address for address in addresses if urlsplit(address).netloc == urlsplit(url).netloc]
    assert site.statuses() == found
    assert {200, 301, 302, 404} == set(found.values())
    assert dict.fromkeys(found.keys() - site.slow(), 1) == site.visits()


def test_the_same_seed_has_the_same_links_everywhere() -> None:
    pages, digest = Pages(7, 100), hashlib.sha256()
    for index in range(100):
        digest.update(pages.body(index))
    assert "153794e288b1557e" == digest.hexdigest()[:16]


def test_seeds_differ() -> None:
    assert [Pages(7, 50).links(i) for i in range(50)] != [Pages(8, 50).links(i) for i in range(50)]


def test_a_page_is_linked_to_under_several_spellings_and_links_leave_the_host() -> None:
    links = {link for index in range(60) for link in Pages(7, 60).links(index)}
    assert {"/", "/old/3", "0.html#top", "/gone/4.html", "/slow/9.html", "/round/0"} <= links
    assert {"https://elsewhere.example/about.html", "mailto:post@elsewhere.example"} <= links


def test_two_redirects_lead_to_each_other(site: Site) -> None:
    home = site.home.rstrip("/")
    assert (302, "/round/1") == ask(home + "/round/0")[:2]
    assert (302, "/round/0") == ask(home + "/round/1")[:2]


def test_a_slow_page_takes_its_time(site: Site) -> None:
    parts = urlsplit(min(site.slow()))
    connection = http.client.HTTPConnection(parts.netloc, timeout=30)
    connection.request("GET", parts.path)
    wait_until(lambda: site.stats().in_flight == 1, natively=True)
    assert 404 == ask(site.home + "gone/4.html")[0]
    assert 1 == site.stats().in_flight
    connection.close()
    wait_until(lambda: site.stats().in_flight == 0, natively=True)


@pytest.mark.parametrize(
    "path",
    ["pages/60.html", "pages/-1.html", "pages/1_0.html", "pages/" + "9" * 5000 + ".html", "old/4", "slow/8.html"],
)
def test_what_is_not_linked_to_is_not_there(site: Site, path: str) -> None:
    assert 404 == ask(site.home + path)[0]


def test_counts_go_back_to_zero(site: Site) -> None:
    ask(site.home)
    assert {site.home: 1} == site.visits()
    assert 1 == site.stats().requests
    site.reset()
    assert {} == site.visits()
    assert Stats(requests=0, in_flight=0, peak_in_flight=0, bytes_sent=0, errors=0) == site.stats()


def test_a_site_that_is_not_started_says_how_to_start_it() -> None:
    site = Site()
    for question in (lambda: site.home, site.statuses, site.slow, site.visits, site.stats):
        with pytest.raises(UsageError, match=r"^start the site first: site.start\(\)$"):
            question()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Site(pages=0), "pages is 0: give a whole number, 1 to 100000"),
        (lambda: Site(latency_s=-1), "latency_s is -1: give seconds"),
        (lambda: Site(slow_s=1e9), "slow_s is 1000000000.0"),
        (lambda: Site("a"), "seed is 'a'"),  # type: ignore[arg-type]
    ],
)
def test_a_bad_argument_is_one_line_that_says_what_to_do(make: Callable[[], Site], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()


def test_repr_is_one_line_that_does_not_change_between_runs(site: Site) -> None:
    assert "<Site seed=0: 200 pages, 50 ms latency, stopped>" == repr(Site())
    assert "<Site seed=7: 60 pages, 0 ms latency, started>" == repr(site)
