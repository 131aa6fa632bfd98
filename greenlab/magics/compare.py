"""`%%greenrace` and `%%greensweep`: parse, call, return.

Must not hold: work of its own. Everything these magics do can be done from `greenlab.race` and `greenlab.sweep`.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from greenlab import pools
from greenlab.api import compare
from greenlab.errors import SeriesInterrupted, UsageError
from greenlab.magics import body, options

if TYPE_CHECKING:
    from collections.abc import Sequence

NAMES = ("greenrace", "greensweep")
# A comparison waits, and reads the times of every task.
_NEVER = ("--detach", "--discard", "--trace", "--out")


def make_parsers() -> dict[str, argparse.ArgumentParser]:
    """Return the parsers of both, by the magic's name: the options of `%%greenrun` that make sense, and their own."""
    race = options.make_parser("greenrace", without=("--pool", *_NEVER))
    race.add_argument(
        "-p", "--pools", type=_pools, default=compare.POOLS, metavar="NAMES",
        help=f"pools to race, with commas between them (default {','.join(compare.POOLS)})",
    )  # fmt: skip
    race.add_argument(
        "--repeat", type=options._whole(1), default=1, metavar="N", help="runs of each pool; 3 or more show the spread"
    )
    sweep = options.make_parser("greensweep", without=("--concurrency", "--rate", *_NEVER))
    sweep.add_argument(
        "-c", "--concurrency", type=_numbers, metavar="N,N",
        help="tasks in flight to try, with commas between them (default 1,10,100,1000); of prefork, workers",
    )  # fmt: skip
    sweep.add_argument(
        "--seconds", type=options._positive, metavar="S",
        help="how long to try each one (default 2 to 10, until enough tasks have ended)",
    )  # fmt: skip
    for parser, what in ((race, "Race"), (sweep, "Sweep")):
        parser.add_argument(
            "--warm-up", type=options._whole(0), metavar="N", help="tasks to run before anything counts (default 10)"
        )
        parser.add_argument(
            "-o", "--out", type=options._name, metavar="NAME",
            help=f"assign the {what} to this variable as soon as it begins",
        )  # fmt: skip
    return dict(zip(NAMES, (race, sweep), strict=True))


def race(ip: Any, parser: argparse.ArgumentParser, line: str, cell: str | None) -> Any:
    """Run a race of the cell."""
    __tracebackhide__ = True
    parsed, task, items = _read(ip, parser, line, cell)
    made = compare.prepare_race(task, items, **_options_of(parsed))
    return _run(ip, "_race", made, parsed.options.out)


def sweep(ip: Any, parser: argparse.ArgumentParser, line: str, cell: str | None) -> Any:
    """Run a sweep of the cell."""
    __tracebackhide__ = True
    parsed, task, items = _read(ip, parser, line, cell)
    made = compare.prepare_sweep(task, items, **_options_of(parsed))
    return _run(ip, "_sweep", made, parsed.options.out)


def _read(ip: Any, parser: argparse.ArgumentParser, line: str, cell: str | None) -> tuple[options.MagicLine, Any, Any]:
    """Parse the line, make the task of the cell and evaluate the items."""
    __tracebackhide__ = True
    name = parser.prog
    if cell is None:
        raise UsageError(f"{name} stands above a cell: %%{name} x in items, and below it what each task does")
    parsed = options.parse(parser, line)
    task = body.compile_body(ip, name, line, cell, parsed.target, ip.user_ns)
    return parsed, task, None if parsed.iterable is None else body.evaluate(ip, parsed.iterable)


def _options_of(parsed: options.MagicLine) -> dict[str, Any]:
    """Return the options by the names that Python calls them by."""
    given = dict(vars(parsed.options))
    del given["out"]
    live = False if given.pop("no_live") else None
    return {**given, "label": parsed.label, "live": live}


def _run(ip: Any, name: str, made: Any, out: str | None) -> Any:
    __tracebackhide__ = True
    # Assigned before the wait, so that what has ended can be read after an interrupt or an error.
    ip.user_ns[name] = made
    if out:
        ip.user_ns[out] = made
    try:
        return made.run()
    except SeriesInterrupted as interrupt:
        raise interrupt.named(name) from None


def _pools(text: str) -> tuple[str, ...]:
    names = tuple(part for part in text.split(",") if part)
    if not names:
        raise argparse.ArgumentTypeError(f"takes names of pools, such as {','.join(compare.POOLS)}, not {text!r}")
    for name in names:
        try:
            pools.check_name(name)
        except UsageError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
    return names


def _numbers(text: str) -> Sequence[int]:
    try:
        values = [int(part) for part in text.split(",") if part]
    except ValueError:
        values = []
    if not values or min(values) < 1:
        raise argparse.ArgumentTypeError(
            f"takes whole numbers with commas between them, such as 1,10,100, not {text!r}"
        )
    return values
