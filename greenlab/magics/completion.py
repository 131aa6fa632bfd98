"""Tab completion of a magic's options.

A matcher that suppresses the others offers exactly what is allowed there; after `x in`, Python's own matchers
complete the iterable. Source: IPython 9, `IPython.core.completer`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from greenlab.magics.options import option_names, values_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping


def make_matcher(parsers: Mapping[str, argparse.ArgumentParser]) -> Callable[[Any], Any]:
    """Return the matcher for these magics, by name."""
    from IPython.core.completer import SimpleCompletion, context_matcher

    first = re.compile(rf"%%?({'|'.join(map(re.escape, parsers))})\s(.*)$")

    @context_matcher()  # type: ignore[untyped-decorator]  # IPython's decorators carry no types
    def greenlab_options(context: Any) -> dict[str, Any]:
        nothing: dict[str, Any] = {"completions": []}
        lines = context.full_text[: context.cursor_position].split("\n")
        match = first.match(lines[0].lstrip()) if context.cursor_line == 0 else None
        if match is None:
            return nothing
        parser = parsers[match[1]]
        words = match[2].split()
        token = context.token if context.line_with_cursor and not match[2].endswith((" ", "\t")) else ""
        word = words[-1] if words and token else ""
        before = words[-2] if word and len(words) > 1 else words[-1] if words and not word else ""
        values = values_of(parser, before, word) if before.startswith("-") else None
        if values is not None:
            offers = [value for value in values if value.startswith(word)]
        elif word.startswith("-"):
            offers = [name for name in option_names(parser) if name.startswith(word)]
        else:
            return nothing
        return {
            "completions": [SimpleCompletion(offer, type="param") for offer in offers],
            "suppress": True,
            "matched_fragment": word,
        }

    matcher: Callable[[Any], Any] = greenlab_options
    return matcher
