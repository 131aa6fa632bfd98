"""`%%greentrace` and `%greenstep`: parse, call, return.

Must not hold: work of its own. Everything these magics do can be done from `greenlab.trace`, `greenlab.run` with
`trace=True` and `greenlab.stepper`.
"""

from __future__ import annotations

import ast
import linecache
from typing import TYPE_CHECKING, Any

from greenlab.api import explain
from greenlab.api.session import start
from greenlab.errors import UsageError
from greenlab.magics import body, options

if TYPE_CHECKING:
    import argparse

    from greenlab.runs import Run
    from greenlab.tracing.stepper import Stepper
    from greenlab.tracing.timeline import Timeline

NAMES = ("greentrace", "greenstep")


def make_parsers() -> dict[str, argparse.ArgumentParser]:
    """Return the parsers of both, by the magic's name."""
    trace = options.make_parser("greentrace", without=("--detach", "--trace", "--out"))
    trace.set_defaults(pool="green", trace=True, detach=False)
    trace.add_argument("-o", "--out", type=options._name, metavar="NAME", help="assign the Timeline to this variable")
    step = options._Parser("greenstep")
    step.add_argument("-n", "--count", type=options._whole(1), default=1, metavar="N", help="make N steps (default 1)")
    step.add_argument("-a", "--all", action="store_true", help="make every step that there is")
    step.add_argument("-s", "--show", action="store_true", help="make no step: show where each task stands")
    return {"greentrace": trace, "greenstep": step}


# -- %%greentrace --------------------------------------------------------------------------------------------


def is_plain(parser: argparse.ArgumentParser, line: str, cell: str | None) -> bool:
    """Return whether the cell runs as it stands, and not once an item: there is no option but `-o NAME`."""
    words, rest = options._split(parser, line)
    return cell is not None and not rest and (not words or words[0] in {"-o", "--out"})


def trace_cell(ip: Any, parser: argparse.ArgumentParser, line: str, cell: str) -> Timeline:
    """Run a cell in the notebook's own namespace, and record it.

    Returns:
        the timeline; it is `_timeline` in the notebook too, also when the cell raised.

    Raises:
        UsageError: the cell cannot be compiled, or is empty.
    """
    __tracebackhide__ = True
    given, unknown = parser.parse_known_args(line.split())
    if unknown:
        raise UsageError(options.with_help(f"greentrace: {options.no_option(parser, unknown[0])}", "%%greentrace"))
    code = _compile(ip, line, cell)
    tracing = explain.trace()
    try:
        with tracing:
            exec(code, ip.user_ns)  # noqa: S102 (the user's own cell)
    finally:
        _keep(ip, given.out, tracing.timeline)
    return tracing.timeline


def timeline_of(ip: Any, parser: argparse.ArgumentParser, line: str, run: Run) -> Timeline:
    """Return the timeline of a traced run, and keep it under the name that was asked for."""
    given = options.parse(parser, line).options
    timeline = run.timeline()
    _keep(ip, given.out, timeline)
    return timeline


def _keep(ip: Any, out: str | None, timeline: Timeline) -> None:
    ip.user_ns["_timeline"] = timeline
    if out:
        ip.user_ns[out] = timeline


def _compile(ip: Any, line: str, cell: str) -> Any:
    name = body.cell_name(ip)
    source = f"%%greentrace {line}\n{cell}"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    tree = body._parse(ip, cell, name)
    if not tree.body:
        raise UsageError("greentrace: the cell is empty: write what to trace below the first line")
    body._refuse(tree.body, "greentrace")
    ast.increment_lineno(tree, 1)  # the magic itself is line 1
    return compile(tree, name, "exec", dont_inherit=True)


# -- %greenstep ----------------------------------------------------------------------------------------------


def step(ip: Any, parser: argparse.ArgumentParser, line: str) -> Stepper | None:
    """Make steps of the named stepper, or of the one that was made last.

    Returns:
        the stepper itself with `--show`, which the notebook shows.

    Raises:
        UsageError: the name is no stepper's, or none has been made.
    """
    from greenlab.tracing.stepper import Stepper, latest

    __tracebackhide__ = True
    words, rest = options._split(parser, line)
    given, unknown = parser.parse_known_args(words)
    if unknown:
        raise UsageError(options.with_help(f"greenstep: {options.no_option(parser, unknown[0])}", "%greenstep"))
    stepper = _evaluate(ip, rest) if rest else latest(start())
    if not isinstance(stepper, Stepper):
        raise UsageError("greenstep: make a stepper first: s = greenlab.stepper(f, g), then %greenstep s")
    if given.show:
        return stepper
    if given.all:
        stepper.run()
    else:
        stepper.step(given.count)
    return None


def _evaluate(ip: Any, text: str) -> Any:
    __tracebackhide__ = True
    try:
        code = compile(text, "<greenstep>", "eval", dont_inherit=True)
    except SyntaxError:
        raise UsageError(f"greenstep: {text!r} is no stepper: options come first, then its name") from None
    return eval(code, ip.user_ns)  # noqa: S307 (the user's own cell)
