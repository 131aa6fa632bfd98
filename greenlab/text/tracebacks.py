"""Exceptions as text that fits a report: cut where it is long, and without control characters; and their tracebacks.

A message may be of any length and hold anything: a page of HTML, a terminal's escape sequences, five million lines. A
report shows its beginning and its end, says what was left out, and shows control characters as Python writes them.

An exception that is raised again has the frames of each raise in its traceback; `Raised` keeps it as it was.

Guarantees: whatever an exception's own `__str__` or `__bool__` does, some text is returned for it.

Must not import: live, magics.
"""

from __future__ import annotations

import traceback
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn

from greenlab.text.format import counted

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_CHARS: Final = 4000
"""Characters of a message that are shown: two thirds from its beginning, one third from its end."""
MOST_LINES: Final = 30
"""Lines of a message that are shown, likewise."""

# C0 and C1 but for line ends and tabs: ESC, BEL and NUL among them.
_CONTROL: Final = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}


def visible(text: str) -> str:
    r"""Return a text with control characters written as Python writes them, `\x1b` for ESC; line ends and tabs stay."""
    return text.translate(_CONTROL)


def shortened(text: str, most_chars: int = MOST_CHARS, most_lines: int = MOST_LINES) -> str:
    """Return a text with its middle left out if it is long, and with a note of how much that was."""
    count = text.count("\n") + 1
    if count > most_lines:
        head, tail = 2 * most_lines // 3, most_lines // 3
        begin, end = "\n".join(text.split("\n", head)[:head]), "\n".join(text.rsplit("\n", tail)[-tail:])
        left_out = f"\n… {counted(count - head - tail, 'line')} left out …\n"
        return f"{_cut(begin, 2 * most_chars // 3)}{left_out}{_cut(end, most_chars // 3)}"
    return _cut(text, most_chars)


def _cut(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    head, tail = 2 * most // 3, most // 3
    return f"{text[:head]} … {len(text) - head - tail:,} characters left out … {text[-tail:]}"


def message_of(error: BaseException, most_chars: int = MOST_CHARS) -> str:
    """Return the type and the message of an exception, cut and cleaned."""
    name = type(error).__name__
    try:
        text = str(error)
    except BaseException as failure:
        text = f"its __str__ raised {type(failure).__name__}"
    return visible(f"{name}: {shortened(text, most_chars)}" if text else name)


def first_line_of(error: BaseException, most_chars: int = 300) -> str:
    """Return the first line of an exception's message, cut and cleaned."""
    try:
        text = str(error)
    except BaseException as failure:
        text = f"{type(error).__name__}, whose __str__ raised {type(failure).__name__}"
    return visible(shortened(text[: 100 * most_chars].partition("\n")[0], most_chars))


def leave_out_frames(formatted: traceback.TracebackException, left_out: Callable[[str], bool]) -> None:
    """Leave out the frames of files of which `left_out` is true, in the causes of an exception too."""
    for one in _chain(formatted):
        kept = [frame for frame in one.stack if not left_out(frame.filename)]
        one.stack = traceback.StackSummary.from_list(kept)


def _chain(formatted: traceback.TracebackException) -> list[traceback.TracebackException]:
    """Return an exception, its causes and contexts, and the members of groups."""
    seen = [formatted]
    for one in seen:
        seen += [other for other in (one.__cause__, one.__context__, *(one.exceptions or ())) if other is not None]
    return seen


def traceback_of(raised: Raised, left_out: Callable[[str], bool]) -> list[str]:
    """Return the traceback of an exception, line by line.

    Args:
        raised: the exception. Its causes are shown before it.
        left_out: returns of a file's name whether its frames are left out.
    """
    error = raised.error
    try:
        formatted = traceback.TracebackException(type(error), error, raised.trace)
        leave_out_frames(formatted, left_out)
        for one in _chain(formatted):
            # `_str` holds the message (CPython 3.11 to 3.15). Cut here, five million lines are not formatted.
            if isinstance(getattr(one, "_str", None), str):
                one._str = shortened(one._str)  # type: ignore[attr-defined]
        text = "".join(formatted.format()).rstrip()
    except BaseException as failure:  # CPython's own formatting asks for the truth of an exception, which may raise
        text = f"{message_of(error)}\n(its traceback cannot be shown: {type(failure).__name__})"
    return lines_of(text)


def lines_of(text: str) -> list[str]:
    """Return a traceback's text as lines, cut and cleaned."""
    return visible(shortened(text.rstrip(), 4 * MOST_CHARS, 4 * MOST_LINES)).split("\n")


# --- exceptions that are raised again ------------------------------------------------------------------------


class Raised(NamedTuple):
    """An exception, with its traceback as it was when it was caught: each raise of it adds to its own."""

    error: BaseException
    trace: TracebackType | None

    @classmethod
    def of(cls, error: BaseException) -> Raised:
        """Keep an exception as it is now."""
        return cls(error, error.__traceback__)

    def again(self) -> NoReturn:
        """Raise it as it was: without the frames and the context of an earlier raise, and of this one."""
        __tracebackhide__ = True
        context = self.error.__context__
        try:
            raise self.error
        finally:
            # After the raise, which adds this frame and what is being handled.
            set_traceback(self.error, self.trace)
            _CONTEXT.__set__(self.error, context)


class _FrameLeftOut:
    """Leaves the frame of its `with` out of the tracebacks of what is raised there.

    Where a worker process raised an error, that frame is the last one here, and IPython hides no last frame.
    """

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None and trace is not None:
            set_traceback(error, trace.tb_next)  # what goes on to be raised (CPython 3.11 to 3.15)


frame_left_out: Final = _FrameLeftOut()
_CONTEXT: Final[Any] = vars(BaseException)["__context__"]


def cut_traceback(error: BaseException, left_out: Callable[[str], bool]) -> None:
    """Leave the frames of files of which `left_out` is true out of an exception's own traceback."""
    frames = []
    trace = error.__traceback__
    while trace is not None:
        frames.append(trace)
        trace = trace.tb_next
    kept: TracebackType | None = None
    for one in reversed(frames):
        if not left_out(one.tb_frame.f_code.co_filename):
            same = one.tb_next is kept
            kept = one if same else TracebackType(kept, one.tb_frame, one.tb_lasti, one.tb_lineno)
    set_traceback(error, kept)


def set_traceback(error: BaseException, trace: TracebackType | None) -> None:
    """Set what an exception may forbid to set: a frozen dataclass does."""
    BaseException.with_traceback(error, trace)
