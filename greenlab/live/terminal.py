"""The terminal: a line that is rewritten in place below what is printed, or lines in a log where it cannot be.

Guarantees:

* what tasks print is never mixed with the line: while it stands there, each of the streams that go to the terminal
  erases it before it writes, and it comes back below; a line that somebody has begun to print is not written over;
* the streams themselves stay what they are (`sys.stdout is` the same object), and are as before when no line is shown;
* the line is never wider than the terminal; where there is no terminal that can erase (a file, a pipe, TERM=dumb) no
  control character is written;
* printing works from any thread.

Must not import: ipywidgets, IPython, matplotlib.
"""

from __future__ import annotations

import _thread
import os
import sys
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

ERASE: Final = "\r\x1b[K"
"""Go to the line's beginning and erase it: ECMA-48, EL."""
_RED, _PLAIN = "\x1b[31m", "\x1b[39m"
_LEAST_BAR, _MOST_BAR = 7, 30
_SPARE = 4
"""Columns that a bar leaves for figures to grow, so that its own width does not follow theirs."""
_WIDTH_UNKNOWN = 80


class Part(NamedTuple):
    """A part of a line.

    Attributes:
        text: what it says.
        problem: whether it is one, which is red.
    """

    text: str
    problem: bool = False


class TerminalLine:
    """The one line of a process that is rewritten in place. It stands on stderr, as those of other programs do."""

    def __init__(self) -> None:
        self._text = ""
        self._bar = _BarWidth()
        self._drawn = False
        self._begun = False  # a line of somebody else's, which has not ended
        self._thread = _thread.get_ident()
        self._hooked: list[tuple[Any, dict[str, Any], Any]] = []

    @property
    def in_place(self) -> bool:
        """Whether a line can be rewritten: there is a terminal, and it can erase."""
        return _is_terminal(sys.stderr) and os.environ.get("TERM", "dumb") != "dumb"

    def show(self, parts: Sequence[Part], share: float | None = None) -> None:
        """Rewrite the line.

        Args:
            parts: what it says, the most important ones first: those at the end are left out where it is narrow.
            share: how much is done, for a bar behind the first part; None for no bar.
        """
        self._hook()
        width = _width()
        bar = self._bar.of(parts, share, width)
        self._text = fitted(parts, share, width, plain=self._plain, ascii_only=self._ascii_only, bar=bar)
        self._draw()

    def erase(self) -> None:
        """Remove the line, and put the streams back."""
        for stream, former, hook in self._hooked:
            if vars(stream).get("write") is hook:
                vars(stream).pop("write")
                vars(stream).update(former)
        self._hooked = []
        if self._drawn:
            self._drawn = False
            self._write(ERASE)
        self._text = ""

    def log(self, parts: Sequence[Part]) -> None:
        """Write a line that stays."""
        self.erase()
        if sys.stderr is not None:
            head, *rest = parts
            text = f"{head.text}: {', '.join(part.text for part in rest)}" if rest else head.text
            self._write(f"\n{text}\n" if self._begun else f"{text}\n")
            self._begun = False

    def close(self) -> None:
        """Remove the line."""
        self.erase()

    @property
    def _plain(self) -> bool:
        return bool(os.environ.get("NO_COLOR"))  # https://no-color.org: set, and not empty

    @property
    def _ascii_only(self) -> bool:
        return not (getattr(sys.stderr, "encoding", None) or "").lower().startswith("utf")

    def _draw(self) -> None:
        if self._text and not self._begun:
            self._drawn = True  # before it is: a thread that prints meanwhile erases once too often, not too rarely
            self._write(ERASE + self._text)

    def _write(self, text: str) -> None:
        stream: Any = sys.stderr
        try:
            type(stream).write(stream, text)
            stream.flush()
        except (OSError, ValueError):  # the terminal is gone, or the stream closed: nobody reads it
            self._text = ""

    def _hook(self) -> None:
        """Put a `write` in front of that of each stream that goes to a terminal."""
        for stream in (sys.stdout, sys.stderr):
            # IPython 9 puts one there too, in every cell, which keeps a copy of what is printed.
            former = vars(stream).get("write") if _is_terminal(stream) else None
            if _is_terminal(stream) and former not in [hook for _, _, hook in self._hooked]:
                hook = self._make_write(stream)
                self._hooked.append((stream, {} if former is None else {"write": former}, hook))
                vars(stream)["write"] = hook

    def _make_write(self, stream: Any) -> Any:
        original = stream.write

        def write(text: str) -> Any:
            if not text:
                return original(text)
            drawn, self._drawn = self._drawn, False
            original(ERASE + text if drawn else text)
            self._begun = not text.endswith("\n")
            if self._text and not self._begun and _thread.get_ident() == self._thread:
                stream.flush()
                self._draw()
            return len(text)

        return write


