"""What type checkers and completion see of the package."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

SAMPLE = """
from __future__ import annotations

import urllib.request

import greenlab
from greenlab.lab import FeedHub


def fetch(url: str) -> int:
    with urllib.request.urlopen(url) as answer:
        return len(answer.read())


@greenlab.task(pool="prefork")
def parse(page: bytes) -> int:
    return len(page)


def main() -> float:
    with FeedHub(seed=1) as hub:
        urls = hub.urls(10)
        run: greenlab.Run = greenlab.run(fetch, urls, concurrency=5, timeout=2.0)
        sizes: list[object] = run.results
        race: greenlab.Race = greenlab.race(fetch, urls, pools=("green", "threads"))
        sweep = greenlab.sweep(fetch, urls, concurrency=(1, 10))
        advice = greenlab.advise(fetch, urls)
        task: greenlab.Task = greenlab.spawn(fetch, urls[0])
        count: int = parse(b"page")
        with greenlab.native():
            print(len(sizes), race.winner, sweep.concurrency, advice.pool, task.dead, count)
        return run.latency.p99


try:
    main()
except greenlab.RunError as error:
    print(error)
"""


def test_a_user_s_code_is_checked_against_the_package_s_types(tmp_path: Path) -> None:
    sample = tmp_path / "sample.py"
    sample.write_text(SAMPLE, encoding="utf-8")
    config = tmp_path / "mypy.ini"
    config.write_text("[mypy]\nstrict = True\n", encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--config-file", str(config), "--cache-dir", str(tmp_path), str(sample)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "Success: no issues found in 1 source file\n" == done.stdout, done.stdout + done.stderr


def test_the_package_lists_its_public_names_and_nothing_else() -> None:
    import greenlab.api.run

    assert sorted(greenlab.__all__) == [name for name in dir(greenlab) if not name.startswith("_")]
