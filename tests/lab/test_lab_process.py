"""The process of the lab's feed hub: started, stopped, dead, forked; and that no server outlives its program."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil
import pytest
from lab_client import get, is_gone, port_of, run_python
from waiting import wait_until

from greenlab.errors import UsageError
from greenlab.lab import FeedHub

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("no_server_left")


def test_start_and_stop_twice_do_no_harm() -> None:
    hub = FeedHub()
    hub.stop()
    assert hub is hub.start()
    pid = hub.pid
    assert pid is not None
    hub.start()
    assert pid == hub.pid
    hub.stop()
    hub.stop()
    assert hub.pid is None
    assert not psutil.pid_exists(pid)


def test_a_stopped_hub_starts_again_with_counts_at_zero() -> None:
    hub = FeedHub(latency_s=0)
    with hub:
        get(hub.urls(1)[0])
        first = hub.pid
    with hub:
        assert first != hub.pid
        assert 0 == hub.stats().requests
        assert 200 == get(hub.urls(1)[0])[0]


def test_a_server_that_died_is_reported_and_started_again() -> None:
    with FeedHub(latency_s=0) as hub:
        assert hub.pid is not None
        os.kill(hub.pid, signal.SIGKILL)
        wait_until(lambda: is_gone(hub.pid or 0), natively=True)
        with pytest.raises(UsageError, match=r"status -9: hub.start\(\) starts it again"):
            hub.stats()
        hub.start()
        assert 0 == hub.stats().requests


def test_the_server_ignores_an_interrupt(fast: FeedHub) -> None:
    assert fast.pid is not None
    os.kill(fast.pid, signal.SIGINT)
    assert 200 == get(fast.urls(1)[0])[0]


def test_a_port_may_be_chosen_and_a_taken_one_is_a_clear_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"port {port} cannot be used .* take port=0"):
            FeedHub(port=port).start()
    with FeedHub(port=port) as hub:
        assert port == port_of(hub)


def test_the_server_ends_when_its_stdin_does() -> None:
    with FeedHub() as hub:
        assert hub._process is not None
        assert hub._process.stdin is not None
        hub._process.stdin.close()
        assert 0 == hub._process.wait(30)


def test_many_clients_find_room_in_the_backlog() -> None:
    with FeedHub() as hub, contextlib.ExitStack() as clients:
        psutil.Process(hub.pid).suspend()  # so that it accepts none, and a full backlog never empties
        for _ in range(100):
            client = socket.create_connection(("127.0.0.1", port_of(hub)), timeout=10)
            clients.callback(client.close)


@pytest.mark.parametrize("forks", [False, True], ids=["alone", "a forked child lives on"])
def test_the_server_dies_with_its_parent_even_by_sigkill(forks: bool) -> None:
    # The child has a copy of the pipe that the server watches, and ends with the test, as its stdin does.
    program = f"""if True:
        import os
        from greenlab.lab import FeedHub
        hub = FeedHub().start()
        if not {forks} or os.fork():
            print(hub.pid, flush=True)
        os.read(0, 1)
        os._exit(0)
    """
    with subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert not is_gone(pid)
        parent.kill()
        parent.wait()
        wait_until(lambda: is_gone(pid), natively=True)


def test_a_program_that_forgets_to_stop_leaves_nothing_and_ends_well() -> None:
    pid = run_python("from greenlab.lab import FeedHub; hub = FeedHub().start(); print(hub.pid)")
    assert is_gone(int(pid))


def test_a_hub_that_nothing_refers_to_serves_on() -> None:
    program = """if True:
        import gc, urllib.request
        from greenlab.lab import FeedHub
        url = FeedHub(latency_s=0).start().urls(1)[0]
        gc.collect()
        with urllib.request.urlopen(url) as answer:
            print(answer.status)
    """
    assert "200" == run_python(program, no_proxy="127.0.0.1")


def test_a_forked_child_uses_the_server_and_leaves_it_running() -> None:
    program = """if True:
        import os, sys
        from greenlab.lab import FeedHub
        with FeedHub() as hub:
            urls = hub.urls(1)
            child = os.fork()
            if child == 0:
                sys.exit(hub.stats().in_flight + (hub.start().urls(1) != urls))
            print(os.waitpid(child, 0)[1], hub.stats().requests)
    """
    assert "0 0" == run_python(program)


@pytest.mark.parametrize(
    "patch",
    [
        "import warnings; warnings.simplefilter('ignore'); import eventlet; eventlet.monkey_patch()",
        "from gevent import monkey; monkey.patch_all()",
    ],
    ids=["eventlet", "gevent"],
)
def test_a_hub_works_where_the_standard_library_is_patched(patch: str) -> None:
    program = f"""if True:
        {patch}
        from greenlab.lab import FeedHub
        with FeedHub() as hub:
            print(hub.stats().requests)
    """
    assert "0" == run_python(program)


def test_modules_beside_a_notebook_do_not_reach_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "asyncio.py").write_text("raise SystemExit('shadowed')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    with FeedHub() as hub:
        assert 0 == hub.stats().requests
