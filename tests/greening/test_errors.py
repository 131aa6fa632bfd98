"""What the system refuses at once, greened functions refuse at once, with the same error; nothing waits for it."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
from contextlib import ExitStack
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import eventlet
import pytest

import greenlab

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def things(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Descriptors, and what is none, for which some call is wrong."""
    with ExitStack() as stack:

        def fd(number: int) -> int:
            stack.callback(os.close, number)
            return number

        def pipe() -> tuple[int, int]:
            reader, writer = os.pipe()
            return fd(reader), fd(writer)

        reader, writer = pipe()
        ours, theirs = socket.socketpair()
        (tmp_path / "file").write_text("aaaaaaaa")
        made: dict[str, Any] = {
            "a pipe's read end": reader,
            "a pipe's write end": writer,
            "a file to read": fd(os.open(tmp_path / "file", os.O_RDONLY)),
            "a file to write": fd(os.open(tmp_path / "file", os.O_WRONLY)),
            "a folder": fd(os.open(tmp_path, os.O_RDONLY)),
            "the full device": fd(os.open("/dev/full", os.O_RDWR)),
            "a listener": stack.enter_context(socket.create_server(("127.0.0.1", 0))),
            "a datagram socket": stack.enter_context(socket.socket(type=socket.SOCK_DGRAM)),
            "a socket that is not connected": stack.enter_context(socket.socket()),
            "a socket": stack.enter_context(ours),
            "its peer": stack.enter_context(theirs),
            "-1": -1,
            "one that is not open": 10**6,
            "one beyond an int": 2**40,
            "a string": "1",
            "none": None,
            "a fraction": 1.5,
        }
        closed = socket.socket()
        closed.close()
        made["a closed socket"] = closed
        if hasattr(select, "epoll"):
            made["a poller"] = stack.enter_context(select.epoll())
            made["an event counter"] = fd(os.eventfd(0))
            made["a process"] = fd(os.pidfd_open(os.getpid()))
        yield made


DESCRIPTORS: dict[str, Callable[[Any], Any]] = {
    "read": lambda fd: os.read(fd, 1),
    "read nothing": lambda fd: os.read(fd, 0),
    "read less than nothing": lambda fd: os.read(fd, -1),
    "read a string of bytes": lambda fd: os.read(fd, "1"),  # type: ignore[arg-type]
    "write": lambda fd: os.write(fd, b"x"),
    "write nothing": lambda fd: os.write(fd, b""),
    "write text": lambda fd: os.write(fd, "x"),  # type: ignore[arg-type]
    "write every other byte": lambda fd: os.write(fd, memoryview(b"xyz")[::2]),
}
SOCKETS: dict[str, Callable[[Any], Any]] = {
    "accept": lambda sock: sock.accept(),
    "recv": lambda sock: sock.recv(1),
    "recv less than nothing": lambda sock: sock.recv(-1),
    "recv without waiting": lambda sock: sock.recv(1, socket.MSG_DONTWAIT),
    "recv_into without waiting": lambda sock: sock.recv_into(bytearray(1), 1, socket.MSG_DONTWAIT),
    "recvfrom without waiting": lambda sock: sock.recvfrom(1, socket.MSG_DONTWAIT),
    "recvfrom_into without waiting": lambda sock: sock.recvfrom_into(bytearray(1), 1, socket.MSG_DONTWAIT),
    "recvmsg without waiting": lambda sock: sock.recvmsg(1, 0, socket.MSG_DONTWAIT),
    "recv_into what is read only": lambda sock: sock.recv_into(b"x"),
    "send": lambda sock: sock.send(b"x"),
    "send text": lambda sock: sock.send("x"),
    "sendall text": lambda sock: sock.sendall("x"),
    "connect to text": lambda sock: sock.connect("x"),
    "connect to no port": lambda sock: sock.connect(("127.0.0.1", 70000)),
    "connect to no name": lambda sock: sock.connect(("a\0b", 80)),
    "connect_ex to text": lambda sock: sock.connect_ex("x"),
}


