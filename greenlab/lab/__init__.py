"""Servers that lessons fetch from: embedded, deterministic, each in a process of its own.

Guarantees: the same seed gives the same pages and the same latencies on every machine and Python; a server
never outlives the program that started it; nothing listens beyond 127.0.0.1.
Must not import: anything of greenlab but `greenlab.errors`, nor anything outside the standard library.
"""

from __future__ import annotations

from greenlab.lab._feedhub import FeedHub, Stats

__all__ = ["FeedHub", "Stats"]
