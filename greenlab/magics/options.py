"""The options of the magics: one declaration for parsing, help and completion.

Guarantees: every mistake is a `UsageError` of one line that says what to write; the text of the iterable reaches
Python exactly as it was typed, quotes and braces and all.
"""

from __future__ import annotations

import argparse
import ast
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from greenlab import pools
from greenlab.api.options import FLAGS, RunOptions
from greenlab.checks import did_you_mean, positive_number, whole_number
from greenlab.errors import UsageError
from greenlab.text.format import counted

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from greenlab.api.options import Flag


class _Parser(argparse.ArgumentParser):
    def __init__(self, name: str) -> None:
        super().__init__(prog=name, add_help=False, allow_abbrev=False)
        # Python 3.14 colours the help if there is a terminal; this one is read in a pager and in notebooks.
        self.color = False

    def error(self, message: str) -> NoReturn:
        # argparse prints the usage of a program and exits; only its sentence is kept.
        raise UsageError(with_help(f"{self.prog}: {message}", f"%%{self.prog}"))


def _whole(least: int) -> Any:
    def parse(text: str) -> int:
        try:
            return whole_number("", int(text), least)
        except (ValueError, UsageError):
            raise argparse.ArgumentTypeError(f"takes a whole number of {least} or more, not {text!r}") from None

    return parse


def _positive(text: str) -> float:
    try:
        return positive_number("", float(text))
    except (ValueError, UsageError):
        raise argparse.ArgumentTypeError(f"takes a number greater than 0, not {text!r}") from None


