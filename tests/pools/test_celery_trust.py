"""Trust: what comes by the broker and is not signed, or not for here, or not now, is unpickled by nobody."""

# mypy: disable-error-code="arg-type, attr-defined"

from __future__ import annotations

import base64
import json
import pickle
import sys
import time
import uuid
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from marks import note, times_run
from waiting import wait_until

import greenlab
from greenlab import pools
from greenlab.pools.celery import embedded, messages, settings, signing
from greenlab.pools.celery.app import make_app
from greenlab.pools.processes import serialization

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import celery_workers


class Sender:
    """Anybody who can write to the broker, and may know the secret."""

    def __init__(self, worker: celery_workers.Worker) -> None:
        found = settings.of_embedded(embedded.find())
        self.worker = worker
        self.secret = found.secret
        self.queue = settings.queue_of("io" if "eventlet" in worker.said else "cpu")
        self.header = signing.Header(self.queue, "job", uuid.uuid4().hex, time.time() + 60, "greenlab.reply.nobody")
        self.app = make_app(found)
        self.refused = self._count_refused()

    def send(self, *envelopes: Any) -> None:
        """Send each as the argument of a task of greenlab's."""
        with self.app.connection_for_write() as connection, self.app.amqp.Producer(connection) as producer:
            for envelope in envelopes:
                self.app.send_task(
                    messages.TASK, [envelope], queue=self.queue, producer=producer, ignore_result=True
                )  # fmt: skip

    def publish(self, body: Any, queue: str, **options: Any) -> None:
        """Send a body as it stands."""
        with self.app.connection_for_write() as connection, self.app.amqp.Producer(connection) as producer:
            producer.publish(body, routing_key=queue, exchange="", content_encoding="binary", **options)

    def wait_refused(self, count: int) -> None:
        """Wait until the worker has refused so many."""
        wait_until(lambda: self._count_refused() - self.refused >= count, limit_s=30)

    def _count_refused(self) -> int:
        return self.worker.said.count("greenlab refused a ")


@pytest.fixture
def sender(worker: celery_workers.Worker) -> Sender:
    return Sender(worker)


def run(func: Callable[[Any], Any], items: Any) -> Any:
    return greenlab.run(func, items, pool="celery", live=False)


class Harm:
    """Unpickling it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.fixture
def harm(tmp_path: Path) -> Iterator[bytes]:
    """What is not to be unpickled."""
    path = tmp_path / "harm"
    yield pickle.dumps(Harm(path))
    assert not path.exists()


def test_a_worker_unpickles_nothing_that_is_not_signed_for_it(sender: Sender, harm: bytes) -> None:
    header, wrong = sender.header, b"w" * 32
    hostile = [
        b"", harm, "text", None,
        signing.make_envelope(wrong, header, harm),
        signing.make_envelope(wrong, header, harm)[:-5],
        signing.make_envelope(sender.secret, header, harm)[:-5],
        signing.make_envelope(sender.secret, header._replace(expires_s=1.0), harm),
        signing.make_envelope(sender.secret, header._replace(queue="elsewhere"), harm),
        signing.make_envelope(sender.secret, header._replace(reply_to=""), harm),
    ]  # fmt: skip
    sender.send(*hostile)
    sender.publish(
        harm, sender.queue, content_type="application/x-python-serialize",
        headers={"task": messages.TASK, "id": "foreign", "lang": "py"},
    )  # fmt: skip
    sender.wait_refused(len(hostile))
    assert [4] == run(len, ["four"]).results


def test_a_message_that_is_none_of_a_task_is_refused_and_the_worker_lives(sender: Sender) -> None:
    task = {"task": messages.TASK, "lang": "py"}
    bodies: list[Any] = [5, None, [], [1, 2, 3, 4], {"a": 1}, [3, {}, {}], [{}, {}, {}], ["", {}, {}], [[""], [], {}]]
    for body in bodies:
        text = json.dumps(body).encode()
        sender.publish(text, sender.queue, content_type="application/json", headers=task | {"id": uuid.uuid4().hex})
    for wrong in (task, task | {"id": 5}):
        sender.publish(b"[[1], {}, {}]", sender.queue, content_type="application/json", headers=wrong)
    sender.wait_refused(len(bodies) + 2)
    assert [4] == run(len, ["four"]).results


def test_a_message_that_comes_again_is_run_once(sender: Sender, tmp_path: Path) -> None:
    func = serialization.dump_function(partial(note, tmp_path))
    batch = messages.Batch("", "", func, tuple(sys.path), None, 1, 1.0, ([0], [0]), [])
    envelope = signing.make_envelope(sender.secret, sender.header, messages.dump_batch(batch))
    sender.send(envelope, envelope)
    sender.wait_refused(1)
    wait_until(lambda: {1: 1} == times_run(tmp_path), limit_s=30)
    assert [4] == run(len, ["four"]).results
    assert {1: 1} == times_run(tmp_path)


def test_a_worker_answers_no_question_that_is_not_signed_for_it(sender: Sender, harm: bytes) -> None:
    header = sender.header._replace(queue=messages.CONTROL)
    good = signing.make_envelope(sender.secret, header, messages.dump((messages.ASK_LIMIT, "no job", 1)))
    for envelope in (
        harm,
        signing.make_envelope(b"w" * 32, header, harm),
        signing.make_envelope(sender.secret, header._replace(expires_s=1.0), harm),
        signing.make_envelope(sender.secret, sender.header, harm),
        good, good,
    ):  # fmt: skip
        sealed = base64.b64encode(envelope).decode()
        sender.app.control.broadcast(messages.CONTROL, arguments={"sealed": sealed})
    sender.wait_refused(5)
    assert [4] == run(len, ["four"]).results


def test_the_kernel_unpickles_no_report_that_is_not_signed(sender: Sender, harm: bytes, started: Any) -> None:
    run(len, ["x"])
    queue = pools.get(started, "celery")._connection.reply_queue
    header = signing.Header(queue, "", "x", time.time() + 60)
    for raw in (harm, signing.make_envelope(b"w" * 32, header, harm)):
        sender.publish(raw, queue, content_type="application/data")
    with pytest.warns(RuntimeWarning, match="a report was refused"):
        assert [1] == run(len, ["x"]).results
