"""The lab's feed hub: what it serves, when, and what it is asked in vain."""

from __future__ import annotations

import asyncio
import email.utils
import itertools
import statistics
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest
from lab_client import get, get_async, port_of, run_python

from greenlab.errors import UsageError
from greenlab.lab import FeedHub, _feeds
from greenlab.lab._feeds import Feeds

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.usefixtures("no_server_left")


# Of the feeds and latencies of seed 7, on every machine and Python.
DIGEST = "c09d689c0e603797"
DIGEST_PROGRAM = """
import hashlib
from greenlab.lab import FeedHub
from greenlab.lab._feeds import Feeds
feeds, digest = Feeds(7), hashlib.sha256()
for index in range(200):
    digest.update(feeds.body(index))
digest.update(repr(FeedHub(7).latencies(2000)).encode())
print(digest.hexdigest()[:16])
"""


def test_urls_are_the_first_feeds(fast: FeedHub) -> None:
    port = port_of(fast)
    assert [f"http://127.0.0.1:{port}/feeds/{index}.xml" for index in range(3)] == fast.urls(3)
    assert [] == fast.urls(0)
    assert 10_000 == len(set(fast.urls(10_000)))


def test_a_feed_is_rss(fast: FeedHub) -> None:
    status, headers, body = get(fast.urls(10_000)[-1])
    assert 200 == status
    assert headers["Content-Type"].startswith("application/rss+xml")
    root = ET.fromstring(body)
    assert ("rss", "2.0") == (root.tag, root.get("version"))
    for field in ("title", "link", "description"):
        assert root.findtext(f"channel/{field}")
    items = root.findall("channel/item")
    assert all(item.findtext(field) for item in items for field in ("title", "guid", "description"))
    assert len(items) == len({item.findtext("link") for item in items})


def test_every_feed_is_well_formed_and_of_the_size_that_is_promised() -> None:
    feeds = Feeds(3)
    for index in range(0, 10_000, 7):
        body = feeds.body(index)
        assert 15_000 <= len(body) <= 25_000
        assert 25 <= len(ET.fromstring(body).findall("channel/item")) <= 35


def test_items_go_back_in_time() -> None:
    feeds = Feeds(5)
    for index in range(100):
        dates = [
            email.utils.parsedate_to_datetime(item.findtext("pubDate") or "")
            for item in ET.fromstring(feeds.body(index)).iterfind("channel/item")
        ]
        assert sorted(dates, reverse=True) == dates
        for day, text in zip(dates, feeds.body(index).decode().split("<pubDate>")[1:], strict=True):
            assert day.strftime("%a") == text[:3]


def test_the_server_sends_the_feeds_of_its_seed(fast: FeedHub) -> None:
    feeds = Feeds(7)
    for index, url in enumerate(fast.urls(20)):
        assert feeds.body(index) == get(url)[2]


def test_seeds_and_indexes_make_different_feeds() -> None:
    assert Feeds(1).body(0) != Feeds(2).body(0)
    assert Feeds(1).body(0) != Feeds(1).body(1)
    assert FeedHub(1).latencies(5) != FeedHub(2).latencies(5)


@pytest.mark.parametrize("hash_seed", ["0", "4711"])
def test_feeds_and_latencies_never_change(hash_seed: str) -> None:
    assert DIGEST == run_python(DIGEST_PROGRAM, PYTHONHASHSEED=hash_seed)


def test_feeds_do_not_depend_on_order_or_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    ahead = [Feeds(9).body(index) for index in range(50)]
    monkeypatch.setattr(_feeds, "_CACHED_BODIES", 10)
    feeds = Feeds(9)
    assert ahead == [feeds.body(index) for index in reversed(range(50))][::-1]
    assert ahead[49] == feeds.body(49)


# Latency


async def order_of_answers(urls: list[str]) -> list[str]:
    """Ask for all at once; the urls in the order in which they were answered."""
    answered: list[str] = []

    async def fetch(url: str) -> None:
        await get_async(url)
        answered.append(url)

    await asyncio.gather(*map(fetch, urls))
    return answered


