"""The magics: parse, call runs, return. They decide nothing and draw nothing.

Must not hold: work of its own. Everything a magic does can be done from `greenlab.run` and its kin.
"""

from __future__ import annotations

from typing import Any

from greenlab import api
from greenlab.errors import UsageError
from greenlab.magics import body, check, options
from greenlab.magics.completion import make_matcher

_RUNS = {"greenrun": "green", "preforkrun": "prefork"}
_KEY = "greenlab_magics"


class Magics:
    """The magics of one shell."""

    def __init__(self, ip: Any) -> None:
        self.ip = ip
        self.parsers = {name: options.make_parser(name) for name in _RUNS}
        for name, pool in _RUNS.items():
            self.parsers[name].set_defaults(pool=pool)
        self.check_parser = check.make_parser()
        self.matchers = [
            make_matcher({**self.parsers, "greencheck": self.check_parser}),
            check.make_matcher(),
        ]

    def greenrun(self, line: str, cell: str | None = None) -> Any:
        """Run the cell once an item, as green tasks; wait; return a Run."""
        __tracebackhide__ = True  # IPython leaves such frames out
        return self._run("greenrun", line, cell)

    def preforkrun(self, line: str, cell: str | None = None) -> Any:
        """Run the cell once an item, in worker processes; wait; return a Run."""
        __tracebackhide__ = True  # IPython leaves such frames out
        return self._run("preforkrun", line, cell)

    def greenspawn(self, line: str, cell: str | None = None) -> Any:
        """Run a statement, or the cell, in the background on the hub; return a Task at once.

        The value of an expression is the task's value; what is assigned is assigned in the notebook, when it
        comes to it.
        """
        return body.spawn_statement(self.ip, line, cell)

    def greencheck(self, line: str) -> Any:
        """Tell whether a call, or a library, cooperates."""
        __tracebackhide__ = True  # IPython leaves such frames out
        return check.greencheck(self.ip, self.check_parser, line)

    def _run(self, name: str, line: str, cell: str | None) -> Any:
        __tracebackhide__ = True
        if cell is None:
            raise UsageError(f"{name} stands above a cell: %%{name} x in items, and below it what each task does")
        parsed = options.parse(self.parsers[name], line)
        asked = parsed.options
        namespace = self.ip.user_ns
        task = body.compile_body(self.ip, name, line, cell, parsed.target, namespace)
        items = None if parsed.iterable is None else body.evaluate(self.ip, parsed.iterable)
        run = api.prepare(
            task,
            items,
            count=asked.count,
            label=parsed.label,
            pool=asked.pool,
            concurrency=asked.concurrency,
            workers=asked.workers,
            timeout=asked.timeout,
            retries=asked.retries,
            rate=asked.rate,
            fail_fast=asked.fail_fast,
            live=False if asked.no_live else None,
        )
        # Known before it is waited for, so that an interrupt or an error leaves its results within reach.
        namespace["_run"] = run
        if asked.out:
            namespace[asked.out] = run
        run.start()
        return run if asked.detach else run.wait().check()


def load(ip: Any, artist: Any = None) -> None:
    """Start greenlab in the shell's kernel and add the magics.

    Args:
        ip: the shell.
        artist: the process that draws, if it has been started; it is closed if there is one already.
    """
    api.start_with(artist)
    if getattr(ip, _KEY, None) is not None:
        return
    magics = Magics(ip)
    setattr(ip, _KEY, magics)
    for name in _RUNS:
        function = _documented(getattr(magics, name), magics.parsers[name])
        ip.register_magic_function(function, "line_cell", name)
    ip.register_magic_function(_documented(magics.greenspawn), "line_cell", "greenspawn")
    help_text = f"{check.HELP}{options.describe(magics.check_parser)}"
    ip.register_magic_function(_documented(magics.greencheck, help_text=help_text), "line", "greencheck")
    ip.Completer.custom_matchers.extend(magics.matchers)
    ip.input_transformers_cleanup.append(_let_empty_cells_reach_us)


def unload(ip: Any) -> None:
    """Remove the magics and stop greenlab."""
    magics = getattr(ip, _KEY, None)
    if magics is not None:
        delattr(ip, _KEY)
        for kind in ("line", "cell"):
            for name in (*_RUNS, "greenspawn"):
                ip.magics_manager.magics[kind].pop(name, None)
        ip.magics_manager.magics["line"].pop("greencheck", None)
        ip.input_transformers_cleanup.remove(_let_empty_cells_reach_us)
        for matcher in magics.matchers:
            if matcher in ip.Completer.custom_matchers:
                ip.Completer.custom_matchers.remove(matcher)
    api.stop()


def _documented(method: Any, parser: Any = None, help_text: str | None = None) -> Any:
    """Make the plain function that IPython registers, with the options in its help."""

    def magic(line: str, cell: str | None = None) -> Any:
        __tracebackhide__ = True
        return method(line) if cell is None else method(line, cell)

    magic.__name__ = method.__name__
    usage = f"\n\n%%{method.__name__} [options] [TARGET in ITERABLE]\n\n{options.describe(parser)}" if parser else ""
    magic.__doc__ = help_text or (method.__doc__ or "") + usage
    # IPython would expand {braces} in the line, and the iterable may well be a dict or a set.
    magic._ipython_magic_no_var_expand = True  # type: ignore[attr-defined]
    return magic


def _let_empty_cells_reach_us(lines: list[str]) -> list[str]:
    """Give a magic that stands alone a body of one empty line.

    IPython 9 refuses an empty one itself, with a UsageError that is no error of the cell.
    """
    if lines and lines[0].startswith(tuple(f"%%{name}" for name in (*_RUNS, "greenspawn"))) and len(lines) == 1:
        return [lines[0].rstrip("\n") + "\n", "\n"]
    return lines
