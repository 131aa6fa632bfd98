"""The magics: parse the line and the cell, call `greenlab.api`, return. They decide nothing and draw nothing.

Must not hold: work of its own. Everything a magic does can be done in Python, with `greenlab.run` and the like.
"""

from __future__ import annotations

from typing import Any

from greenlab.api import explain
from greenlab.api.run import prepare
from greenlab.api.session import kill, ps, start, stop
from greenlab.errors import RunInterrupted, UsageError
from greenlab.magics import advise, body, check, compare, options, trace
from greenlab.magics.completion import make_matcher

_RUNS = {"greenrun": "green", "preforkrun": "prefork"}
_CELLS = (*_RUNS, *compare.NAMES, advise.NAME, "greentrace", "greenspawn")
_LINES = ("greenhub", "greenps", "greenkill", "greencheck", "greenstep")
_KEY = "greenlab_magics"
_FETCH = "import urllib.request\nlen(urllib.request.urlopen(url).read())"
_EXAMPLES = {
    "greenrun": f"%%greenrun -c 500 --timeout 10 url in urls\n{_FETCH}",
    "preforkrun": "%%preforkrun -w 4 x in range(100)\nsum(i * i for i in range(x * 1000))",
    "greenrace": f"%%greenrace -p green,threads -c 100 --repeat 3 url in urls\n{_FETCH}",
    "greensweep": f"%%greensweep -c 1,10,100,1000 url in urls\n{_FETCH}",
    "greenadvise": f"%%greenadvise --sample 50 url in urls\n{_FETCH}",
    "greentrace": f"%%greentrace -c 10 url in urls[:30]\n{_FETCH}",
    "greenspawn": "%greenspawn time.sleep(10) or print('ten seconds later')",
    "greenkill": "%greenkill 3 4.17",
    "greencheck": "%greencheck urllib.request.urlopen(url).read()\n%greencheck requests psycopg2",
    "greenstep": "steps = greenlab.stepper((print, 'first'), (print, 'second'))\n%greenstep -n 2 steps",
}
"""An example of each magic's use, which its help ends with. The value of the last expression is a task's result."""


class Magics:
    """The magics of one shell: a method each, named in `_CELLS` or `_LINES`."""

    def __init__(self, ip: Any) -> None:
        self.ip = ip
        self.parsers = {name: options.make_parser(name) for name in _RUNS}
        for name, pool in _RUNS.items():
            self.parsers[name].set_defaults(pool=pool)
        self.parsers |= compare.make_parsers() | trace.make_parsers()
        self.parsers |= {advise.NAME: advise.make_parser(), "greencheck": check.make_parser()}
        self.matchers = [make_matcher(self.parsers), check.make_matcher()]

    def greenrun(self, line: str, cell: str | None = None) -> Any:
        """Run the cell once an item, as green tasks; wait; return a Run."""
        __tracebackhide__ = True  # IPython leaves such frames out
        return self._run("greenrun", line, cell)

    def preforkrun(self, line: str, cell: str | None = None) -> Any:
        """Run the cell once an item, in worker processes; wait; return a Run."""
        __tracebackhide__ = True
        return self._run("preforkrun", line, cell)

    def greenrace(self, line: str, cell: str | None = None) -> Any:
        """Run the cell once an item in several pools, one after another; compare them; return a Race."""
        __tracebackhide__ = True
        return compare.race(self.ip, self.parsers["greenrace"], line, cell)

    def greensweep(self, line: str, cell: str | None = None) -> Any:
        """Run the cell at several concurrencies; advise how many tasks in flight are enough; return a Sweep."""
        __tracebackhide__ = True
        return compare.sweep(self.ip, self.parsers["greensweep"], line, cell)

    def greenadvise(self, line: str, cell: str | None = None) -> Any:
        """Advise which pool suits the cell, and how many tasks in flight; return an Advice.

        The first items are run for real: once in green, and once in every pool that is plausible.
        """
        __tracebackhide__ = True
        return advise.advise_cell(self.ip, self.parsers[advise.NAME], line, cell)

    def greentrace(self, line: str, cell: str | None = None) -> Any:
        """Run the cell, or with `x in items` the cell once an item, and record every switch; return a Timeline."""
        __tracebackhide__ = True
        parser = self.parsers["greentrace"]
        if trace.is_plain(parser, line, cell):
            return trace.trace_cell(self.ip, parser, line, cell or "")
        return trace.timeline_of(self.ip, parser, line, self._run("greentrace", line, cell))

    def greenspawn(self, line: str, cell: str | None = None) -> Any:
        """Run a statement, or the cell, in the background on the hub; return a Task at once.

        The value of an expression is the task's value; what is assigned is assigned in the notebook, when it
        comes to it.
        """
        return body.spawn_statement(self.ip, line, cell)

    def greenhub(self, line: str) -> Any:
        """Show the state of the hub: what turns it, what is greened, the pools and their workers, how much runs."""
        __tracebackhide__ = True
        if line.strip():
            raise UsageError(f"greenhub: takes nothing, not {line.strip()!r}")
        return explain.hub_state()

    def greenps(self, line: str) -> Any:
        """List what runs: background tasks, runs and their tasks, with state, age and where each stands."""
        __tracebackhide__ = True
        if line.strip():
            raise UsageError(f"greenps: takes nothing, not {line.strip()!r}: %greenps lists all that runs")
        return ps()

    def greenkill(self, line: str) -> Any:
        """Kill tasks, and cancel runs, by the ids that %greenps lists; return those killed.

        An id such as 3 is of a background task or of a run, and 4.17 is task 17 of run 4.
        """
        __tracebackhide__ = True
        return kill(*line.replace(",", " ").split())

    def greencheck(self, line: str) -> Any:
        """Measure whether a call, or a library, cooperates; return a verdict."""
        __tracebackhide__ = True
        return check.greencheck(self.ip, self.parsers["greencheck"], line)

    def greenstep(self, line: str) -> Any:
        """Make the next step of a stepper and print it: who ran, and what it waits for now."""
        __tracebackhide__ = True
        return trace.step(self.ip, self.parsers["greenstep"], line)

    def _run(self, name: str, line: str, cell: str | None) -> Any:
        __tracebackhide__ = True
        if cell is None:
            raise UsageError(f"{name} stands above a cell: %%{name} x in items, and below it what each task does")
        parsed = options.parse(self.parsers[name], line)
        given = parsed.options
        namespace = self.ip.user_ns
        task = body.compile_body(self.ip, name, line, cell, parsed.target, namespace)
        items = None if parsed.iterable is None else body.evaluate(self.ip, parsed.iterable)
        run = prepare(task, items, count=given.count, label=parsed.label, **parsed.run_options)
        # Assigned before the wait, so that its results can be read after an interrupt or an error.
        namespace["_run"] = run
        if given.out:
            namespace[given.out] = run
        try:
            return run.start() if given.detach else run.complete()
        except RunInterrupted:
            raise RunInterrupted(run, "_run") from None

    def help_of(self, name: str) -> str:
        """Return the help of a magic: what it does, and its options."""
        described: str = getattr(self, name).__doc__
        parser = self.parsers.get(name)
        if parser is None:
            return described + _example_of(name)
        if name == "greencheck":
            described = check.HELP
        elif name == "greenstep":
            described += "\n\n%greenstep [options] [STEPPER]\n\n"
        else:
            described += f"\n\n%%{name} [options] [TARGET in ITERABLE]\n\n"
        return f"{described}{options.describe(parser)}{_example_of(name)}"


