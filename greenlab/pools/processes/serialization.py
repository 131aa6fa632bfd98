"""What travels between a pool and its worker processes, and what is said when it cannot.

Functions, items and results go by cloudpickle where they must (what is defined in `__main__` travels by
value) and by the plain pickler, many times faster, where they may.

Guarantees:

* what cannot be sent is named: the variable that the function uses, the item's index, the result's type;
* a class of the notebook keeps its identity: an instance that comes back is one of the notebook's own class,
  and that class is left as it is;
* an error that would not survive the journey is replaced where it was raised by one that names it;
* whatever the user's own pickling raises (`__reduce__`, `__setstate__`, `__str__` …), SystemExit too, is a failure of
  the task whose value it was.

Must not import: eventlet, asyncio, IPython; worker processes load this.
"""

from __future__ import annotations

import functools
import linecache
import pickle
import traceback
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any

import cloudpickle

from greenlab.errors import GreenlabError, NotSendableError
from greenlab.places import is_machinery, with_cells_named
from greenlab.pools.processes import culprits
from greenlab.pools.processes.framing import (
    ERROR,
    NOTHING,
    PICKLED,
    RAW,
    SMALL,
    Bytes,
    Parcel,
    split_buffers,
    with_buffers,
)
from greenlab.pools.processes.pickling import Unpickler, dump_by_value, has_class
from greenlab.text.tracebacks import leave_out_frames, message_of, shortened, visible

if TYPE_CHECKING:
    from collections.abc import Callable

PLAIN = frozenset({int, float, bool, complex, type(None), str, bytes})
_NOTHING = Parcel(NOTHING, [])
_WHY_CHARS = 200
_TRACEBACK_CHARS, _TRACEBACK_LINES = 8000, 200


class RemoteTraceback(Exception):  # noqa: N818 - it is a cause to read, not an error to handle
    """The traceback of an error in a worker process, as text: the `__cause__` of that error here."""

    def __str__(self) -> str:
        return str(self.args[0])


class RemoteTaskError(GreenlabError):
    """Stands for a task's error that cannot be sent: its constructor wants more than its message, or it is too large.

    Attributes:
        type_name: the type of the error that the task raised.
    """

    def __init__(self, type_name: str, message: str) -> None:
        super().__init__(type_name, message)
        self.type_name = type_name

    def __str__(self) -> str:
        return f"{self.args[0]}: {self.args[1]}"


def type_name(value: object) -> str:
    """Return the name of a value's type, with its module unless that is builtins."""
    kind = type(value)
    where = "" if kind.__module__ in ("builtins", None) else f"{kind.__module__}."
    # A greened lock's qualified name is that of the function which pickle takes it for.
    is_plain_name = kind.__qualname__.rpartition(".")[2] == kind.__name__
    return f"{where}{kind.__qualname__ if is_plain_name else kind.__name__}"


# --- values ------------------------------------------------------------------------------------------------


