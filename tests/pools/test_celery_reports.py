"""What a worker reports that is too large for one message: it is told in parts, and costs no neighbour. No broker."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

import greenlab
from greenlab.pools.celery import batch, job, messages, reports, signing
from greenlab.pools.processes import framing, serialization

if TYPE_CHECKING:
    from collections.abc import Callable

SECRET = b"s" * 32
MOST = 50_000


class PreconditionFailed(Exception):  # noqa: N818 - as AMQP calls it
    """As what RabbitMQ answers to a message that is too large for it."""

    code = 406


class Sent:
    """Sends reports to a broker that keeps them, and refuses what is larger than `most`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, most: float) -> None:
        self.reports = reports.Reports(None, SECRET, "w@test", lambda _: None)
        self.most = most
        self._envelopes: list[bytes] = []
        monkeypatch.setattr(self.reports, "_publish", self._take)
        monkeypatch.setattr(reports, "_LINGER_S", 0.05)

    def _take(self, _queue: str, envelope: bytes) -> None:
        if len(envelope) > self.most:
            raise PreconditionFailed(f"message size {len(envelope)} is larger than configured max size {self.most}")
        self._envelopes.append(envelope)

    def told(self) -> list[tuple[Any, ...]]:
        """Return what a kernel reads."""
        self.reports.flush()
        if self.reports._sender is not None:
            self.reports._sender.join()
        opened = [signing.open_envelope(SECRET, envelope, "queue") for envelope in self._envelopes]
        return [one for _, body in opened for one in messages.Report(*messages.load(body)).told]


@pytest.fixture(params=["greenlab's limit", "the broker's limit"])
def sent(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Sent:
    """Reports, where a message has 50,000 bytes at most."""
    if request.param == "greenlab's limit":
        monkeypatch.setattr(signing, "MOST_BYTES", MOST)
        return Sent(monkeypatch, float("inf"))
    return Sent(monkeypatch, MOST)


def error_of(one: tuple[Any, ...]) -> BaseException:
    """Return the error that the end of a task has in the kernel."""
    kind, _message, index, _start_s, _end_s, packed = one
    assert messages.FAILURE == kind
    error = serialization.load_end(index, framing.ERROR, *packed)[1]
    assert error is not None
    return error


def raised(error: Exception) -> Exception:
    """Return an error as a task raises it."""

    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        fail()
    return caught.value


def together(sent: Sent, *tells: Callable[[], None]) -> list[tuple[Any, ...]]:
    """Have things told while nothing is sent, so that they go together; return what arrives."""
    with sent.reports._changed:  # what sends waits for it
        for tell in tells:
            tell()
    return sent.told()


def test_a_result_that_is_too_large_to_be_told_costs_none_that_is_told_with_it(sent: Sent) -> None:
    results = batch.Results(sent.reports, "queue", "message")
    told = together(
        sent,
        lambda: results.succeed(0, 0.0, 1.0, bytes(20_000)),
        lambda: results.succeed(1, 0.0, 1.0, bytes(60_000)),
        lambda: results.succeed(2, 0.0, 1.0, bytes(20_000)),
    )
    assert [messages.RESULT, messages.FAILURE, messages.RESULT] == [one[0] for one in told]
    assert [0, 1, 2] == [one[2] for one in told]
    error = error_of(told[1])
    assert isinstance(error, greenlab.NotSendableError)
    assert str(error).startswith("the task's result cannot be sent back from a worker: return less")
    assert "\n" not in str(error)


def test_many_results_that_are_too_large_together_all_arrive(sent: Sent) -> None:
    results = batch.Results(sent.reports, "queue", "message")
    for index in range(100):
        results.succeed(index, 0.0, 0.0, "x" * 2000)
    results.flush()
    told = sent.told()
    assert {messages.RESULTS} == {one[0] for one in told}
    assert [*range(100)] == [index for one in told for index in one[2]]
    assert ["x" * 2000] * 100 == [value for one in told for value in one[5]]


def test_an_error_that_is_too_large_is_told_with_its_type_its_traceback_and_why(sent: Sent) -> None:
    results = batch.Results(sent.reports, "queue", "message")
    told = together(
        sent,
        lambda: results.fail(0, 0.0, 1.0, raised(KeyError("small"))),
        lambda: results.fail(1, 0.0, 1.0, raised(ValueError("long " * 20_000))),
    )
    assert [0, 1] == [one[2] for one in told]
    assert isinstance(error_of(told[0]), KeyError)
    error = error_of(told[1])
    assert isinstance(error, serialization.RemoteTaskError)
    assert "ValueError" == error.type_name
    assert str(error).startswith("ValueError: long long")
    assert "…" in str(error)
    assert str(MOST) in str(error) or "MiB" in str(error)
    assert 500 > len(str(error))
    assert "raise error" in str(error.__cause__)
    assert "\n" not in str(error)


def test_an_error_larger_than_an_item_may_be_is_shortened_where_it_was_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "MOST_ITEM_BYTES", 3 << 20)
    sent = Sent(monkeypatch, float("inf"))
    batch.Results(sent.reports, "queue", "message").fail(0, 0.0, 1.0, raised(ValueError(bytes(4 << 20))))
    (told,) = sent.told()
    assert "and a message at most 3 MiB" in str(error_of(told))
    assert job.MOST_ITEM_BYTES > 10 * len(told[5][2])


def test_long_prints_arrive_in_pieces(sent: Sent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "_MOST_PRINTED", 1000)
    printing: Any = SimpleNamespace(_reports=sent.reports)
    text = "".join(f"line {number} of a long story\n" for number in range(5000))
    batch.Printing.ship(printing, "stdout", None, (("queue", "job"), 3), text)  # type: ignore[arg-type]
    told = sent.told()
    assert {(messages.PRINTED, "job", 3, "stdout")} == {one[:4] for one in told}
    assert text == "".join(one[4] for one in told)
    assert 1000 == max(len(one[4]) for one in told)


def test_a_print_that_a_message_cannot_hold_is_told_in_halves(sent: Sent) -> None:
    text = "é" * 100_000
    sent.reports.tell("queue", messages.PRINTED, "job", 3, "stdout", text)
    assert text == "".join(one[4] for one in sent.told())


def test_what_cannot_be_told_smaller_costs_no_other(sent: Sent) -> None:
    told = together(
        sent,
        lambda: sent.reports.tell("queue", messages.HELD, ["x" * 60_000]),
        lambda: sent.reports.tell("queue", messages.ENDED, "job"),
    )
    assert [(messages.ENDED, "job")] == told
