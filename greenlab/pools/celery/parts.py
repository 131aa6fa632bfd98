"""What is too large for one message: how that is found out, and what a worker tells instead.

Guarantees: a task whose end is too large fails, with an error that says so; what tasks printed, and many results
together, are told in parts and lose nothing.

Must not import: celery, kombu, eventlet.
"""

from __future__ import annotations

from typing import Any, Final

from greenlab.errors import NotSendableError
from greenlab.pools.celery import messages
from greenlab.pools.processes import serialization

_MAY_BE_REFUSED_BYTES: Final = 128 << 10
"""Above this, a broker of AMQP is asked whether it took a message. RabbitMQ takes 16 MiB, before version 4 128 MiB."""
_PRECONDITION_FAILED: Final = 406
"""What AMQP answers to a message that is too large."""
_SHORT_BYTES: Final = 32 << 10
"""An error that has no more than that is not told shorter."""


def ask_if_taken(producer: Any, size: int) -> None:
    """Wait until the broker of kombu's `producer` has taken what it was sent last, of so many bytes, if it may not.

    Raises:
        amqp.PreconditionFailed: it is too large for it, as `refusal` tells.
    """
    if size > _MAY_BE_REFUSED_BYTES and producer.connection.transport.driver_type == "amqp":
        # A broker of AMQP answers no publish: what it refuses it says in place of its next answer.
        producer.channel.basic_qos(0, 1, False)


def refusal(error: BaseException) -> str:
    """Return why a broker refused a message as too large; nothing where that is not what the error says."""
    if getattr(error, "code", None) != _PRECONDITION_FAILED:
        return ""
    return f"the broker says: {getattr(error, 'message', None) or error}"


def smaller(told: tuple[Any, ...], why: str) -> list[tuple[Any, ...]]:
    """Return what to tell instead; nothing of what cannot be told with less.

    Args:
        told: what is too large: a tuple that begins with its kind, see `messages`.
        why: what refused it, in one line.
    """
    kind, *about = told
    if kind == messages.PRINTED and len(about[-1]) > 1:
        *of, text = about
        half = len(text) // 2
        return [(kind, *of, text[:half]), (kind, *of, text[half:])]
    if kind == messages.RESULTS and len(about[1]) > 1:
        message, *columns = about
        half = len(about[1]) // 2
        return [
            (kind, message, *(column[:half] for column in columns)),
            (kind, message, *(column[half:] for column in columns)),
        ]
    if kind == messages.RESULT:
        error = NotSendableError(f"the task's result cannot be sent back from a worker: return less ({why})")
        return [(messages.FAILURE, *about[:4], messages.flatten(serialization.dump_error(error)))]
    if kind == messages.FAILURE and len(about[4][2]) > _SHORT_BYTES:
        return [(kind, *about[:4], messages.flatten(serialization.shorten_error(about[4][2], why)))]
    return []
