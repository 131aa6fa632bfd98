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
from greenlab.checks import nearest, positive_number, whole_number
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
_OPTION = re.compile(r"\s+(--?[A-Za-z][\w-]*)")


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
    try:
        options, unknown = parser.parse_known_args(words)
    except UsageError:
        # argparse takes -concurrency for a -c with the value oncurrency.
        unknown = [word for word in words if re.match("-[A-Za-z]{3}", word) and nearest_option(parser, word)][:1]
        if not unknown:
            raise
    if unknown:
        raise UsageError(with_help(f"{parser.prog}: {no_option(parser, unknown[0])}", f"%%{parser.prog}"))
    if not rest:
        if options.count is None:
            raise UsageError(f"{parser.prog}: say what to run over: %%{parser.prog} x in items, or -n N for N times")
        return MagicLine(options, None, None)
    target, iterable = _loop(parser, words, rest)
    if options.count is not None:
        raise UsageError(f"{parser.prog}: -n and '{target} in ...' are two ways to say how often: leave one out")
    return MagicLine(options, target, iterable)


def with_help(message: str, magic: str) -> str:
    """Return what is said of a mistake, with where the options are listed."""
    return f"{message}{'' if message.endswith('?') else ';'} {magic}? lists the options"


def no_option(parser: argparse.ArgumentParser, word: str) -> str:
    """Return what is said of an option that does not exist, with the one that comes close, if there is one."""
    name, near = word.partition("=")[0], nearest_option(parser, word)
    return f"no option {name}; did you mean {near}?" if near else f"no option {name}"


def nearest_option(parser: argparse.ArgumentParser, word: str) -> str:
    """Return the option that comes close to one that does not exist; empty if none does."""
    name = word.partition("=")[0]
    known = parser._option_string_actions
    if len(name) == len("-c"):
        return name.swapcase() if name.swapcase() in known else ""
    near = nearest(name.lstrip("-"), [one.removeprefix("--") for one in known if one.startswith("--")])
    return f"--{near}" if near else ""


def _loop(parser: argparse.ArgumentParser, words: list[str], text: str) -> tuple[str, str]:
    """Split `TARGET in ITERABLE`, where Python's own parser does. `words` are the options before it, for messages."""
    loop = _parsed_loop(text)
    _refuse_options_after(parser, words, text, is_python=loop is not None)
    if loop is None:
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


def _parsed_loop(text: str) -> Any:
    """Return Python's syntax tree of a loop without a body, or None if the text is none."""
    try:
        loop = ast.parse(f"for {text}: pass").body[0]
    except SyntaxError:
        return None
    # More than one statement, or a loop with another body, means that the text contains a colon.
    return loop if isinstance(loop, ast.For) and isinstance(loop.body[0], ast.Pass) else None


def _refuse_options_after(parser: argparse.ArgumentParser, words: list[str], text: str, *, is_python: bool) -> None:
    """Raise where options follow a loop; `urls --trace`, which Python would take for two signs, is such a text too.

    Raises:
        UsageError: the message has the line as it should be, with all options.
    """
    known = parser._option_string_actions
    found = next(
        (
            found
            for found in _OPTION.finditer(text)
            if not is_python or (found[1].startswith("--") and found[1] in known)
            if _parsed_loop(text[: found.start()])
        ),
        None,
    )
    if found is None:
        return
    options, unknown = text[found.start() :].split(), ""
    for at, word in enumerate(options):
        name, *value = re.split("(?==)", word, maxsplit=1)
        if not re.match("--?[A-Za-z]", word) or name in known:
            continue
        near = nearest_option(parser, name)
        if near:
            unknown, options[at] = unknown or name, "".join([near, *value])
        elif name[:2] not in known:  # with its value, as in -c5
            message = f"{parser.prog}: options come first, and there is {no_option(parser, name)}"
            raise UsageError(with_help(message, f"%%{parser.prog}"))
    line = " ".join([f"%%{parser.prog}", *words, *options, text[: found.start()].strip()])
    if unknown:
        raise UsageError(f"{parser.prog}: options come first, and there is no option {unknown}; did you mean {line}?")
    raise UsageError(f"{parser.prog}: options come first: {line}")


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
