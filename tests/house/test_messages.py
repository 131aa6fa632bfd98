"""Messages over a stream of bytes."""

from __future__ import annotations

import io

import pytest

from greenlab import messages


@pytest.mark.parametrize("parts", [[], [b""], [b"abc"], [b"abc", b"", bytes(1000)]])
def test_a_message_arrives_as_the_parts_it_was_made_of(parts: list[bytes]) -> None:
    stream = io.BytesIO(b"".join(messages.join(*parts)) + b"the next one")
    assert (parts, b"the next one") == (messages.receive(stream.read), stream.read())


def test_the_parts_of_a_message_are_not_copied() -> None:
    part = bytearray(b"abc")
    assert part is messages.join(b"", part)[2]
    body = messages.lengths_of([b"12", part]) + b"12" + part
    assert [b"12", b"abc"] == list(messages.split(body, 2))


def test_lengths_are_in_bytes_whatever_the_items_are() -> None:
    part = memoryview(b"12345678").cast("Q")
    assert [b"12345678"] == messages.receive(io.BytesIO(b"".join(messages.join(part))).read)
