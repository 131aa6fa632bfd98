"""Draw the pictures of docs/pictures.md and README: `python docs/draw_pictures.py`. It takes half a minute.

Each is of a real run on this machine, and so differs a little every time. They are saved with a palette, which makes
them a third as large.
"""

from __future__ import annotations

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
    pictures: dict[str, Callable[[], Any]] = {"run": _run, "race": _race, "sweep": _sweep, "timeline": _timeline}
    for name, made in pictures.items():
        _save(name, made().plot())
    greenlab.stop()


def _run() -> greenlab.Run:
    """Run tasks of which a few fail, and one holds the hub."""
    import urllib.request

    def fetch(item: tuple[int, str]) -> int:
        number, url = item
        if number == 1_000:
            _parse_at_once()
        with urllib.request.urlopen(url) as answer:  # noqa: S310 # of the lab
            return len(answer.read())

    with FeedHub(seed=4, fail_every=60) as hub:
        return greenlab.run(fetch, enumerate(hub.urls(1_500)), concurrency=150)


def _parse_at_once() -> None:
    end = time.perf_counter() + 0.25
    while time.perf_counter() < end:
        pass


def _race() -> greenlab.Race:
    """Let the pools run a task that waits and computes."""

    def wait_and_compute(_number: int) -> None:
        time.sleep(0.02)
        compute(0.005)

    return greenlab.race(wait_and_compute, range(200), concurrency=50, workers=2, repeat=3)


def _sweep() -> greenlab.Sweep:
    """Try a task that waits, and computes for a fiftieth of that time: some fifty in flight keep a core busy."""

    def ask_and_compute(_number: int) -> None:
        time.sleep(0.05)
        compute(0.001)

    return greenlab.sweep(ask_and_compute, range(500), concurrency=(1, 4, 12, 25, 50, 100, 200), seconds=1.5)


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
