"""Celery's examples, on a real eventlet worker, the embedded broker and the lab's servers."""

# mypy: disable-error-code="arg-type"

from __future__ import annotations

import contextlib
import socketserver
import threading
import time
from typing import TYPE_CHECKING, Any

import celery_workers
import pytest
from celery import signals
from celery.app.utils import find_app
from kombu.exceptions import EncodeError
from servers import serving
from waiting import wait_until

from greenlab.errors import UsageError
from greenlab.examples import app, crawler, pages
from greenlab.examples.bulk_producer import ProducerPool, Receipt, add
from greenlab.examples.crawler import Crawl
from greenlab.examples.url_opener import open_url, open_urls
from greenlab.lab import FeedHub, Site

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE_S = 30.0


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> celery_workers.Worker:
    """The worker that this file's tests share; it serves all examples."""
    return celery_workers.use("examples", monkeypatch)


@pytest.fixture(scope="module")
def hub() -> Iterator[FeedHub]:
    """Feeds that come at once."""
    with FeedHub(seed=7, latency_s=0) as hub:
        yield hub


@pytest.fixture(scope="module")
def shared_site() -> Iterator[Site]:
    """A site whose slow pages never come."""
    with Site(seed=7, pages=60, latency_s=0.01, slow_s=600) as site:
        yield site


@pytest.fixture
def site(shared_site: Site) -> Site:
    """The same, with its counts at zero."""
    shared_site.reset()
    return shared_site


# --- the url opener ----------------------------------------------------------------------------------------


def test_a_page_is_opened_by_a_task(worker: celery_workers.Worker, hub: FeedHub) -> None:
    (url,) = hub.urls(1)
    assert open_url(url) == open_url.delay(url).get(timeout=PATIENCE_S) > 10_000


def test_results_of_a_group_come_as_they_end(worker: celery_workers.Worker, hub: FeedHub) -> None:
    late, soon, gone = hub.delay_url(0.5), hub.delay_url(0), hub.urls(1)[0] + ".gone"
    came = list(open_urls([late, soon, gone], timeout_s=PATIENCE_S))
    sizes = dict(came)
    assert late == came[-1][0]
    assert [len("waited 0.5 s\n"), len("waited 0.0 s\n")] == [sizes[late], sizes[soon]]
    assert "404 Not Found" == str(sizes[gone])


def test_an_error_of_a_task_is_raised_where_its_result_is_asked_for(
    worker: celery_workers.Worker, hub: FeedHub
) -> None:
    with pytest.raises(OSError, match="404 Not Found"):
        open_url.delay(hub.urls(1)[0] + ".gone").get(timeout=PATIENCE_S)


def test_no_pages_have_no_results() -> None:
    assert [] == list(open_urls([]))


# --- the bulk producer -------------------------------------------------------------------------------------


def test_each_task_that_is_sent_has_a_receipt(worker: celery_workers.Worker, started: Any) -> None:
    with ProducerPool(5) as pool:
        receipts = [pool.send(add, i, 1) for i in range(50)]
        results = [receipt.wait(PATIENCE_S) for receipt in receipts]
    assert [i + 1 for i in range(50)] == [result.get(timeout=PATIENCE_S) for result in results]


def test_as_many_tasks_are_being_sent_at_once_as_there_are_producers(
    worker: celery_workers.Worker, started: Any
) -> None:
    together = threading.Barrier(5)

    def wait_for_the_others(**_: Any) -> None:
        together.wait(PATIENCE_S)

    with sending_is_observed(wait_for_the_others), ProducerPool(5) as pool:
        for receipt in [pool.send(add, 1, 1, ignore_result=True) for _ in range(10)]:
            receipt.wait(PATIENCE_S)
    assert not together.broken


def test_a_callback_is_called_with_the_receipt(worker: celery_workers.Worker, started: Any) -> None:
    ids = []
    with ProducerPool(1) as pool:
        receipt = pool.send(add, 1, 2, callback=lambda receipt: ids.append(receipt.result.id), ignore_result=True)
    assert [receipt.result.id] == ids


def test_leaving_the_pool_sends_what_is_left(worker: celery_workers.Worker, started: Any) -> None:
    with ProducerPool(2) as pool:
        receipts = [pool.send(add, i, 1, ignore_result=True) for i in range(40)]
    assert [True] * 40 == [receipt.result is not None for receipt in receipts]


def test_a_task_that_cannot_be_sent_costs_its_own_receipt_alone(worker: celery_workers.Worker, started: Any) -> None:
    with ProducerPool(1) as pool:
        bad, good = pool.send(add, object(), 1), pool.send(add, 1, 1)
    with pytest.raises(EncodeError, match="not JSON serializable"):
        bad.wait()
    assert 2 == good.wait().get(timeout=PATIENCE_S)


def test_a_callback_that_fails_costs_its_own_receipt_alone(worker: celery_workers.Worker, started: Any) -> None:
    with ProducerPool(1) as pool:
        bad, good = pool.send(add, 1, 1, callback=lambda _: 1 / 0), pool.send(add, 1, 1)
    with pytest.raises(ZeroDivisionError):
        bad.wait()
    assert 2 == good.wait().get(timeout=PATIENCE_S)


def test_a_receipt_is_waited_for_as_long_as_one_likes() -> None:
    with pytest.raises(TimeoutError, match=r"within 0\.01 s"):
        Receipt().wait(0.01)


@contextlib.contextmanager
def sending_is_observed(observer: Any) -> Iterator[None]:
    """Have something called as each task is sent."""
    # Not weakly: when such a receiver dies, Celery 5.6.3 makes a new list of receivers, and who sends has the old one.
    signals.before_task_publish.connect(observer, weak=False)
    try:
        yield
    finally:
        signals.before_task_publish.disconnect(observer)


