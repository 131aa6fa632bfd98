"""The loop that the hub is a guest of: found when it starts, left when it ends, whichever comes next."""

# mypy: disable-error-code="func-returns-value"

from __future__ import annotations

import asyncio
import selectors
import subprocess
import sys
import textwrap
import time
from typing import TYPE_CHECKING, Any

import pexpect
import pytest
from kernel import Kernel

import greenlab
from greenlab import hub

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.whole_heap

SPAWN = """
import time, greenlab
ticks = []
def tick():
    while True:
        ticks.append(1)
        time.sleep(0.01)
greenlab.start()
ticking = greenlab.spawn(tick)
"""
TICKS_ON = """
import asyncio
before = len(ticks)
while len(ticks) < before + 10:
    await asyncio.sleep(0.01)
"""


class Unseen(selectors.BaseSelector):
    """A selector whose waits nobody sees, as uvloop's: its loop is one that only the hooks tell of."""

    def __init__(self) -> None:
        self._real = selectors.DefaultSelector()
        self._native = selectors.DefaultSelector.select

    def register(self, *args: Any, **kw: Any) -> Any:
        return self._real.register(*args, **kw)

    def unregister(self, fileobj: Any) -> Any:
        return self._real.unregister(fileobj)

    def modify(self, *args: Any, **kw: Any) -> Any:
        return self._real.modify(*args, **kw)

    def select(self, timeout: float | None = None) -> Any:
        with greenlab.native():
            return self._native(self._real, timeout)

    def get_map(self) -> Any:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()


def unseen_loop() -> asyncio.AbstractEventLoop:
    return asyncio.SelectorEventLoop(Unseen())


@pytest.fixture
def ticks(started: hub.GuestHub) -> Iterator[list[int]]:
    """What a task that was spawned before any loop ran leaves every 5 ms."""
    seen: list[int] = []

    def tick() -> None:
        while True:
            seen.append(1)
            time.sleep(0.005)

    task = hub.spawn(started, tick)
    yield seen
    task.kill()


async def until_more(ticks: list[int]) -> Any:
    """Rest in the loop until background tasks have run ten times more; return the hub's host."""
    before = len(ticks)
    async with asyncio.timeout(10):
        while len(ticks) < before + 10:  # noqa: ASYNC110 (a task that is no coroutine brings them)
            await asyncio.sleep(0.02)
    here = hub.current()
    assert here is not None
    return here.host


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, unseen_loop])
def test_a_loop_that_starts_later_pumps_the_hub_and_is_left_when_it_ends(
    started: hub.GuestHub, ticks: list[int], factory: Any
) -> None:
    for _ in range(3):
        with asyncio.Runner(loop_factory=factory) as runner:
            assert runner.get_loop() is runner.run(until_more(ticks))
        assert started.host is None
        before = len(ticks)
        time.sleep(0.05)  # between two loops the hub turns while this thread waits
        assert len(ticks) > before


def test_a_loop_that_was_not_closed_is_left_too(started: hub.GuestHub, ticks: list[int]) -> None:
    loops = [asyncio.new_event_loop() for _ in range(2)]
    try:
        for loop in (*loops, *loops):
            assert loop is loop.run_until_complete(until_more(ticks))
    finally:
        for loop in loops:
            loop.close()
    assert started.host is None


def test_a_loop_that_ends_by_an_error_is_left(started: hub.GuestHub, ticks: list[int]) -> None:
    async def bad() -> None:
        await until_more(ticks)
        raise SystemExit

    with pytest.raises(SystemExit):
        asyncio.run(bad())
    assert started.host is None


def test_greenlab_used_first_inside_a_loop_works_in_the_next_one() -> None:
    async def main() -> Any:
        return greenlab.run(lambda x: time.sleep(0.001) or x * 2, range(3)).results

    try:
        assert [[0, 2, 4]] * 3 == [asyncio.run(main()) for _ in range(3)]
        assert [0, 2, 4] == greenlab.run(lambda x: time.sleep(0.001) or x * 2, range(3)).results
    finally:
        greenlab.stop()


def test_a_host_that_was_closed_behind_the_hubs_back_is_left() -> None:
    former, latter = asyncio.new_event_loop(), asyncio.new_event_loop()
    here = hub.start(former)
    try:
        former.close()
        assert 1 == hub.spawn(here, lambda: 1).wait()
        here.attach(latter)
        task = hub.spawn(here, lambda: 2)
        assert 2 == latter.run_until_complete(asyncio.wait_for(task, 5))
    finally:
        hub.stop()
        latter.close()


def test_a_loop_that_a_green_task_runs_is_no_host(started: hub.GuestHub, ticks: list[int]) -> None:
    task = hub.spawn(started, lambda: asyncio.run(until_more(ticks)))
    assert task.wait() is None


def test_a_loop_of_another_thread_is_no_host(started: hub.GuestHub) -> None:
    async def main() -> Any:
        await asyncio.sleep(0.01)
        return started.host

    assert greenlab.offload(lambda: asyncio.run(main()), pool="threads") is None


class Unwatching(asyncio.SelectorEventLoop):
    """A loop that watches no descriptors of others."""

    def add_reader(self, fd: Any, callback: Any, *args: Any) -> None:  # type: ignore[override]
        raise NotImplementedError


def test_a_loop_that_can_be_no_host_runs_and_the_hub_turns_while_it_waits(
    started: hub.GuestHub, ticks: list[int]
) -> None:
    for factory, is_host in ((Unwatching, False), (asyncio.new_event_loop, True)) * 2:
        with asyncio.Runner(loop_factory=factory) as runner:
            assert (runner.get_loop() if is_host else None) is runner.run(until_more(ticks))
        assert started.host is None


