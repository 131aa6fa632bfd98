"""`%%greenadvise`: parse, call, return.

Must not hold: work of its own. Everything this magic does can be done from `greenlab.advise`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from greenlab.advising.trials import SECONDS
from greenlab.api import advise
from greenlab.errors import SeriesInterrupted, UsageError
from greenlab.magics import body, options

if TYPE_CHECKING:
    import argparse

NAME = "greenadvise"
# The advice is about some of these; the rest is for runs.
_NEVER = (
    "--concurrency", "--workers", "--pool", "--retries", "--rate", "--fail-fast", "--discard", "--max-tasks",
    "--max-memory", "--detach", "--trace", "--out",
)  # fmt: skip


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the options: those of `%%greenrun` that make sense, and its own."""
    parser = options.make_parser(NAME, without=_NEVER)
    parser.add_argument(
        "--sample", type=options._whole(1), metavar="N",
        help="items to try, each of them FOR REAL, once in each pool (default 20; up to 500 if they are short)",
    )  # fmt: skip
    parser.add_argument(
        "--seconds", type=options._positive, default=SECONDS, metavar="S",
        help=f"after so long the sample, and each trial, begins no further task (default {SECONDS:g})",
    )  # fmt: skip
    parser.add_argument("-o", "--out", type=options._name, metavar="NAME", help="assign the Advice to this variable")
    return parser


def advise_cell(ip: Any, parser: argparse.ArgumentParser, line: str, cell: str | None) -> Any:
    """Advise a pool for the cell."""
    __tracebackhide__ = True
    if cell is None:
        raise UsageError(f"{NAME} stands above a cell: %%{NAME} x in items, and below it what each task does")
    parsed = options.parse(parser, line)
    given = parsed.options
    task = body.compile_body(ip, NAME, line, cell, parsed.target, ip.user_ns)
    items = None if parsed.iterable is None else body.evaluate(ip, parsed.iterable)
    try:
        advice = advise.advise(
            task,
            items,
            count=given.count,
            sample=given.sample,
            seconds=given.seconds,
            timeout=given.timeout,
            label=parsed.label,
            live=False if given.no_live else None,
        )
    except SeriesInterrupted as interrupt:
        ip.user_ns["_run"] = interrupt.run
        raise interrupt.named("_run") from None
    ip.user_ns["_advice"] = advice
    if given.out:
        ip.user_ns[given.out] = advice
    return advice
