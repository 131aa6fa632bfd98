"""select.epoll and select.kqueue used directly: green tasks that wait in them cooperate, and get their events."""

from __future__ import annotations

import os
import select
import selectors
import socket
import threading
import time
from typing import Any

import pytest

import greenlab
from greenlab.greening import pollers

# In a list, for names of modules that are the native type become the green one.
NATIVE: list[Any] = [getattr(select, "epoll", None)]

pytestmark = pytest.mark.skipif(NATIVE[0] is None, reason="no epoll on this system")


def polling(fd: int, events: int = select.EPOLLIN, timeout: float | None = None) -> Any:
    """Poll a descriptor in a green task, and return the task once it waits."""

    def wait() -> Any:
        with select.epoll() as poller:
            poller.register(fd, events)
            return poller.poll(timeout)

    task = greenlab.spawn(wait)
    time.sleep(0)
    return task


def test_tasks_wait_side_by_side_and_each_gets_its_events(started: Any) -> None:
    pairs = [socket.socketpair() for _ in range(10)]
    tasks = [polling(ours.fileno()) for ours, _ in pairs]
    assert [False] * 10 == [task.dead for task in tasks]
    for (ours, theirs), task in reversed(list(zip(pairs, tasks, strict=True))):
        theirs.send(b"x")
        assert [(ours.fileno(), select.EPOLLIN)] == task.wait()
        ours.close()
        theirs.close()


def test_what_is_ready_is_answered_without_a_switch(started: Any, pipe: Any) -> None:
    ready, _ = pipe
    os.write(pipe[1], b"x")
    switches = started.switches
    with select.epoll() as poller:
        poller.register(ready, select.EPOLLIN)
        assert [(ready, select.EPOLLIN)] == poller.poll() == poller.poll(5) == poller.poll(timeout=5, maxevents=1)
        assert [] == select.epoll().poll(0)
    assert switches == started.switches


def test_time_ends_a_wait_and_counts_in_seconds(started: Any, pipe: Any) -> None:
    begin = time.monotonic()
    assert [] == polling(pipe[0], timeout=0.05).wait()
    assert 0.045 <= time.monotonic() - begin < 5


def test_an_edge_is_reported_once_though_the_hub_was_waited_on(started: Any, pipe: Any) -> None:
    reader, writer = pipe
    seen = []

    def watch() -> None:
        with select.epoll() as poller:
            poller.register(reader, select.EPOLLIN | select.EPOLLET)
            for timeout in (None, 0.01, None):
                seen.append(poller.poll(timeout))
                told.set()

    told = threading.Event()
    watcher = greenlab.spawn(watch)
    time.sleep(0)
    os.write(writer, b"x")
    told.wait()
    while len(seen) < 2:  # the edge is over, though nobody has read
        time.sleep(0.001)
    os.write(writer, b"y")
    watcher.wait()
    edge = [(reader, select.EPOLLIN)]
    assert [edge, [], edge] == seen


def test_one_shot_counts_once_until_it_is_modified(started: Any, pipe: Any) -> None:
    reader, writer = pipe
    with select.epoll() as poller:
        poller.register(reader, select.EPOLLIN | select.EPOLLONESHOT)
        waiter = greenlab.spawn(poller.poll)
        time.sleep(0)
        os.write(writer, b"x")
        assert [(reader, select.EPOLLIN)] == waiter.wait()
        assert [] == poller.poll(0.001)
        poller.modify(reader, select.EPOLLIN | select.EPOLLONESHOT)
        assert [(reader, select.EPOLLIN)] == poller.poll()


def test_what_others_register_or_modify_meanwhile_counts(started: Any, pipe: Any) -> None:
    reader, writer = pipe
    with select.epoll() as poller:
        waiter = greenlab.spawn(poller.poll)
        time.sleep(0)
        poller.register(writer, 0)
        time.sleep(0.001)
        assert not waiter.dead
        poller.modify(writer, select.EPOLLOUT)
        assert [(writer, select.EPOLLOUT)] == waiter.wait()
        poller.unregister(writer)
        poller.register(reader)
        assert [] == poller.poll(0)


def test_two_tasks_and_a_thread_share_one_poller(started: Any) -> None:
    pairs = [socket.socketpair() for _ in range(3)]
    with select.epoll() as poller, select.epoll.fromfd(os.dup(poller.fileno())) as same:
        for ours, _ in pairs:
            poller.register(ours, select.EPOLLIN | select.EPOLLONESHOT)
        got: list[Any] = []
        thread = threading.Thread(target=lambda: got.extend(poller.poll(30, 1)))
        thread.start()
        tasks = [greenlab.spawn(each.poll, 30, 1) for each in (poller, same)]
        time.sleep(0)
        for _, theirs in pairs:
            theirs.send(b"x")
        for task in tasks:
            got.extend(task.wait())
        thread.join()
    assert sorted(ours.fileno() for ours, _ in pairs) == sorted(fd for fd, _ in got)
    for pair in pairs:
        for each in pair:
            each.close()


