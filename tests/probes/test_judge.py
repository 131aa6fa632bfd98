"""The judge by itself: figures in, a kind and a fix out, at each threshold."""

from __future__ import annotations

from typing import Any

import pytest

from greenlab.probes import judge
from greenlab.probes.figures import AGAIN, DONE, GREEN, LOAD, NATIVE, TOGETHER, Figures, GilLook, Measurement, Place
from greenlab.probes.judge import (
    BLOCKS,
    COMPUTES,
    COOPERATES,
    FAILS,
    FAILS_GREEN,
    HOLDS_GIL,
    MIXED,
    UNKNOWN,
    UNSENDABLE,
)
from greenlab.probes.verdict import Verdict


def sample(cpu: float, blocked: float, waited: float, delay: float = 0.0, scale: float = 0.1) -> Measurement:
    """Make a sample of these shares of `scale` seconds."""
    held = cpu + blocked + delay
    return Measurement((held + waited) * scale, held * scale, cpu * scale, delay * scale, held * scale)


def figures(*samples: Measurement, gil: float = 0.0, piece_s: float = 0.005, **others: Any) -> Figures:
    """Make the figures of a probe that came to its end; `gil` is the share in which no other thread could run."""
    missed_s = 20 * piece_s if gil else 0.0
    made = Figures(
        stage=DONE, times=12, calls=9, native_s=[0.1, 0.1], alone=list(samples), at_once=4, together_s=0.1, gap_s=0.1,
        gil=[GilLook(missed_s / gil if gil else 1.0, missed_s, missed_s * piece_s)],
    )  # fmt: skip
    for name, value in others.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize(
    ("kind", "shares"),
    [
        (COOPERATES, (0.0, 0.0, 1.0)),
        (COOPERATES, (0.1, 0.0, 0.9)),
        (COOPERATES, (0.24, 0.0, 0.76)),
        (MIXED, (0.26, 0.0, 0.74)),
        (MIXED, (0.5, 0.0, 0.5)),
        (MIXED, (0.74, 0.0, 0.26)),
        (COMPUTES, (0.76, 0.0, 0.24)),
        (COMPUTES, (0.9, 0.0, 0.1)),
        (COMPUTES, (1.0, 0.0, 0.0)),
        (COOPERATES, (0.0, 0.19, 0.81)),
        (BLOCKS, (0.0, 0.21, 0.79)),
        (BLOCKS, (0.0, 1.0, 0.0)),
        (BLOCKS, (0.5, 0.5, 0.0)),
        (COMPUTES, (0.8, 0.2, 0.0)),
    ],
)
def test_shares_make_the_kind(kind: str, shares: tuple[float, float, float]) -> None:
    assert kind == judge.judge(figures(sample(*shares)))[0]


def test_a_wait_for_a_processor_is_neither_computing_nor_blocking() -> None:
    busy = sample(0.3, 0.0, 0.0, delay=0.7)
    assert COMPUTES == judge.judge(figures(busy))[0]
    assert COOPERATES == judge.judge(figures(sample(0.1, 0.0, 0.8, delay=0.5)))[0]


@pytest.mark.parametrize(
    ("kind", "shares", "gil", "piece_s"),
    [
        (HOLDS_GIL, (0.0, 1.0, 0.0), 1.0, 0.1),
        (HOLDS_GIL, (0.0, 1.0, 0.0), 0.6, 0.01),
        (BLOCKS, (0.0, 1.0, 0.0), 0.4, 0.1),
        (HOLDS_GIL, (1.0, 0.0, 0.0), 1.0, 0.1),
        (COMPUTES, (1.0, 0.0, 0.0), 1.0, 0.006),  # Python code: gives the GIL up now and then
        (COMPUTES, (1.0, 0.0, 0.0), 0.4, 0.1),
    ],
)
def test_who_keeps_the_gil_in_one_piece_holds_it(
    kind: str, shares: tuple[float, float, float], gil: float, piece_s: float
) -> None:
    assert kind == judge.judge(figures(sample(*shares), gil=gil, piece_s=piece_s))[0]


def test_a_wait_for_threads_that_compute_is_computing() -> None:
    assert COMPUTES == judge.judge(figures(sample(0.2, 0.8, 0.0), others_cpu_s=0.08))[0]
    assert BLOCKS == judge.judge(figures(sample(0.2, 0.8, 0.0), others_cpu_s=0.03))[0]
    uneven = (sample(0.9, 0.1, 0.0), sample(0.3, 0.7, 0.0), sample(0.6, 0.4, 0.0))
    assert COMPUTES == judge.judge(figures(*uneven, others_cpu_s=0.05))[0]


def test_one_odd_sample_does_not_change_the_kind_but_scatter_is_told() -> None:
    waits, holds = sample(0.0, 0.0, 1.0), sample(0.0, 1.0, 0.0)
    kind, reasons = judge.judge(figures(waits, holds, waits))
    assert UNKNOWN == kind
    assert "one call is not like the other" in reasons[0]
    assert COOPERATES == judge.judge(figures(waits, sample(0.0, 0.4, 0.6), waits))[0]