def outcome(call: Callable[[Any], Any], thing: Any) -> Any:
    """Call, and tell the error, an answer, or that it waits."""
    try:
        return call(thing)
    except TimeoutError as error:
        return type(error)
    except Exception as error:
        return type(error), str(error)


def green_outcome(call: Callable[[Any], Any], thing: Any) -> Any:
    def limited() -> Any:
        with eventlet.Timeout(10, False):
            return outcome(call, thing)
        return "waits"

    return greenlab.spawn(limited).wait()


def native_outcome(call: Callable[[Any], Any], thing: Any) -> Any:
    with greenlab.native():
        return outcome(call, thing)


def waits(name: str, what: str) -> bool:
    """Tell whether the native call would wait, so that it cannot be compared."""
    if name == "read":
        return what in {"a pipe's read end", "a datagram socket", "a socket", "its peer"}
    if name == "recv":
        return what in {"a datagram socket", "a socket", "its peer"}
    return (name, what) == ("accept", "a listener") or (name.startswith("connect") and what == "a datagram socket")


@pytest.mark.parametrize("name", DESCRIPTORS)
def test_descriptors(name: str, things: dict[str, Any], started: Any) -> None:
    for what, thing in things.items():
        if waits(name, what):
            continue
        bare = thing.fileno() if hasattr(thing, "fileno") and thing is not things["a poller"] else thing
        bare = bare.fileno() if hasattr(bare, "fileno") else bare
        expected = native_outcome(DESCRIPTORS[name], bare)
        assert expected == green_outcome(DESCRIPTORS[name], bare), f"{name}: {what}"


@pytest.mark.parametrize("timeout", [None, 0.0])
@pytest.mark.parametrize("name", SOCKETS)
def test_sockets(name: str, timeout: float | None, things: dict[str, Any], started: Any) -> None:
    for what, thing in things.items():
        if not isinstance(thing, socket.socket) or (timeout is None and waits(name, what)):
            continue
        if thing.fileno() >= 0:
            thing.settimeout(timeout)
        expected = native_outcome(SOCKETS[name], thing)
        assert expected == green_outcome(SOCKETS[name], thing), f"{name}: {what}"


def test_the_raw_pipes_of_a_child(started: Any) -> None:
    code = "import sys; sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-S", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    ) as child:
        calls: list[Callable[[Any], Any]] = [
            lambda pipes: pipes.stdin.read(1),
            lambda pipes: pipes.stdin.read(),
            lambda pipes: pipes.stdin.readall(),
            lambda pipes: pipes.stdin.readinto(bytearray(1)),
            lambda pipes: pipes.stdin.write("x"),
            lambda pipes: pipes.stdin.write(b""),
            lambda pipes: pipes.stdout.write(b"x"),
            lambda pipes: pipes.stdout.read(0),
            lambda pipes: pipes.stdout.read("x"),
            lambda pipes: pipes.stdout.readinto(b"x"),
            lambda pipes: pipes.stdout.readinto(bytearray()),
        ]

        stdin, stdout = child.stdin, child.stdout
        assert stdin is not None
        assert stdout is not None
        plain = SimpleNamespace(
            stdin=os.fdopen(os.dup(stdin.fileno()), "wb", 0), stdout=os.fdopen(os.dup(stdout.fileno()), "rb", 0)
        )
        pairs = [(native_outcome(call, plain), green_outcome(call, child)) for call in calls]
        plain.stdin.close()
        plain.stdout.close()
    for number, (native, green) in enumerate(pairs):
        assert native == green, f"call {number}"


@pytest.mark.parametrize("args", [("1", 0), (1, "0"), (os.getpid(), 0), (-1, 12345), (None, None)])
def test_waiting_for_no_child(args: tuple[Any, Any], started: Any) -> None:
    expected = native_outcome(lambda given: os.waitpid(*given), args)
    assert expected == green_outcome(lambda given: os.waitpid(*given), args)
