"""Verdicts on libraries: those that were asked for, or all that are loaded.

A library that is not in the table is inspected: one without C code of its own does what the standard library does,
which is greened; one with C extensions may wait or compute in C, and is unknown.

Must not import: eventlet, asyncio, IPython.
"""

from __future__ import annotations

import html
import importlib.metadata
import importlib.util
import sys
from dataclasses import dataclass
from importlib.machinery import EXTENSION_SUFFIXES, PathFinder
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from greenlab.checks import did_you_mean
from greenlab.errors import UsageError
from greenlab.probes import libraries

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import PurePath

UNKNOWN = "unknown"
MISSING = "no such module"
PURE = "likely cooperates"

# The packages of a kernel with greenlab in it: tasks do not call these. (cryptography comes with eventlet's dns.)
_MACHINERY = {
    "_cffi_backend", "_pydev_bundle", "_pydevd_bundle", "_pydevd_frame_eval", "_pydevd_sys_monitoring", "cloudpickle",
    "comm", "cryptography", "dateutil", "debugpy", "decorator", "dns", "eventlet", "executing", "greenlab", "greenlet",
    "ipykernel", "IPython", "ipywidgets", "jedi", "jupyter_client", "jupyter_core", "matplotlib_inline", "parso",
    "platformdirs", "prompt_toolkit", "psutil", "pydevd", "pydevd_plugins", "pygments", "stack_data", "tornado",
    "traitlets", "wcwidth", "zmq",
}  # fmt: skip


@dataclass(frozen=True)
class LibraryVerdict:
    """What is known of one library.

    Attributes:
        name: the name that was asked for.
        verdict: one of the kinds of a `Verdict`, or "unknown", "likely cooperates" or "no such module".
        why: the reason.
        fix: what to do; empty if nothing.
        measured: with which version, and how; empty if it was not.
    """

    name: str
    verdict: str
    why: str
    fix: str = ""
    measured: str = ""

    def __str__(self) -> str:
        rest = [f"  {line}" for line in (self.why, f"fix: {self.fix}" if self.fix else "", self.measured) if line]
        return "\n".join([f"{self.verdict}: {self.name}", *rest])


class LibraryVerdicts(list[LibraryVerdict]):
    """Verdicts on libraries, shown as a table."""

    def __str__(self) -> str:
        return "\n".join(map(str, self)) or "nothing that is known is loaded, and no C extension besides"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        if not self:
            return html.escape(str(self))
        head = "".join(
            f'<th style="text-align:left">{name}</th>' for name in ("library", "verdict", "why", "fix", "measured")
        )
        rows = "".join(
            "<tr>"
            + "".join(
                f'<td style="text-align:left">{html.escape(text)}</td>'
                for text in (each.name, each.verdict, each.why, each.fix, each.measured)
            )
            + "</tr>"
            for each in self
        )
        return f'<table class="greenlab-check"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'


def look_up(names: Iterable[str]) -> LibraryVerdicts:
    """Return verdicts on libraries by name; of several, also for those that do not exist, with a similar name.

    Raises:
        UsageError: there is no such module at all, and no row of that name.
    """
    names = list(names)
    verdicts = [_verdict_on(name) for name in names]
    if not any(verdicts):
        how = "give a module's name, or a call: %greencheck fetch(url)"
        raise UsageError(f"there is no module {names[0]!r}: {how}{_hint(names[0])}")
    return LibraryVerdicts(
        verdict or LibraryVerdict(name, MISSING, _missing(name)) for name, verdict in zip(names, verdicts, strict=True)
    )


def look_around(modules: Mapping[str, ModuleType] | None = None) -> LibraryVerdicts:
    """Return verdicts on every known library that is loaded, and on every C extension of which nothing is known.

    Of the standard library, much of which is always loaded, only what the notebook has imported itself counts.
    """
    modules = dict(sys.modules if modules is None else modules)
    main = vars(modules["__main__"]).values() if "__main__" in modules else ()
    names = {name for name in modules if name.partition(".")[0] not in sys.stdlib_module_names}
    names |= {value.__name__ for value in list(main) if isinstance(value, ModuleType)}
    known = [row for row in libraries.KNOWN.values() if not names.isdisjoint((row.name, *row.modules))]
    verdicts = LibraryVerdicts(
        _known(row.name, row) for row in sorted(known, key=lambda row: (row.cooperates, row.name))
    )
    unknown: dict[str, list[str]] = {}
    packages = None
    for name, module in sorted(modules.items()):
        top = _top(module)
        if top is None or top in _MACHINERY or top in sys.stdlib_module_names or libraries.find(top) is not None:
            continue
        packages = packages or importlib.metadata.packages_distributions()
        unknown.setdefault((packages.get(top) or [top])[0], []).append(name)
    verdicts += [_unknown(name, found) for name, found in sorted(unknown.items())]
    return verdicts


