"""What it is, of all that a function uses, that cannot be pickled.

Must not import: anything of greenlab, eventlet, asyncio, IPython; worker processes load this.
"""

from __future__ import annotations

import functools
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_DEEPEST = 12


def find(name: str, value: Any, above: list[object], is_sendable: Callable[[object], bool]) -> tuple[str, Any]:
    """Follow what cannot be pickled down to the innermost thing that has a name."""
    if len(above) < _DEEPEST:
        for part_name, part in parts(name, value):
            if not any(part is one for one in above) and not is_sendable(part):
                return find(part_name, part, [*above, value], is_sendable)
    return name, value


def parts(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """What the pickle of a value would hold, each with the name by which its author knows it."""
    if isinstance(value, FunctionType):
        yield from _captures(value)
    elif isinstance(value, MethodType):
        yield name, value.__func__
        yield "self", value.__self__
    elif isinstance(value, functools.partial):
        yield name, value.func
        yield from ((f"argument {i}", part) for i, part in enumerate(value.args))
        yield from value.keywords.items()
    elif isinstance(value, dict):
        yield from ((f"{name}[{key!r}]", part) for key, part in value.items())
    elif isinstance(value, list | tuple):
        yield from ((f"{name}[{i}]", part) for i, part in enumerate(value))
    elif isinstance(value, type):
        yield from ((f"{value.__name__}.{key}", part) for key, part in vars(value).items() if key[:2] != "__")
    elif hasattr(value, "__dict__") and not isinstance(value, ModuleType):
        yield from ((f"{name}.{key}" if name else key, part) for key, part in vars(value).items())


def _captures(func: FunctionType) -> Iterator[tuple[str, Any]]:
    for cell_name, cell in zip(func.__code__.co_freevars, func.__closure__ or (), strict=True):
        try:
            yield cell_name, cell.cell_contents
        except ValueError:  # a closure's variable that is not bound yet
            continue
    for global_name in sorted(_names(func.__code__)):
        if global_name in func.__globals__:
            yield global_name, func.__globals__[global_name]
    defaults = func.__defaults__ or ()
    positional = func.__code__.co_varnames[: func.__code__.co_argcount]
    yield from zip(positional[len(positional) - len(defaults) :], defaults, strict=True)
    yield from (func.__kwdefaults__ or {}).items()


def _names(code: CodeType) -> set[str]:
    inner = (const for const in code.co_consts if isinstance(const, CodeType))
    return set(code.co_names).union(*map(_names, inner))
