"""Draw the pictures of docs/pictures.md and README: `python docs/draw_pictures.py`. It takes half a minute.

Each is of a real run on this machine, and so differs a little every time. They are saved with a palette, which makes
them a third as large.
"""

from __future__ import annotations

import heapq
import io
import queue
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import greenlab
from greenlab.lab import FeedHub, compute

if TYPE_CHECKING:
    from collections.abc import Callable

IMAGES = Path(__file__).parent / "images"
_COLOURS = 64


def main() -> None:
    """Draw all of them."""
    pictures: dict[str, Callable[[], Any]] = {
        "run": _run,
        "few": _few,
        "race": _race,
        "sweep": _sweep,
        "timeline": _timeline,
    }
    for name, made in pictures.items():
        _save(name, made().plot())
    greenlab.stop()


def _run() -> greenlab.Run:
    """Run tasks that take as long as feeds of the open web; a few fail, and one holds the hub."""

    def fetch(number: int) -> None:
        time.sleep(latencies[number])
        if number % 60 == 59:
            raise ConnectionError("the server does not answer")
        if number == 1_000:
            _parse_at_once()

    latencies = FeedHub(seed=4).latencies(2_000)
    return greenlab.run(fetch, range(2_000), concurrency=150)


def _parse_at_once() -> None:
    end = time.perf_counter() + 0.25
    while time.perf_counter() < end:
        pass


def _few() -> greenlab.Run:
    """Run a dozen tasks of which two fail."""

    def fetch(path: str) -> None:
        number = int(path.rpartition("/")[2])
        time.sleep(0.05 + 0.03 * (7 * number % 5))
        if number % 6 == 4:
            raise TimeoutError

    return greenlab.run(fetch, [f"/feeds/{number}" for number in range(12)], concurrency=4)


def _race() -> greenlab.Race:
    """Let the pools run a task that waits, and then is in a C library that does not cooperate."""

    def wait_and_block(_number: int) -> None:
        import ctypes

        time.sleep(0.02)
        ctypes.CDLL(None).usleep(5_000)

    return greenlab.race(wait_and_block, range(200), concurrency=10, workers=2, repeat=3)


def _sweep() -> greenlab.Sweep:
    """Ask a server that has forty places and a fair queue."""
    free_at = [0.0] * 40

    def ask(_number: int) -> None:
        now = time.monotonic()
        answered = max(now, heapq.heappop(free_at)) + 0.05
        heapq.heappush(free_at, answered)
        time.sleep(answered - now)

    return greenlab.sweep(ask, range(500), concurrency=(1, 4, 12, 25, 50, 100, 200), seconds=2)


def _timeline() -> greenlab.Timeline:
    lock = threading.Lock()
    pages: queue.Queue[int] = queue.Queue()

    def fetch(number: int) -> None:
        time.sleep(0.02 + 0.01 * number)
        with lock:
            time.sleep(0.03)
        pages.put(number)

    def parse(count: int) -> None:
        for _ in range(count):
            compute(0.004 * (1 + pages.get()))

    with greenlab.trace() as tracing:
        tasks = [greenlab.spawn(parse, 4), *(greenlab.spawn(fetch, number) for number in range(4))]
        for task in tasks:
            task.wait()
    return tracing.timeline


def _save(name: str, figure: Any) -> None:
    from PIL import Image

    png, _size = figure._repr_png_()
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    path = IMAGES / f"{name}.png"
    picture.quantize(_COLOURS, dither=Image.Dither.NONE).save(path, "png", optimize=True)
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")  # noqa: T201 # a script


if __name__ == "__main__":
    main()
