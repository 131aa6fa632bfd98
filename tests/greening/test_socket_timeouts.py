"""Sockets, in calls with flags, a count or an address: they cooperate, and a timeout is kept where there is one."""

# mypy: disable-error-code="func-returns-value"

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING, Any

import pytest
import trustme

import greenlab
from greenlab.hub import eventlet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("started")

PEEK = socket.MSG_PEEK
READS: list[Any] = [  # a call, what it reads of "abcd", and what is still there after it
    pytest.param(lambda sock: sock.recv(3, PEEK), b"abc", b"abcd", id="recv, flags"),
    pytest.param(lambda sock: into(lambda box: sock.recv_into(box, 2)), b"ab", b"cd", id="recv_into, count"),
    pytest.param(lambda sock: into(lambda box: sock.recv_into(box, 0, PEEK)), b"abcd", b"abcd", id="recv_into, flags"),
    pytest.param(lambda sock: sock.recvfrom(3, PEEK)[0], b"abc", b"abcd", id="recvfrom, flags"),
    pytest.param(lambda sock: into(lambda box: sock.recvfrom_into(box, 2)[0]), b"ab", b"cd", id="recvfrom_into, count"),
    pytest.param(
        lambda sock: into(lambda box: sock.recvfrom_into(box, 0, PEEK)[0]), b"abcd", b"abcd", id="recvfrom_into, flags"
    ),
    pytest.param(lambda sock: sock.recvmsg(3, 0, PEEK)[0], b"abc", b"abcd", id="recvmsg, flags"),
]  # fmt: skip
SENDS: list[Any] = [
    pytest.param(lambda sock: sock.send(b"x" * 4096), id="send"),
    pytest.param(lambda sock: sock.send(b"x" * 4096, socket.MSG_NOSIGNAL), id="send, flags"),
    pytest.param(lambda sock: sock.sendall(b"x" * 4096), id="sendall"),
    pytest.param(lambda sock: sock.sendall(b"x" * 4096, socket.MSG_NOSIGNAL), id="sendall, flags"),
    pytest.param(lambda sock: sock.sendmsg([b"x" * 4096], [], socket.MSG_NOSIGNAL), id="sendmsg, flags"),
]


def into(read: Callable[[bytearray], int]) -> bytes:
    box = bytearray(8)
    return bytes(box[: read(box)])


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(30)
        yield ours, theirs


def others_turn_during(call: Callable[[], Any], then: Callable[[], Any]) -> Any:
    """Begin a call in a task that must wait, see that others have their turn, let it go on, and give its value."""
    task = greenlab.spawn(call)
    eventlet.sleep(0)
    eventlet.sleep(0.01)
    assert not task.dead
    then()
    return task.wait()


@pytest.mark.parametrize("timeout", [30, None])
@pytest.mark.parametrize(("read", "expected", "left"), READS)
def test_a_read_waits_for_data_while_others_run(
    pair: Any, read: Any, expected: bytes, left: bytes, timeout: float | None
) -> None:
    ours, theirs = pair
    ours.settimeout(timeout)
    assert expected == others_turn_during(lambda: read(ours), lambda: theirs.sendall(b"abcd"))
    ours.settimeout(30)
    assert left == ours.recv(8)


@pytest.mark.parametrize("read", [pytest.param(read.values[0], id=read.id) for read in READS])
def test_a_read_ends_with_its_timeout(pair: Any, read: Any) -> None:
    ours, _ = pair
    ours.settimeout(0.01)
    with pytest.raises(TimeoutError, match="timed out"):
        greenlab.spawn(read, ours).wait()


def fill(sock: socket.socket, send: Callable[[bytes], int] | None = None) -> None:
    send = send or sock.send
    sock.setblocking(False)
    for size in (4096, 1):
        try:
            while True:
                send(b"x" * size)
        except BlockingIOError:
            continue


def drain(sock: socket.socket) -> None:
    sock.setblocking(False)
    try:
        while sock.recv(1 << 20):
            pass
    except BlockingIOError:
        pass


