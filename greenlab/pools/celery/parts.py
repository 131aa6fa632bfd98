"""What is told instead of something that is too large for one message.

Guarantees: a task whose end is too large fails, with an error that says so; what tasks printed, and many results
together, are told in parts and lose nothing.

Must not import: celery, kombu, eventlet.
"""

from __future__ import annotations

from typing import Any, Final

from greenlab.errors import NotSendableError
from greenlab.pools.celery import messages
from greenlab.pools.processes import serialization

_SHORT_BYTES: Final = 32 << 10
"""An error that has no more than that is not told shorter."""


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
