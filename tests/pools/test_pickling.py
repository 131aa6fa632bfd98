"""What the picklers use of cloudpickle that is private there: another version may rename it."""

from __future__ import annotations

import inspect
import pickle
import tomllib
from pathlib import Path
from types import CodeType
from typing import Any

import cloudpickle
import pytest
from cloudpickle import cloudpickle as machinery

from greenlab.pools.processes import pickling

OTHER = f"cloudpickle {cloudpickle.__version__} differs from 3.1: mend greenlab/pools/processes/pickling.py"


def test_the_next_version_of_cloudpickle_is_not_installed_untried() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "cloudpickle>=3.1,<4" in project["dependencies"]


@pytest.mark.parametrize(("maker", "position"), pickling.Unpickler._MAKERS.items())
def test_a_tracker_id_stands_where_the_unpickler_looks_for_it(maker: str, position: int) -> None:
    assert hasattr(machinery, maker), OTHER
    assert "class_tracker_id" == list(inspect.signature(getattr(machinery, maker)).parameters)[position], OTHER


@pytest.mark.parametrize(("name", "arguments"), [("_class_setstate", ("obj", "state")), ("_code_reduce", ("obj",))])
def test_what_is_wrapped_takes_the_arguments_it_is_given(name: str, arguments: tuple[str, ...]) -> None:
    assert hasattr(machinery, name), OTHER
    assert arguments == tuple(inspect.signature(getattr(machinery, name)).parameters), OTHER


def test_classes_are_tracked_and_makers_called_as_the_unpickler_expects() -> None:
    class Item:
        pass

    Item.__module__ = "__main__"
    data = pickling.dump_by_value(Item())
    (tracker_id,) = [key for key, kind in machinery._DYNAMIC_CLASS_TRACKER_BY_ID.items() if kind is Item]
    assert pickling.has_class(tracker_id), OTHER
    asked: list[Any] = []

    def is_known(tracker: str) -> bool:
        asked.append(tracker)
        return True

    found = pickling.Unpickler(data, [], is_known).load()
    assert (Item, [tracker_id]) == (type(found), asked), OTHER


def test_code_is_reduced_to_a_maker_and_its_arguments_and_keeps_its_file_name() -> None:
    code = compile("1 + 1", "<a cell>", "eval")
    made = pickle.loads(pickling.dump_by_value(code))
    assert (CodeType, "<a cell>", 2) == (type(made), made.co_filename, eval(made)), OTHER
