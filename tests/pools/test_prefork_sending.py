"""The prefork pool: what travels to workers and back, what they print, and the wire between."""

from __future__ import annotations

import os
import pickle
import random
import re
import socket
import sys
import warnings
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from processes_kit import MIB, FakeJob, run, run_script

from greenlab.errors import (
    CancelledError,
    NotSendableError,
)
from greenlab.pools.prefork.dispatch import Dispatcher
from greenlab.pools.processes import framing
from greenlab.pools.processes.ring_buffer import Ring
from greenlab.pools.processes.serialization import RemoteTaskError, RemoteTraceback

if TYPE_CHECKING:
    from greenlab.pools.prefork import PreforkPool

pytestmark = pytest.mark.usefixtures("nothing_of_processes_left", "time_limit")


@pytest.fixture
def pool(prefork_pool: PreforkPool) -> PreforkPool:
    return prefork_pool


# --- what travels ------------------------------------------------------------------------------------------


def test_a_result_that_cannot_be_read_here_fails_alone(pool: PreforkPool) -> None:
    here = os.getpid()

    class Fussy:
        def __reduce__(self) -> Any:
            return _only_there, (here,)

    def _only_there(pid: Any) -> Any:
        if os.getpid() == pid:
            raise ValueError("not here")

    job = run(pool, lambda x: Fussy() if x else x, [0, 1])
    assert {0: 0} == job.values
    assert NotSendableError is type(job.errors[1])


def test_functions_and_classes_of_main_travel_and_keep_their_identity() -> None:
    printed = run_script("""
        from greenlab.pools.prefork import PreforkPool
        import dataclasses, enum
        FACTOR = 3
        class Colour(enum.Enum):
            RED = 1
        @dataclasses.dataclass
        class Point:
            x: int
            colour: Colour = Colour.RED
            def scaled(self): return Point(self.x * FACTOR)
        class OddError(Exception):
            pass
        def helper(point):
            if point.x == 2: raise OddError("two")
            return point.scaled()
        def task(point): return helper(point)
        class Job:
            concurrency, timeout_s, max_tasks, max_memory, func = 2, None, None, None, staticmethod(task)
            left = iter(enumerate([Point(1), Point(2), Point(3)]))
            values = {}
            def pull(self): return next(self.left)
            def succeed(self, i, s, e, value): self.values[i] = value
            def fail(self, i, s, e, error): self.values[i] = error
        method = Point.scaled
        with PreforkPool(2) as pool:
            pool.run(Job())
        values = Job.values
        assert values[0] == Point(3) and values[2] == Point(9), values
        assert type(values[0]) is Point and values[0].colour is Colour.RED
        assert type(values[1]) is OddError
        assert Point.scaled is method and method.__globals__ is globals()
        FACTOR = 5
        assert values[0].scaled() == Point(15)
        print("fine")
    """)
    assert "fine\n" == printed


def test_a_class_that_has_changed_between_two_runs_has_changed_in_the_workers(pool: PreforkPool) -> None:
    class Settings:
        limit = 1

        def get(self) -> Any:
            return self.limit

    items = [Settings() for _ in range(20)]
    assert {1} == set(run(pool, lambda s: s.get(), items).values.values())
    Settings.limit = 2
    assert {2} == set(run(pool, lambda s: s.get(), items).values.values())


def test_a_traceback_shows_the_line_of_a_cell(pool: PreforkPool) -> None:
    import linecache

    source = "def task(x):\n    return x / 0  # in the cell\n"
    name = "<cell of test_prefork>"
    namespace = {"__name__": "__main__"}
    exec(compile(source, name, "exec"), namespace)
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    job = run(pool, namespace["task"], [1])
    assert "# in the cell" in str(job.errors[0].__cause__)


# --- prints ------------------------------------------------------------------------------------------------


def test_prints_arrive_line_by_line_before_the_result(pool: PreforkPool) -> None:
    def say(x: Any) -> Any:
        print(x, "one")
        print(x, "two", end="")
        sys.stderr.write("err\n")
        sys.stdout.buffer.write(b"!\n")
        return sys.stdout.write("x\ny")

    job: Any = FakeJob(say, [5])
    seen = []
    job.succeed = lambda *args: seen.extend([*job.printed, args[3]])
    pool.run(job)
    assert 3 == seen.pop()
    assert "5 one\n5 two!\nx\ny" == "".join(text for stream, text, _ in seen if stream == "stdout")
    assert ("stderr", "err\n", 0) in seen


