"""Who is green: the hub's thread, outside `native()`; nobody else. And the way out."""

from __future__ import annotations

import _thread
import importlib
import os
import queue
import select
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
import time
from types import ModuleType
from typing import Any

import greenlet
import psutil
import pytest
from system import forked

import greenlab
from greenlab import greening
from greenlab.greening.scope import green_hub
from greenlab.hub import current

pytestmark = pytest.mark.whole_heap

# Taken before anything is greened.
BEFORE: dict[tuple[Any, str], Any] = {
    (owner, name): vars(owner).get(name)
    for owner, names in (
        (time, ("sleep",)),
        (socket, ("socket", "getaddrinfo", "create_connection", "gethostbyname")),
        (socket.socket, ("recv", "send", "sendall", "sendmsg", "recvmsg", "accept", "connect", "sendfile")),
        (ssl.SSLSocket, ("read", "write", "do_handshake", "recv", "send")),
        (select, ("select", "poll", "epoll")),
        (os, ("read", "write", "waitpid", "wait", "fork")),
        (subprocess, ("io", "Popen")),
        (threading, ("Lock", "RLock", "Condition", "Event", "local", "Thread", "get_ident", "_allocate_lock")),
        (threading.Thread, ("join", "start")),
        (_thread, ("allocate_lock", "RLock", "_local", "get_ident", "start_new_thread")),
        (queue, ("SimpleQueue", "Queue")),
    )
    for name in names
}
FINDERS = list(sys.meta_path)


def slept(answer: Any = True) -> Any:
    """Sleep a moment and give the answer."""
    time.sleep(0.001)
    return answer


def test_everything_is_put_back_and_a_second_time_works_as_the_first() -> None:
    descriptors = psutil.Process().num_fds()
    names = []
    for _ in range(2):
        greenlab.start()
        assert BEFORE[time, "sleep"] is not time.sleep
        names.append(greening.replaced())
        assert "waited" == greenlab.spawn(lambda: slept("waited")).wait()
        greenlab.stop()
        assert {key: vars(owner).get(name) for key in BEFORE for owner, name in [key]} == BEFORE
        assert all(vars(owner).get(name) is value for (owner, name), value in BEFORE.items())
        assert FINDERS == sys.meta_path
        assert [] == greening.replaced()
    assert names[0] == names[1]
    assert descriptors == psutil.Process().num_fds()


def test_another_thread_waits_natively_whatever_it_calls(started: Any) -> None:
    """While the hub's thread stands still, natively, another thread goes through all kinds of waits."""
    seen: list[Any] = []

    def thread() -> Any:
        seen.append(green_hub())
        time.sleep(0.001)
        left, right = socket.socketpair()
        with left, right:
            left.sendall(b"x")
            seen.append(right.recv(1))
            seen.append(type(left) is socket.socket)
            seen.append(select.select([left], [], [], 0.001))
        lock = threading.Lock()
        box: queue.Queue[int] = queue.Queue()
        with lock:
            box.put(1)
        seen.append(box.get(timeout=1))
        seen.append(subprocess.run(["true"], check=True).returncode)
        poll = select.poll()
        poll.register(0)
        poll.poll(1)
        seen.append(socket.getaddrinfo("localhost", 80)[0][4][1])

    started_thread = threading.Thread(target=thread)
    with greenlab.native():
        started_thread.start()
        started_thread.join()
    assert [None, b"x", True, ([], [], []), 1, 0, 80] == seen


def test_native_blocks_hold_the_hub_and_end(started: Any) -> None:
    ticks = []

    def tick() -> Any:
        while True:
            ticks.append(1)
            time.sleep(0)

    ticker = greenlab.spawn(tick)
    time.sleep(0.001)
    with greenlab.native():
        before = len(ticks)
        time.sleep(0.02)
        assert before == len(ticks)
        with greenlab.native():
            pass
        time.sleep(0.001)
        assert before == len(ticks)
    time.sleep(0.001)
    assert before < len(ticks)
    ticker.kill()


def test_a_native_block_is_one_tasks_and_ends_with_an_error(started: Any) -> None:
    def failing() -> Any:
        with greenlab.native():
            raise LookupError

    task = greenlab.spawn(failing)
    with pytest.raises(LookupError):
        task.wait()
    assert green_hub() is not None
    assert greenlab.spawn(green_hub).wait() is not None


def test_a_forked_child_is_native_and_has_no_hub(started: Any) -> None:
    door, poller = started._wakeups.fd, started._poller_fd()
    task = greenlab.spawn(time.sleep, 30)
    time.sleep(0)

    def child() -> Any:
        for fd in (door, poller):
            try:
                os.fstat(fd)
            except OSError:
                continue
            return False
        time.sleep(0.001)
        lock = threading.Lock()
        with lock:
            pass
        thread = threading.Thread(target=time.sleep, args=(0.001,))
        thread.start()
        thread.join()
        return green_hub() is None and current() is None and not greening.is_green()

    assert 0 == forked(child)
    task.kill()


def test_a_child_forked_in_a_task_is_native(started: Any) -> None:
    def task() -> Any:
        return forked(lambda: slept() and green_hub() is None)

    assert 0 == greenlab.spawn(task).wait()
    assert green_hub() is started


def test_a_child_may_start_its_own(started: Any) -> None:
    def child() -> Any:
        greenlab.start()
        return "done" == greenlab.spawn(lambda: slept("done")).wait()

    assert 0 == forked(child)


