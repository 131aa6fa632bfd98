"""What a worker, a pickle or an error does, every run in worker processes ends, and every task is accounted for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hostile_values import BadError, BadLoad, BadLoadError, BadPickle, FrozenError, double_list
from processes_kit import FakeJob, run
from tasks import nap

from greenlab.errors import GreenlabError, NotSendableError, WorkerLostError
from greenlab.hub import eventlet
from greenlab.pools.hybrid import HybridPool
from greenlab.pools.hybrid import worker_handle as hybrid_link
from greenlab.pools.prefork import worker_handle as prefork_link
from greenlab.pools.processes.serialization import RemoteTaskError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from processes_kit import ProcessPool

pytestmark = pytest.mark.usefixtures("nothing_of_processes_left", "time_limit")


@pytest.fixture
def pool(both_pools: ProcessPool) -> ProcessPool:
    return both_pools


HOSTILE = pytest.mark.parametrize("error", [SystemExit, GeneratorExit, KeyboardInterrupt, ZeroDivisionError])


def one_bad_of_six(make: Callable[[], Any], *, raised: bool = False) -> Callable[[int], Any]:
    def task(x: int) -> Any:
        if x == 3:
            if raised:
                raise make()
            return make()
        return x

    return task


def errors_of(job: FakeJob) -> dict[int, BaseException]:
    """The errors, where all others of six tasks have succeeded."""
    assert {i: i for i in range(6) if i not in job.errors} == job.values
    assert 6 == job.done
    return job.errors


def test_a_frozen_error_arrives_with_its_traceback(pool: ProcessPool) -> None:
    error = errors_of(run(pool, one_bad_of_six(lambda: FrozenError(7), raised=True), range(6)))[3]
    assert FrozenError(7) == error
    assert "raise make()" in str(error.__cause__)


@HOSTILE
def test_a_result_that_raises_as_it_is_pickled_fails_its_task(pool: ProcessPool, error: type[BaseException]) -> None:
    errors = errors_of(run(pool, one_bad_of_six(lambda: BadPickle(error)), range(6)))
    assert {3: NotSendableError} == {i: type(e) for i, e in errors.items()}
    assert "hostile_values.BadPickle) cannot be sent back" in str(errors[3])


@HOSTILE
def test_a_result_that_raises_as_it_is_read_fails_its_task(pool: ProcessPool, error: type[BaseException]) -> None:
    errors = errors_of(run(pool, one_bad_of_six(lambda: BadLoad(error)), range(6)))
    assert "the result of task 3 cannot be read here: in the reader" == str(errors.pop(3))
    assert {} == errors


@HOSTILE
def test_an_error_that_raises_as_it_is_printed_or_pickled_is_named(
    pool: ProcessPool, error: type[BaseException]
) -> None:
    errors = errors_of(run(pool, one_bad_of_six(lambda: BadError(error), raised=True), range(6)))
    assert {3: RemoteTaskError} == {i: type(e) for i, e in errors.items()}
    assert f"{BadError.__module__}.BadError: <its str() failed>" == str(errors[3])


@HOSTILE
def test_an_error_that_raises_as_it_is_read_is_named(pool: ProcessPool, error: type[BaseException]) -> None:
    errors = errors_of(run(pool, one_bad_of_six(lambda: BadLoadError(error), raised=True), range(6)))
    assert f"{BadLoadError.__module__}.BadLoadError: told" == str(errors.pop(3))
    assert {} == errors


@HOSTILE
def test_an_item_that_raises_as_it_is_pickled_or_read_fails_its_task(
    pool: ProcessPool, error: type[BaseException]
) -> None:
    job = run(pool, type, [0, BadPickle(error), 1, BadLoad(error), 2])
    assert {0: int, 2: int, 4: int} == job.values
    assert {1: NotSendableError, 3: error} == {i: type(e) for i, e in job.errors.items()}


def test_a_reader_that_fails_ends_its_worker_by_name(pool: ProcessPool, monkeypatch: pytest.MonkeyPatch) -> None:
    link = hybrid_link if pool.name == "hybrid" else prefork_link
    load_end, failures = link.serialization.load_end, [SystemExit("of the reader")]

    def fail_once(*args: Any) -> Any:
        if failures:
            raise failures.pop()
        return load_end(*args)

    monkeypatch.setattr(link.serialization, "load_end", fail_once)
    job = run(pool, double_list, [[i] * 20 for i in range(40)])
    assert 40 == job.done
    assert {"of the reader"} == {str(error.__cause__) for error in job.errors.values()}
    assert {NotSendableError, WorkerLostError} >= {type(error) for error in job.errors.values()}
    assert job.errors
    assert [4] == run(pool, abs, [-4]).results


def test_a_writer_that_fails_ends_its_worker_by_name(pool: ProcessPool, monkeypatch: pytest.MonkeyPatch) -> None:
    item = b"x" * (8 << 20)  # more than a socket takes at once
    failures = [RuntimeError("of the writer")]
    for process in pool._supervisor.processes:
        write = process.outbox.write

        def fail_once(write: Any = write) -> Any:
            full = write()
            if not full and failures:
                raise failures.pop()
            return full

        monkeypatch.setattr(process.outbox, "write", fail_once)
        monkeypatch.setattr(process, "_outward", NoRing(), raising=False)
    try:
        job = run(pool, len, [item] * 4)
    except RuntimeError as error:  # where the writer is the run itself
        assert "of the writer" == str(error)  # noqa: PT017
    else:
        assert 4 == job.done
    assert [4] == run(pool, abs, [-4]).results


class NoRing:
    """Sends large bodies by the socket."""

    def frame(self, *args: Any) -> Any:
        from greenlab.pools.processes import framing

        return framing.frame(*args)

    def close(self) -> None:
        pass


def test_a_process_that_has_no_thread_for_a_run_ends_the_run_by_name() -> None:
    def use_up(x: int) -> int:
        from greenlab.pools.hybrid import worker

        def refuse(*_: object) -> None:
            raise RuntimeError("can't start new thread")

        worker._start_thread = refuse  # type: ignore[assignment]
        return x

    with HybridPool() as pool:
        run(pool, use_up, range(2), concurrency=2)
        # Others take the place of those two, as nothing has begun there.
        assert list(range(6)) == run(pool, abs, range(6)).results


def test_processes_that_can_never_serve_end_the_run_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "broken_worker.py").write_text(
        "from greenlab.pools.hybrid import worker\n"
        "from greenlab.pools.hybrid.worker import main\n"
        'def refuse(*_): raise RuntimeError("can\'t start new thread")\n'
        "worker._start_thread = refuse\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with HybridPool() as pool:
        pool._supervisor._module = "broken_worker"
        job = FakeJob(abs, range(6))
        with pytest.raises(GreenlabError, match="workers die as soon as they start: RuntimeError: can't start new"):
            pool.run(job)


def test_runs_go_on_where_the_working_directory_was_deleted(
    unstarted: Callable[[], ProcessPool], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with unstarted() as pool:
        eventlet.sleep(0)
        assert [0, 1, 2] == run(pool, abs, range(3)).results
        assert 2 == len(run(pool, nap, [0.001] * 2).results)
