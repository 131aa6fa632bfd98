"""What lessons are made of: servers to fetch from, work for processors, a reader's guess beside the outcome.

Guarantees: the servers are embedded, deterministic, each in a process of its own: the same seed gives the same pages
and the same latencies on every machine and Python; a server never outlives the program that started it; nothing
listens beyond 127.0.0.1.
Must not import: anything of greenlab but errors and children, nor at the top anything outside the standard library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from greenlab.children import count_cores as cores
from greenlab.lab._counting import Stats
from greenlab.lab._feedhub import FeedHub
from greenlab.lab._site import Site

if TYPE_CHECKING:
    from greenlab.lab._computing import compute, parallel_share
    from greenlab.lab._prediction import Comparison, Prediction, predict
    from greenlab.lab._workers import Workers

__all__ = [
    "Comparison",
    "FeedHub",
    "Prediction",
    "Site",
    "Stats",
    "Workers",
    "compute",
    "cores",
    "parallel_share",
    "predict",
]

# Late: the servers' processes import this folder too, and neither compute nor ask anybody anything.
_WHERE = {
    "Comparison": "_prediction",
    "Prediction": "_prediction",
    "Workers": "_workers",
    "compute": "_computing",
    "parallel_share": "_computing",
    "predict": "_prediction",
}


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        from importlib import import_module

        return getattr(import_module(f"greenlab.lab.{_WHERE[name]}"), name)
    raise AttributeError(f"module 'greenlab.lab' has no attribute {name!r}")
