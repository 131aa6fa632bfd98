"""Things people do in notebooks, in a real kernel under greenlab: alone, and while 100 green tasks run.

Each cell asserts for itself. After each one the tasks must still be running, and the next cell must still answer.
"""

from __future__ import annotations

import inspect
import textwrap
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest
from kernel import Kernel

if TYPE_CHECKING:
    from collections.abc import Iterator

TASKS = 100

BUSY = f"""
import greenlab, time
_turns = [0]
def _loop():
    while True:
        time.sleep(0.01)
        _turns[0] += 1
_tasks = [greenlab.spawn(_loop) for _ in range({TASKS})]
"""

STILL_BUSY = f"""
_before = _turns[0]
time.sleep(0.05)
assert _turns[0] - _before >= {TASKS}, _turns[0] - _before
assert not any(task.dead for task in _tasks)
"""

CELLS = {
    "print and rich display": """
        from IPython.display import HTML, display
        display(HTML("<b>bold</b>"))
        print("text")
    """,
    "read a file and write one": """
        import pathlib, tempfile
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "a.txt")
            path.write_text("line" * 100_000)
            assert path.read_text() == "line" * 100_000
    """,
    "top-level await": """
        import asyncio
        await asyncio.sleep(0.01)
        assert await asyncio.gather(*[asyncio.sleep(0.01, i) for i in range(3)]) == [0, 1, 2]
    """,
    "asyncio.to_thread": """
        import asyncio, time
        await asyncio.gather(*[asyncio.to_thread(time.sleep, 0.02) for _ in range(4)])
    """,
    "asyncio streams": """
        import asyncio
        async def serve(reader, writer):
            writer.write((await reader.readline()).upper())
            await writer.drain()
            writer.close()
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection("localhost", server.sockets[0].getsockname()[1])
        writer.write(b"hello\\n")
        assert await reader.readline() == b"HELLO\\n"
        writer.close()
        server.close()
    """,
    "asyncio subprocess": """
        import asyncio, sys
        child = await asyncio.create_subprocess_exec(sys.executable, "-c", "print(6*7)", stdout=asyncio.subprocess.PIPE)
        assert (await child.communicate())[0].strip() == b"42"
    """,
    "asyncio.run in a thread": """
        import asyncio, threading
        seen = []
        async def work():
            await asyncio.sleep(0.01)
            seen.append(threading.current_thread() is not threading.main_thread())
        thread = threading.Thread(target=lambda: asyncio.run(work()))
        thread.start()
        thread.join()
        assert seen == [True]
    """,
    "threads with a queue": """
        import queue, threading
        jobs, done = queue.Queue(), queue.Queue()
        def work():
            while (job := jobs.get()) is not None:
                done.put(job * 2)
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads: thread.start()
        for job in range(100): jobs.put(job)
        for _ in threads: jobs.put(None)
        for thread in threads: thread.join()
        assert sorted(done.get() for _ in range(100)) == [2 * i for i in range(100)]
    """,
    "threads, events and conditions": """
        import threading
        event, condition, log = threading.Event(), threading.Condition(), []
        def work():
            event.wait(5)
            with condition:
                log.append(1)
                condition.notify_all()
        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads: thread.start()
        event.set()
        with condition:
            assert condition.wait_for(lambda: len(log) == 3, 5)
        for thread in threads: thread.join()
    """,
    "ThreadPoolExecutor": """
        from concurrent.futures import ThreadPoolExecutor, as_completed
        import time
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(lambda i: (time.sleep(0.01), i)[1], range(8))) == list(range(8))
            assert {each.result() for each in as_completed([pool.submit(pow, 2, i) for i in range(4)])} == {1, 2, 4, 8}
    """,
    "ProcessPoolExecutor, fork": """
        import multiprocessing, warnings
        from concurrent.futures import ProcessPoolExecutor
        def double(i):
            return 2 * i
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as pool:
                assert list(pool.map(double, range(10))) == list(range(0, 20, 2))
    """,
    "ProcessPoolExecutor, forkserver": """
        import math, multiprocessing
        from concurrent.futures import ProcessPoolExecutor
        with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("forkserver")) as pool:
            assert list(pool.map(math.factorial, range(5))) == [1, 1, 2, 6, 24]
    """,
    "ProcessPoolExecutor, spawn": """
        import math, multiprocessing
        from concurrent.futures import ProcessPoolExecutor
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            assert list(pool.map(math.factorial, range(5))) == [1, 1, 2, 6, 24]
    """,
    "multiprocessing.Pool, fork": """
        import multiprocessing, time
        def sleepy(i):
            time.sleep(0.01)
            return i
        with multiprocessing.get_context("fork").Pool(2) as pool:
            assert pool.map(sleepy, range(6)) == list(range(6))
            assert sorted(pool.imap_unordered(sleepy, range(6))) == list(range(6))
    """,
    "multiprocessing.Pool, forkserver": """
        import math, multiprocessing
        with multiprocessing.get_context("forkserver").Pool(2) as pool:
            assert pool.map(math.factorial, range(5)) == [1, 1, 2, 6, 24]
    """,
    "multiprocessing.Process with a Queue and a Pipe": """
        import multiprocessing
        context = multiprocessing.get_context("fork")
        mine, theirs = context.Pipe()
        queue = context.Queue()
        def work():
            queue.put(theirs.recv() + 1)
        child = context.Process(target=work)
        child.start()
        mine.send(41)
        assert queue.get(timeout=10) == 42
        child.join()
        assert child.exitcode == 0
    """,
    "loky": """
        import loky
        with loky.get_reusable_executor(2, timeout=5) as pool:
            assert list(pool.map(lambda i: i * i, range(5))) == [0, 1, 4, 9, 16]
    """,
    "subprocess": """
        import subprocess, sys
        code = "print(input()[::-1])"
        done = subprocess.run([sys.executable, "-c", code], input="abc", text=True, capture_output=True)
        assert done.stdout == "cba\\n", done
    """,
    "a shell line": """
        answer = !echo from the shell
        assert list(answer) == ["from the shell"], answer
    """,
    "a shell cell": """
        get_ipython().run_cell_magic("bash", "", "echo one; sleep 0.05; echo two")
    """,
    "os.system and os.popen": """
        import os
        assert os.system("true") == 0
        assert os.popen("echo out").read() == "out\\n"
    """,
    "a server in a thread, urllib as its client": """
        import http.server, threading, urllib.request
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.end_headers()
                self.wfile.write(self.path.encode())
            def log_message(self, *args): pass
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            for i in range(3):
                with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/{i}") as answer:
                    assert answer.read() == f"/{i}".encode()
            server.shutdown()
            thread.join()
    """,
    "sockets between threads": """
        import socket, threading
        left, right = socket.socketpair()
        with left, right:
            thread = threading.Thread(target=lambda: left.sendall(b"x" * 3_000_000))
            thread.start()
            got = 0
            while got < 3_000_000:
                got += len(right.recv(65536))
            thread.join()
    """,
    "sqlite": """
        import sqlite3
        with sqlite3.connect(":memory:") as database:
            database.execute("create table t (x)")
            database.executemany("insert into t values (?)", [(i,) for i in range(100)])
            assert database.execute("select sum(x) from t").fetchone() == (4950,)
    """,
    "logging": """
        import io, logging
        stream = io.StringIO()
        log = logging.getLogger("health")
        log.handlers = [logging.StreamHandler(stream)]
        log.warning("careful")
        assert stream.getvalue() == "careful\\n"
    """,
    "numpy and pandas": """
        import numpy, pandas
        frame = pandas.DataFrame({"x": numpy.arange(10)})
        assert frame.x.sum() == 45
        frame.describe()
    """,
    "a plot": """
        import matplotlib
        matplotlib.use("agg")
        import matplotlib.pyplot as plt
        fig, ax = plt.subplots()
        ax.plot([1, 2, 3])
        fig.canvas.draw()
        plt.close(fig)
    """,
    "widgets": """
        import ipywidgets
        slider = ipywidgets.IntSlider()
        slider.value = 5
        display(slider)
        assert slider.value == 5
    """,
    "%timeit and %time": """
        get_ipython().run_line_magic("timeit", "-n1 -r1 sum(range(10))")
        get_ipython().run_line_magic("time", "sum(range(10))")
    """,
    "an error, and the debugger's post mortem data": """
        import sys
        try:
            1 / 0
        except ZeroDivisionError:
            assert sys.exc_info()[0] is ZeroDivisionError
    """,
    "a timer": """
        import threading
        rang = threading.Event()
        threading.Timer(0.01, rang.set).start()
        assert rang.wait(5)
    """,
    "signal.alarm": """
        import signal, time
        rang = []
        former = signal.signal(signal.SIGALRM, lambda *_: rang.append(1))
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        end = time.monotonic() + 5
        while not rang and time.monotonic() < end:
            time.sleep(0.005)
        signal.signal(signal.SIGALRM, former)
        assert rang
    """,
    "a forked child that sleeps": """
        import os, time, warnings
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            child = os.fork()
        if child == 0:
            try:
                time.sleep(0.01)
            finally:
                os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    """,
}
NEEDS = {"loky": "loky", "numpy and pandas": "pandas", "widgets": "ipywidgets", "a plot": "matplotlib"}


