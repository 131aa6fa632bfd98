"""Brokers from the system's packages, for tests: Redis and RabbitMQ, each on a free port of loopback."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from system import needs_system

if TYPE_CHECKING:
    from collections.abc import Iterator

STARTS_IN_S = 60.0


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def redis() -> Iterator[str]:
    """Run Redis; give its URL."""
    program, port = needs_system("redis-server"), free_port()
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with _folder() as folder, _running(command, port, folder, os.environ):
        yield f"redis://127.0.0.1:{port}/0"


@contextlib.contextmanager
def rabbitmq() -> Iterator[str]:
    """Run RabbitMQ, with a port mapper and a home of its own; give its URL."""
    needs_system("rabbitmq-server")
    program = shutil.which("rabbitmq-server", path="/usr/lib/rabbitmq/bin") or needs_system("rabbitmq-server")
    port, mapper, nodes = free_port(), free_port(), free_port()
    with _folder() as folder:
        (folder / "enabled_plugins").write_text("[].")
        environ = os.environ | {
            "HOME": str(folder),
            "ERL_EPMD_PORT": str(mapper),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"greenlab{port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(port),
            "RABBITMQ_DIST_PORT": str(nodes),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_CONFIG_FILE": str(folder / "none"),
        }
        try:
            with _running([program], port, folder, environ):
                yield f"amqp://guest:guest@127.0.0.1:{port}//"
        finally:  # what the node has started beside itself
            subprocess.run(
                [needs_system("epmd"), "-port", str(mapper), "-kill"], env=environ, capture_output=True, check=False
            )


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="gl-", dir="/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _running(command: list[str], port: int, folder: Path, environ: os._Environ[str] | dict[str, str]) -> Iterator[None]:
    log = folder / "log.txt"
    with log.open("wb") as output:
        server = subprocess.Popen(command, cwd=folder, env=environ, stdout=output, stderr=output, process_group=0)
    try:
        end = time.monotonic() + STARTS_IN_S
        while not _listens(port):
            if server.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"{command[0]} does not start: {log.read_text('utf-8', 'replace')[-2000:]}")
            time.sleep(0.05)
        yield
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