def test_sockets_are_what_they_were(started: Any) -> None:
    class Mine(socket.socket):
        pass

    with socket.socket() as plain, Mine() as mine:
        assert type(plain) is BEFORE[socket, "socket"]
        assert isinstance(mine, socket.socket)


def test_names_that_were_imported_before_cooperate_in_libraries_but_not_in_the_machinery() -> None:
    library: Any
    machinery: Any
    library, machinery = ModuleType("some_library"), ModuleType("ipykernel.some_part")
    for module in (library, machinery):
        module.pause, module.Mutex = time.sleep, threading.Lock
        sys.modules[module.__name__] = module
    native_sleep, native_lock = time.sleep, threading.Lock
    try:
        greenlab.start()
        assert library.pause is time.sleep is not native_sleep
        assert library.Mutex is threading.Lock is not native_lock
        assert machinery.pause is native_sleep
        greenlab.stop()
        assert library.pause is native_sleep
        assert library.Mutex is native_lock
    finally:
        greenlab.stop()
        for module in (library, machinery):
            del sys.modules[module.__name__]


def test_a_driver_imported_later_is_switched_and_switched_back(tmp_path: Any, monkeypatch: Any) -> None:
    package = tmp_path / "psycopg"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "waiting.py").write_text("def wait(): return 'C'\ndef wait_selector(): return 'selector'\n")
    for name in [name for name in sys.modules if name.partition(".")[0] == "psycopg"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(tmp_path))
    greenlab.start()
    try:
        waiting: Any = importlib.import_module("psycopg.waiting")

        assert "selector" == greenlab.spawn(waiting.wait).wait()
        with greenlab.native():
            assert "C" == waiting.wait()
    finally:
        greenlab.stop()
    assert "C" == waiting.wait()
    assert "wait" == waiting.wait.__name__
    for name in [name for name in sys.modules if name.partition(".")[0] == "psycopg"]:
        del sys.modules[name]  # these are ours; the real ones come back with the monkeypatch


def test_kombu_asks_anew_where_it_runs_and_celery_leaves_no_drainer_behind(monkeypatch: Any) -> None:
    """Stand-ins for the two: what they ask and what they choose by it is what counts here."""
    compat: Any = ModuleType("kombu.utils.compat")
    asynchronous: Any = ModuleType("celery.backends.asynchronous")
    for module in (compat, asynchronous):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    compat._environment = "default"
    asynchronous.drainers = drainers = {"eventlet": object(), "default": object(), "gevent": object()}
    before = dict(drainers)
    greenlab.start()
    try:
        assert compat._environment is None
        assert {**before, "eventlet": before["default"]} == drainers
        compat._environment = "eventlet"
    finally:
        greenlab.stop()
    assert compat._environment is None
    assert before == drainers


def test_a_socket_that_another_task_closes_wakes_who_waits_at_once(started: Any) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        waiter = greenlab.spawn(ours.recv, 1)
        time.sleep(0)
        begin = time.monotonic()
        ours.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            waiter.wait()
    assert time.monotonic() - begin < 30  # eventlet's hub polls for a minute when it has no timer


def test_eventlets_own_monkey_patch_does_nothing_here(started: Any) -> None:
    import eventlet

    sleep = time.sleep
    eventlet.monkey_patch()
    assert sleep is time.sleep


def test_a_timer_of_many_years_does_not_end_the_hub(started: Any) -> None:
    sleeper = greenlab.spawn(time.sleep, 1e9)
    assert not threading.Event().wait(0.01)
    assert not sleeper.dead
    sleeper.kill()


def test_a_kill_while_a_condition_reacquires_its_lock_leaves_the_lock_whole(started: Any) -> None:
    condition = threading.Condition(threading.Lock())
    order = []

    def waits() -> Any:
        with condition:
            try:
                condition.wait()
            finally:
                order.append("has the lock again")

    waiter = greenlab.spawn(waits)
    time.sleep(0.001)
    condition.acquire()
    condition.notify()
    time.sleep(0.001)  # it was woken, and waits for the lock now
    killer = greenlab.spawn(waiter.kill)
    time.sleep(0.001)
    order.append("releases")
    condition.release()
    killer.wait()
    with pytest.raises(greenlet.GreenletExit):
        waiter.wait()
    assert ["releases", "has the lock again"] == order
    assert condition.acquire(timeout=1)
    condition.release()


@pytest.mark.parametrize("timeout", [None, 5.0])
def test_buffers_from_an_iterator_are_not_used_up_by_a_try_that_must_wait(started: Any, timeout: float | None) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(timeout)
        buffers = [bytearray(2), bytearray(10)]
        waiting = greenlab.spawn(lambda: ours.recvmsg_into(buffer for buffer in buffers))
        time.sleep(0)
        assert 4 == theirs.sendmsg(part for part in (b"ab", b"cd"))
        assert 4 == waiting.wait()[0]
        assert [b"ab", b"cd" + bytes(8)] == buffers


def test_finalizers_use_locks_and_locals_until_the_very_end_of_the_interpreter() -> None:
    code = """
        import greenlab
        greenlab.start()
        import threading

        class Client:
            def __init__(self):
                self.lock, self.condition, self.event = threading.RLock(), threading.Condition(), threading.Event()
                self.local = threading.local()

            def __del__(self):
                with self.lock, self.lock, self.condition:
                    self.condition.notify_all()
                self.event.set()
                self.local.ended = "well"
                print("ended", self.local.ended)

        client = Client()
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert ("ended well\n", "") == (done.stdout, done.stderr)
