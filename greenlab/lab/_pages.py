"""The pages of a site and the links between them, each a function of a seed and a page's number.

It is as knotted as a real one: loops, redirects (two of them in a circle), pages that are gone, pages that take for
ever, links to other hosts, and one page under several spellings.

Guarantees: the same on every machine, in every process and Python version.
Must not import: anything of greenlab but this folder.
"""

from __future__ import annotations

from greenlab.lab._feeds import numbers_of

HOME = "/"
_CIRCLE = ("/round/0", "/round/1")
_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head><title>Page {index}</title></head>
<body>
<h1 id="top">Page {index}</h1>
<ul>
{items}
</ul>
<p id="notes">Nothing is noted here.</p>
</body>
</html>
"""


class Pages:
    """The pages of one seed.

    Args:
        seed: what the links are made from.
        count: how many pages there are, beside what is not one.
    """

    def __init__(self, seed: int, count: int) -> None:
        self._count = count
        self._children: list[list[int]] = [[] for _ in range(count)]
        self._crossing: list[tuple[int, ...]] = []
        for index in range(count):
            parent, *crossing = numbers_of("page", seed, index, count=3)
            self._crossing.append(tuple(number % count for number in crossing))
            if index:
                # One of the eight before it, so that the way from the home page is neither short nor long.
                self._children[max(0, index - 1 - parent % 8)].append(index)

    def links(self, index: int) -> list[str]:
        """Return what a page links to, as it is written there."""
        links = ["/", f"{index}.html#top"]
        links += [f"/old/{child}" if _was_moved(child) else f"{child}.html" for child in self._children[index]]
        links += [f"../pages/{other}.html#notes" for other in self._crossing[index]]
        if _names_gone(index):
            links.append(f"/gone/{index}.html")
        if _names_slow(index):
            links.append(f"/slow/{index}.html")
        if index % 12 == 5:
            links += ["https://elsewhere.example/about.html", "mailto:post@elsewhere.example"]
        if index == 0:
            links.append(_CIRCLE[0])
        return links

    def body(self, index: int) -> bytes:
        """Return a page's HTML."""
        items = "\n".join(f'<li><a href="{link}">{link}</a></li>' for link in self.links(index))
        return _PAGE.format(index=index, items=items).encode()

    def redirect(self, path: str) -> str | None:
        """Return where a path leads to, if it is a redirect."""
        if path == HOME:
            return "/pages/0.html"
        if path in _CIRCLE:
            return _CIRCLE[1 - _CIRCLE.index(path)]
        index = self.index(path, "/old/", "")
        return f"/pages/{index}.html" if index is not None and _was_moved(index) else None

    def index(self, path: str, before: str, after: str) -> int | None:
        """Return the number of a page in a path, or None if it is no such path."""
        name = path.removeprefix(before).removesuffix(after)
        if path != f"{before}{name}{after}" or not name.isdecimal() or not name.isascii() or len(name) > 9:
            return None
        return int(name) if int(name) < self._count else None

    def is_slow(self, path: str) -> bool:
        """Return whether a path is one that takes for ever."""
        index = self.index(path, "/slow/", ".html")
        return index is not None and _names_slow(index)

    def reachable(self) -> dict[str, int]:
        """Return the status of each path of this host that can be reached from the home page, by path."""
        found = {HOME: 302, **dict.fromkeys(_CIRCLE, 302)}
        for index in range(self._count):
            found[f"/pages/{index}.html"] = 200
            if index and _was_moved(index):
                found[f"/old/{index}"] = 301
            if _names_gone(index):
                found[f"/gone/{index}.html"] = 404
            if _names_slow(index):
                found[f"/slow/{index}.html"] = 200
        return found


def _was_moved(index: int) -> bool:
    return index % 7 == 3


def _names_gone(index: int) -> bool:
    return index % 10 == 4


def _names_slow(index: int) -> bool:
    return index % 40 == 9
