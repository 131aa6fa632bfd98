"""Words that messages are made of. Imports nothing of greenlab."""

from __future__ import annotations

from typing import Any


def a_thing(value: Any) -> str:
    """Name the type of a value with its article, for messages."""
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"
