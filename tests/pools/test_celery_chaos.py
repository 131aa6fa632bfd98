"""Workers that are stopped, killed and replaced in the middle of a run: every task is accounted for, none runs twice.

`GREENLAB_SOAK` asks for many tasks instead of some.
"""

# mypy: disable-error-code="arg-type"

from __future__ import annotations

import os
import signal
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import celery_workers
from marks import beside, note, times_run, wait_for_marks

import greenlab
from greenlab.pools.celery import workers

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

TASKS = 5000 if os.environ.get("GREENLAB_SOAK") else 500
GREEN = "-P", "eventlet", "-c", "20"


def test_workers_that_are_stopped_or_killed_cost_what_they_had_begun(
    started: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(workers, "DEAD_S", 3.0)

    def trouble() -> None:
        wait_for_marks(tmp_path, TASKS // 5)
        stopped.process.send_signal(signal.SIGSTOP)
        time.sleep(5)
        stopped.process.send_signal(signal.SIGCONT)
        wait_for_marks(tmp_path, 3 * TASKS // 5)
        killed.process.kill()

    with celery_workers.working(*GREEN) as stopped:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(stopped.folder))
        with celery_workers.working(*GREEN, folder=stopped.folder) as killed:
            other = beside(trouble)
            run = greenlab.run(partial(note, tmp_path), range(TASKS), pool="celery", concurrency=40, live=False)
            other.join()
            time.sleep(0.5)  # what the stopped one had begun ends
    assert TASKS == run.done
    assert {greenlab.WorkerLostError} == {type(error) for error in run.errors.values()}
    times = times_run(tmp_path)
    assert {1} == set(times)
    assert TASKS - times[1] <= run.failed <= 80
    assert all(x in run.errors or (tmp_path / f"{x}").exists() for x in range(TASKS))
