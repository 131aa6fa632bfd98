"""What was captured before: natives kept as default arguments, in classes, closures, partials, factories and objects.

Names in modules are the affair of `imported`. This looks for the other places where a native function may have been
kept when a module was imported or an object made, and from where it is called later:

* default arguments: `multiprocessing.connection` keeps `os.read`, `sched` and botocore `time.sleep`;
* attributes of classes, also as a staticmethod, and of objects, in their dictionaries and slots;
* `functools.partial`, the factory of a defaultdict, a dataclass's and attrs' `default_factory`, which generated code
  holds in closures and in a namespace of its own.

Guarantees: what is found is replaced where it is, and put back as it was, tables of defaults by identity; what was
captured while it was green becomes native again too. The kernel's own machinery is left alone, `multiprocessing`
excepted, whose connections are the user's. Not replaced: what plain lists, tuples and dicts hold, annotations, what
runs now has in its variables, and what C keeps for itself.
"""

from __future__ import annotations

import functools
import gc
import sys
import types
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from greenlab.greening.scope import left_alone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# The homes of what is replaced, and the names under which the replacements go: patched by hand.
_NEVER = {"_queue", "_thread", "queue", "select", "selectors", "socket", "ssl", "threading"}
_PLAIN = (list, tuple, set, frozenset, types.FrameType, types.ModuleType)


class Captured:
    """The places that were changed, and the way back."""

    def __init__(self) -> None:
        self._back: list[Callable[[], None]] = []

    def exchange(self, pairs: Iterable[tuple[Any, Any]], aside: Iterable[list[Any]] = ()) -> None:
        """Replace, wherever it was captured, each first of a pair by its second.

        Args:
            pairs: natives and their replacements.
            aside: lists whose tuples hold natives too, and are left as they are.
        """
        new_of = {id(old): new for old, new in pairs if callable(old)}
        for owner, place in _places([old for old, _ in pairs if callable(old)], (pairs, *aside)):
            back = place(owner, new_of)
            if back is not None:
                self._back.append(back)

    def restore(self, pairs: Iterable[tuple[Any, Any]]) -> None:
        """Put back what was replaced, and replace what was captured meanwhile."""
        while self._back:
            self._back.pop()()
        old_of: dict[int, Any] = {}
        greens = []
        for old, new in pairs:
            if callable(old) and id(new) not in old_of:
                old_of[id(new)] = old
                greens.append(new)
        for owner, place in _places(greens, (pairs,)):
            place(owner, old_of)


def _places(sought: list[Any], aside: Iterable[Any]) -> list[tuple[Any, Any]]:
    """Find what holds one of these, and the function that replaces it there.

    C is asked what refers to them, and what refers to the dictionaries, tuples and cells that do: two passes over all
    objects, instead of a look into each.
    """
    enabled = gc.isenabled()
    gc.disable()  # lists of this size would set the collector off, for nothing
    try:
        ids = frozenset(map(id, sought))
        holders = [each for each in gc.get_referrers(*sought) if each is not sought]
        passed = set(map(id, gc.get_referents(*aside)))
        passed.update(id(vars(m)) for m in list(sys.modules.values()) if isinstance(m, types.ModuleType))
        inner = [
            each
            for each in holders
            if type(each) in {dict, tuple, types.CellType, staticmethod} and id(each) not in passed
        ]
        outer = gc.get_referrers(*inner) if inner else []
        # A staticmethod stands in a class's dictionary, a cell in a function's tuple: one step more.
        held = {id(each) for each in inner if type(each) in {types.CellType, staticmethod}}
        between = [
            each
            for each in outer
            if type(each) in {dict, tuple} and not held.isdisjoint(map(id, gc.get_referents(each)))
        ]
        outer += gc.get_referrers(*between) if between else []
    finally:
        if enabled:
            gc.enable()
    found: dict[int, tuple[Any, Any]] = {}
    for owner in (*holders, *outer):
        place = _place_of(owner)
        if place is not None and not _left_alone(owner) and id(owner) not in ids:
            found[id(owner)] = owner, place
    return list(found.values())


def _place_of(owner: Any) -> Any:
    kind = type(owner)
    if kind is types.FunctionType:
        return _in_function
    if issubclass(kind, type):
        return _in_class
    if kind is functools.partial:
        return _in_partial
    if issubclass(kind, defaultdict):
        return _in_defaultdict
    if issubclass(kind, (dict, *_PLAIN)) or kind.__module__ in {"builtins", "types"}:
        return None
    return _in_object


