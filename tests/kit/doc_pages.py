"""The hand-written pages of the documentation, and the blocks of Python on them.

A block runs as a cell of a notebook, after those before it on its page; one with a title, such as `title="sizes.py"`,
is a script of its own. Above a block that cannot run stands why: `<!-- not run: it needs … -->`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(
    r"""^(?:<!--\ not\ run:\ (?P<reason>[^\n]+?)\ -->\n+)?   # why it is not run, if it is not
        ```python(?:\ title="(?P<title>[^"]+)")?\n           # the fence
        (?P<code>.*?)^```$""",
    re.MULTILINE | re.DOTALL | re.VERBOSE,
)
_LINK = re.compile(r"\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A block of Python on a page: its line there, its code, its title, and why it is not run, if it is not."""

    line: int
    code: str
    title: str
    reason: str


def pages() -> list[Path]:
    """Return the pages that are written by hand, README among them."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(text: str) -> list[Block]:
    """Return the blocks of Python on a page."""
    return [
        Block(text.count("\n", 0, found.start("code")), found["code"], found["title"] or "", found["reason"] or "")
        for found in _BLOCK.finditer(text)
    ]


def links(text: str) -> list[str]:
    """Return the addresses that a page links to, or shows as pictures, outside of code."""
    prose = re.sub(r"^```.*?^```$|`[^`\n]*`", "", text, flags=re.MULTILINE | re.DOTALL)
    return _LINK.findall(prose)
