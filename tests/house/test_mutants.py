"""The script that draws mutants: which changes it makes, and what it counts as killed."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
MUTANTS = runpy.run_path(str(TESTS / "mutants.py"), run_name="mutants")
SOURCE = """\
def f(items):
    for item in items:
        if item is None:
            continue
        if item:
            break
        raise ValueError(item)
"""


def test_a_loop_s_turns_and_a_raise_are_changed_too() -> None:
    made = [(each.line, each.what, each.apply(SOURCE)) for each in MUTANTS["mutants_of"]("greenlab/hub/x.py", SOURCE)]
    assert (4, "loop: break", SOURCE.replace("continue", "break")) in made
    assert (6, "loop: continue", SOURCE.replace("break", "continue")) in made
    assert (7, "left out", SOURCE.replace("raise ValueError(item)", "pass")) in made


def test_the_same_seed_draws_the_same_mutants() -> None:
    assert MUTANTS["draw"](20, 7, ["text"]) == MUTANTS["draw"](20, 7, ["text"])


def test_every_room_and_module_with_a_mutant_has_tests_and_they_exist() -> None:
    package = TESTS.parent / "greenlab"
    rooms = {
        mutant.room
        for path in package.rglob("*.py")
        for mutant in MUTANTS["mutants_of"](path.relative_to(package.parent).as_posix(), path.read_text("utf-8"))
    }
    assert set() == rooms - set(MUTANTS["TESTS"])
    assert [] == [name for names in MUTANTS["TESTS"].values() for name in names if not (TESTS / name).exists()]


@pytest.mark.parametrize(
    ("status", "said", "expected"),
    [
        (0, "1 passed", "passed"),
        (1, "FAILED tests/hub/test_hub.py::test_x - assert 1 == 2", "failed"),
        (
            2,
            "FAILED tests/hub/test_hub.py::test_x\n!!! xdist.dsession.Interrupted: stopping after 1 failures",
            "failed",
        ),
        (1, "ERROR tests/hub/test_hub.py::test_x - a fixture", "failed"),
        (2, "ERROR tests/hub/test_hub.py - ImportError: no\n!!! Interrupted: 1 error during collection", "not loaded"),
        (2, "ERROR tests/hub/test_hub.py\n!!! stopping after 1 failures", "not loaded"),
        (4, "ImportError while loading conftest '/tree/tests/conftest.py'.", "not loaded"),
    ],
)
def test_what_cannot_be_loaded_is_told_apart_from_what_a_test_found(status: int, said: str, expected: str) -> None:
    assert expected == MUTANTS["judged"](status, said)


def test_a_pytest_that_could_not_run_is_an_error_and_kills_nothing() -> None:
    with pytest.raises(RuntimeError, match="could not run: no such option"):
        MUTANTS["judged"](4, "no such option")


def test_a_survivor_is_named_by_its_reason() -> None:
    choice, equivalent = next(iter(MUTANTS["CHOICES"])), next(iter(MUTANTS["EQUIVALENT"]))
    words = [MUTANTS["word_for"]("passed", line) for line in (choice, equivalent, "x = 1")]
    assert ["a choice", "equivalent", "SURVIVED"] == words
    assert ["killed", "not loaded"] == [MUTANTS["word_for"](ended, choice) for ended in ("failed", "not loaded")]


def test_a_room_whose_tests_are_red_without_a_mutant_is_refused(tmp_path: Path) -> None:
    drawn = [mutant for mutant in MUTANTS["draw"](10**6, 1, ["patched"]) if mutant.path == "greenlab/patched.py"][:1]
    (tmp_path / "tests").mkdir()
    for status, red in (("failed", ["patched"]), ("not loaded", ["patched"]), ("passed", [])):
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(MUTANTS["red_rooms"].__globals__, "ran", lambda *_, status=status: status)
            assert red == MUTANTS["red_rooms"](drawn, tmp_path, 60)