def _pool(text: str) -> str:
    try:
        pools.check_name(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _name(text: str) -> str:
    if not text.isidentifier():
        raise argparse.ArgumentTypeError(f"takes the name of a variable, not {text!r}")
    return text


def make_parser(name: str, without: Collection[str] = ()) -> argparse.ArgumentParser:
    """Return the parser of the options of `%%greenrun`, without some of them, by their long names."""
    parser = _Parser(name)

    def add(*names: str, **how: Any) -> None:
        if names[-1] not in without:
            parser.add_argument(*names, **how)

    def add_flag(name: str, flag: Flag) -> None:
        if flag.kind == "switch":
            add(*flag.names, action="store_true", help=flag.help)
        else:
            kind = _whole(flag.least) if flag.kind == "whole" else _positive if flag.kind == "positive" else _pool
            add(*flag.names, type=kind, default=defaults[name], metavar=flag.metavar, help=flag.help)

    defaults = vars(RunOptions())
    for option, flag in FLAGS.items():
        add_flag(option, flag)
        if option == "workers":
            add("-n", "--count", type=_whole(1), metavar="N", help="run N times, with i = 0, 1, 2 ... in the body")
        if option == "max_memory":
            add("--detach", action="store_true", help="return at once, while the run goes on")
    add("-o", "--out", type=_name, metavar="NAME", help="assign the Run to this variable as soon as it begins")
    return parser


@dataclass(frozen=True)
class MagicLine:
    """A magic's line, parsed.

    Attributes:
        options: the options, by their long names.
        target: the text before `in`, such as `url` or `i, url`; None with `-n`.
        iterable: the text after it; None with `-n`.
    """

    options: argparse.Namespace
    target: str | None
    iterable: str | None

    @property
    def run_options(self) -> dict[str, Any]:
        """The options of a run among these, by the names that Python calls them by."""
        given = vars(self.options)
        found = {name: given[name] for name, flag in FLAGS.items() if not flag.negated and name in given}
        for name, flag in FLAGS.items():
            if flag.negated and given.get(flag.names[-1].lstrip("-").replace("-", "_")):
                found[name] = False
        return found

    @property
    def label(self) -> str:
        """The name of the run in lists and reports."""
        return f"{self.target} in {self.iterable}" if self.target else counted(self.options.count, "call")


_WORD = re.compile(r"\s*(\S+)")
_TAIL = re.compile(r"\s(-{1,2}[A-Za-z][\w-]*)(\s+\S+)?\s*$")


def _split(parser: argparse.ArgumentParser, line: str) -> tuple[list[str], str]:
    """Split the leading options from the rest, which is left as it was typed."""
    actions = parser._option_string_actions
    words: list[str] = []
    at = 0
    while match := _WORD.match(line, at):
        word = match[1]
        if not word.startswith("-") or word == "-":
            break
        at = match.end()
        if word == "--":
            break
        words.append(word)
        action = actions.get(word)
        if action is not None and action.nargs is None and (value := _WORD.match(line, at)):
            words.append(value[1])
            at = value.end()
    return words, line[at:].strip()


def parse(parser: argparse.ArgumentParser, line: str) -> MagicLine:
    """Parse `[options] [TARGET in ITERABLE]`.

    Raises:
        UsageError: the message says what to write instead.
    """
    words, rest = _split(parser, line)
    options, unknown = parser.parse_known_args(words)
    if unknown:
        raise UsageError(with_help(f"{parser.prog}: {no_option(parser, unknown[0])}", f"%%{parser.prog}"))
    if not rest:
        if options.count is None:
            raise UsageError(f"{parser.prog}: say what to run over: %%{parser.prog} x in items, or -n N for N times")
        return MagicLine(options, None, None)
    target, iterable = _loop(parser, rest)
    if options.count is not None:
        raise UsageError(f"{parser.prog}: -n and '{target} in ...' are two ways to say how often: leave one out")
    return MagicLine(options, target, iterable)


def with_help(message: str, magic: str) -> str:
    """Return what is said of a mistake, with where the options are listed."""
    return f"{message}{'' if message.endswith('?') else ';'} {magic}? lists the options"


def no_option(parser: argparse.ArgumentParser, word: str) -> str:
    """Return what is said of an option that does not exist, with the one that comes close, if there is one."""
    name = word.partition("=")[0]
    return f"no option {name}{did_you_mean(name, [known for known in option_names(parser) if known.startswith('--')])}"


def _loop(parser: argparse.ArgumentParser, text: str) -> tuple[str, str]:
    """Split `TARGET in ITERABLE`, where Python's own parser does."""
    try:
        loop: Any = ast.parse(f"for {text}: pass").body[0]
    except SyntaxError:
        loop = None
    # More than one statement, or a loop with another body, means that the text contains a colon.
    if not isinstance(loop, ast.For) or not isinstance(loop.body[0], ast.Pass):
        tail = _TAIL.search(text)
        if tail and tail[1] in parser._option_string_actions:
            raise UsageError(f"{parser.prog}: options come first: %%{parser.prog} {tail[0].strip()} x in items")
        raise UsageError(f"{parser.prog}: {text!r} is not of the form 'x in items', such as: url in urls")
    source = f"for {text}: pass"
    target = ast.get_source_segment(source, loop.target) or ""
    iterable = source[source.index(" in ", source.index(target) + len(target)) + 4 : -len(": pass")].strip()
    for node in ast.walk(loop.target):
        if isinstance(node, (ast.Attribute, ast.Subscript, ast.Starred)):
            raise UsageError(
                f"{parser.prog}: {target!r} must be a name or a tuple of names: what it holds is the task's own"
            )
    return target, iterable


def option_names(parser: argparse.ArgumentParser) -> Sequence[str]:
    """Return every option, long forms last."""
    return sorted(parser._option_string_actions, key=lambda name: (name.startswith("--"), name))


def values_of(parser: argparse.ArgumentParser, option: str, typed: str = "") -> Sequence[str] | None:
    """Return the values to offer after an option: names for -p, none for others; None if it takes no value.

    For a list of names with commas, each offer begins with the names `typed` so far.
    """
    action = parser._option_string_actions.get(option)
    if action is None or action.nargs == 0:
        return None
    if action.dest == "pools":
        before = typed[: typed.rfind(",") + 1]
        return [before + name for name in pools.NAMES if name not in before.split(",")]
    return pools.NAMES if action.dest == "pool" else ()


def describe(parser: argparse.ArgumentParser) -> str:
    """Return the options as text, for the help of the magic."""
    return parser.format_help().partition("\n\n")[2]
