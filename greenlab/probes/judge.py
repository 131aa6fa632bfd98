"""The kind of a call, by a probe's figures, and the reasons: pure, so that every threshold is tested by itself.

The kinds are about calls under greenlab's greening. What counts is what can run while the call goes on: other green
tasks (then it cooperates), at least other OS threads (it blocks, or computes, and has released the GIL), or nothing
at all (it holds the GIL).

Must not import: eventlet, asyncio, IPython.
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Final

from greenlab.probes.figures import AGAIN, DONE, GREEN, LOAD, NATIVE, TOGETHER
from greenlab.text.format import duration, percent

if TYPE_CHECKING:
    from greenlab.probes.figures import Figures

COOPERATES: Final = "cooperates"
MIXED: Final = "cooperates and computes"
BLOCKS: Final = "blocks on a native call"
COMPUTES: Final = "CPU-bound"
HOLDS_GIL: Final = "holds the GIL"
FAILS_GREEN: Final = "fails when greened"
FAILS: Final = "fails"
UNSENDABLE: Final = "cannot be sent"
UNKNOWN: Final = "cannot tell"
KINDS: Final = (COOPERATES, MIXED, BLOCKS, COMPUTES, HOLDS_GIL, FAILS_GREEN, FAILS, UNSENDABLE, UNKNOWN)

MUCH = 0.25
"""From this share of a call on, computing matters: four such calls at once keep the hub's processor busy."""
MOST = 0.75
"""Above this share of computing, waiting no longer matters: to overlap it gains less than a third."""
BLOCKED = 0.2
"""A native wait matters at a lower share than computing, since it can be avoided: by a thread, or a switch."""
SHORT_S = 0.001
"""Shorter than this, all calls in a row together, a call cannot be told from switches and clocks."""
TINY_S = 1e-5
"""A switch to another task and back costs as much: it is no loss to wait for such a call."""
LEAST_OTHER_THREADS = 0.1
"""If other threads compute for a smaller share of the time, that is not the call's work."""
NO_GIL = 0.5
"""If another thread waits for the GIL for this share of the time, OS threads do not help."""
IN_ONE_PIECE = 0.5
"""Python code releases the GIL every 5 ms; a C call that keeps it does so for (most of) its length."""
PIECE_S = 0.015
"""Python code keeps the GIL for shorter times too: 5 ms, and what the machine adds."""
SERIAL = 1.4
"""Calls that hold nothing, but of which fewer than this go on at once, wait for each other."""
SCATTER = 0.5
"""Samples whose shares lie farther apart than this are not of one kind."""
_ENOUGH_S = 0.01
"""So much time in each task is enough to judge: what `--times` is advised by."""


def judge(figures: Figures) -> tuple[str, list[str]]:
    """Return the kind of a call, one of `KINDS`, and the reasons, each a sentence without its full stop."""
    if figures.stage != DONE:
        return _unfinished(figures)
    sample = figures.typical
    short = figures.loops * sample.wall_s < SHORT_S
    if short and figures.native_s[-1] < TINY_S:
        return UNKNOWN, [f"a call takes {duration(figures.native_s[-1])}: too short to judge, and too short to matter"]
    if short:
        enough = max(figures.times + 1, round(_ENOUGH_S / max(sample.wall_s, 1e-8)) * 7 + 2)
        return UNKNOWN, [f"a call takes {duration(sample.wall_s)}, which is too short to judge: --times {enough}"]
    shares = [each.shares for each in figures.alone]
    if figures.others_cpu_s >= max(sample.blocked_s / 2, LEAST_OTHER_THREADS * sample.wall_s):
        # It waits for threads of its own, which compute (BLAS, polars): that counts as computing.
        shares = [(cpu + blocked, 0.0, waited) for cpu, blocked, waited in shares]
    for part, name in enumerate(("computed", "blocked", "waited")):
        values = [each[part] for each in shares]
        if max(values) - min(values) > SCATTER:
            shares_text = " and ".join(percent(value) for value in (min(values), max(values)))
            return UNKNOWN, [f"one call is not like the other: one {name} for {shares_text} of its time"]
    cpu, blocked, waited = (statistics.median(each[part] for each in shares) for part in range(3))
    return _by_share(figures, cpu, blocked, waited)


def _by_share(figures: Figures, cpu: float, blocked: float, waited: float) -> tuple[str, list[str]]:
    sample = figures.typical
    held = f"the hub was held for {percent(cpu + blocked)} of a call"
    at_a_time = f"up to {duration(sample.longest_s)} at a time"
    if blocked < BLOCKED and cpu < MUCH:
        why = [f"other tasks ran for {percent(waited)} of its time"]
        if is_serial(figures):
            why.append(f"but only one of {figures.at_once} went on at once: they wait for each other")
        return COOPERATES, why
    if keeps_gil(figures, cpu, blocked):
        activity = "waiting" if blocked > cpu else "computing"
        return HOLDS_GIL, [f"{held}, {activity}, {at_a_time}", "no other thread could run meanwhile"]
    if blocked >= BLOCKED and blocked >= cpu / 2:
        return BLOCKS, [f"{held}, {at_a_time}", f"it waited in a native call, and computed for {percent(cpu)}"]
    why = [f"it computed for {percent(cpu)} of its time and held the hub, {at_a_time}"]
    if waited >= 1 - MOST:
        return MIXED, [*why, f"and let others run for {percent(waited)}"]
    return COMPUTES, why


def is_serial(figures: Figures) -> bool:
    """Return whether calls that do not hold the hub still run one after another."""
    return figures.at_once > 1 and figures.overlap < SERIAL


def releases_gil(figures: Figures) -> bool:
    """Return whether other threads ran Python while the call held the hub."""
    return figures.gil_missed < NO_GIL


def keeps_gil(figures: Figures, cpu: float, blocked: float) -> bool:
    """Return whether a C call keeps the GIL as long as it lasts, unlike Python code, which releases it at intervals."""
    if releases_gil(figures):
        return False
    if blocked > cpu:
        return True  # Python code that waits has released the GIL
    return figures.piece_s >= max(PIECE_S, IN_ONE_PIECE * figures.typical.longest_s)


def _unfinished(figures: Figures) -> tuple[str, list[str]]:
    """Return the kind and the reasons for a probe that did not get through all stages."""
    stage, limit = figures.stage, f"{figures.limit_s:g} s"
    what = figures.error or (f"the process died: {figures.status}" if figures.status else "it ended the process")
    if stage == LOAD:
        if figures.stopped:
            return UNSENDABLE, [f"what it uses could not be loaded in {figures.allowed_s:g} s"]
        return UNSENDABLE, [f"it cannot be loaded in a fresh process: {what}"]
    if stage in (NATIVE, AGAIN) and figures.stopped:
        why = [f"it was stopped: it had not ended after {limit}, natively and alone", "--limit allows more"]
        return UNKNOWN, [*why, "meanwhile no other thread could run: it keeps the GIL"] if figures.silent else why
    if stage == NATIVE:
        return FAILS, [f"it fails natively and alone: {what}"]
    if stage == AGAIN:
        return UNKNOWN, [f"it worked once and failed the second time, natively and alone: {what}"]
    native = f"natively it works, in {duration(figures.native_s[-1])}"
    how = f"it had not ended after {figures.allowed_s:g} s" if figures.stopped else f"it fails: {what}"
    if stage == GREEN:
        return FAILS_GREEN, [native, f"in a green task {how}"]
    assert stage == TOGETHER, stage  # noqa: S101 (there are no others)
    return FAILS_GREEN, [f"{native}, and in one green task too", f"in {figures.at_once} at once {how}"]
