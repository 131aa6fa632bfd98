"""The lab's Celery workers: they have a broker of their own, and none outlives its program."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import celery_workers
import psutil
import pytest
from waiting import wait_until

import greenlab
from greenlab.errors import GreenlabError
from greenlab.lab import Workers
from greenlab.pools.celery import embedded, launcher


def test_workers_have_a_broker_of_their_own_and_leave_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, started: object, capsys: pytest.CaptureFixture[str]
) -> None:
    def where(x: int) -> int:
        warnings.warn(f"careful, {x}", stacklevel=1)
        return os.getpid()

    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("GREENLAB_BROKER", "redis://127.0.0.1:1")
    workers = Workers(eventlet=10, prefork=0)
    with workers:
        assert "<Workers: greenlab worker -A greenlab.celery -c 10 -w 0, started>" == repr(workers)
        (pid,) = set(greenlab.run(where, range(3), pool="celery", live=False).results)
        assert "UserWarning: careful, 2" in capsys.readouterr().err
        assert "Warning" not in workers.said
        assert workers.pid == psutil.Process(pid).ppid()
        folder = embedded.folder()
        assert tmp_path not in folder.parents
        greenlab.stop()
        greenlab.start()
    assert not folder.parent.exists()
    assert "redis://127.0.0.1:1" == os.environ["GREENLAB_BROKER"]
    assert str(tmp_path) == os.environ["XDG_RUNTIME_DIR"]
    assert "<Workers: greenlab worker -A greenlab.celery -c 10 -w 0, stopped>" == repr(workers)
    assert not psutil.pid_exists(pid)


def test_workers_and_their_broker_end_when_the_program_is_killed() -> None:
    program = """if True:
        import os
        from greenlab.lab import Workers
        from greenlab.pools.celery import embedded
        workers = Workers(eventlet=0, prefork=1).start()
        print(workers.pid, embedded.folder() / "broker.sock", flush=True)
        os.read(0, 1)
    """
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid, path = parent.stdout.readline().split()
        workers = [psutil.Process(int(pid)), *psutil.Process(int(pid)).children(recursive=True)]
        parent.kill()
        parent.wait()
    wait_until(lambda: not any(worker.is_running() for worker in workers), limit_s=30, natively=True)
    wait_until(lambda: not Path(path).exists(), limit_s=30, natively=True)


def test_workers_that_do_not_start_say_why() -> None:
    workers = Workers(eventlet=1, prefork=0, app="greenlab_has_no_such_module")
    with pytest.raises(GreenlabError, match="the workers do not start: ") as caught:
        workers.start()
    assert "\n" not in str(caught.value)
    assert workers.pid is None


def test_workers_whose_parent_has_ended_have_time_to_end_what_they_run(monkeypatch: pytest.MonkeyPatch) -> None:
    ends: list[str] = []
    worker: Any = SimpleNamespace(end=lambda: ends.append("end"), end_now=lambda: ends.append("end now"))
    orphans = launcher._Launcher([worker], parent=-1)
    orphans._follow_parent()
    orphans._follow_parent()
    assert ["end"] == ends
    monkeypatch.setattr(launcher, "_GRACE_S", -1.0)
    orphans._follow_parent()
    assert ["end", "end now"] == ends


@pytest.mark.parametrize(("parent", "limit_s"), [(None, None), (-1, 1.0)])
def test_only_a_parent_whose_end_is_not_told_is_looked_for(
    parent: int | None, limit_s: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[object] = []

    def look(*args: object) -> tuple[list[int], list[int], list[int]]:
        waits.append(args[3])
        return [], [], []

    made = launcher._Launcher([], parent=parent)
    monkeypatch.setattr(made, "_parents_end", None)
    monkeypatch.setattr(select, "select", look)
    made._wait()
    assert [limit_s] == waits


@pytest.mark.parametrize(
    ("lives_s", "green", "said", "status"), [(0, 0, "starting it again", 0), (1e9, 1, "does not stay alive", 1)]
)
def test_a_worker_that_ends_by_itself_is_started_again_unless_it_cannot_live(
    lives_s: float, green: int, said: str, status: int, tmp_path: Path
) -> None:
    first = " io | " if green else "cpu | "
    with celery_workers.launched(tmp_path, eventlet=green, prefork=1, lives_s=lives_s) as (process, lines):
        next(line for line in lines if line.startswith(first) and " ready." in line)
        pool = "eventlet" if green else "prefork"
        next(one for one in psutil.Process(process.pid).children() if pool in one.cmdline()).kill()
        next(line for line in lines if line.startswith(first) and said in line)
        if not status:
            next(line for line in lines if line.startswith(first) and " ready." in line)
            process.terminate()
        for _ in lines:
            pass
        assert status == process.wait(60)
