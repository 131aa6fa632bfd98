"""Worker processes beside a notebook: modules that it reloads, its shell and keyboard, and its debugger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from kernel import Kernel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

POOLS = pytest.mark.parametrize("pool", ["prefork", "hybrid"])


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    folder = tmp_path_factory.mktemp("modules")
    with Kernel() as one:
        code = f"import sys, importlib, os; sys.dont_write_bytecode = True; os.chdir({str(folder)!r})"
        assert one.run(f"{code}; sys.path.insert(0, '')\n%load_ext greenlab\n%load_ext autoreload\n").error is None
        yield one


def results(kernel: Kernel, pool: str, body: str, *, more: str = "") -> Any:
    """Run a body once in one worker; return its result as text."""
    cell = kernel.run(f"%%greenrun -p {pool} -w 1 -n 1 --no-live {more}\n{body}")
    assert cell.error is None, cell.error
    return kernel.run("_run.results[0]").value


def error(kernel: Kernel, pool: str, body: str) -> str:
    cell = kernel.run(f"%%greenrun -p {pool} -w 1 -n 1 --no-live\n{body}")
    assert "RunError" == cell.ename
    return kernel.run("print(type(_run.errors[0]).__name__, _run.errors[0])").stdout


@POOLS
@pytest.mark.parametrize(
    ("how", "again"),
    [
        ("autoreload 0", "importlib.reload(changing)"),
        ("autoreload 0", "del sys.modules['changing']; import changing"),
        ("autoreload 2", "pass"),
    ],
)
def test_workers_have_the_code_that_the_notebook_has_reloaded(kernel: Kernel, pool: str, how: str, again: str) -> None:
    write = "from pathlib import Path; p = Path('changing.py'); p.write_text('def answer(): return {}')"
    # A time of its own for each version: its file's is how a change is noticed.
    later = "n = globals().get('n', 1_000_000_000) + 10; os.utime(p, (n, n))"
    kernel.run(f"%{how}\n{write.format(1)}; {later}")
    kernel.run("sys.modules.pop('changing', None)\nimport changing")
    assert "1" == results(kernel, pool, "changing.answer()")
    pids = kernel.run("_run._pool.pids").value
    kernel.run("1")
    assert "1" == results(kernel, pool, "changing.answer()")
    assert pids == kernel.run("_run._pool.pids").value  # no reload, no new workers
    kernel.run(f"{write.format(2)}; {later}")
    assert kernel.run(again).error is None
    assert "2" == kernel.run("changing.answer()").value
    assert "2" == results(kernel, pool, "changing.answer()")


@POOLS
def test_shell_commands_run_in_workers(kernel: Kernel, pool: str) -> None:
    kernel.run("import os, IPython; word = 'sesame'; from IPython import get_ipython as get_shell")
    assert "['sesame 1', 'twice']" == results(kernel, pool, "k = 1\nx = !echo {word} $k; echo twice\nlist(x)")
    assert "'sesame'" == results(kernel, pool, "get_shell().getoutput('echo sesame').s")
    cell = kernel.run(f"%%greenrun -p {pool} -w 1 -n 1 --no-live\n!echo open {{word}}; pwd")
    assert cell.error is None, cell.error
    assert f"open sesame\n{kernel.run('print(os.getcwd())').stdout}" in cell.stdout


@POOLS
@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("input('how many? ')", "ask before the run"),
        ("breakpoint()", "in a cell of its own"),
        ("import pdb; pdb.set_trace()\ni", "in a cell of its own"),
        ("%cd /\ni", "only !commands work (here: run_line_magic)"),
    ],
)
def test_what_needs_the_notebook_says_where_it_works(kernel: Kernel, pool: str, body: str, words: str) -> None:
    found = error(kernel, pool, body)
    assert found.startswith("UsageError ")
    assert words in found
    assert 1 == found.count("\n")


def test_workers_start_while_a_debugger_is_attached(tmp_path: Path) -> None:
    with Kernel() as kernel:
        kernel.run("import sys")
        debug(kernel, 1, "initialize", clientID="test", adapterID="", pathFormat="path", linesStartAt1=True)
        debug(kernel, 2, "attach")
        debug(kernel, 3, "configurationDone")
        assert kernel.run("%load_ext greenlab").error is None
        for pool in ("prefork", "hybrid"):
            assert "0" == results(kernel, pool, "i")
        assert kernel.run("from greenlab.lab import FeedHub; hub = FeedHub(seed=1).start(); hub.stop()").error is None


def debug(kernel: Kernel, seq: int, command: str, **arguments: Any) -> None:
    """Ask the kernel's debugger, as JupyterLab does, for what does not fail."""
    client = kernel.client
    request = {"type": "request", "seq": seq, "command": command, "arguments": arguments}
    client.control_channel.send(client.session.msg("debug_request", request))
    assert client.control_channel.get_msg(timeout=60)["content"]["success"]
