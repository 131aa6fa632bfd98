"""What mkdocs asks while it builds the site: pages that live elsewhere in the repository, and links to them.

The notebooks become Markdown by nbconvert, with their saved outputs, so that they have the site's look, its search and
its check of links. Nothing is executed.
"""

from __future__ import annotations

import posixpath
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mkdocs.structure.files import File

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
_LINK = re.compile(r"(?<=\]\()([^)\s#:]+)(?=[)#])")
_TEMPLATE = """\
{%- extends 'markdown/index.md.j2' -%}
{%- macro text(words) %}
~~~~ { .text .output .no-copy }
{{ words | strip_ansi | trim('\\n') }}
~~~~
{% endmacro -%}
{%- block input %}
~~~~ python
{{ cell.source }}
~~~~
{% endblock input -%}
{%- block stream %}{{ text(output.text) }}{% endblock stream -%}
{%- block error %}{{ text(output.traceback | join('\\n')) }}{% endblock error -%}
{%- block data_text scoped %}{{ text(output.data['text/plain']) }}{% endblock data_text -%}
{%- block data_html scoped %}
<div class="output">{{ output.data['text/html'] | one_block }}</div>
{% endblock data_html -%}
{%- block data_png scoped %}
![{{ output.metadata['image/png'].alt | alt_text }}]({{ output.metadata.filenames['image/png'] }}){ width="760" }
{% endblock data_png -%}
{%- block markdowncell scoped %}
{{ cell.source | foldable }}
{% endblock markdowncell -%}
"""


def pages() -> dict[str, str]:
    """Return where on the site the pages stand that are not in docs/, by their path in the repository."""
    notebooks = sorted((ROOT / "notebooks").glob("*.ipynb"))
    return {
        **{f"notebooks/{path.name}": f"tutorial/{path.stem}.md" for path in notebooks},
        "notebooks/TEACHING.md": "tutorial/teaching.md",
        "CHANGELOG.md": "changelog.md",
    }


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not in docs/."""
    for source, target in pages().items():
        if source.endswith(".ipynb"):
            text, pictures = lesson(ROOT / source)
            for name, png in pictures.items():
                files.append(File.generated(config, f"tutorial/{name}", content=png))
        else:
            text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, target, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **_more: Any) -> str:
    """Turn links to files of the repository into links to pages of the site."""
    return site_links(markdown, page.file.src_uri)


def site_links(markdown: str, page: str) -> str:
    """Return a page's text, in which links to files that are pages of the site lead there.

    Args:
        markdown: the text, with links relative to where it stands in the repository.
        page: where it stands on the site.
    """
    target_of = pages()
    source = next((path for path, target in target_of.items() if target == page), f"docs/{page}")

    def changed(found: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), found[1]))
        target = target_of.get(path) or path.removeprefix("docs/")
        known = path in target_of or (path.startswith("docs/") and source in target_of)
        return posixpath.relpath(target, posixpath.dirname(page) or ".") if known else found[1]

    return _LINK.sub(changed, markdown)


def lesson(path: Path) -> tuple[str, dict[str, bytes]]:
    """Return a notebook as Markdown with its saved outputs, and its pictures by their names."""
    body, resources = _exporter().from_filename(
        str(path), resources={"unique_key": path.stem, "output_files_dir": path.stem}
    )
    return body, dict(resources["outputs"])


@cache
def _exporter() -> Any:
    from nbconvert.exporters import MarkdownExporter
    from traitlets.config import Config

    # A picture that is there as HTML too brings the rules of front ends along: the site has its own.
    usual = MarkdownExporter().default_config.NbConvertBase.display_data_priority
    first = ["image/png", *(kind for kind in usual if kind != "image/png")]
    return MarkdownExporter(
        config=Config(NbConvertBase={"display_data_priority": first}),
        raw_template=_TEMPLATE,
        filters={"alt_text": _alt_text, "foldable": _foldable, "one_block": _one_block},
    )


def _alt_text(words: str) -> str:
    """Return a picture's description in one line that Markdown takes as it is."""
    return re.sub(r"([\[\]\\*_`<])", r"\\\1", "; ".join(_lines(words)))


def _lines(words: str) -> Iterator[str]:
    return (line.strip() for line in words.splitlines() if line.strip())


def _foldable(markdown: str) -> str:
    """Return Markdown in which what is folded is Markdown too."""
    return markdown.replace("<details>", '<details markdown="1">')


def _one_block(html: str) -> str:
    """Return HTML without empty lines, at which Markdown would take it for ended."""
    return re.sub(r"\n\s*\n", "\n", html)
