"""The options of a run: declared once, checked in one place, and treated alike by every pool."""

from __future__ import annotations

import dataclasses
import inspect
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import greenlab
from greenlab import pools
from greenlab.api.options import FLAGS, RunOptions, pool_names
from greenlab.errors import UsageError
from greenlab.magics.options import make_parser, parse

DEFAULTS = {option.name: option.default for option in dataclasses.fields(RunOptions)}


def test_run_has_the_options_that_are_declared_with_their_defaults() -> None:
    parameters = inspect.signature(greenlab.run).parameters
    taken = {name: parameter.default for name, parameter in parameters.items() if name in FLAGS}
    assert DEFAULTS == taken
    assert {"func", "items", "count", *FLAGS} == set(parameters)


def test_the_magics_have_a_flag_for_each_option_and_its_default() -> None:
    parser = make_parser("greenrun")
    assert {name for flag in FLAGS.values() for name in flag.names} <= set(parser._option_string_actions)
    assert RunOptions() == RunOptions.of(**parse(parser, "x in y").run_options)


def test_a_line_says_the_same_as_python() -> None:
    line = (
        "-c 7 -w 3 -p prefork --timeout 2.5 --retries 4 --rate 9 -x --discard --max-tasks 8 --max-memory 100 --no-live "
        "--trace x in y"
    )
    said = RunOptions(
        concurrency=7, workers=3, pool="prefork", timeout=2.5, retries=4, rate=9.0, fail_fast=True, discard=True,
        max_tasks=8, max_memory=100.0, live=False, trace=True,
    )  # fmt: skip
    assert said == RunOptions.of(**parse(make_parser("greenrun"), line).run_options)


@pytest.mark.parametrize("pool", pools.LOCAL)
def test_sizes_of_another_pool_are_ignored(pool: str, started: Any) -> None:
    run = greenlab.run(abs, [-1, -2], pool=pool, concurrency=3, workers=2, live=False)
    assert [1, 2] == run.results
    assert (2 if pools.spec_of(pool).task_a_worker else 3) == run.concurrency


@pytest.mark.parametrize("option", pools.PROMISES)
@pytest.mark.parametrize("pool", pools.NAMES)
def test_a_promise_is_kept_or_refused_before_anything_starts(pool: str, option: str) -> None:
    if option in pools.spec_of(pool).promises:
        assert 5 == getattr(RunOptions.of(pool=pool, **{option: 5}), option)
    else:
        with pytest.raises(UsageError, match=rf"the {pool} pool .*: {option} \(--.*\) goes with the prefork pool$"):
            RunOptions.of(pool=pool, **{option: 5})


@pytest.mark.parametrize("pool", [name for name in pools.NAMES if "max_tasks" not in pools.spec_of(name).promises])
def test_a_race_refuses_a_promise_that_one_of_its_pools_cannot_keep(pool: str) -> None:
    if pool == pools.AUTO:
        return
    with pytest.raises(UsageError, match=f"the {pool} pool does not replace workers"):
        greenlab.api.compare.prepare_race(abs, [1], pools=("prefork", pool), max_tasks=5, live=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"concurrency": 0}, "concurrency must be a whole number of 1 or more, not 0"),
        ({"concurrency": True}, "concurrency must be a whole number"),
        ({"workers": 1.5}, "workers must be a whole number of 1 or more, not 1.5"),
        ({"retries": -1}, "retries must be a whole number of 0 or more"),
        ({"timeout": 0}, "timeout must be a number greater than 0, not 0"),
        ({"rate": float("inf")}, "rate must be a number greater than 0"),
        ({"timeout": "2"}, "timeout must be a number greater than 0, not '2'"),
        ({"timeout": 10**400}, "timeout must be a number that a float can hold"),
        ({"rate": Fraction(10**5000)}, "rate must be a number that a float can hold"),
        ({"concurrency": 10**5000}, "concurrency must be a number that a float can hold"),
        ({"retries": -(10**5000)}, "retries must be a number that a float can hold"),
        ({"fail_fast": "no"}, "fail_fast must be True or False, not 'no'"),
        ({"discard": 0}, "discard must be True or False, not 0"),
        ({"trace": None}, "trace must be True or False, not None"),
        ({"live": "yes"}, "live must be True or False, not 'yes'"),
        ({"discard": np.zeros(2, bool)}, "discard must be True or False"),
        ({"pool": "gren"}, "there is no pool 'gren'"),
        ({"concurency": 5}, "there is no option 'concurency'.*did you mean concurrency?"),
    ],
)
def test_a_mistake_is_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as raised:
        RunOptions.of(**options)
    assert "\n" not in str(raised.value)


def test_numbers_of_numpy_are_numbers() -> None:
    options = RunOptions(concurrency=np.int64(5), timeout=np.float32(2.5), retries=np.int8(3))  # type: ignore[arg-type]
    assert (5, 2.5, 3) == (options.concurrency, options.timeout, options.retries)
    assert (int, int) == (type(options.concurrency), type(options.retries))
    assert RunOptions(fail_fast=np.bool_(True)).fail_fast is True  # type: ignore[arg-type]
    assert 3 == greenlab.api.options.items_of(None, np.int64(3)).stop  # type: ignore[arg-type, attr-defined]


def test_a_memory_limit_that_no_machine_reaches_is_none_to_trip_over() -> None:
    assert 10**305 << 20 == RunOptions(pool="prefork", max_memory=10**305).max_bytes
    assert 3 << 19 == RunOptions(pool="prefork", max_memory=1.5).max_bytes


@pytest.mark.parametrize("prepare", [greenlab.api.compare.prepare_race, greenlab.api.compare.prepare_sweep])
def test_a_race_and_a_sweep_are_shown_or_not_and_nothing_between(prepare: Any) -> None:
    with pytest.raises(UsageError, match="live must be True or False, not 'no'"):
        prepare(abs, [1], live="no")


def test_options_are_changed_by_name_and_stay_checked() -> None:
    options = RunOptions(concurrency=5)
    assert RunOptions(concurrency=5, retries=2) == options.changed(retries=2)
    with pytest.raises(UsageError, match="retries must be"):
        options.changed(retries=-2)
    with pytest.raises(UsageError, match="there is no option 'colour'"):
        options.changed(colour="red")
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.retries = 3  # type: ignore[misc]


@pytest.mark.parametrize("option", pools.PROMISES)
def test_another_pool_that_cannot_keep_what_was_asked_before_says_how_to_leave_it_out(option: str) -> None:
    options = RunOptions(pool="prefork", **{option: 5})  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=f"green pool does not .* this run has {option}=5: add {option}=None$"):
        options.changed(pool="green")
    assert RunOptions() == options.changed(pool="green", **{option: None})
    with pytest.raises(UsageError, match=f"{option} .* goes with the prefork pool"):
        options.changed(pool="green", **{option: 7})


def test_names_of_pools_come_as_a_sequence_or_with_commas_each_once() -> None:
    assert ("green", "prefork") == pool_names("green,prefork,green") == pool_names(["green", "prefork"])
    with pytest.raises(UsageError, match="there is no pool 'nope'"):
        pool_names("green,nope")
    with pytest.raises(UsageError, match="name the pools"):
        pool_names([])


def test_every_pool_has_a_colour_of_its_own_and_a_size() -> None:
    assert len(pools.NAMES) == len({spec.color for spec in pools.SPECS.values()})
    assert {"-c", "-w"} == {spec.size_flag for spec in pools.SPECS.values()}
    assert {"prefork", "hybrid", "celery"} == {name for name, spec in pools.SPECS.items() if spec.leaves_process}