@pytest.mark.parametrize("seed", range(3))
def test_latencies_are_log_normal_with_a_median_of_150_ms(seed: int) -> None:
    latencies = FeedHub(seed).latencies(10_000)
    below, median, above = (statistics.quantiles(latencies, n=100)[percent - 1] for percent in (16, 50, 84))
    assert 0.140 <= median <= 0.160
    # One sigma of 0.5 below and above, of the logarithm.
    assert 0.57 <= below / median <= 0.64
    assert 1.57 <= above / median <= 1.74
    assert max(latencies) <= 2.0


def test_latencies_have_an_upper_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 2.0 == _feeds.MAX_LATENCY_S
    monkeypatch.setattr(_feeds, "MAX_LATENCY_S", 0.3)  # the real one cuts one feed in ten million
    assert 0.3 == max(FeedHub().latencies(1000))


def test_a_constant_latency_is_that_of_every_feed() -> None:
    assert [0.2, 0.2, 0.2] == FeedHub(latency_s=0.2).latencies(3)


def test_feeds_are_answered_in_the_order_of_their_latencies() -> None:
    with FeedHub(seed=7) as hub:
        planned = hub.latencies(10_000)
        by_latency = sorted(range(10_000), key=planned.__getitem__)
        slow_to_fast = [by_latency[rank] for rank in (-1, 9_500, 5_000, 0)]
        assert all(planned[slow] - planned[fast] > 0.1 for slow, fast in itertools.pairwise(slow_to_fast))
        urls = [hub.urls(10_000)[index] for index in slow_to_fast]
        assert urls[::-1] == asyncio.run(order_of_answers(urls))


def test_delays_are_answered_in_the_order_of_their_ends(fast: FeedHub) -> None:
    urls = [fast.delay_url(seconds) for seconds in (0.6, 0.3, 0)]
    assert urls[::-1] == asyncio.run(order_of_answers(urls))
    assert (200, b"waited 0.0 s\n") == get(urls[-1])[::2]


# Mistakes


def test_a_hub_that_is_not_started_says_how_to_start_it() -> None:
    hub = FeedHub()
    for ask in (lambda: hub.urls(1), hub.stats, hub.reset, lambda: hub.delay_url(1)):
        with pytest.raises(UsageError, match=r"^start the hub first: hub.start\(\)$"):
            ask()


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda hub: hub.urls(-1), r"n is -1: give a whole number, 0 or more, such as hub.urls\(500\)"),
        (lambda hub: hub.urls(1.5), "n is 1.5: give a whole number"),
        (lambda hub: hub.urls(10_001), r"feeds are 10000, not 10001: FeedHub\(feeds=10001\)"),
        (lambda hub: hub.latencies(-1), "n is -1"),
        (lambda hub: hub.delay_url(-1), "seconds is -1: give seconds, 0 to 3600"),
        (lambda hub: hub.delay_url(float("nan")), "seconds is nan"),
        (lambda hub: hub.delay_url("1"), "seconds is '1'"),
        (lambda _: FeedHub("a"), "seed is 'a'"),  # type: ignore[arg-type]
        (lambda _: FeedHub(feeds=0), "feeds is 0: give a whole number, 1 or more"),
        (lambda _: FeedHub(port=70_000), "port is 70000"),
        (lambda _: FeedHub(fail_every=-1), "fail_every is -1"),
        (lambda _: FeedHub(fail_every=True), "fail_every is True"),
        (lambda _: FeedHub(latency_s=-0.1), "latency_s is -0.1"),
        (lambda _: FeedHub(latency_s=1e9), "latency_s is 1000000000.0"),
    ],
)
def test_a_bad_argument_is_one_line_that_says_what_to_do(
    fast: FeedHub, ask: Callable[[FeedHub], object], message: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        ask(fast)
    assert "\n" not in str(caught.value)


def test_repr_is_one_line_that_does_not_change_between_runs() -> None:
    hub = FeedHub(seed=7)
    assert "<FeedHub seed=7: 10000 feeds, 150 ms median latency, stopped>" == repr(hub)
    with hub:
        assert "<FeedHub seed=7: 10000 feeds, 150 ms median latency, started>" == repr(hub)
    odd = FeedHub(latency_s=0.2, feeds=9, fail_every=3)
    assert "<FeedHub seed=0: 9 feeds, 200 ms latency, 1 in 3 fails, stopped>" == repr(odd)
