"""What every test may ask for: a hub, a kernel; and a check that nothing is left behind."""

from __future__ import annotations

import _thread
import gc
import signal
import threading
import time
import warnings
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any

import greenlet
import nbval.kernel
import psutil
import pytest
from kernel import Kernel, start_twice
from live_doubles import Shown
from scheduling import WholeFiles
from waiting import wait_until

import greenlab
from greenlab import greening, hub
from greenlab.live import DrawingClient, displays

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xdist.scheduler import Scheduling


_JUPYTERS = r"unclosed (event loop|<socket\.socket fd=\d+, family=1,|file <_io\.\w+ name='/dev/null')"


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling | None:
    """Share out whole files so that the run ends although a process dies."""
    return WholeFiles(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_configure() -> None:
    """Have notebooks' kernels started as those of tests are, and interrupts heard.

    What a shell starts in the background ignores them, and so would all that the tests start. multiprocessing's tracker
    of resources, which the first test that needs it would leave behind, is started before all of them.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    resource_tracker.ensure_running()
    start = nbval.kernel.start_new_kernel
    nbval.kernel.start_new_kernel = lambda *args, **options: start_twice(lambda: start(*args, **options))


@pytest.fixture(autouse=True, scope="module")
def no_garbage() -> None:
    """Collect what the module before has left: what is frozen, see below, the collector takes for long-lived.

    Of that, jupyter_core 5.9 closes no event loop that it makes for a context, and nbval 0.11 not the /dev/null that a
    kernel which does not start was given.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", _JUPYTERS, ResourceWarning)
        gc.collect()


@pytest.fixture(autouse=True)
def small_heap(request: pytest.FixtureRequest) -> Iterator[None]:
    """Hide from the collector, and so from each start of greenlab, all that the test did not make itself.

    A start and a stop look at every object, which in a process that has imported all tests takes most of a second.
    Tests of what libraries captured and made before are marked `whole_heap`.
    """
    if request.node.get_closest_marker("whole_heap"):
        yield
        return
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Fail the test that leaves a thread, a child process or a patched name."""
    threads, native = set(threading.enumerate()), _thread._count()
    children = {child.pid for child in psutil.Process().children()}
    sleep, recv = time.sleep, vars(__import__("socket").socket).get("recv")
    yield
    _no_hub_made_elsewhere()
    assert sleep is time.sleep, "the greening was left on"
    assert recv is vars(__import__("socket").socket).get("recv"), "the greening was left on"
    end = time.monotonic() + 5
    while time.monotonic() < end:
        # Dummies stand for threads that Python did not start, and outlive them (CPython before 3.13).
        left = [
            t.name
            for t in set(threading.enumerate()) - threads
            if t.is_alive() and not isinstance(t, threading._DummyThread)
        ]
        more = _thread._count() - native
        kids = [c for c in psutil.Process().children() if c.pid not in children and _alive(c)]
        if not left and more <= 0 and not kids:
            return
        time.sleep(0.01)
    pytest.fail(f"left behind: threads {left}, {more} native threads, processes {kids}")


def _no_hub_made_elsewhere() -> None:
    """Fail the test after which this thread has a hub that eventlet made for a greenlet, and drop that hub.

    It is made as one that was left behind ends, after greenlab has. The main greenlet cannot switch to it ("cannot set
    the parent of a main greenlet"), and later tests must not suffer for it.
    """
    made = getattr(hub.eventlet.hubs._threadlocal, "hub", None)
    if made is None or made.greenlet.parent is greenlet.getcurrent():
        return
    del hub.eventlet.hubs._threadlocal.hub
    pytest.fail("a greenlet that was left behind has had eventlet make a hub for it")


def _alive(child: psutil.Process) -> bool:
    try:
        return bool(child.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def guest() -> Iterator[hub.GuestHub]:
    """A hub without a host, and nothing greened."""
    here = hub.start()
    yield here
    hub.stop()


@pytest.fixture
def started() -> Iterator[hub.GuestHub]:
    """greenlab started, as `%load_ext` does it, in this thread."""
    yield greenlab.start()
    greenlab.stop()
    assert not greening.is_green()


@pytest.fixture(scope="module")
def started_once() -> Iterator[hub.GuestHub]:
    """greenlab started once for the tests of a module: for those that see the whole heap, which costs a second each."""
    threads = _thread._count()
    here = greenlab.start()
    wait_until(lambda: _thread._count() > threads, natively=True)  # the watchdog's, which no test has left
    yield here
    greenlab.stop()
    assert not greening.is_green()


@pytest.fixture
def stopped() -> Iterator[None]:
    """Stop what the test has started by itself."""
    yield
    greenlab.stop()
    assert greenlet.gettrace() is None, "a trace function was left behind"


@pytest.fixture
def client() -> Iterator[DrawingClient]:
    """A process that draws, once a test starts it."""
    children = psutil.Process().children()
    with DrawingClient() as made:
        yield made
    assert made.pid is None
    assert children == psutil.Process().children()


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[Shown]:
    """Play a kernel to the live view, and keep what is displayed."""
    seen: list[Shown] = []

    def display(
        bundle: dict[str, Any],
        metadata: dict[str, Any] | None = None,
        *,
        display_id: str | None = None,
        update: bool = False,
    ) -> None:
        seen.append(Shown(bundle, metadata or {}, display_id, update))

    monkeypatch.setattr(displays, "send_output", display)
    return seen


@pytest.fixture
def no_widgets_left() -> Iterator[None]:
    """Fail the test that leaves an ipywidget open."""
    from ipywidgets.widgets import widget

    before = set(widget._instances)
    yield
    assert before == set(widget._instances)


@pytest.fixture(scope="module")
def shared_kernel() -> Iterator[Kernel]:
    """A real kernel that has loaded greenlab, shared by the tests of a module."""
    with Kernel() as kernel:
        assert kernel.run("%load_ext greenlab").error is None
        yield kernel


@pytest.fixture
def kernel(shared_kernel: Kernel, nothing_left: None) -> Kernel:
    """The module's kernel, with the names of former tests gone."""
    shared_kernel.run("%reset -f")
    return shared_kernel