def test_each_print_names_its_task(pool: PreforkPool) -> None:
    def say(x: Any) -> None:
        print(f"<{x}>", end="" if x % 2 else "\n")
        warnings.warn(f"<{x}>", stacklevel=1)

    job = run(pool, say, range(200))
    told: dict[Any, list[str]] = {index: [] for index in range(200)}
    for _, text, index in job.printed:
        told[index] += re.findall(r"<(\d+)>", text)
    assert {index: [str(index)] * 2 for index in range(200)} == told


# --- the wire ----------------------------------------------------------------------------------------------


def test_frames_survive_being_cut_anywhere() -> None:
    bodies = [b"", b"x", b"y" * 1_000, bytes(3 * framing.SMALL), b"z"]
    data = b"".join(
        b"".join(framing.frame(framing.RESULT, 1, n, framing.Parcel(framing.RAW, [body])))
        for n, body in enumerate(bodies)
    )
    rng = random.Random(1)
    for _ in range(30):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            inbox, got, at = framing.Inbox(ours), [], 0
            while at < len(data):
                step = rng.choice([1, 7, 39, 41, 5_000, 100_000])
                theirs.sendall(data[at : at + step])
                at += step
                while True:
                    try:
                        got += inbox.read()
                    except BlockingIOError:
                        break
            theirs.close()
            with pytest.raises(EOFError):
                inbox.read()
        assert list(range(5)) == [frame[4] for frame in got]
        assert bodies == [bytes(frame[8]) for frame in got]


@pytest.mark.skipif(not framing.RING, reason="no memory to share that is not a file")
def test_a_ring_gives_back_what_was_put_or_leaves_it_to_the_socket() -> None:
    fd = framing.Page.open_fd()
    page = framing.Page(fd)
    outward, inward = Ring(fd, 1, page.read_here), Ring(fd, 1, page.read_here)
    os.close(fd)
    rng = random.Random(3)
    waiting: list[tuple[bytes, list[Any]]] = []
    shared = by_socket = 0
    noise = os.urandom(6 * MIB)
    for _ in range(300):
        if rng.random() < 0.55:
            parts: list[Any] = [
                noise[(at := rng.randrange(MIB)) : at + rng.choice([1, 5_000, MIB, 5 * MIB])]
                for _ in range(rng.choice([1, 3]))
            ]
            waiting.append((b"".join(parts), outward.frame(framing.TASK, 1, 2, framing.Parcel(framing.RAW, parts))))
        for _ in range(rng.choice([0, 1, 2])):
            if waiting:
                body, (head, *rest) = waiting.pop(0)
                if framing.HEAD.unpack(head)[1] & framing.SHARED:
                    shared += 1
                    assert body == inward.take(rest[0], writable=rng.random() < 0.5)
                else:
                    by_socket += 1
                    assert body == b"".join(rest)
    assert shared > 30
    assert by_socket > 30
    for view in (outward, inward, page):
        view.close()


def test_an_outbox_keeps_what_the_socket_does_not_take() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        outbox, sent, got = framing.Outbox(ours), bytearray(), bytearray()
        for size in (10, 3 * MIB, 5, 5, MIB):
            part = os.urandom(size)
            sent += part
            outbox.put([part])
        assert not outbox.write()
        assert outbox
        while len(got) < len(sent):
            got += theirs.recv(MIB)
            outbox.write()
        assert not outbox
    assert sent == got


def test_small_parts_are_written_together_and_large_ones_are_not_copied() -> None:
    written: list[Any] = []

    def sendmsg(parts: list[Any]) -> int:
        written.extend(parts)
        return sum(map(len, parts))

    sock: Any = SimpleNamespace(sendmsg=sendmsg)
    outbox, large = framing.Outbox(sock), bytes(framing.SMALL)
    outbox.put([b"a", b"b", large, b"c", b"d"])
    assert outbox.write()
    assert [b"ab", large, b"cd"] == written
    assert large is written[1]


def test_errors_of_the_pool_can_be_pickled() -> None:
    for error in (RemoteTaskError("a.B", "why"), RemoteTraceback("text"), CancelledError("x")):
        assert str(error) == str(pickle.loads(pickle.dumps(error)))


@pytest.mark.parametrize(("room", "moves"), [(0, False), (3, True)])
def test_what_waits_at_a_worker_may_move_only_where_another_has_room(room: int, *, moves: bool) -> None:
    active = SimpleNamespace(job=SimpleNamespace(concurrency=2))

    def worker(waiting: Any, room: int) -> Any:
        return SimpleNamespace(
            last_waiting=waiting, takes_tasks=True, outbox=b"", outstanding={1: active},
            holds=lambda _active: True, room=lambda _active, _shared: room,
        )  # fmt: skip

    supervisor: Any = SimpleNamespace(processes=[worker(active, 0), worker(None, room)], target=2)
    jobs: Any = [active]
    assert moves is Dispatcher(supervisor, jobs).may_move()
