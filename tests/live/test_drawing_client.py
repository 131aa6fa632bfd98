"""The process that draws."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from live_doubles import records, samples
from waiting import wait_until

from greenlab.hub import eventlet

if TYPE_CHECKING:
    from greenlab.live import DrawingClient


def is_gone(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def test_the_drawing_process_starts_when_told_and_draws_more_than_once(client: DrawingClient) -> None:
    assert client.pid is None
    assert client.draw(samples(), 1.0) is None
    client.start()
    pid = client.pid
    first, second = client.draw(samples(), 1.0), client.draw(records(500, 2.0), 2.0)
    assert first is not None
    assert second is not None
    assert (first.width, first.height) == struct.unpack("!II", first.png[16:24])
    assert (2 * second.width, 2 * second.height) == struct.unpack("!II", second.png[16:24])
    client.start()
    assert pid == client.pid


def test_the_hub_turns_while_the_drawing_process_draws(warm: DrawingClient) -> None:
    turns = []

    def turn() -> None:
        while True:
            turns.append(1)
            eventlet.sleep(0)

    warm.start()
    turner = eventlet.spawn(turn)
    assert warm.draw(samples(), 1.0) is not None
    turner.kill()
    assert len(turns) > 10


def test_a_request_larger_than_the_socket_holds_arrives_whole(warm: DrawingClient) -> None:
    warm.start()
    drawing = warm.draw(records(500_000, 60.0), 1.0)
    assert drawing is not None
    assert drawing.png.endswith(b"IEND\xaeB`\x82")


def test_two_who_draw_at_once_each_get_their_own(warm: DrawingClient) -> None:
    warm.start()
    small, large = (eventlet.spawn(warm.draw, samples(), scale) for scale in (1.0, 2.0))
    assert 760 == struct.unpack("!I", small.wait().png[16:20])[0]
    assert 1520 == struct.unpack("!I", large.wait().png[16:20])[0]


def test_a_killed_drawing_process_is_told_once_and_can_be_started_again(client: DrawingClient) -> None:
    client.start()
    assert client.pid is not None
    os.kill(client.pid, signal.SIGKILL)
    with pytest.warns(RuntimeWarning, match="its process ended") as told:
        assert client.draw(samples(), 1.0) is None
    assert 1 == len(told)
    client.start()
    os.kill(client.pid, signal.SIGKILL)
    assert client.draw(samples(), 1.0) is None
    client.start()
    assert client.draw(samples(), 1.0) is not None


def test_a_drawing_that_fails_is_told_and_the_process_lives(client: DrawingClient) -> None:
    client.start()
    pid = client.pid
    with pytest.warns(RuntimeWarning, match="AttributeError"):
        assert client.draw("no picture", 1.0) is None  # type: ignore[arg-type]
    assert client.draw(samples(), 1.0) is not None
    assert pid == client.pid


def test_a_drawing_process_that_is_late_is_ended(client: DrawingClient) -> None:
    client.start()
    pid = client.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    with pytest.warns(RuntimeWarning, match="in time"):
        assert client.draw(samples(), 1.0, timeout_s=0.05) is None
    assert is_gone(pid)


def test_closing_wakes_who_waits_for_a_drawing_without_a_warning(client: DrawingClient) -> None:
    client.start()
    drawer = eventlet.spawn(client.draw, samples(), 1.0)
    eventlet.sleep(0)
    client.close()
    assert drawer.wait() is None
    client.start()
    assert client.draw(samples(), 1.0) is not None


def test_a_drawer_that_is_killed_leaves_no_half_answer(client: DrawingClient) -> None:
    client.start()
    drawer = eventlet.spawn(client.draw, samples(), 1.0)
    eventlet.sleep(0)
    drawer.kill()
    client.start()
    drawing = client.draw(samples(), 2.0)
    assert drawing is not None
    assert 1520 == struct.unpack("!I", drawing.png[16:20])[0]


def test_the_drawing_process_ignores_an_interrupt_and_gives_way(client: DrawingClient) -> None:
    client.start()
    assert client.draw(samples(), 1.0) is not None
    assert client.pid is not None
    os.kill(client.pid, signal.SIGINT)
    assert client.draw(samples(), 1.0) is not None
    assert 19 == psutil.Process(client.pid).nice()


def test_the_drawing_process_ends_with_a_kernel_that_is_killed() -> None:
    code = """
        import os, signal
        from greenlab.live import DrawingClient
        client = DrawingClient()
        client.start()
        print(client.pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert -signal.SIGKILL == done.returncode
    wait_until(lambda: is_gone(int(done.stdout)), "the end of the process")


def test_a_module_beside_the_notebook_does_not_become_the_drawing_process_own(
    client: DrawingClient, tmp_path: Any, monkeypatch: Any
) -> None:
    (tmp_path / "random.py").write_text("raise SystemExit")
    (tmp_path / "matplotlib.py").write_text("raise SystemExit")
    monkeypatch.chdir(tmp_path)
    client.start()
    assert client.draw(samples(), 1.0) is not None


def test_the_drawing_process_imports_matplotlib_ahead_of_the_first_request() -> None:
    code = "import sys; from greenlab.live.drawing import server; server._preload(); print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "True" == done.stdout.strip()