def test_a_poller_watches_a_poller_as_deep_as_the_system_allows(started: Any, pipe: Any) -> None:
    reader, writer = pipe
    chain = [select.epoll()]
    chain[0].register(reader, select.EPOLLIN)
    while True:
        outer = select.epoll()
        try:
            outer.register(chain[-1], select.EPOLLIN)
        except OSError:
            break
        chain.append(outer)
    assert 2 < len(chain)
    inner = [reader, *(poller.fileno() for poller in chain)]
    tasks = [greenlab.spawn(poller.poll, 30) for poller in chain]  # the hub is one level more, where there is room
    time.sleep(0)
    os.write(writer, b"x")
    assert [[(fd, select.EPOLLIN)] for fd in inner[:-1]] == [task.wait() for task in tasks]
    for poller in (*chain, outer):
        poller.close()


def test_a_poller_that_is_closed_wakes_who_waits(started: Any, pipe: Any) -> None:
    poller = select.epoll()
    poller.register(pipe[0], select.EPOLLIN)
    waiter = greenlab.spawn(poller.poll)
    time.sleep(0)
    poller.close()
    with pytest.raises(ValueError, match="I/O operation on closed epoll object"):
        waiter.wait()


def test_a_kill_leaves_nobody_listening(started: Any, pipe: Any) -> None:
    listening = {event: dict(bucket) for event, bucket in started.listeners.items()}
    waiter = polling(pipe[0], timeout=30)
    assert listening != started.listeners
    waiter.kill()
    assert listening == started.listeners


def test_a_wait_that_the_hub_cannot_watch_leaves_nobody_listening(started: Any, tmp_path: Any) -> None:
    from greenlab.greening.waiting import READ, wait_fd

    listening = {event: dict(bucket) for event, bucket in started.listeners.items()}
    with (tmp_path / "file").open("w") as file, pytest.raises(PermissionError):
        wait_fd(file.fileno(), READ)
    assert listening == started.listeners


class Kqueue:
    """Plays a kqueue that knows EVFILT_READ alone, over epoll: changes are (descriptor, add or not)."""

    def __init__(self) -> None:
        self._poller = NATIVE[0]()
        self.calls: list[Any] = []
        self.fileno, self.close = self._poller.fileno, self._poller.close

    @property
    def closed(self) -> bool:
        return bool(self._poller.closed)

    def control(self, changelist: Any, max_events: int, timeout: float | None = None, /) -> Any:
        """See select.kqueue."""
        self.calls.append((changelist, max_events, timeout))
        for fd, add in changelist or ():
            (self._poller.register if add else self._poller.unregister)(fd)
        if timeout is not None and timeout < 0:
            raise ValueError("timeout must be positive or None")
        return self._poller.poll(timeout, max_events) if max_events else []


def test_a_kqueue_cooperates_and_changes_what_it_watches_once(
    monkeypatch: pytest.MonkeyPatch, pipe: tuple[int, int]
) -> None:
    reader, writer = pipe
    monkeypatch.setattr(pollers, "_kqueue", Kqueue)
    monkeypatch.setattr(pollers.GreenKqueue, "_make", Kqueue)
    monkeypatch.setattr(select, "kqueue", Kqueue, raising=False)
    native_select = selectors.select  # type: ignore[attr-defined]
    greenlab.start()
    try:
        green: Any = select.kqueue  # type: ignore[attr-defined,unused-ignore]
        queue = green()
        assert ("select", "kqueue") == (type(queue).__module__, type(queue).__name__)
        assert "See select.kqueue." == queue.control.__doc__
        waiter = greenlab.spawn(queue.control, [(reader, True)], 1)
        time.sleep(0)
        os.write(writer, b"x")
        assert [(reader, select.EPOLLIN)] == waiter.wait()
        assert [([(reader, True)], 1, 0), (None, 1, 0), (None, 1, 0)] == queue._native.calls
        os.read(reader, 1)
        assert [] == queue.control(None, 1, 0.01)
        assert [] == queue.control([(reader, False)], 0)
        assert [] == queue.control(None, 1, 0)
        with pytest.raises(ValueError, match="positive"):
            queue.control(None, 1, -1)
        queue.close()
        assert queue.closed
        assert not hasattr(selectors.select, "kqueue") or Kqueue is not selectors.select.kqueue  # type: ignore[attr-defined]
    finally:
        greenlab.stop()
    assert select.kqueue is Kqueue  # type: ignore[attr-defined,unused-ignore]
    assert selectors.select is native_select  # type: ignore[attr-defined]