@pytest.mark.parametrize("timeout", [30, None])
@pytest.mark.parametrize("send", SENDS)
def test_a_write_waits_for_room_while_others_run(pair: Any, send: Any, timeout: float | None) -> None:
    ours, theirs = pair
    fill(ours)
    ours.settimeout(timeout)
    assert others_turn_during(lambda: send(ours), lambda: drain(theirs)) in (4096, None)


@pytest.mark.parametrize("send", SENDS)
def test_a_write_ends_with_its_timeout(pair: Any, send: Any) -> None:
    ours, _ = pair
    fill(ours)
    ours.settimeout(0.01)
    with pytest.raises(TimeoutError, match="timed out"):
        greenlab.spawn(send, ours).wait()


@pytest.mark.parametrize("timeout", [30, None])
@pytest.mark.parametrize(
    "send",
    [
        pytest.param(lambda sock: sock.send(b"!", socket.MSG_OOB), id="send"),
        pytest.param(lambda sock: sock.sendall(b"!", socket.MSG_OOB), id="sendall"),
        pytest.param(lambda sock: sock.sendmsg([b"!"], [], socket.MSG_OOB), id="sendmsg"),
    ],
)
def test_flags_of_what_is_sent_are_kept(send: Any, timeout: float | None) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as ours,
        listener.accept()[0] as theirs,
    ):
        ours.settimeout(timeout)
        assert greenlab.spawn(send, ours).wait() in (1, None)
        assert b"!" == theirs.recv(1, socket.MSG_OOB)


@pytest.mark.parametrize("flags", [(), (socket.MSG_NOSIGNAL,)])
def test_what_is_sent_to_an_address_waits_for_room_and_keeps_its_timeout(
    tmp_path: Path, flags: tuple[int, ...]
) -> None:
    address = str(tmp_path / "to")
    to: Any = (b"abc", *flags, address)
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as theirs,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours,
    ):
        theirs.bind(address)
        ours.settimeout(30)
        assert 3 == greenlab.spawn(ours.sendto, *to).wait()
        fill(ours, lambda data: ours.sendto(data, address))
        ours.settimeout(0.01)
        with pytest.raises(TimeoutError, match="timed out"):
            greenlab.spawn(ours.sendto, *to).wait()
        ours.settimeout(30)
        assert 3 == others_turn_during(lambda: ours.sendto(*to), lambda: drain(theirs))


# -- TLS ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def tls_pair(pair: tuple[socket.socket, socket.socket]) -> Iterator[tuple[ssl.SSLSocket, ssl.SSLSocket]]:
    """Both ends of a TLS connection, of which the first has a timeout."""
    authority = trustme.CA()
    server, client = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(server)
    authority.configure_trust(client)
    server.num_tickets = 0  # or the client has something to read from the start
    accepting = greenlab.spawn(server.wrap_socket, pair[1], server_side=True)
    with client.wrap_socket(pair[0], server_hostname="localhost") as ours, accepting.wait() as theirs:
        yield ours, theirs


def test_tls_waits_for_room_to_send_while_others_run(tls_pair: tuple[ssl.SSLSocket, ssl.SSLSocket]) -> None:
    ours, theirs = tls_pair
    size = 1 << 22  # more than the buffers of both ends
    received = 0

    def receive() -> None:
        nonlocal received
        while received < size:
            received += len(theirs.recv(1 << 16))

    others_turn_during(lambda: ours.sendall(b"x" * size), receive)
    assert size == received
    assert 30 == ours.gettimeout()


def test_what_tls_cannot_send_ends_with_its_timeout(tls_pair: tuple[ssl.SSLSocket, ssl.SSLSocket]) -> None:
    ours, _ = tls_pair
    ours.settimeout(0.01)
    with pytest.raises(TimeoutError, match="timed out"):
        greenlab.spawn(ours.sendall, b"x" * (1 << 22)).wait()
    assert 0.01 == ours.gettimeout()
