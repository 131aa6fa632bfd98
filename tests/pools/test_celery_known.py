"""What a kernel makes of Celery workers that it hears of, and of those that it could not hear."""

# mypy: disable-error-code="arg-type, attr-defined"

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import time
import warnings
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import celery_workers
import pytest
from waiting import wait_until

import greenlab
from greenlab import pools
from greenlab.pools.celery import connection, job, messages, recovery, settings, workers
from greenlab.runs.hub_state import state_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def run(func: Any, items: Any) -> Any:
    return greenlab.run(func, items, pool="celery", live=False)


def test_processes_that_are_no_forks_of_their_worker_run_tasks_too(
    started: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As on macOS, where billiard 4.3 starts them anew."""
    spawning = "from greenlab.celery import app\napp.conf.worker_pool_start_method = 'spawn'\n"
    (tmp_path / "spawning.py").write_text(spawning)
    path = os.pathsep.join([str(tmp_path), *sys.path])
    with celery_workers.working("-P", "prefork", "-c", "1", app="spawning", PYTHONPATH=path) as worker:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(worker.folder))
        made = run(divide, [1, 0])
        assert {1: ZeroDivisionError} == {index: type(error) for index, error in made.errors.items()}
        assert set(run(lambda _: os.getpid(), range(3)).results) <= set(worker.children)


def divide(x: float) -> float:
    return 1 / x


OTHER_PYTHON = SimpleNamespace(python_version=lambda: "3.99.1", node=platform.node)


@pytest.mark.parametrize(
    ("name", "other", "says"),
    [
        ("__version__", "9.9", f"has greenlab {greenlab.__version__}, this kernel 9.9"),
        ("platform", OTHER_PYTHON, f"has Python {platform.python_version()}, this kernel 3.99.1"),
    ],
    ids=["greenlab", "Python"],
)
def test_a_worker_of_another_version_is_refused_by_name_before_a_task_is_pulled(
    name: str, other: Any, says: str, started: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = celery_workers.use("eventlet", monkeypatch)
    monkeypatch.setattr(workers, name, other)
    pulled = []

    def items() -> Iterator[str]:
        pulled.append(1)
        yield "x"

    with pytest.raises(greenlab.UsageError, match=re.escape(f"{worker.name} {says}")) as caught:
        run(len, items())
    assert "\n" not in str(caught.value)
    assert [] == pulled


def test_a_worker_that_takes_from_no_queue_of_greenlabs_is_refused() -> None:
    facts = _facts(os.getpid())
    assert ("", "cpu") == (workers.Worker(facts).refused, workers.Worker(facts).kind)
    other = workers.Worker(facts._replace(queues=("shop", "mail")))
    assert other.refused.startswith("takes from shop, mail alone, and from no queue of greenlab's")
    assert "" == other.kind


def test_workers_of_another_greenlab_read_another_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    here = settings.queue_of("io")
    monkeypatch.setattr(settings, "__version__", "9.9")
    assert here != settings.queue_of("io")


def test_what_tasks_warn_of_arrives_here(worker: celery_workers.Worker, capsys: pytest.CaptureFixture[str]) -> None:
    def warn(x: int) -> None:
        warnings.warn(f"careful, {x}", stacklevel=1)

    run(warn, [1, 2])
    said = capsys.readouterr().err
    assert "UserWarning: careful, 1" in said
    assert "UserWarning: careful, 2" in said
    assert "careful" not in worker.said


class Clock:
    """A clock that sleep alone moves, as far as it is told."""

    def __init__(self, sleeps: list[float]) -> None:
        self.now_s = 1000.0
        self.sleeps = sleeps

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, _seconds: float) -> None:
        self.now_s += self.sleeps.pop(0)  # ends the watch with an IndexError

    @staticmethod
    def spawn(call: Callable[..., object], *args: Any) -> None:
        call(*args)


@pytest.mark.parametrize(
    ("sleeps", "is_lost"),
    [([1.0] * 7, False), ([1.0] * 9, True), ([1.0, 100.0] + [1.0] * 7, False), ([100.0] * 9, False)],
)
def test_a_kernel_that_could_not_listen_takes_no_worker_for_dead(
    sleeps: list[float], is_lost: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(sleeps)
    for module in (recovery, workers):
        monkeypatch.setattr(module, "perf_counter", clock)
    monkeypatch.setattr(recovery, "eventlet", clock)
    known = workers.Workers()
    known.add(_facts(1))
    message = job.Message()
    message.worker, message.sent_s, message.heard_s, message.begun = "w", clock(), clock(), True
    active: Any = SimpleNamespace(kind="cpu", out={message.id: message})
    link: Any = SimpleNamespace(
        broken=False, reply_queue="", ask=lambda *_: None, answers=lambda: True, note_arrival=lambda: None
    )
    watcher = recovery.Recovery({"job": active}, known, None, lambda: link)
    lost: list[Any] = []
    monkeypatch.setattr(watcher, "lose", lambda *_: lost.append(active.out.clear()))
    with pytest.raises(IndexError), warnings.catch_warnings(action="ignore"):
        watcher.watch()
    assert is_lost == bool(lost)


@pytest.mark.parametrize(("pid", "may_have_begun"), [(1, False), (2, True)], ids=["the same", "another process"])
def test_a_worker_that_was_started_again_under_its_name_is_not_believed_that_it_has_begun_nothing(
    pid: int, may_have_begun: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = workers.Workers()
    known.add(_facts(1))
    message = job.Message()
    message.sent_s = 0.0
    active: Any = SimpleNamespace(kind="cpu", out={message.id: message})
    watcher: Any = None

    def ask(kind: str, *about: Any) -> None:
        if kind == messages.ASK_HELLO:
            known.add(_facts(pid))
        else:
            watcher.note_state("w", [], [], about[1])

    link: Any = SimpleNamespace(lost_s=1.0, reply_queue="", ask=ask)
    watcher = recovery.Recovery({"job": active}, known, None, lambda: link)
    monkeypatch.setattr(recovery, "eventlet", SimpleNamespace(sleep=lambda _: None))
    lost: list[bool] = []
    monkeypatch.setattr(watcher, "lose", lambda _active, one, _error: lost.append(one.begun))
    watcher.catch_up()
    assert [may_have_begun] == lost


def _facts(pid: int) -> messages.WorkerFacts:
    version = platform.python_version()
    return messages.WorkerFacts(
        "w", "prefork", 1, ("greenlab.cpu.",), version, greenlab.__version__, pid, 1, False, "x"
    )


def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def test_a_kernel_that_runs_nothing_reads_nothing_and_reads_again_when_it_does(
    started: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    celery_workers.use("eventlet", monkeypatch)
    monkeypatch.setattr(connection, "_REST_S", 0.2)
    pool = pools.get(started, "celery")
    assert [0.5] * 3 == run(nap, [0.5] * 3).results
    wait_until(lambda: pool._connection._reader is None)
    assert [1] == run(len, ["x"]).results
    wait_until(lambda: pool._connection._reader is None)
    assert "0 tasks running, seen 0 s ago" in pool.describe_workers()[0]


def test_the_state_of_a_hub_lists_workers_that_are_up_before_anything_runs_there(
    started: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    worker = celery_workers.use("eventlet", monkeypatch)
    state = state_of(started)
    assert [worker.name] == [line.partition(":")[0] for line in state.remote]
    assert "celery" not in state.pools
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert () == state_of(started).remote


def test_a_kernel_does_without_celery_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    celery_workers.use("eventlet", monkeypatch)
    program = """if True:
        import sys, greenlab
        greenlab.start()
        print(greenlab.run(abs, [-1], pool="celery", live=False).results, "celery" in sys.modules)
        greenlab.stop()
    """
    assert "[1] False\n" == subprocess.check_output([sys.executable, "-c", program], text=True)


def test_a_worker_of_one_task_at_a_time_takes_the_next_at_once(started: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with celery_workers.working("-P", "eventlet", "-c", "1") as worker:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(worker.folder))
        begin = time.perf_counter()
        for _ in range(20):
            run(len, ["x"])
        assert time.perf_counter() - begin < 20  # Celery's loop sleeps for two seconds at a time