def test_asynchronous_generators_have_the_hooks_of_their_loop(started: hub.GuestHub) -> None:
    closed = []

    async def numbers() -> Any:
        try:
            yield 1
        finally:
            closed.append(started.host is not None)

    async def main() -> None:
        async for _ in numbers():
            break

    asyncio.run(main())
    assert [True] == closed
    assert sys.get_asyncgen_hooks() == (None, None)


def test_an_await_that_outlives_its_loop_leaves_no_noise(
    started: hub.GuestHub, capsys: pytest.CaptureFixture[str]
) -> None:
    task = hub.spawn(started, lambda: time.sleep(0.02) or "done")

    async def main() -> None:
        waiting = asyncio.ensure_future(task)
        await asyncio.sleep(0)
        asyncio.get_running_loop().stop()
        await waiting

    loop = asyncio.new_event_loop()
    with pytest.raises(RuntimeError, match="stopped before"):
        loop.run_until_complete(main())
    pending = asyncio.all_tasks(loop)
    loop.close()
    assert "done" == task.wait()
    assert "" == capsys.readouterr().err
    for one in pending:
        one._log_destroy_pending = False  # type: ignore[attr-defined]  # the point of this test


def script(code: str) -> str:
    """Run a script in a process of its own; return what it printed."""
    code = textwrap.dedent(code)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (0, "") == (done.returncode, done.stderr)
    return done.stdout


def test_loops_that_run_inside_each_other_pump_the_hub_in_turn() -> None:
    # nest_asyncio2 is what ipykernel itself depends on; it patches asyncio for good.
    said = script(f"""
        import asyncio, nest_asyncio2, greenlab
        exec({SPAWN!r})
        nest_asyncio2.apply()
        other = asyncio.new_event_loop()
        nest_asyncio2.apply(other)

        async def rest():
            before = len(ticks)
            async with asyncio.timeout(20):
                while len(ticks) < before + 10:
                    await asyncio.sleep(0.02)
            return greenlab.start().host is asyncio.get_running_loop()

        async def main():
            print(await rest(), asyncio.run(rest()), other.run_until_complete(rest()), await rest())

        asyncio.run(main())
        asyncio.run(main())
    """)
    assert "True True True True\n" * 2 == said


def idles_well(kernel: Kernel) -> None:
    """Check that background tasks run while a kernel idles, and that it survives an interrupt then."""
    assert kernel.run(TICKS_ON).error is None
    counted = int(kernel.run("len(ticks)").value)
    time.sleep(0.2)  # nothing but the loop can turn the hub now
    kernel.interrupt()
    assert int(kernel.run("len(ticks)").value) >= counted + 3
    assert kernel.run(TICKS_ON).error is None
    assert "guest of the running event loop" in kernel.run("greenlab.start()").value
    assert "[0, 1, 2]" == kernel.run("greenlab.run(lambda x: time.sleep(0.01) or x, range(3)).results").value


def test_an_extension_in_the_kernels_configuration_finds_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = tmp_path / "profile_default"
    profile.mkdir()
    lines = f"c.InteractiveShellApp.extensions = ['greenlab']\nc.InteractiveShellApp.exec_lines = [{SPAWN!r}]\n"
    (profile / "ipython_kernel_config.py").write_text(f"c = get_config()\n{lines}")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    with Kernel() as kernel:
        idles_well(kernel)
        run = kernel.run("%%greenrun --no-live -n 3\ntime.sleep(0.01)")
        assert run.error is None
        assert kernel.run("%unload_ext greenlab").error is None
        assert "builtin_function_or_method" == kernel.run("print(type(time.sleep).__name__)").stdout.strip()


def test_a_kernel_embedded_in_a_program_that_uses_greenlab_pumps_its_hub(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    embed = "import sys\nfrom ipykernel.embed import embed_kernel\n"
    program.write_text(f"{SPAWN}\n{embed}embed_kernel(local_ns=globals(), connection_file=sys.argv[1])\n")
    with Kernel(command=[sys.executable, str(program), "{connection_file}"]) as kernel:
        idles_well(kernel)


def test_a_script_that_a_cell_runs_starts_greenlab_as_a_guest(kernel: Kernel, tmp_path: Path) -> None:
    kernel.run("%unload_ext greenlab")
    program = tmp_path / "program.py"
    program.write_text(SPAWN)
    assert kernel.run(f"%run {program}").error is None
    try:
        idles_well(kernel)
    finally:
        kernel.run("ticking.kill()\n%load_ext greenlab")


def test_a_terminal_that_loads_the_extension_by_its_command_line_turns_the_hub(tmp_path: Path) -> None:
    options = ["--no-banner", "--no-confirm-exit", "--colors=NoColor", f"--ipython-dir={tmp_path}", "--ext=greenlab"]
    child = pexpect.spawn(
        sys.executable,
        ["-m", "IPython", *options],
        encoding="utf-8",
        timeout=30,
        dimensions=(40, 120),
        env={**__import__("os").environ, "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"},
    )
    try:
        child.expect(r"In \[\d+\]:")
        child.send("import time; t = %greenspawn time.sleep(0.3) or print('from ' + 'the background')\r")
        child.expect("from the background")
        child.send("await t\r")
        child.expect(r"In \[\d+\]:")
        child.send("t = %greenspawn time.sleep(0.3) or print('and ' + 'once more')\r")
        child.expect("and once more")
    finally:
        child.close(force=True)