def known() -> Collection[str]:
    """Return the names of the libraries in the table."""
    return libraries.KNOWN


def is_library(name: str) -> bool:
    """Return whether this is the name of a library or a module that `look_up` knows or finds."""
    return libraries.find(name) is not None or _spec(name) is not None


def _missing(name: str) -> str:
    """Return the message that there is no such module, with a similar name if there is one."""
    return f"there is no module {name!r}{_hint(name) or ' to check'}"


def _hint(name: str) -> str:
    return did_you_mean(name, {*libraries.KNOWN, *sys.stdlib_module_names, *sys.modules})


def _verdict_on(name: str) -> LibraryVerdict | None:
    row = libraries.find(name)
    if row is not None:
        return _known(name, row)
    spec = _spec(name)
    if spec is None:
        return None
    if name.partition(".")[0] in sys.stdlib_module_names:
        return LibraryVerdict(name, UNKNOWN, "a part of the standard library that was not measured by itself", _MEASURE)
    extensions = _extensions(spec)
    if extensions:
        return _unknown(name, extensions)
    return LibraryVerdict(name, PURE, "it has no C extension of its own, and the standard library cooperates", _MEASURE)


_MEASURE = "measure a call of it: %greencheck CALL"


def _known(name: str, row: libraries.Library) -> LibraryVerdict:
    version = f"with {row.version}" if row.version[:1].isdigit() else f"in Python's {row.version}"
    called = name if name == row.name else f"{name} ({row.name})"
    return LibraryVerdict(called, row.verdict, row.why, row.fix, f"measured {version}: {row.measured}")


def _unknown(name: str, extensions: list[str]) -> LibraryVerdict:
    shown = ", ".join(extensions[:3]) + (f" and {len(extensions) - 3} more" if len(extensions) > 3 else "")
    return LibraryVerdict(name, UNKNOWN, f"C extensions of which nothing is known: {shown}", _MEASURE)


def _spec(name: str) -> Any:
    try:
        return importlib.util.find_spec(name)
    except ValueError:
        # It is loaded, and has replaced itself by an object without `__spec__`: kombu 5.
        parent = sys.modules.get(name.rpartition(".")[0])
        return PathFinder.find_spec(name, getattr(parent, "__path__", None))
    except (ImportError, AttributeError):
        return None


def _extensions(spec: Any) -> list[str]:
    """Return the C extensions of a package by their files' names: in it, or beside it (duckdb's is `_duckdb`)."""
    suffixes = tuple(EXTENSION_SUFFIXES)
    if spec.origin and spec.origin.endswith(suffixes):
        return [spec.name]
    inside = (
        path
        for place in spec.submodule_search_locations or ()
        for suffix in EXTENSION_SUFFIXES
        for path in Path(place).rglob(f"*{suffix}")
    )
    beside = (path for path in _installed_with(spec) if path.name.endswith(suffixes))
    return sorted({path.name.partition(".")[0] for path in (*inside, *beside)})


def _installed_with(spec: Any) -> Iterable[PurePath]:
    """Return the files of the distribution that a module came with; none where that is not known."""
    top = spec.name.partition(".")[0]
    for name in importlib.metadata.packages_distributions().get(top, ()):
        files = importlib.metadata.distribution(name).files or ()
        # Several distributions may share a namespace.
        if spec.origin and any(spec.origin.endswith(f"/{file}") for file in files if file.suffix == ".py"):
            return files
    return ()


def _top(module: Any) -> str | None:
    """Return the top-level package, or module, that a C extension lies in; None for any other module.

    It is read from its path, not from its name: Cython registers helpers under names of their own.
    """
    origin = getattr(getattr(module, "__spec__", None), "origin", None)
    if not isinstance(origin, str) or not origin.endswith(tuple(EXTENSION_SUFFIXES)):
        return None
    folders = [entry for entry in sys.path if entry and origin.startswith(entry.rstrip("/") + "/")]
    first = Path(origin).relative_to(max(folders, key=len)).parts[0] if folders else module.__name__
    return first.partition(".")[0]