def _example_of(name: str) -> str:
    """Return the end of a magic's help: an example, if there is one."""
    lines = _EXAMPLES[name].split("\n") if name in _EXAMPLES else []
    return "\n".join(["\n\nFor example:\n", *(f"    {line}" for line in lines), ""]) if lines else ""


def load(ip: Any, client: Any = None) -> None:
    """Start greenlab in the shell's kernel and add the magics.

    Args:
        ip: the shell.
        client: the process that draws, if it has been started; it is closed if there is one already.
    """
    _start_keeping(client)
    if getattr(ip, _KEY, None) is not None:
        return
    magics = Magics(ip)
    setattr(ip, _KEY, magics)
    for kind, names in (("line_cell", _CELLS), ("line", _LINES)):
        for name in names:
            ip.register_magic_function(_magic_function(getattr(magics, name), magics.help_of(name)), kind, name)
    ip.Completer.custom_matchers.extend(magics.matchers)
    ip.input_transformers_cleanup.append(_add_empty_body)


def _start_keeping(client: Any) -> None:
    """Start greenlab, and keep the process that draws; close it if there is one already."""
    try:
        here = start()
        if client is not None and here.keep("drawing client", lambda: client) is not client:
            client.close()
    except BaseException:
        if client is not None:
            client.close()
        raise


def unload(ip: Any) -> None:
    """Remove the magics and stop greenlab."""
    magics = getattr(ip, _KEY, None)
    if magics is not None:
        delattr(ip, _KEY)
        for kind in ("line", "cell"):
            for name in (*_CELLS, *_LINES):
                ip.magics_manager.magics[kind].pop(name, None)
        ip.input_transformers_cleanup.remove(_add_empty_body)
        for matcher in magics.matchers:
            if matcher in ip.Completer.custom_matchers:
                ip.Completer.custom_matchers.remove(matcher)
    stop()


def _magic_function(method: Any, help_text: str) -> Any:
    """Return the plain function that IPython registers."""

    def magic(line: str, cell: str | None = None) -> Any:
        __tracebackhide__ = True
        return method(line) if cell is None else method(line, cell)

    magic.__name__ = method.__name__
    magic.__doc__ = help_text
    # IPython would expand {braces} in the line, and the iterable may well be a dict or a set.
    magic._ipython_magic_no_var_expand = True  # type: ignore[attr-defined]
    return magic


def _add_empty_body(lines: list[str]) -> list[str]:
    """Add a body of one empty line to a magic that stands alone.

    IPython 9 refuses an empty one itself, with a UsageError that is no error of the cell.
    """
    magic_starts = tuple(f"%%{name}" for name in _CELLS)
    if lines and lines[0].startswith(magic_starts) and len(lines) == 1:
        return [lines[0].rstrip("\n") + "\n", "\n"]
    return lines


# A terminal asks in the same way whether a cell is complete, and a magic would be, before its body has been typed.
_add_empty_body.has_side_effects = True  # type: ignore[attr-defined]
