"""Brokers by TLS: a server that is not the one of the URL gets nothing."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from typing import TYPE_CHECKING, Any

import pytest
import trustme

import greenlab
from greenlab.pools.celery import settings
from greenlab.pools.celery.app import make_app

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The port of a server with the certificate of "localhost", by an authority that this process trusts.

    It hangs up on whoever has accepted that certificate.
    """
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with greenlab.native(), socket.create_server(("127.0.0.1", 0)) as server:
        accepting = threading.Thread(target=_hang_up, args=(server, context), daemon=True)
        accepting.start()
        number = server.getsockname()[1]
        yield number
        server.shutdown(socket.SHUT_RDWR)
        accepting.join()


def _hang_up(server: socket.socket, context: ssl.SSLContext) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        with connection, contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True) as secured:
            secured.recv(100)


@pytest.mark.parametrize(
    ("host", "says"),
    [("127.0.0.1", "certificate is not valid for '127.0.0.1'"), ("localhost", "Server unexpectedly closed connection")],
    ids=["another's certificate", "its own"],
)
def test_the_certificate_of_an_amqps_server_is_to_be_of_its_host(
    host: str, says: str, port: int, started: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = f"amqps://guest:guest@{host}:{port}//"
    monkeypatch.setenv("GREENLAB_BROKER", broker)
    monkeypatch.setenv("GREENLAB_SECRET", "x" * 32)
    with pytest.raises(greenlab.UsageError, match=says):
        greenlab.run(len, ["x"], pool="celery", live=False)
    with pytest.raises(OSError, match=says):
        make_app(settings.find()).connection_for_read().connect()