def test_a_short_call_says_how_many_would_do() -> None:
    kind, reasons = judge.judge(figures(sample(0.5, 0.0, 0.5, scale=1e-4)))
    assert UNKNOWN == kind
    assert "--times 702" in reasons[0]
    kind, reasons = judge.judge(figures(sample(1.0, 0.0, 0.0, scale=2e-5), native_s=[1e-3, 5e-6]))
    assert UNKNOWN == kind
    assert "too short to judge, and too short to matter" in reasons[0]
    assert COOPERATES == judge.judge(figures(sample(0.1, 0.0, 0.9, scale=1e-4), loops=20))[0]


@pytest.mark.parametrize(
    ("kind", "says", "found"),
    [
        (UNSENDABLE, "in a fresh process: ImportError", {"stage": LOAD, "error": "ImportError"}),
        (UNSENDABLE, "could not be loaded in 60 s", {"stage": LOAD, "stopped": True}),
        (FAILS, "natively and alone: KeyError: 1", {"stage": NATIVE, "error": "KeyError: 1"}),
        (FAILS, "the process died: SIGSEGV", {"stage": NATIVE, "status": "SIGSEGV"}),
        (UNKNOWN, "had not ended after 10 s", {"stage": NATIVE, "stopped": True}),
        (UNKNOWN, "it keeps the GIL", {"stage": NATIVE, "stopped": True, "silent": True}),
        (UNKNOWN, "failed the second time", {"stage": AGAIN, "error": "KeyError"}),
        (FAILS_GREEN, "in a green task it fails: KeyError", {"stage": GREEN, "error": "KeyError"}),
        (FAILS_GREEN, "had not ended after 30 s", {"stage": GREEN, "stopped": True, "allowed_s": 30}),
        (FAILS_GREEN, "in 4 at once it fails: KeyError", {"stage": TOGETHER, "error": "KeyError"}),
        (FAILS_GREEN, "the process died: SIGABRT", {"stage": TOGETHER, "status": "SIGABRT"}),
    ],
)
def test_a_probe_that_ended_early_is_judged_by_where(kind: str, says: str, found: dict[str, Any]) -> None:
    got, reasons = judge.judge(figures(**found))
    assert kind == got
    assert says in "; ".join(reasons)


def test_every_kind_has_a_text_and_the_bad_ones_a_fix() -> None:
    for kind in judge.KINDS:
        verdict = Verdict("f(<x>)", kind, ["why"], figures(sample(0.1, 0.1, 0.8)))
        assert str(verdict).startswith(f"{kind}: f(<x>)\n  why\n")
        assert "f(&lt;x&gt;)" in verdict._repr_html_()
        assert (kind not in (FAILS, UNKNOWN)) == bool(verdict.fix)


def test_without_a_sight_of_the_gil_the_fix_does_not_speak_of_threads() -> None:
    for seen_s, says in ((0.0, "could not be measured"), (1.0, "several cores")):
        measured = figures(sample(1.0, 0.0, 0.0))
        measured.gil = [GilLook(seen_s)]
        assert says in Verdict("f()", COMPUTES, ["why"], measured).fix


def test_a_machine_that_stands_still_once_is_no_gil_that_is_kept() -> None:
    fine, still = GilLook(0.05, 0.002, 0.00001), GilLook(0.2, 0.18, 0.01)
    seen = figures(sample(0.15, 0.85, 0.0))
    seen.gil = [fine, still, fine, fine]
    assert seen.gil_missed == pytest.approx(0.04)
    assert judge.BLOCKS == judge.judge(seen)[0]
    seen.gil = [GilLook(0.002), GilLook(0.002), still, still]
    assert seen.gil_missed == pytest.approx(0.9)
    assert judge.HOLDS_GIL == judge.judge(seen)[0]


def test_a_known_library_in_the_stack_gets_its_own_fix() -> None:
    stood = Place("set", "/lib/pylibmc/client.py", 3, "super().set(key)", ("pylibmc", "__main__"))
    verdict = Verdict("set()", BLOCKS, ["why"], figures(sample(0.0, 1.0, 0.0), place=stood))
    assert "pymemcache" in verdict.fix
    assert "it stood in super().set(key) (line 3 of client.py, in set)" in str(verdict)


def test_calls_in_a_row_and_at_once_fit_what_is_allowed() -> None:
    from greenlab.probes.subject import plan

    assert (3, 4, 1) == plan(0.1, 10)
    assert (1, 2, 1) == plan(5.0, 10)
    assert (1, 2, 1) == plan(0.1, 3)
    assert (3, 4, 20) == plan(0.001, 998)
    for calls in range(3, 60):
        alone, at_once, loops = plan(1e-6, calls)
        assert calls >= (alone + at_once) * loops


def test_the_place_of_a_cell_is_not_called_by_the_file_that_is_made_up_for_it() -> None:
    assert "f(x) (line 2 of a cell, in g)" == str(Place("g", "/tmp/ipykernel_123/1491016913.py", 2, "f(x)"))