# --- the crawler -------------------------------------------------------------------------------------------


def test_a_whole_site_is_crawled_and_no_page_is_fetched_twice(worker: celery_workers.Worker, site: Site) -> None:
    statuses = Crawl(limit_s=0.5).begin(site.home).wait(PATIENCE_S)
    assert site.statuses() | dict.fromkeys(site.slow(), pages.LATE) == statuses
    assert dict.fromkeys(statuses, 1) == site.visits()


def test_crawls_know_nothing_of_each_other(worker: celery_workers.Worker, site: Site) -> None:
    crawls = [Crawl(limit_s=0.2).begin(site.home) for _ in range(2)]
    first, second = [crawl.wait(PATIENCE_S) for crawl in crawls]
    assert first == second
    assert dict.fromkeys(first, 2) == site.visits()


def test_messages_hold_an_address_and_not_what_was_seen(worker: celery_workers.Worker, site: Site) -> None:
    sizes = []
    with sending_is_observed(lambda body, **_: sizes.append(len(repr(body)))):
        crawl = Crawl(limit_s=0.2)
        store = crawl._store
        store.sadd(crawl._key("seen"), *(f"{site.home}{i}" for i in range(10_000)))
        crawl.begin(site.home)
    crawl.stop()
    assert max(sizes) < 400


def test_a_page_that_trickles_is_given_up(worker: celery_workers.Worker) -> None:
    with serving(server := socketserver.ThreadingTCPServer(("127.0.0.1", 0), Trickle)):
        server.daemon_threads = True
        url = f"http://127.0.0.1:{server.server_address[1]}/"
        assert {url: pages.LATE} == Crawl(limit_s=0.3).begin(url).wait(PATIENCE_S)


class Trickle(socketserver.BaseRequestHandler):
    """Sends a byte now and then, for ever."""

    def handle(self) -> None:
        self.request.recv(4096)
        self.request.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\nContent-Length: 9999\r\n\r\n")
        with contextlib.suppress(OSError):
            while True:
                self.request.sendall(b".")
                time.sleep(0.05)


def test_a_crawl_that_is_stopped_fetches_nothing_more(worker: celery_workers.Worker) -> None:
    with Site(seed=7, pages=60, latency_s=0.3) as site:
        crawl = Crawl().begin(site.home)
        wait_until(site.visits, limit_s=PATIENCE_S, natively=True)
        crawl.stop()
        wait_until(lambda: site.stats().in_flight == 0, limit_s=PATIENCE_S, natively=True)
        assert 1 == add.delay(0, 1).get(timeout=PATIENCE_S)  # what was sent before it has had its turn
        assert {site.home: 1} == site.visits()
        wait_until(lambda: not crawl._store.exists(crawl._key("seen")), limit_s=PATIENCE_S, natively=True)


def test_a_message_that_comes_twice_fetches_once(worker: celery_workers.Worker, site: Site) -> None:
    crawl = Crawl(limit_s=0.2).begin(site.home)
    crawl.wait(PATIENCE_S)
    site.reset()
    crawl.visit(site.home)
    assert {} == site.visits()


def test_pages_that_are_left_are_told_of(worker: celery_workers.Worker, site: Site) -> None:
    crawl = Crawl(limit_s=PATIENCE_S).begin(min(site.slow()))
    with pytest.raises(TimeoutError, match="1 pages are left"):
        crawl.wait(0.05)
    assert site.slow() >= crawl.waiting
    crawl.stop()


def test_a_backend_that_is_neither_redis_nor_valkey_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(app), "backend", object())
    with pytest.raises(UsageError, match="set GREENLAB_BACKEND"):
        Crawl().begin("http://127.0.0.1/")


# --- one page ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("link", "leads_to"),
    [
        ("/a", ["http://h:1/a"]),
        ("b.html?q=1#part", ["http://h:1/d/b.html?q=1"]),
        (" ../c ", ["http://h:1/c"]),
        ("#part", ["http://h:1/d/e"]),
        ("//h:1/f", ["http://h:1/f"]),
        ("http://h:2/", []),
        ("https://h:1/", []),
        ("mailto:a@h", []),
        ("http://[", []),
    ],
)
def test_links_are_addresses_of_the_same_host(link: str, leads_to: list[str]) -> None:
    assert leads_to == pages._same_host("http://h:1/d/e", [link, link])


def test_an_error_is_a_status(site: Site) -> None:
    assert ("ConnectionRefusedError", []) == pages.fetch("http://127.0.0.1:1/", 5)
    assert ("InvalidURL", []) == pages.fetch(site.home + "a b", 5)
    assert (pages.LATE, []) == pages.fetch(min(site.slow()), 0.05)
    assert (302, [site.home + "pages/0.html"]) == pages.fetch(site.home, 5)


# --- how they are run --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["url_opener", "bulk_producer", "crawler"])
def test_each_example_is_an_app_of_its_own_for_celerys_command_line(name: str) -> None:
    assert app is find_app(f"greenlab.examples.{name}")


def test_the_examples_print_what_comes_of_them(
    worker: celery_workers.Worker, started: Any, site: Site, hub: FeedHub, capsys: pytest.CaptureFixture[str]
) -> None:
    from greenlab.examples import bulk_producer, url_opener

    crawler.main([site.home + "gone/4.html"])
    url_opener.main(hub.urls(2))
    bulk_producer.main(count=20)
    said = capsys.readouterr().out
    assert "1 pages in" in said
    assert f"{hub.urls(2)[1]}  {open_url(hub.urls(2)[1])}" in said
    assert "20 producers" in said
