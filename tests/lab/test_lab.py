"""The lab's feed hub: what it serves, how it counts, and that no server outlives its program."""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import http.client
import itertools
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit
from xml.etree import ElementTree as ET

import psutil
import pytest
from waiting import wait_until

from greenlab.errors import UsageError
from greenlab.lab import FeedHub, Stats, _feeds
from greenlab.lab._feeds import Feeds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

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


@pytest.fixture(autouse=True)
def no_server_left() -> Iterator[None]:
    """Fail the test that leaves a process behind."""
    before = psutil.Process().children(recursive=True)
    yield
    assert before == psutil.Process().children(recursive=True)


@pytest.fixture(scope="module")
def shared() -> Iterator[FeedHub]:
    """A hub that answers at once, for tests that count nothing."""
    with FeedHub(seed=7, latency_s=0) as hub:
        yield hub


@pytest.fixture
def fast(shared: FeedHub) -> FeedHub:
    shared.reset()
    return shared


class Client:
    """One connection, byte by byte."""

    def __init__(self, hub: FeedHub) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port_of(hub)), timeout=30)
        self.file = self.socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read_answer(self, *, body: bool = True) -> tuple[int, dict[str, str], bytes]:
        version, status, _ = self.file.readline().split(b" ", 2)
        assert version == b"HTTP/1.1"
        headers = {}
        while line := self.file.readline().rstrip(b"\r\n"):
            name, _, value = line.decode().partition(": ")
            headers[name] = value
        content = self.file.read(int(headers["Content-Length"])) if body else b""
        return int(status), headers, content

    def is_closed(self) -> bool:
        return self.file.read(1) == b""


def port_of(hub: FeedHub) -> int:
    port = urlsplit(hub.urls(1)[0]).port
    assert port is not None
    return port


def get(url: str) -> tuple[int, dict[str, str], bytes]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=30)
    try:
        connection.request("GET", parts.path)
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()
    finally:
        connection.close()


async def get_async(url: str) -> bytes:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        writer.write(f"GET {parts.path} HTTP/1.0\r\n\r\n".encode())
        return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


async def order_of_answers(urls: list[str]) -> list[str]:
    """Ask for all at once; the urls in the order in which they were answered."""
    answered: list[str] = []

    async def fetch(url: str) -> None:
        await get_async(url)
        answered.append(url)

    await asyncio.gather(*map(fetch, urls))
    return answered


def is_gone(pid: int) -> bool:
    try:
        # An orphan that ended stays a zombie where process 1 reaps none, as in some containers.
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def run_python(program: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-c", program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.strip()


# What is served


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


# The process


def test_start_and_stop_twice_do_no_harm() -> None:
    hub = FeedHub()
    hub.stop()
    assert hub is hub.start()
    pid = hub.pid
    assert pid is not None
    hub.start()
    assert pid == hub.pid
    hub.stop()
    hub.stop()
    assert hub.pid is None
    assert not psutil.pid_exists(pid)


def test_a_stopped_hub_starts_again_with_counts_at_zero() -> None:
    hub = FeedHub(latency_s=0)
    with hub:
        get(hub.urls(1)[0])
        first = hub.pid
    with hub:
        assert first != hub.pid
        assert 0 == hub.stats().requests
        assert 200 == get(hub.urls(1)[0])[0]


def test_a_server_that_died_is_reported_and_started_again() -> None:
    with FeedHub(latency_s=0) as hub:
        assert hub.pid is not None
        os.kill(hub.pid, signal.SIGKILL)
        wait_until(lambda: is_gone(hub.pid or 0), natively=True)
        with pytest.raises(UsageError, match=r"status -9: hub.start\(\) starts it again"):
            hub.stats()
        hub.start()
        assert 0 == hub.stats().requests


def test_the_server_ignores_an_interrupt(fast: FeedHub) -> None:
    assert fast.pid is not None
    os.kill(fast.pid, signal.SIGINT)
    assert 200 == get(fast.urls(1)[0])[0]


def test_a_port_may_be_chosen_and_a_taken_one_is_a_clear_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"port {port} cannot be used .* take port=0"):
            FeedHub(port=port).start()
    with FeedHub(port=port) as hub:
        assert port == port_of(hub)


def test_the_server_ends_when_its_stdin_does() -> None:
    with FeedHub() as hub:
        assert hub._process is not None
        assert hub._process.stdin is not None
        hub._process.stdin.close()
        assert 0 == hub._process.wait(30)


def test_many_clients_find_room_in_the_backlog() -> None:
    with FeedHub() as hub, contextlib.ExitStack() as clients:
        psutil.Process(hub.pid).suspend()  # so that it accepts none, and a full backlog never empties
        for _ in range(100):
            client = socket.create_connection(("127.0.0.1", port_of(hub)), timeout=10)
            clients.callback(client.close)


@pytest.mark.parametrize("forks", [False, True], ids=["alone", "a forked child lives on"])
def test_the_server_dies_with_its_parent_even_by_sigkill(forks: bool) -> None:
    # The child has a copy of the pipe that the server watches, and ends with the test, as its stdin does.
    program = f"""if True:
        import os
        from greenlab.lab import FeedHub
        hub = FeedHub().start()
        if not {forks} or os.fork():
            print(hub.pid, flush=True)
        os.read(0, 1)
        os._exit(0)
    """
    with subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert not is_gone(pid)
        parent.kill()
        parent.wait()
        wait_until(lambda: is_gone(pid), natively=True)


def test_a_program_that_forgets_to_stop_leaves_nothing_and_ends_well() -> None:
    pid = run_python("from greenlab.lab import FeedHub; hub = FeedHub().start(); print(hub.pid)")
    assert is_gone(int(pid))


def test_a_hub_that_nothing_refers_to_serves_on() -> None:
    program = """if True:
        import gc, urllib.request
        from greenlab.lab import FeedHub
        url = FeedHub(latency_s=0).start().urls(1)[0]
        gc.collect()
        with urllib.request.urlopen(url) as answer:
            print(answer.status)
    """
    assert "200" == run_python(program, no_proxy="127.0.0.1")


def test_a_forked_child_uses_the_server_and_leaves_it_running() -> None:
    program = """if True:
        import os, sys
        from greenlab.lab import FeedHub
        with FeedHub() as hub:
            urls = hub.urls(1)
            child = os.fork()
            if child == 0:
                sys.exit(hub.stats().in_flight + (hub.start().urls(1) != urls))
            print(os.waitpid(child, 0)[1], hub.stats().requests)
    """
    assert "0 0" == run_python(program)


@pytest.mark.parametrize(
    "patch",
    [
        "import warnings; warnings.simplefilter('ignore'); import eventlet; eventlet.monkey_patch()",
        "from gevent import monkey; monkey.patch_all()",
    ],
    ids=["eventlet", "gevent"],
)
def test_a_hub_works_where_the_standard_library_is_patched(patch: str) -> None:
    program = f"""if True:
        {patch}
        from greenlab.lab import FeedHub
        with FeedHub() as hub:
            print(hub.stats().requests)
    """
    assert "0" == run_python(program)


def test_modules_beside_a_notebook_do_not_reach_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "asyncio.py").write_text("raise SystemExit('shadowed')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    with FeedHub() as hub:
        assert 0 == hub.stats().requests


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
