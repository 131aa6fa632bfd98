"""The bulk producer: a pool of green threads that send tasks, and a receipt for each.

    celery -A greenlab.examples.bulk_producer worker -P eventlet -c 500
    python -m greenlab.examples.bulk_producer

To send a task takes a round trip to the broker or two, which is short on this machine and long to another one. Green
producers have as many under way at once as there are producers, each over a connection of its own; the caller goes on
meanwhile, and learns from a receipt what became of it: in a web server, say, which need not keep its users waiting.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import greenlab
from greenlab.celery import app

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

__all__ = ["ProducerPool", "Receipt", "add", "app"]


@app.task(name="greenlab.examples.add")  # type: ignore[untyped-decorator]
def add(a: float, b: float) -> float:
    """Return a sum: something short to send a lot of."""
    return a + b


class Receipt:
    """What becomes of a task that is being sent.

    Args:
        callback: called with the receipt when it is ready, by the producer.

    Attributes:
        result: Celery's `AsyncResult`, once the broker has the task.
        error: why the task could not be sent, or what the callback raised.
    """

    def __init__(self, callback: Callable[[Receipt], object] | None = None) -> None:
        self.result: Any = None
        self.error: Exception | None = None
        self._callback = callback
        self._ready = threading.Event()

    def wait(self, timeout_s: float | None = None) -> Any:
        """Wait until the broker has the task.

        Returns:
            its `AsyncResult`.

        Raises:
            TimeoutError: it takes longer than `timeout_s`.
            Exception: it could not be sent, or the callback failed.
        """
        if not self._ready.wait(timeout_s):
            raise TimeoutError(f"the broker has not taken the task within {timeout_s:g} s")
        if self.error is not None:
            raise self.error
        return self.result

    def finish(self, send: Callable[[], Any]) -> None:
        """Send the task, and say so. For producers."""
        try:
            self.result = send()
            if self._callback is not None:
                self._callback(self)
        except Exception as error:
            self.error = error
        finally:
            self._ready.set()


class ProducerPool:
    """Green threads that send tasks. A context manager, which sends what is left before it ends.

    Args:
        size: how many producers, each with a connection.

    Raises:
        UsageError: as it is entered: no broker is configured, and the embedded one does not run.
    """

    def __init__(self, size: int = 20) -> None:
        self._size = size
        self._waiting: queue.SimpleQueue[tuple[Receipt, Callable[..., Any]] | None] = queue.SimpleQueue()
        self._producers: list[Any] = []

    def send(
        self, task: Any, *args: Any, callback: Callable[[Receipt], object] | None = None, **options: Any
    ) -> Receipt:
        """Have a task sent, and return at once.

        Args:
            task: a Celery task.
            *args: its arguments.
            callback: called with the receipt once the broker has the task.
            **options: as its `apply_async` takes them.
        """
        receipt = Receipt(callback)
        self._waiting.put((receipt, partial(task.apply_async, args, **options)))
        return receipt

    def _produce(self, connection: Any) -> None:
        with connection, app.amqp.Producer(connection) as producer:
            while (one := self._waiting.get()) is not None:
                receipt, send = one
                receipt.finish(partial(send, producer=producer))

    def __enter__(self) -> Self:
        connections = [app.connection_for_write() for _ in range(self._size)]
        self._producers = [greenlab.spawn(self._produce, connection) for connection in connections]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for _ in self._producers:
            self._waiting.put(None)
        for producer in self._producers:
            producer.wait()


def main(count: int = 1000) -> None:
    """Send tasks with one producer and with twenty, and print how many a second."""
    for size in (1, 20):
        begun = time.perf_counter()
        with ProducerPool(size) as pool:
            receipts = [pool.send(add, i, 1) for i in range(count)]
        rate = count / (time.perf_counter() - begun)
        sums = [receipt.wait().get(timeout=60) for receipt in receipts]
        print(f"{size:3} producers: {rate:,.0f} tasks/s, the last one is {sums[-1]:g}")  # noqa: T201 - a script prints


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
    greenlab.stop()
