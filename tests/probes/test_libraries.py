"""Each row of the table of known libraries, measured: a probe of a call against a real server says what the row says.

The rows are about this version of each library, on this machine; the figures are the probe's affair.
"""

from __future__ import annotations

import functools
import importlib
import sys
import types
from importlib.machinery import EXTENSION_SUFFIXES
from typing import TYPE_CHECKING, Any

import pytest
import servers
import zoo
from system import needs_system

from greenlab import UsageError
from greenlab.probes import libraries, look_around, look_up, probe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.whole_heap

CALLS: dict[str, Callable[..., Any]] = {
    "requests": zoo.fetch_by_requests,
    "urllib3": zoo.fetch_by_urllib3,
    "urllib": zoo.fetch,
    "http.client": zoo.fetch_by_http_client,
    "httpx": zoo.fetch_by_httpx,
    "socket": zoo.wait_for_socket,
    "socket.getaddrinfo": zoo.look_up_name,
    "subprocess": zoo.run_child,
    "threading": zoo.wait_for_lock,
    "queue": zoo.wait_for_queue,
    "redis": zoo.pop_from_redis,
    "psycopg2": functools.partial(zoo.ask_postgres, "psycopg2"),
    "psycopg": functools.partial(zoo.ask_postgres, "psycopg"),
    "pymemcache": zoo.use_pymemcache,
    "pylibmc": zoo.use_pylibmc,
    "grpc": zoo.call_grpc,
    "sqlite3": zoo.wait_for_sqlite,
    "os.fsync": zoo.write_and_sync,
    "os.system": zoo.run_shell,
    "ctypes.CDLL": zoo.usleep,
    "ctypes.PyDLL": zoo.usleep_with_gil,
    "numpy": zoo.multiply_matrices,
    "zlib": zoo.compress,
    "hashlib": zoo.hash_password,
}
SERVED = {
    "requests": "site", "urllib3": "site", "urllib": "site", "http.client": "site", "httpx": "site",
    "redis": "valkey", "psycopg2": "postgres", "psycopg": "postgres", "pymemcache": "memcached",
    "pylibmc": "memcached", "grpc": "grpc",
}  # fmt: skip

NAMED = {"pylibmc", "grpc", "os.system", "os.fsync", "sqlite3", "ctypes.CDLL", "ctypes.PyDLL"}
"""Of these a probe sees that it is them, and gives the row's own fix."""


@pytest.fixture(scope="module")
def address(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The address of the server of this name; of a module's scope, so that one serves all tests that want it."""
    name = request.param
    starts: dict[str, Callable[[], Any]] = {
        "site": servers.late_site,
        "valkey": lambda: servers.valkey(tmp_path_factory.mktemp("valkey")),
        "postgres": servers.postgres,
        "memcached": lambda: servers.memcached(needs_system("memcached")),
        "grpc": servers.grpc,
    }
    if name is None:
        yield None
        return
    with starts[name]() as found:
        yield found


def test_every_row_has_its_measurement() -> None:
    assert set(libraries.KNOWN) == set(CALLS)


@pytest.mark.parametrize(("name", "address"), [(name, SERVED.get(name)) for name in CALLS], indirect=["address"])
def test_a_row_says_what_a_probe_measures(name: str, address: Any) -> None:
    row, call = libraries.KNOWN[name], CALLS[name]
    if row.version[:1].isdigit():
        pytest.importorskip(name)
    if address is not None:
        call = functools.partial(call, address)
    verdict = probe(call, name)
    assert row.verdict == verdict.kind, str(verdict)
    if name in NAMED:
        assert row.fix == verdict.fix, str(verdict)


def test_a_library_is_found_by_its_name_its_distribution_and_its_parts() -> None:
    found = [libraries.find(name) for name in ("psycopg", "psycopg-binary", "psycopg_binary", "psycopg.rows")]
    assert [libraries.KNOWN["psycopg"]] * 4 == found
    assert libraries.find("psycop") is None


def test_a_row_names_the_version_that_was_measured_and_a_fix() -> None:
    (verdict,) = look_up(["pylibmc"])
    assert "blocks on a native call: pylibmc" == str(verdict).splitlines()[0]
    assert "pymemcache" in verdict.fix
    assert verdict.measured.startswith("measured with 1.")


def test_a_library_without_c_code_is_no_more_than_likely_to_cooperate() -> None:
    (verdict,) = look_up(["pytest"])
    assert "likely cooperates" == verdict.verdict
    assert "no C extension" in verdict.why


def test_a_library_with_c_code_that_no_row_knows_is_unknown() -> None:
    (verdict,) = look_up(["zmq"])
    assert "unknown" == verdict.verdict
    assert "C extensions of which nothing is known" in verdict.why


def test_what_is_no_module_is_a_mistake() -> None:
    says = r"no module 'reqests': give a module's name, or a call: %greencheck fetch\(url\); did you mean requests\?$"
    with pytest.raises(UsageError, match=says):
        look_up(["reqests"])


def test_a_module_that_has_put_an_object_of_its_own_in_its_place_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kombulike.py").write_text(
        "import sys, types\nclass Lazy(types.ModuleType): pass\nsys.modules[__name__] = Lazy(__name__)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("kombulike")
    try:
        assert module.__spec__ is None
        assert ["likely cooperates"] == [verdict.verdict for verdict in look_up(["kombulike"])]
    finally:
        del sys.modules["kombulike"]


def test_an_extension_that_lies_beside_its_package_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extension = f"_ducklike{EXTENSION_SUFFIXES[0]}"
    for name in ("ducklike/__init__.py", extension, "ducklike-1.0.dist-info/METADATA"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("Metadata-Version: 2.1\nName: ducklike\nVersion: 1.0\n" * ("META" in name))
    (tmp_path / "ducklike-1.0.dist-info/RECORD").write_text(f"ducklike/__init__.py,,\n{extension},,\n")
    monkeypatch.syspath_prepend(tmp_path)
    (verdict,) = look_up(["ducklike"])
    assert ("unknown", "C extensions of which nothing is known: _ducklike") == (verdict.verdict, verdict.why)


def test_a_look_around_finds_rows_and_unknown_extensions_but_no_machinery() -> None:
    names = ("redis", "psutil._psutil_linux", "zmq.backend.cython._zmq", "_json", "sqlite3", "charset_normalizer.md")
    modules = {name: importlib.import_module(name) for name in names}
    modules["helper"] = modules["charset_normalizer.md"]  # under a name that is not its own
    verdicts = look_around(modules)
    assert ["redis", "charset-normalizer"] == [verdict.name for verdict in verdicts]
    assert "unknown" == verdicts[-1].verdict
    assert verdicts[-1].why.endswith("charset_normalizer.md, helper")


def test_of_the_standard_library_a_look_around_tells_what_the_notebook_imported() -> None:
    main = types.ModuleType("__main__")
    vars(main)["db"] = sys.modules["sqlite3"]
    assert ["sqlite3"] == [verdict.name for verdict in look_around({"__main__": main, "zlib": sys.modules["zlib"]})]


def test_an_empty_look_around_says_so() -> None:
    assert "nothing that is known is loaded" in str(look_around({}))