@pytest.fixture(scope="module", params=["alone", "busy"])
def healthy(request: pytest.FixtureRequest) -> Iterator[Kernel]:
    """A kernel with greenlab loaded; once by itself, once while green tasks run."""
    with Kernel() as kernel:
        assert kernel.run("%load_ext greenlab").error is None
        assert kernel.run(BUSY if request.param == "busy" else "_turns = None").error is None
        yield kernel


@pytest.mark.parametrize("name", CELLS)
def test_what_people_do_in_notebooks_goes_on(healthy: Kernel, name: str) -> None:
    if name in NEEDS and find_spec(NEEDS[name]) is None:
        pytest.skip(f"{NEEDS[name]} is not installed")
    cell = healthy.run(textwrap.dedent(CELLS[name]))
    assert cell.error is None, cell.error
    busy = healthy.run("_turns is not None").value == "True"
    after = healthy.run(STILL_BUSY if busy else "1 + 1")
    assert after.error is None, after.error


def test_a_prompt_for_input_is_answered(healthy: Kernel) -> None:
    # The front end's answer comes over the stdin channel, which the kernel polls in its main thread.
    client = healthy.client
    client.allow_stdin = True
    message = client.execute("name = input('who? ')", allow_stdin=True)
    assert "who? " == client.get_stdin_msg(timeout=30)["content"]["prompt"]
    client.input("Ada")
    while client.get_shell_msg(timeout=30)["parent_header"].get("msg_id") != message:
        pass
    assert "'Ada'" == healthy.run("name").value


def test_completion_and_inspection_answer(healthy: Kernel) -> None:
    client = healthy.client
    for send, arguments, kind in (
        (client.complete, ("greenlab.sp", 11), "complete_reply"),
        (client.inspect, ("print", 5), "inspect_reply"),
        (client.is_complete, ("for x in y:",), "is_complete_reply"),
    ):
        asked = send(*arguments)
        while (reply := client.get_shell_msg(timeout=30))["parent_header"].get("msg_id") != asked:
            pass
        assert kind == reply["msg_type"]


def test_an_error_of_a_cell_is_shown_and_the_next_cell_runs(healthy: Kernel) -> None:
    assert "ZeroDivisionError" == healthy.run("1 / 0").ename
    assert "2" == healthy.run("1 + 1").value


def test_unloading_and_loading_again_works(healthy: Kernel) -> None:
    code = """
        import socket, time, threading
        %unload_ext greenlab
        assert type(time.sleep).__name__ == "builtin_function_or_method"
        assert "recv" not in vars(socket.socket)
        %load_ext greenlab
        assert type(time.sleep).__name__ == "function"
    """
    assert healthy.run(inspect.cleandoc(code)).error is None
