"""What a task is in another process, whichever way it came there: its item, its end as asked, and its error.

Must not import: eventlet, asyncio, IPython; worker processes load this.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from greenlab.errors import GreenlabError
from greenlab.pools.processes import serialization
from greenlab.text.tracebacks import set_traceback

if TYPE_CHECKING:
    from collections.abc import Callable

    from greenlab.pools.processes.framing import Bytes, Parcel

_POOLS: Final = os.path.dirname(os.path.dirname(__file__)) + os.sep  # noqa: PTH120


class Killed(GreenlabError):  # noqa: N818 - it stands for the error that the kernel keeps
    """The task is ended because the kernel says so."""


class Packed:
    """An item that is unpickled in its task."""

    __slots__ = ("body", "buffers", "form")

    def __init__(self, form: int, buffers: int, body: Bytes) -> None:
        self.form = form
        self.buffers = buffers
        self.body = body

    def load(self, known: Callable[[str], bool]) -> Any:
        """Unpickle it; see `serialization.load`."""
        return serialization.load(self.form, self.buffers, self.body, known)


def dump_task_error(error: BaseException) -> Parcel:
    """Pickle what a task raised, with its traceback from the user's own frames on."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None and _is_of_a_pool(trace.tb_next):
        trace = trace.tb_next
    set_traceback(error, trace)  # `dump_error` leaves out the first frame
    return serialization.dump_error(error)


def _is_of_a_pool(trace: Any) -> bool:
    return bool(trace.tb_frame.f_code.co_filename.startswith(_POOLS))