def is_plain(value: object) -> bool:
    """Whether a value is a small builtin, or a short tuple or list of these: many share one pickle."""
    kind = type(value)
    if kind is tuple or kind is list:
        return len(value) <= 8 and all(  # type: ignore[arg-type] # it is a tuple or a list
            type(part) in PLAIN and (type(part) not in (str, bytes) or len(part) < SMALL // 8)
            for part in value  # type: ignore[attr-defined]
        )
    return kind in PLAIN and (kind not in (str, bytes) or len(value) < SMALL)  # type: ignore[arg-type]


def dump(value: Any) -> Parcel:
    """Pickle an item or a result.

    Raises:
        Exception: it cannot be pickled.
    """
    if value is None:
        return _NOTHING
    kind = type(value)
    if kind is bytes and len(value) > SMALL:
        return Parcel(RAW, [value])
    if kind in PLAIN:
        return Parcel(PICKLED, [pickle.dumps(value, 5)])
    buffers: list[pickle.PickleBuffer] = []
    try:
        data = pickle.dumps(value, 5, buffer_callback=buffers.append)
        by_value = b"__main__" in data or cloudpickle.list_registry_pickle_by_value()
    except Exception:  # cloudpickle can do more, and its error is the one to show
        by_value = True
    if by_value:
        buffers.clear()
        data = dump_by_value(value, buffers.append)
    if not buffers:
        return Parcel(PICKLED, [data])
    try:
        return with_buffers(data, [buffer.raw() for buffer in buffers])
    except BufferError:  # a buffer with gaps cannot be sent as it lies
        return Parcel(PICKLED, [dump_by_value(value)])


def load(form: int, buffers: int, body: Bytes, known: Callable[[str], bool]) -> Any:
    """Undo `dump`.

    Args:
        form: how the body is to be read (`framing.PICKLED` …).
        buffers: the number of out-of-band buffers in the body.
        body: as it was received.
        known: returns, for the tracker id of a class, whether this process has that class in its right state.
    """
    if form == NOTHING:
        return None
    if form == RAW:
        return bytes(body)
    beside: list[memoryview] = []
    if buffers:
        body, beside = split_buffers(body, buffers)
    data = bytes(body)
    if b"_class_setstate" not in data:
        return pickle.loads(data, buffers=beside)
    return Unpickler(data, beside, known).load()


# --- functions ---------------------------------------------------------------------------------------------


def dump_function(func: Any) -> bytes:
    """Pickle the function of a job, and the source lines that tracebacks of it will want.

    Raises:
        NotSendableError: something that it uses cannot be pickled; the message names it.
    """
    try:
        data = dump_by_value(func)
    except Exception as error:
        name, value = find_culprit(func)
        what = f"{name!r} ({type_name(value)}), used by the task," if name else f"the task ({type_name(func)})"
        hint = "make it inside the task, or use -p green"
        failure = _unsendable(f"cannot send {what} to a worker process: {hint}", error)
        raise failure from failure.__cause__
    return pickle.dumps((_sources(func), data), 5)


def find_culprit(func: Any) -> tuple[str, Any]:
    """Return the innermost of what a function uses that cannot be pickled, and its name, if it has one."""
    return culprits.find("", func, [], is_sendable)


def load_function(data: Bytes) -> Any:
    """Undo `dump_function`, and let tracebacks find the lines of notebook cells."""
    sources, pickled = pickle.loads(data)
    for name, lines in sources.items():
        linecache.cache[name] = (sum(map(len, lines)), None, lines, name)
    return pickle.loads(pickled)


def _sources(func: Any) -> dict[str, list[str]]:
    """The lines of those functions whose file is no file: cells, which live in the parent's linecache."""
    found: dict[str, list[str]] = {}
    todo, seen = [func], set()
    while todo:
        value = todo.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        # A routed function, or one that any other decorator wraps as functools.wraps says it.
        attributes = getattr(value, "__dict__", None)
        if isinstance(attributes, dict) and "__wrapped__" in attributes:
            todo.append(attributes["__wrapped__"])
        if isinstance(value, FunctionType):
            name = value.__code__.co_filename
            entry = linecache.cache.get(name)
            if entry is not None and len(entry) == 4 and entry[1] is None:
                found[name] = entry[2]
        if isinstance(value, FunctionType | MethodType | functools.partial):
            todo.extend(part for _, part in culprits.parts("", value))
    return found


def is_sendable(value: object) -> bool:
    """Whether a value can be pickled."""
    try:
        dump_by_value(value)
    except Exception:
        return False
    return True


# --- what is said when it cannot be sent --------------------------------------------------------------------


def unsendable_item(index: int, item: object, cause: BaseException) -> NotSendableError:
    """Make the error of a task whose item cannot be pickled."""
    what = f"item {index} ({type_name(item)})"
    hint = "make it inside the task, or use -p green"
    return _unsendable(f"cannot send {what} to a worker process: {hint} ({message_of(cause, _WHY_CHARS)})", cause)


def unsendable_result(value: object, cause: BaseException) -> NotSendableError:
    """Make the error of a task whose result cannot be pickled."""
    what = f"the task's result (a {type_name(value)}) cannot be sent back from a worker"
    return _unsendable(f"{what}: return plain data, or use -p green ({message_of(cause, _WHY_CHARS)})", cause)


def _unsendable(message: str, cause: BaseException) -> NotSendableError:
    """Make an error whose cause is kept where code of the user's raised it: other frames say nothing."""
    error = NotSendableError(message)
    if any(not is_machinery(frame.f_code.co_filename) for frame, _ in traceback.walk_tb(cause.__traceback__)):
        error.__cause__ = cause
    error.__suppress_context__ = True
    return error


# --- errors ------------------------------------------------------------------------------------------------


def dump_error(error: BaseException) -> Parcel:
    """Pickle what a task raised, with its traceback as text; called in the worker, where it was raised."""
    trace = error.__traceback__.tb_next if error.__traceback__ else None
    name, message = type_name(error), _message(error)
    try:
        formatted = traceback.TracebackException(type(error), error, trace)
        leave_out_frames(formatted, is_machinery)
        text = "".join(formatted.format())
    except BaseException:  # its `str()` raised what traceback lets through
        text = "".join(["Traceback (most recent call last):\n", *traceback.format_tb(trace), f"{name}: {message}\n"])
    try:
        data = dump_by_value(error)
        survives = isinstance(pickle.loads(data), BaseException)
    except BaseException:
        survives = False
    if not survives:
        data = pickle.dumps(RemoteTaskError(name, message), 5)
    return Parcel(PICKLED, [pickle.dumps((data, name, message, text), 5)])


def shorten_error(body: Bytes, why: str) -> Parcel:
    """Return, of an error that `dump_error` has pickled and that is too large to be sent, one that is not.

    Args:
        body: the error.
        why: how large it may be, in one line; the new one says so.
    """
    _, name, message, text = pickle.loads(body)
    first, *_ = message.split("\n", 1)
    said = RemoteTaskError(name, visible(f"{shortened(first, _WHY_CHARS)} ({why})"))
    text = shortened(text, _TRACEBACK_CHARS, _TRACEBACK_LINES)
    return Parcel(PICKLED, [pickle.dumps((pickle.dumps(said, 5), name, str(said), text), 5)])


def load_error(body: Bytes) -> BaseException:
    """Undo `dump_error`: return the error, with a `RemoteTraceback` as its cause."""
    data, name, message, text = pickle.loads(body)
    try:
        loaded = load(PICKLED, 0, data, has_class)
    except BaseException:  # it needs something that only the worker has
        loaded = None
    error = loaded if isinstance(loaded, BaseException) else RemoteTaskError(name, message)
    # By the numbers that they have in the kernel: in the process that made the text cells are files.
    _set_cause(error, RemoteTraceback(with_cells_named(text)))
    return error


def load_end(index: int, kind: int, form: int, buffers: int, body: Bytes) -> tuple[Any, BaseException | None]:
    """Read, in the kernel, what a worker sent at the end of a task: return its value, and its error or None."""
    try:
        if kind == ERROR:
            return None, load_error(body)
        return load(form, buffers, body, has_class), None
    except BaseException as cause:
        return None, unreadable(index, cause)


def unreadable(index: int, cause: BaseException) -> NotSendableError:
    """Make the error of a task whose end cannot be read in the kernel."""
    error = NotSendableError(f"the result of task {index} cannot be read here: {_message(cause) or type_name(cause)}")
    error.__cause__ = cause
    return error


def _set_cause(error: BaseException, cause: BaseException) -> None:
    vars(BaseException)["__cause__"].__set__(error, cause)


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException:
        return "<its str() failed>"
