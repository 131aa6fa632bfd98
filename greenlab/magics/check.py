"""`%greencheck`: a call, some libraries, or all that is loaded. Parse, call `explain.check`, return."""

from __future__ import annotations

import ast
import linecache
import re
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

from greenlab import probes
from greenlab.api import explain
from greenlab.errors import UsageError
from greenlab.magics import body, options

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

HELP = f"""Measure whether a call, or a library, cooperates under greenlab; return a verdict, with a fix.

%greencheck [options] EXPRESSION   calls it, natively and green, alone and several at once, in a fresh process
%greencheck LIB...                 looks up libraries in a table of measurements
%greencheck                        the same for all that is loaded, and lists C extensions that are unknown

The expression is run FOR REAL, up to {probes.TIMES} times: what it sends is sent, what it writes is written. What it
uses of the notebook is copied to the other process; what it returns or prints is dropped.

"""
_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


class _Parser(options._Parser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(options.with_help(f"{self.prog}: {message}", f"%{self.prog}"))


def make_parser() -> argparse.ArgumentParser:
    """Declare the options of `%greencheck`."""
    parser = _Parser("greencheck")
    add = parser.add_argument
    add(
        "--times",
        type=options._whole(probes.LEAST_TIMES),
        default=probes.TIMES,
        metavar="K",
        help=f"call it K times at the most (default {probes.TIMES}); a short call needs many",
    )
    add(
        "--limit",
        type=options._positive,
        default=probes.LIMIT_S,
        metavar="S",
        help=f"stop a call that takes longer than S seconds (default {probes.LIMIT_S:g})",
    )
    return parser


def make_matcher() -> Callable[[Any], Any]:
    """Return the matcher that offers the names of known libraries beside what Python offers."""
    from IPython.core.completer import SimpleCompletion, context_matcher

    @context_matcher()  # type: ignore[untyped-decorator]  # IPython's decorators carry no types
    def greenlab_libraries(context: Any) -> dict[str, Any]:
        line = context.line_with_cursor.lstrip()
        word = context.token
        offers = []
        if line.startswith("%greencheck ") and word and "(" not in line:
            offers = [SimpleCompletion(name, type="module") for name in probes.known() if name.startswith(word)]
        return {"completions": offers, "matched_fragment": word}

    matcher: Callable[[Any], Any] = greenlab_libraries
    return matcher


def greencheck(ip: Any, parser: argparse.ArgumentParser, line: str) -> Any:
    """Run `%greencheck` on a line.

    Raises:
        UsageError: the message says what to write instead.
    """
    words, rest = options._split(parser, line)
    given, unknown = parser.parse_known_args(words)
    if unknown:
        raise UsageError(options.with_help(f"greencheck: {options.no_option(parser, unknown[0])}", "%greencheck"))
    names = [_library(ip.user_ns, word) for word in rest.split()]
    if all(names):
        return explain.check(*names)
    if all(map(_DOTTED.fullmatch, rest.split())) and not callable(_value(ip.user_ns, rest)):
        if _is_bound(ip.user_ns, rest):
            raise UsageError(f"greencheck: {rest} is a value: give a call, such as %greencheck fetch({rest})")
        return explain.check(*(name or word for name, word in zip(names, rest.split(), strict=True)))
    return explain.check(_compile(ip, rest), times=given.times, limit=given.limit, name=rest)


def _library(namespace: dict[str, Any], word: str) -> str | None:
    """Return the name of the library that a word stands for, `numpy` for `np`; None if it stands for none."""
    if not _DOTTED.fullmatch(word):
        return None
    value = _value(namespace, word)
    if isinstance(value, ModuleType):
        return value.__name__
    if _is_bound(namespace, word):
        return word if isinstance(namespace[word.partition(".")[0]], ModuleType) and word in probes.known() else None
    return word if probes.is_library(word) else None


def _is_bound(namespace: dict[str, Any], word: str) -> bool:
    return word.partition(".")[0] in namespace


def _value(namespace: dict[str, Any], word: str) -> Any:
    """Return what a dotted name stands for in the notebook, or None."""
    first, *rest = word.split(".")
    value = namespace.get(first)
    for name in rest:
        value = getattr(value, name, None)
    return value


def _compile(ip: Any, text: str) -> Callable[[], Any]:
    """Return a function that evaluates an expression; if that is the name of a function, call it."""
    name = body.cell_name(ip)
    source = f"{text}()" if _DOTTED.fullmatch(text) else text
    shell: Any = ast.parse("lambda: 0", mode="eval")
    try:
        tree: Any = ast.parse(source, filename=name, mode="eval")
        shell.body.body = tree.body
        code = compile(shell, name, "eval", dont_inherit=True)
    except SyntaxError as error:
        raise UsageError(f"greencheck: {text!r} is no expression ({error.msg}): %greencheck fetch(url)") from None
    linecache.cache[name] = (len(source), None, [source], name)
    made: Any = eval(code, ip.user_ns)  # noqa: S307 (the user's own cell)
    made.__module__ = "__main__"
    return made  # type: ignore[no-any-return]
