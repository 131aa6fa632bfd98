"""The texts and latencies that the feed hub serves, each a function of a seed and an index.

Guarantees: the same on every machine, in every process and Python version, in whatever order they are asked
for. So numbers come from a digest: `hash()` differs by process, `random.choice` by Python version.
Must not import: anything of greenlab.
"""

from __future__ import annotations

import hashlib
import html
import math
import struct
from datetime import date, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

_T = TypeVar("_T")

MEDIAN_LATENCY_S = 0.150
SIGMA = 0.5
MAX_LATENCY_S = 2.0

_CACHED_BODIES = 2048  # of 20 KB each; past that, building one anew costs less than 40 MB more
_HEADLINES = 1024
_PARAGRAPHS = 512
_PARAGRAPH_CHARS = 185
_NEWEST = date(2026, 3, 1)
_DAYS = 80
_MINUTES_A_DAY = 1440

_WHO = (
    "the harbour council", "a small bakery", "the night ferry", "our oldest library", "a team of beekeepers",
    "the valley railway", "Marsh & Daughters", "a retired surveyor", "the weather office", "a village choir",
    "the tram workshop", "a travelling printer", "the island school", "one patient gardener",
    "the reading room", "a crew of bridge painters", "Pell & Orrin", "the lighthouse keeper", "the bookshop",
    "a clockmaker's apprentice", "the hill observatory", "the ferry company", "a young cartographer",
)  # fmt: skip
_DID = (
    "repaired", "measured", "reopened", "sketched", "borrowed", "sold", "photographed", "mapped", "rebuilt",
    "catalogued", "tested", "painted", "celebrated", "moved", "found", "restored", "praised", "weighed",
    "traded", "explained",
)  # fmt: skip
_WHAT = (
    "an old footbridge", "forty crates of pears", "the town's first telephone", "a map of every well",
    "three wooden boats", "the winter timetable", "a wall of blue tiles", "the longest queue of the year",
    "a forgotten orchard", "the northern pier", "two hundred postcards", "a stubborn weathervane",
    "the salt road", "a recipe for rye bread", "the flooded cellar", "a cabinet of moths", "the tide tables",
    "a borrowed telescope", "the last steam crane", "a quilt of harbour flags", "the station clock",
    "nine kinds of moss", "the upper reservoir", "a very slow elevator",
)  # fmt: skip
_WHEN = (
    "before the first frost", "in less than a week", "while the town slept", "after a long vote",
    "during the spring fair", "with help from the neighbours", "for the second time", "under a paper moon",
    "between two storms", "on a borrowed budget", "to everyone's surprise", "without closing the road",
    "at the edge of the marsh", "in front of a full hall", "just as the rain began", "by lantern light",
)  # fmt: skip
_SENTENCES = (
    "{who} {did} {what} {when}.",
    "{when}, {who} {did} {what}.",
    "nobody had planned it, yet {who} {did} {what} {when}.",
    "it is said that {who} {did} {what}; the letters page disagrees.",
    "later {who} {did} {what}, and the accounts were settled {when}.",
    "readers ask whether {who} really {did} {what} {when}.",
)
_PLACES = (
    "Harbour", "Valley", "Orchard", "Lantern", "Quayside", "Northgate", "Millrace", "Heather", "Copper",
    "Tidewater", "Sparrow", "Granite", "Juniper", "Foxglove", "Beacon", "Willow",
)  # fmt: skip
_PAPERS = (
    "Notes", "Gazette", "Ledger", "Dispatch", "Almanac", "Letters", "Bulletin", "Review", "Courier", "Diary",
    "Signal", "Observer",
)  # fmt: skip
_CATEGORIES = ("Town", "Sea & Shore", "Trades", "Weather", "Letters", "Gardens", "Travel", "History")
_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

_FEED = """\
<?xml version="1.0" encoding="UTF-8"?>
<rss version="2.0">
  <channel>
    <title>{title}</title>
    <link>https://{site}/</link>
    <description>{about}</description>
    <language>en</language>
    <lastBuildDate>{built}</lastBuildDate>
    <ttl>30</ttl>
{items}
  </channel>
</rss>
"""
_ITEM = """\
    <item>
      <title>%s</title>
      <link>https://%s/%s/%s-%d</link>
      <guid isPermaLink="false">%s:%d</guid>
      <pubDate>%s %02d:%02d:%02d +0000</pubDate>
      <category>%s</category>
      <description>&lt;p&gt;%s&lt;/p&gt;</description>
    </item>"""