def _is_terminal(stream: Any) -> bool:
    try:
        # In a notebook, and where output is captured, there is a stream of another kind.
        return type(stream).__module__ == "_io" and stream.isatty()
    except (AttributeError, ValueError):
        return False


def _width() -> int:
    """Return the columns of the terminal that stderr is: a resized one has others than COLUMNS says."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or _WIDTH_UNKNOWN
    except (AttributeError, OSError, ValueError):
        return _WIDTH_UNKNOWN


class _BarWidth:
    """The width of the bar of a line that is rewritten: it stays as it is while there is room, and never grows."""

    def __init__(self) -> None:
        self._of: tuple[str, int] | None = None
        self._columns = _MOST_BAR

    def of(self, parts: Sequence[Part], share: float | None, width: int) -> int:
        """Return the columns of the bar in a terminal of `width` columns."""
        line = parts[0].text, width
        if self._of != line:  # another run, or a terminal that was resized
            self._of, self._columns = line, _MOST_BAR + _SPARE
        room = _bar_room(parts, share, width)
        if _LEAST_BAR <= room < self._columns:
            self._columns = max(room - _SPARE, _LEAST_BAR)
        return min(self._columns, _MOST_BAR)


def _bar_room(parts: Sequence[Part], share: float | None, width: int) -> int:
    """Return the columns that are left for a bar if all parts are shown; negative if they do not fit."""
    return width - 1 - len(_joined(parts[0].text, _percent(share), parts[1:])) - len(" ")


def _percent(share: float | None) -> str:
    return "" if share is None else f" {min(share, 1):4.0%}"


def fitted(
    parts: Sequence[Part],
    share: float | None,
    width: int,
    *,
    plain: bool,
    ascii_only: bool,
    bar: int = _MOST_BAR,
) -> str:
    """Return parts as a line of less than `width` columns, with a bar behind the first one if there is room.

    Args:
        parts: what it says, the most important ones first.
        share: how much is done; None for no bar.
        width: columns of the terminal.
        plain: whether it has no colours.
        ascii_only: whether the terminal shows ASCII alone.
        bar: columns of the bar at the most.
    """
    most = max(width - 1, 1)  # a full line would wrap in some terminals
    if ascii_only:
        parts = [Part(part.text.encode("ascii", "replace").decode(), part.problem) for part in parts]
    head, *rest = parts
    tail = rest
    percent, bar = _percent(share), min(bar, _bar_room(parts, share, width))
    while tail and len(_joined(head.text, percent, tail)) > most:
        tail = tail[:-1]
    if not tail and len(f"{head.text}{percent}") + 2 > most:
        ellipsis = "..." if ascii_only else "…"
        return f"{head.text[: max(most - len(ellipsis) - len(percent), 0)]}{ellipsis}{percent}"[:most]
    if share is not None and bar >= _LEAST_BAR:
        percent += f" {_bar(share, bar, ascii_only=ascii_only)}"
    return _joined(head.text, percent, [part if plain else _coloured(part) for part in tail])


def _joined(head: str, percent: str, tail: Sequence[Part]) -> str:
    first = f"{head}{percent}" if percent else head
    return "  ".join([first, ", ".join(part.text for part in tail)]) if tail else first


def _coloured(part: Part) -> Part:
    return Part(f"{_RED}{part.text}{_PLAIN}", problem=True) if part.problem else part


def _bar(share: float, width: int, *, ascii_only: bool) -> str:
    """Return a bar of `width` columns, in eighths of a column where the terminal has them."""
    eighths = round(8 * width * min(max(share, 0), 1))
    if ascii_only:
        return f"[{'#' * (eighths * (width - 2) // (8 * width)):{width - 2}}]"
    full, part = divmod(eighths, 8)
    return f"{'█' * full}{'▏▎▍▌▋▊▉'[part - 1] if part else ''}".ljust(width, "·")
