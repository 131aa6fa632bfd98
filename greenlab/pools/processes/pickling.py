"""The picklers: cloudpickle's, mended where what it sends would not be the same at the other end.

Guarantees: code keeps the file name that tracebacks find its lines by; a class of the notebook is left as it is when an
instance of it comes home; what is greened is sent by its name in the standard library.

Must not import: eventlet, asyncio, IPython; worker processes load this.
"""

from __future__ import annotations

import collections
import functools
import importlib
import io
import pickle
import sys
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

import cloudpickle
from cloudpickle import cloudpickle as machinery

from greenlab.pools.processes import shell

if TYPE_CHECKING:
    from collections.abc import Callable


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle ships no types
    """Keeps the file names of code, which cloudpickle 3.1.3 replaces by `<dynamic-code>`.

    A cell's name is what tracebacks find its lines by. And sends by name what stands for a module in `sys.modules`
    and is of a class of its own, as kombu is and celery: cloudpickle does so for plain modules only.
    """

    dispatch_table: ClassVar = collections.ChainMap(
        {CodeType: lambda code: (_make_code, (code.co_filename, *machinery._code_reduce(code)))},
        cloudpickle.Pickler.dispatch_table,
    )

    def reducer_override(self, obj: Any) -> Any:
        """As cloudpickle; but `!command` finds a shell, frozen errors arrive, odd modules and greened calls go by name.

        What is greened here is found in a worker under its name in the standard library, greened or not.
        """
        if isinstance(obj, BaseException) and _is_frozen(obj):
            return _make_frozen, (type(obj), obj.args, vars(obj))
        if shell.is_shell(obj):
            return shell.WorkerShell, ()
        if shell.is_getter(obj):
            return shell.make_getter, ()
        if isinstance(obj, ModuleType) and type(obj) is not ModuleType and sys.modules.get(obj.__name__) is obj:
            return importlib.import_module, (obj.__name__,)
        library = sys.modules.get("greenlab.greening.library")  # where nothing is greened, it need not be loaded
        by_name = library.by_name(obj) if library is not None else None
        return super().reducer_override(obj) if by_name is None else by_name


def _is_frozen(error: BaseException) -> bool:
    """Whether it is of a frozen dataclass: an exception is unpickled by setting attributes, which that forbids."""
    params = getattr(type(error), "__dataclass_params__", None)
    return getattr(params, "frozen", False) and type(error).__reduce__ is BaseException.__reduce__


def _make_frozen(kind: type[BaseException], args: tuple[Any, ...], state: dict[str, Any]) -> BaseException:
    error = kind.__new__(kind, *args)
    vars(error).update(state)
    return error


def _make_code(name: str, maker: Callable[..., CodeType], args: tuple[Any, ...]) -> CodeType:
    return maker(*args).replace(co_filename=name)


def dump_by_value(value: Any, beside: Callable[[pickle.PickleBuffer], object] | None = None) -> bytes:
    """Pickle what the plain pickler cannot, or must not by reference: what is defined in `__main__`."""
    file = io.BytesIO()
    _Pickler(file, 5, buffer_callback=beside).dump(value)
    return file.getvalue()


def has_class(tracker_id: str) -> bool:
    """Whether a class of this tracker id lives in this process (see `load`)."""
    return tracker_id in machinery._DYNAMIC_CLASS_TRACKER_BY_ID


class Unpickler(pickle.Unpickler):
    """Leaves classes alone that this process has.

    cloudpickle 3.1 finds the notebook's own class when an instance comes home, but then sets each of its
    attributes anew: its methods would from then on see copies of the notebook's globals.
    """

    # Where the tracker id stands among the arguments of cloudpickle's makers of classes.
    _MAKERS = {"_make_skeleton_class": 4, "_make_skeleton_enum": 5}  # noqa: RUF012

    def __init__(self, data: bytes, buffers: list[memoryview], known: Callable[[str], bool]) -> None:
        super().__init__(io.BytesIO(data), buffers=buffers)
        self._known = known
        self._kept: list[type] = []

    def find_class(self, module: str, name: str, /) -> Any:
        """As pickle's, but for cloudpickle's makers of classes."""
        found = super().find_class(module, name)
        if module == machinery.__name__ and name == "_class_setstate":
            return functools.partial(self._set_state, found)
        if module == machinery.__name__ and name in self._MAKERS:
            return functools.partial(self._make, found, self._MAKERS[name])
        return found

    def _make(self, maker: Callable[..., type], position: int, *args: Any) -> type:
        keep = self._known(args[position])
        made = maker(*args)
        if keep:
            self._kept.append(made)
        return made

    def _set_state(self, setter: Callable[..., Any], made: type, state: Any) -> Any:
        return made if any(made is kept for kept in self._kept) else setter(made, state)