def latency_s(seed: int, index: int) -> float:
    """Return how long feed `index` takes to answer, in seconds: log-normal, to the microsecond, at most 2 s.

    The normal deviate is that of G. E. P. Box and M. E. Muller, "A Note on the Generation of Random Normal
    Deviates", Annals of Mathematical Statistics 29 (1958).
    """
    first, second = struct.unpack("<II", _digest("latency", seed, index, size=8))
    radius = math.sqrt(-2.0 * math.log((first + 0.5) / 2**32))
    normal = radius * math.cos(2.0 * math.pi * second / 2**32)
    # Rounded, because the last bit of exp, log and cos is the C library's own.
    return round(min(MEDIAN_LATENCY_S * math.exp(SIGMA * normal), MAX_LATENCY_S), 6)


class Feeds:
    """The bodies of one seed's feeds: RSS 2.0 in UTF-8, 27 to 33 items, about 20 KB.

    Headlines and paragraphs are made once; a feed is a choice among them, built when it is first asked for.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._headlines = [_headline(seed, number) for number in range(_HEADLINES)]
        self._paragraphs = [_paragraph(seed, number) for number in range(_PARAGRAPHS)]
        self._days = [_day(_NEWEST - timedelta(days=age)) for age in range(_DAYS)]
        self.body = lru_cache(maxsize=_CACHED_BODIES)(self._build)

    def _build(self, index: int) -> bytes:
        count, place, paper, minute, about = numbers_of("feed", self._seed, index, count=5)
        count = 27 + count % 7
        name = f"{_pick(_PLACES, place)} {_pick(_PAPERS, paper)}"
        site = f"{name.lower().replace(' ', '-')}-{index}.example"
        draws = iter(numbers_of("items", self._seed, index, count=5 * count))
        minute %= 14 * _MINUTES_A_DAY
        items = []
        for number in range(count, 0, -1):
            title, slug = _pick(self._headlines, next(draws))
            minute += 20 + next(draws) % _MINUTES_A_DAY
            day, month = self._days[minute // _MINUTES_A_DAY]
            hour, past = divmod(_MINUTES_A_DAY - 1 - minute % _MINUTES_A_DAY, 60)
            second = next(draws) % 60
            category = html.escape(_pick(_CATEGORIES, next(draws)))
            text = _pick(self._paragraphs, next(draws))
            items.append(
                _ITEM % (title, site, month, slug, number, site, number, day, hour, past, second, category, text)
            )
        body = _FEED.format(
            title=name,
            site=site,
            about=_pick(self._headlines, about)[0],
            built=f"{self._days[0][0]} 23:59:59 +0000",
            items="\n".join(items),
        )
        return body.encode()


def _headline(seed: int, number: int) -> tuple[str, str]:
    """Return a headline, escaped for XML, and the same as a part of a link."""
    who, did, what = numbers_of("headline", seed, number, count=3)
    text = f"{_pick(_WHO, who)} {_pick(_DID, did)} {_pick(_WHAT, what)}"
    slug = "-".join("".join(c for c in word if c.isalpha()) for word in text.lower().replace("& ", "").split())
    return html.escape(_capital(text), quote=False), slug


def _paragraph(seed: int, number: int) -> str:
    """A few sentences, escaped for XML twice: a description holds HTML."""
    text = ""
    draws = iter(numbers_of("paragraph", seed, number, count=5 * 16))
    while len(text) < _PARAGRAPH_CHARS:
        sentence = _pick(_SENTENCES, next(draws)).format(
            who=_pick(_WHO, next(draws)),
            did=_pick(_DID, next(draws)),
            what=_pick(_WHAT, next(draws)),
            when=_pick(_WHEN, next(draws)),
        )
        text += (" " if text else "") + _capital(sentence)
    return html.escape(html.escape(text, quote=False), quote=False)


def _day(day: date) -> tuple[str, str]:
    """A day as RFC 822 has it, and its year and month as links have them; strftime would ask the locale."""
    name = f"{_WEEKDAYS[day.weekday()]}, {day.day:02d} {_MONTHS[day.month - 1]} {day.year}"
    return name, f"{day.year}/{day.month:02d}"


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _pick(choices: Sequence[_T], number: int) -> _T:
    return choices[number % len(choices)]


def numbers_of(*key: object, count: int) -> tuple[int, ...]:
    """Return `count` numbers of 16 bits that depend on the key alone."""
    return struct.unpack(f"<{count}H", _digest(*key, size=2 * count))


def _digest(*key: object, size: int) -> bytes:
    return hashlib.shake_128("/".join(map(str, key)).encode()).digest(size)
