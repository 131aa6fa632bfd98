"""Clients of the lab's feed hub, and Python programs that use it."""

from __future__ import annotations

import asyncio
import http.client
import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

import psutil

if TYPE_CHECKING:
    from greenlab.lab import FeedHub


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
