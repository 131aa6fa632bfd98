"""The lab's feed hub as an HTTP server: what it counts, what it keeps open, and what it answers to rubbish."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest
from lab_client import Client, get, get_async
from waiting import wait_until

from greenlab.lab import FeedHub, Stats
from greenlab.lab._feeds import Feeds

pytestmark = pytest.mark.usefixtures("no_server_left")


# Counting


def test_500_connections_are_all_in_flight_at_once() -> None:
    async def fetch_all(urls: list[str]) -> list[bytes]:
        return await asyncio.gather(*map(get_async, urls))

    with FeedHub(latency_s=0.5) as hub:
        answers = asyncio.run(fetch_all(hub.urls(500)))
        assert [True] * 500 == [response.startswith(b"HTTP/1.1 200 OK\r\n") for response in answers]
        sent = sum(map(len, answers))
        assert Stats(requests=500, in_flight=0, peak_in_flight=500, bytes_sent=sent, errors=0) == hub.stats()


def test_one_request_after_another_peaks_at_one(fast: FeedHub) -> None:
    for url in fast.urls(3):
        get(url)
    stats = fast.stats()
    assert (3, 1) == (stats.requests, stats.peak_in_flight)


def test_reset_sets_counts_to_zero(fast: FeedHub) -> None:
    get(fast.urls(1)[0] + ".rubbish")
    assert 1 == fast.stats().errors
    fast.reset()
    assert Stats(requests=0, in_flight=0, peak_in_flight=0, bytes_sent=0, errors=0) == fast.stats()


def test_what_is_in_flight_survives_a_reset_and_ends_when_its_client_hangs_up(fast: FeedHub) -> None:
    with Client(fast) as client:
        client.send(b"GET /delay/600 HTTP/1.1\r\n\r\n")
        wait_until(lambda: fast.stats().in_flight == 1, natively=True)
        fast.reset()
        assert Stats(requests=0, in_flight=1, peak_in_flight=1, bytes_sent=0, errors=0) == fast.stats()
    wait_until(lambda: fast.stats().in_flight == 0, natively=True)
    assert 0 == fast.stats().bytes_sent


def test_a_hang_up_cancels_the_answer(capfd: pytest.CaptureFixture[str]) -> None:
    with FeedHub() as hub:
        with Client(hub) as client:
            client.send(b"GET /delay/0.1 HTTP/1.1\r\n\r\n")
            wait_until(lambda: hub.stats().in_flight == 1, natively=True)
        assert 200 == get(hub.delay_url(0.3))[0]
        assert 1 == hub.stats().peak_in_flight
    assert ("", "") == capfd.readouterr()


def test_every_kth_feed_fails() -> None:
    with FeedHub(latency_s=0, fail_every=3) as hub:
        answers = [get(url) for url in hub.urls(7)]
        assert [200, 200, 503, 200, 200, 503, 200] == [status for status, _, _ in answers]
        assert b"this feed is out of order\n" == answers[2][2]
        assert 2 == hub.stats().errors


# HTTP


def test_a_connection_is_kept_alive_by_http_1_1(fast: FeedHub) -> None:
    with Client(fast) as client:
        for index in range(3):
            client.send(b"GET /feeds/%d.xml HTTP/1.1\r\nHost: lab\r\n\r\n" % index)
            status, headers, body = client.read_answer()
            assert (200, "keep-alive") == (status, headers["Connection"])
            assert Feeds(7).body(index) == body


@pytest.mark.parametrize(
    ("request_", "kept"),
    [
        (b"GET /delay/0 HTTP/1.1\r\nConnection: close\r\n\r\n", False),
        (b"GET /delay/0 HTTP/1.1\r\nCONNECTION:Close\r\n\r\n", False),
        (b"GET /delay/0 HTTP/1.0\r\n\r\n", False),
        (b"GET /delay/0 HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", True),
        (b"GET /delay/0 HTTP/1.1\r\nX-Connection: close\r\n\r\n", True),
    ],
)
def test_the_client_says_whether_the_connection_ends(fast: FeedHub, request_: bytes, kept: bool) -> None:
    with Client(fast) as client:
        client.send(request_)
        assert ("keep-alive" if kept else "close") == client.read_answer()[1]["Connection"]
        if kept:
            client.send(b"GET /delay/0 HTTP/1.0\r\n\r\n")
            assert 200 == client.read_answer()[0]
        assert client.is_closed()


def test_head_has_the_length_and_no_body(fast: FeedHub) -> None:
    with Client(fast) as client:
        client.send(b"HEAD /feeds/4.xml HTTP/1.1\r\n\r\n")
        status, headers, _ = client.read_answer(body=False)
        assert (200, len(Feeds(7).body(4))) == (status, int(headers["Content-Length"]))
        client.send(b"GET /delay/0 HTTP/1.1\r\n\r\n")
        assert b"waited 0 s\n" == client.read_answer()[2]


def test_a_request_may_come_in_pieces(fast: FeedHub) -> None:
    with Client(fast) as client:
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"GET /delay/0?so=what HTTP/1.1\r\nHost: lab\r\n\r\n":
            client.send(bytes([byte]))
        assert b"waited 0 s\n" == client.read_answer()[2]


def test_requests_sent_ahead_are_answered_in_order(fast: FeedHub) -> None:
    delays = [b"0.000%d" % (index % 7 == 0) for index in range(200)]
    with Client(fast) as client:
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for delay in delays:
            client.send(b"GET /delay/%b HTTP/1.1\r\n\r\n" % delay)
        assert [b"waited %b s\n" % delay for delay in delays] == [client.read_answer()[2] for _ in delays]
    assert 1 == fast.stats().peak_in_flight


def test_many_tiny_requests_sent_together_are_answered(fast: FeedHub) -> None:
    with Client(fast) as client:
        client.send(b"GET /x HTTP/1.1\r\n\r\n" * 400)
        assert [404] * 400 == [client.read_answer()[0] for _ in range(400)]


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 404),
        (b"GET /feeds/10000.xml HTTP/1.1\r\n\r\n", 404),
        (b"GET /feeds/-1.xml HTTP/1.1\r\n\r\n", 404),
        (b"GET /feeds/1_0.xml HTTP/1.1\r\n\r\n", 404),
        (b"GET /feeds/" + b"9" * 5000 + b".xml HTTP/1.1\r\n\r\n", 404),
        (b"GET /feeds/\xb2.xml HTTP/1.1\r\n\r\n", 404),
        (b"GET /delay/soon HTTP/1.1\r\n\r\n", 400),
        (b"GET /delay/nan HTTP/1.1\r\n\r\n", 400),
        (b"GET /delay/-1 HTTP/1.1\r\n\r\n", 400),
        (b"GET /delay/1e9 HTTP/1.1\r\n\r\n", 400),
        (b"GET /delay/0 HTTP/2.0\r\n\r\n", 400),
        (b"hello\r\n\r\n", 400),
        (b"\x00\xff\xfe\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
        (b"GET /delay/0 HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody", 400),
        (b"GET /delay/0 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"GET /delay/0 HTTP/1.1\r\nX: " + b"x" * 9000 + b"\r\n\r\n", 431),
        (b"x" * 9000, 431),
        (b"POST /feeds/1.xml HTTP/1.1\r\n\r\n", 405),
        (b"BREW /feeds/1.xml HTTP/1.1\r\n\r\n", 405),
        (b"GET /reset HTTP/1.1\r\n\r\n", 404),
    ],
)
def test_rubbish_gets_one_plain_line(fast: FeedHub, request_: bytes, status: int) -> None:
    with Client(fast) as client:
        client.send(request_)
        answered, headers, body = client.read_answer()
        assert status == answered
        assert headers["Content-Type"].startswith("text/plain")
        assert body.endswith(b"\n")
        assert 1 == body.count(b"\n")
    stats = fast.stats()
    assert (1, 1, 0) == (stats.requests, stats.errors, stats.in_flight)


def test_a_client_that_floods_while_it_waits_is_cut_off_alone(fast: FeedHub) -> None:
    with Client(fast) as client:
        client.send(b"GET /delay/600 HTTP/1.1\r\n\r\n")
        wait_until(lambda: fast.stats().in_flight == 1, natively=True)
        with pytest.raises(ConnectionError):
            client.send(b"x" * 50_000_000)
    assert 200 == get(fast.urls(1)[0])[0]
    wait_until(lambda: fast.stats().in_flight == 0, natively=True)


def test_a_client_that_does_not_read_is_not_read_either(fast: FeedHub) -> None:
    def taken(sent: int) -> int:
        """How many requests the server has taken; it gets a second for those that were sent."""
        end = time.monotonic() + 1
        while (requests := fast.stats().requests) < sent and time.monotonic() < end:
            pass
        return requests

    sent = 0
    with Client(fast) as client:
        while taken(sent) == sent:
            assert sent < 3000
            for _ in range(10):
                client.send(b"GET /feeds/0.xml HTTP/1.1\r\n\r\n")
            sent += 10
    assert 200 == get(fast.urls(1)[0])[0]