def _left_alone(owner: Any) -> bool:
    kind = type(owner)
    if kind is functools.partial:
        return _left_alone(owner.func)
    if kind is types.FunctionType:
        module = owner.__globals__.get("__name__") or owner.__module__
    else:
        module = getattr(owner if issubclass(kind, type) else kind, "__module__", None)
    if not isinstance(module, str):
        return False
    return module in _NEVER or (left_alone(module) and module.partition(".")[0] != "multiprocessing")


def _in_function(function: Any, new_of: dict[int, Any]) -> Callable[[], None] | None:
    """Replace in default arguments, in the closure, and in a namespace that is no module's: of generated code."""
    back: list[Callable[[], None]] = []
    defaults = function.__defaults__
    if defaults and any(id(each) in new_of for each in defaults):
        new = tuple(new_of.get(id(each), each) for each in defaults)
        function.__defaults__ = new

        def restore() -> None:
            if function.__defaults__ is new:
                function.__defaults__ = defaults

        back.append(restore)
    if function.__kwdefaults__:
        back.extend(_in_dict(function.__kwdefaults__, new_of))
    for cell in function.__closure__ or ():
        try:
            old = cell.cell_contents
        except ValueError:
            continue  # not set yet
        if id(old) in new_of:
            cell.cell_contents = new_of[id(old)]
            back.append(functools.partial(setattr, cell, "cell_contents", old))
    namespace = function.__globals__
    if "__name__" not in namespace:
        back.extend(_in_dict(namespace, new_of))
    return _all_of(back)


def _in_class(owner: Any, new_of: dict[int, Any]) -> Callable[[], None] | None:
    back: list[Callable[[], None]] = []
    for name, value in list(vars(owner).items()):
        kept = value.__func__ if type(value) is staticmethod else value
        new = new_of.get(id(kept))
        if new is None or name.startswith("__"):
            continue
        if type(value) is staticmethod or (isinstance(new, types.FunctionType) and not hasattr(kept, "__get__")):
            # C's functions are no methods when they stand in a class, Python's are.
            new = staticmethod(new)
        try:
            type.__setattr__(owner, name, new)
        except TypeError:
            return None  # one of C's
        back.append(functools.partial(_put_back, owner, name, new, value))
    return _all_of(back)


def _put_back(owner: Any, name: str, new: Any, old: Any) -> None:
    if vars(owner).get(name) is new:
        type.__setattr__(owner, name, old)


def _in_partial(partial: Any, new_of: dict[int, Any]) -> Callable[[], None] | None:
    state = partial.__reduce__()[2]
    func, args, kwargs, names = state
    if not any(id(each) in new_of for each in (func, *args, *kwargs.values())):
        return None
    partial.__setstate__((
        new_of.get(id(func), func),
        tuple(new_of.get(id(each), each) for each in args),
        {name: new_of.get(id(each), each) for name, each in kwargs.items()},
        names,
    ))  # fmt: skip
    return functools.partial(partial.__setstate__, state)


def _in_defaultdict(owner: Any, new_of: dict[int, Any]) -> Callable[[], None] | None:
    old = owner.default_factory
    if id(old) not in new_of:
        return None
    owner.default_factory = new_of[id(old)]
    return functools.partial(setattr, owner, "default_factory", old)


def _in_object(owner: Any, new_of: dict[int, Any]) -> Callable[[], None] | None:
    """Replace in the attributes of an object, in slots too."""
    back: list[Callable[[], None]] = []
    try:
        namespace = object.__getattribute__(owner, "__dict__")
    except AttributeError:
        namespace = None
    if type(namespace) is dict:
        back.extend(_in_dict(namespace, new_of))
    for base in type(owner).__mro__:
        if not base.__dict__.get("__slots__"):
            continue
        for member in list(vars(base).values()):
            if not isinstance(member, types.MemberDescriptorType):
                continue
            try:
                old = member.__get__(owner)
                if id(old) in new_of:
                    member.__set__(owner, new_of[id(old)])
                    back.append(functools.partial(member.__set__, owner, old))
            except (AttributeError, TypeError):
                continue  # not set yet, or read only
    return _all_of(back)


def _in_dict(namespace: dict[Any, Any], new_of: dict[int, Any]) -> list[Callable[[], None]]:
    back: list[Callable[[], None]] = []
    for name, old in list(namespace.items()):
        if id(old) in new_of and name != "__wrapped__":
            namespace[name] = new = new_of[id(old)]
            back.append(functools.partial(_put_back_in, namespace, name, new, old))
    return back


def _put_back_in(namespace: dict[Any, Any], name: Any, new: Any, old: Any) -> None:
    if namespace.get(name) is new:
        namespace[name] = old


def _all_of(back: list[Callable[[], None]]) -> Callable[[], None] | None:
    if not back:
        return None

    def all_of_them() -> None:
        for each in back:
            each()

    return all_of_them
