"""A check of the site that mkdocs has built: `python tests/kit/check_site.py site` prints what is wrong.

Every link within the site leads somewhere, its part behind # included, and nothing that a browser loads by itself
comes from elsewhere: no script, style, font, picture or frame.
"""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

_LOADED = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
    "embed": "src",
}
_LINKS_THAT_LOAD_NOTHING = {"canonical", "next", "prev", "alternate"}
_IN_STYLES = re.compile(r"""(?:@import\s+|url\()\s*["']?((?:https?:)?//[^"')\s]+)""")


class _Page(HTMLParser):
    """What a page refers to, and what on it can be referred to."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = [*_IN_STYLES.findall(html)]
        self.draws_diagrams = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.names |= {given[name] for name in ("id", "name") if name in given}
        self.draws_diagrams |= "mermaid" in given.get("class", "").split()
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag == "link" and not _LINKS_THAT_LOAD_NOTHING & set(given.get("rel", "").split()):
            self.loads.append(given.get("href", ""))
        if tag in _LOADED and _LOADED[tag] in given:
            self.loads.append(given[_LOADED[tag]])
        self.loads += [part.split()[0] for part in given.get("srcset", "").split(",") if part.strip()]


def problems(site: Path) -> list[str]:
    """Return what is wrong with a site, a line each."""
    pages = {path: _Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    found = [] if pages else [f"{site}: there are no pages"]
    for path, page in pages.items():
        where = path.relative_to(site)
        if page.draws_diagrams:
            found.append(f"{where}: a diagram, for which the theme loads a script from elsewhere")
        found += [f"{where}: loads {url}" for url in page.loads if _is_elsewhere(url)]
        inner = [url for url in [*page.links, *page.loads] if not _is_elsewhere(url) and not urlsplit(url).scheme]
        found += [f"{where}: {reason}" for url in inner if (reason := _broken(url, path, site, pages))]
    for path in sorted(site.rglob("*.css")):
        styles = path.read_text(encoding="utf-8")
        found += [f"{path.relative_to(site)}: loads {url}" for url in _IN_STYLES.findall(styles)]
    return found


def _is_elsewhere(url: str) -> bool:
    return url.startswith(("http:", "https:", "//"))


def _broken(url: str, path: Path, site: Path, pages: dict[Path, _Page]) -> str:
    """Return why a link within the site leads nowhere; empty if it leads somewhere."""
    address, fragment = urldefrag(url)
    address = unquote(urlsplit(address).path)
    target = path if not address else (site / address[1:] if address[0] == "/" else path.parent / address).resolve()
    if target.is_dir():
        target /= "index.html"
    if not target.exists():
        return f"{url} is not there"
    named = pages.get(target)
    if fragment and named and unquote(fragment) not in named.names:
        return f"{url} has no such part"
    return ""


def main(arguments: list[str]) -> int:
    """Check a site, print what is wrong, and return the exit status."""
    found = problems(Path(arguments[0]).resolve())
    print(*found or ["the site's links lead somewhere, and nothing is loaded from elsewhere"], sep="\n")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
