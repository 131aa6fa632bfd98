"""Real clients against real servers: while one waits in a green task, a ticker in another goes on.

Each server answers a little late. `cooperates` runs several calls at once and counts the ticker's ticks meanwhile: a
call that held the hub would leave none. No times are asserted.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
import servers
from servers import LATE_S, LateHandler, LateServer, late_site, serving, valkey
from system import needs_system

import greenlab
from greenlab.greening import native

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CALLS = 4
TICK_S = 0.005

pytestmark = [pytest.mark.usefixtures("started_once"), pytest.mark.whole_heap]


def cooperates(call: Callable[[], Any], expected: Any) -> int:
    """Run `call` in several tasks at once, check what they give, and tell how often the ticker ticked."""
    ticks = 0

    def tick() -> None:
        nonlocal ticks
        while True:
            time.sleep(TICK_S)
            ticks += 1

    call()  # imports, caches and pools of connections are made once, natively or not
    ticker = greenlab.spawn(tick)
    time.sleep(2 * TICK_S)
    ticks = 0
    tasks = [greenlab.spawn(call) for _ in range(CALLS)]
    assert [expected] * CALLS == [task.wait() for task in tasks]
    ticker.kill()
    return ticks


def test_the_ticker_tells_what_blocks() -> None:
    def block() -> str:
        with native():
            time.sleep(LATE_S)
        return "blocked"

    assert 2 >= cooperates(block, "blocked")


@pytest.fixture
def site() -> Iterator[str]:
    with late_site() as url:
        yield url


@pytest.fixture
def secure_site(tmp_path: Path) -> Iterator[tuple[str, ssl.SSLContext]]:
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    ours, theirs = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(ours)
    authority.configure_trust(theirs)
    server = LateServer(("127.0.0.1", 0), LateHandler)
    # The handshake is left to the thread of the connection: in `accept` one client would keep the others waiting.
    server.socket = ours.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    with serving(server):
        yield f"https://localhost:{server.server_port}/", theirs


def test_urllib(site: str) -> None:
    def fetch() -> bytes:
        with urllib.request.urlopen(site) as answer:
            return bytes(answer.read())

    assert 2 < cooperates(fetch, b"late")


def test_urllib_over_tls(secure_site: tuple[str, ssl.SSLContext]) -> None:
    url, context = secure_site

    def fetch() -> bytes:
        with urllib.request.urlopen(url, context=context) as answer:
            return bytes(answer.read())

    assert 2 < cooperates(fetch, b"late")


def test_requests(site: str) -> None:
    requests = pytest.importorskip("requests")

    def fetch() -> bytes:
        with requests.Session() as session:
            return bytes(session.get(site).content)

    assert 2 < cooperates(fetch, b"late")


def test_urllib3_with_one_pool_for_all(site: str) -> None:
    urllib3 = pytest.importorskip("urllib3")
    with urllib3.PoolManager(maxsize=2, block=True) as pool:
        assert 2 < cooperates(lambda: pool.request("GET", site).data, b"late")


def test_httpx_with_one_client_for_all(site: str) -> None:
    httpx = pytest.importorskip("httpx")
    with httpx.Client(limits=httpx.Limits(max_connections=2)) as client:
        assert 2 < cooperates(lambda: client.get(site).content, b"late")


def test_httpx_over_tls(secure_site: tuple[str, ssl.SSLContext]) -> None:
    httpx = pytest.importorskip("httpx")
    url, context = secure_site
    with httpx.Client(verify=context) as client:
        assert 2 < cooperates(lambda: client.get(url).content, b"late")


def test_a_raw_tls_echo(secure_site: tuple[str, ssl.SSLContext]) -> None:
    url, context = secure_site
    port = int(url.rpartition(":")[2].strip("/"))

    def talk() -> bytes:
        with (
            socket.create_connection(("localhost", port)) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as secure,
        ):
            secure.settimeout(5)
            secure.sendall(b"GET / HTTP/1.0\r\n\r\n")
            with secure.makefile("rb") as lines:
                return bytes(lines.read()[-4:])

    assert 2 < cooperates(talk, b"late")


def test_subprocess() -> None:
    def child() -> str:
        code = f"import time; time.sleep({LATE_S}); print('done')"
        return subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True).stdout

    assert 2 < cooperates(child, "done\n")


def test_subprocess_without_pipes() -> None:
    def child() -> int:
        return subprocess.call([sys.executable, "-S", "-c", f"import time; time.sleep({LATE_S})"])

    assert 2 < cooperates(child, 0)


def test_names(monkeypatch: pytest.MonkeyPatch) -> None:
    # The system's resolver itself, made late: whatever resolv.conf says here, it is called in a native thread.
    from greenlab.greening import resolver

    resolve = resolver._getaddrinfo

    def late(host: Any, *args: Any) -> Any:
        if host != "late.invalid":
            return resolve(host, *args)
        if args[-1] & socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "not numeric")
        waiting = threading.Event()
        waiting.wait(LATE_S)
        return resolve("127.0.0.1", *args)

    monkeypatch.setattr(resolver, "_getaddrinfo", late)
    assert 2 < cooperates(lambda: socket.getaddrinfo("late.invalid", 80)[0][4], ("127.0.0.1", 80))


def test_pipes_and_select() -> None:
    import select

    def wait() -> bytes:
        readable, writable = os.pipe()
        thread = threading.Timer(LATE_S, os.write, (writable, b"x"))
        thread.start()
        try:
            assert ([readable], [], []) == select.select([readable], [], [], 5)
            return os.read(readable, 1)
        finally:
            thread.join()
            os.close(readable)
            os.close(writable)

    assert 2 < cooperates(wait, b"x")


def test_executors_futures() -> None:
    from concurrent.futures import ThreadPoolExecutor

    def sleep() -> str:
        time.sleep(LATE_S)
        return "slept"

    with ThreadPoolExecutor(CALLS) as pool:
        assert 2 < cooperates(lambda: pool.submit(sleep).result(), "slept")


def test_executors_that_each_call_makes_for_itself() -> None:
    from concurrent.futures import ThreadPoolExecutor

    def sleep(_number: int) -> str:
        time.sleep(LATE_S)
        return "slept"

    def use() -> list[str]:
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(sleep, range(2)))

    assert 2 < cooperates(use, ["slept", "slept"])


@pytest.fixture(scope="module")
def redis_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with valkey(tmp_path_factory.mktemp("valkey")) as port:
        yield port


def test_redis(redis_port: int) -> None:
    import redis

    with redis.Redis(port=redis_port) as client:

        def wait() -> Any:
            return client.blpop(["nothing comes"], timeout=LATE_S)

        assert 2 < cooperates(wait, None)


def test_kombu_waits_for_a_message_by_epoll(redis_port: int) -> None:
    import kombu

    def wait() -> str:
        with kombu.Connection(f"redis://127.0.0.1:{redis_port}/1") as connection:
            queue = connection.SimpleQueue("nothing comes here")
            try:
                queue.get(timeout=LATE_S)
            except queue.Empty:
                return "empty"
            finally:
                queue.close()
        return "full"

    assert 2 < cooperates(wait, "empty")


def test_pikas_blocking_connection_and_its_consumers() -> None:
    import late_broker
    import pika

    def consume() -> bytes:
        with pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", port)) as connection:
            _, _, body = next(connection.channel().consume("late", auto_ack=True))
            return bytes(body)

    with late_broker.broker() as port:
        assert 2 < cooperates(consume, b"late")


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with servers.postgres() as address:
        yield address


@pytest.mark.parametrize("driver", ["psycopg2", "psycopg"])
def test_postgresql(driver: str, postgres: str) -> None:
    module = pytest.importorskip(driver)

    def ask() -> int:
        with contextlib.closing(module.connect(postgres)) as connection, connection.cursor() as cursor:
            cursor.execute(f"select pg_sleep({LATE_S}), 6 * 7")
            answer: int = cursor.fetchone()[1]
            return answer

    assert 2 < cooperates(ask, 42)
    seen: list[int] = []
    thread = threading.Thread(target=lambda: seen.append(ask()))
    with native():
        thread.start()
        thread.join()  # the hub does not turn: the thread waits natively, or never comes back
    assert [42] == seen


def test_pymemcache() -> None:
    pytest.importorskip("pymemcache")
    PooledClient = importlib.import_module("pymemcache.client.base").PooledClient  # noqa: N806
    with servers.memcached(needs_system("memcached")) as port:

        def use() -> bytes:
            client = PooledClient(("127.0.0.1", port), max_pool_size=2)
            client.set("key", b"value", noreply=False)
            got: bytes = client.get("key")
            client.close()
            return got

        assert 2 < cooperates(use, b"value")
