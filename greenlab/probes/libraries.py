"""The table of libraries whose behaviour under greenlab's greening has been measured.

Each row is measured by `tests/probes/test_libraries.py`, with a probe, against a real server or call; a row without its
measurement fails that test. The version is the one that was measured last.

Must not import: eventlet, asyncio, IPython.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from greenlab.probes.judge import BLOCKS, COMPUTES, COOPERATES, HOLDS_GIL

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_STDLIB = "standard library"
_NONE = "none needed"
_THREADS = 'offload(f, x, pool="threads")'


@dataclass(frozen=True)
class Library:
    """What is known of one library.

    Attributes:
        name: as it is imported, or as a function of a module: `os.system`.
        verdict: one of `greenlab.probes.judge.KINDS`.
        version: of the distribution, when it was measured.
        why: the reason.
        fix: what to do instead.
        measured: what it was measured with.
        modules: names of its modules and of its distribution, where they differ from its own.
    """

    name: str
    verdict: str
    version: str
    why: str
    fix: str
    measured: str
    modules: tuple[str, ...] = ()

    @property
    def cooperates(self) -> bool:
        """Whether green tasks may use it as it is."""
        return self.verdict == COOPERATES


_ROWS = (
    Library(
        "requests", COOPERATES, "2.34.2", "sockets of the standard library, through urllib3", _NONE,
        "a local HTTP server that answers late", ("requests",),
    ),
    Library(
        "urllib3", COOPERATES, "2.8.0", "sockets of the standard library",
        "none needed; a pool of connections lets maxsize calls through at a time", "a local HTTP server", ("urllib3",),
    ),
    Library("urllib", COOPERATES, _STDLIB, "sockets of the standard library", _NONE, "a local HTTP server"),
    Library("http.client", COOPERATES, _STDLIB, "sockets of the standard library", _NONE, "a local HTTP server"),
    Library(
        "httpx", COOPERATES, "0.28.1", "sockets and locks of the standard library, through httpcore",
        "share one httpx.Client: httpx.get makes a TLS context for each call, which computes",
        "one Client for all calls", ("httpx", "httpcore"),
    ),
    Library("socket", COOPERATES, _STDLIB, "waits on the hub", _NONE, "a local server that answers late"),
    Library(
        "socket.getaddrinfo", COOPERATES, _STDLIB, "the system's resolver, in a native thread", _NONE,
        "a name that is not numeric",
    ),
    Library("subprocess", COOPERATES, _STDLIB, "waits for pipes and children on the hub", _NONE, "a child that sleeps"),
    Library("threading", COOPERATES, _STDLIB, "its locks wait on the hub", _NONE, "an event that a native thread sets"),
    Library("queue", COOPERATES, _STDLIB, "made of threading's locks", _NONE, "an item that a native thread puts"),
    Library(
        "redis", COOPERATES, "8.1.0", "sockets of the standard library", _NONE, "a Valkey server: BLPOP", ("redis",),
    ),
    Library(
        "psycopg2", COOPERATES, "2.9.13", "greenlab sets its wait callback",
        "none needed; COPY and large objects do not work while a wait callback is set", "a PostgreSQL server: pg_sleep",
        ("psycopg2", "psycopg2-binary"),
    ),
    Library(
        "psycopg", COOPERATES, "3.3.9", "greenlab has it wait by wait_selector",
        "none needed here; in an eventlet service set PSYCOPG_WAIT_FUNC=wait_selector or PSYCOPG_IMPL=python",
        "a PostgreSQL server: pg_sleep", ("psycopg", "psycopg_binary", "psycopg_c", "psycopg-binary"),
    ),
    Library(
        "pymemcache", COOPERATES, "4.0.0", "sockets of the standard library", _NONE, "memcached, behind a slow proxy",
        ("pymemcache",),
    ),
    Library(
        "pylibmc", BLOCKS, "1.6.3", "libmemcached waits by itself", f"use pymemcache, or {_THREADS}",
        "memcached, behind a slow proxy", ("pylibmc", "_pylibmc"),
    ),
    Library(
        "grpc", BLOCKS, "1.85.3", "gRPC's C core waits by itself",
        f"{_THREADS}; grpc's own gevent support is none for eventlet", "a server that answers late", ("grpc", "grpcio"),
    ),
    Library(
        "sqlite3", BLOCKS, _STDLIB, "SQLite reads, writes and waits for locks by itself", _THREADS,
        "a database that another connection has locked", ("sqlite3", "_sqlite3"),
    ),
    Library(
        "os.fsync", BLOCKS, _STDLIB, "regular files are always ready: the disk's time is the hub's", _THREADS,
        "writes and fsync of a file", ("open",),
    ),
    Library(
        "os.system", BLOCKS, _STDLIB, "the C library waits for the shell",
        "subprocess.run(command, shell=True) cooperates", "a shell that sleeps",
    ),
    Library(
        "ctypes.CDLL", BLOCKS, _STDLIB, "foreign code waits by itself, with the GIL released", _THREADS, "usleep",
        ("ctypes",),
    ),
    Library(
        "ctypes.PyDLL", HOLDS_GIL, _STDLIB, "foreign code that keeps the GIL stops every thread",
        "load the library with CDLL if it does not use Python's C API; else offload(f, x): a process", "usleep",
    ),
    Library(
        "numpy", COMPUTES, "2.4.6", "computes, most of it with the GIL released",
        f"{_THREADS} uses several cores where the GIL is released; else a process: offload(f, x)",
        "a product of matrices", ("numpy",),
    ),
    Library(
        "zlib", COMPUTES, _STDLIB, "computes, with the GIL released", f"{_THREADS} uses several cores", "zlib.compress",
    ),
    Library(
        "hashlib", COMPUTES, _STDLIB, "computes, with the GIL released for more than 2 kB",
        f"{_THREADS} uses several cores", "pbkdf2_hmac",
    ),
)  # fmt: skip

KNOWN: Mapping[str, Library] = {row.name: row for row in _ROWS}
_BY_NAME = {module: row for row in _ROWS for module in (row.name, *row.modules)}


def find(name: str) -> Library | None:
    """Find a library by its name, that of its distribution, or of one of its modules."""
    while name:
        row = _BY_NAME.get(name)
        if row is not None:
            return row
        name = name.rpartition(".")[0]
    return None


def find_among(names: Iterable[str]) -> Library | None:
    """Find the first of these modules and functions that is known not to cooperate."""
    for name in names:
        row = _BY_NAME.get(name)
        if row is not None and not row.cooperates:
            return row
    return None
