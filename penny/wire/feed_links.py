"""The feeds that an HTML page names: `<link rel="alternate" type="application/rss+xml" href="...">`.

Only link elements are looked at, in the head of the page, without a parser of HTML: what a page names is a proposal, and
whoever takes it fetches it like any other address. Source: the HTML standard, section 4.6.7.1 (rel=alternate with the
types of feeds).
"""
from __future__ import annotations

import re
from typing import NamedTuple

from penny.wire import feed as shape

MAX_HEAD = 200_000  # bytes of a page that are looked at
MAX_LINKS = 20
TYPES = ("application/rss+xml", "application/atom+xml", "application/feed+json", "application/rdf+xml", "application/xml",
         "text/xml")

_LINK = re.compile(r"<link\b([^<>]{1,4000})>", re.I)
_ATTRIBUTE = re.compile(r"([a-z-]{1,40})\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s\"'>]+))", re.I)
_BASE = re.compile(r"<base\b[^<>]{0,2000}?\bhref\s*=\s*[\"']?([^\"'\s<>]+)", re.I)


class Link(NamedTuple):
    url: str
    title: str


def find_feeds(page: bytes, base: str) -> tuple[Link, ...]:
    """The feeds that a page names, in its order, each address once; `base` is the page's own. Comments on posts, which
    most blogs name second, stand where the page puts them."""
    head = shape.without_hidden(page[:MAX_HEAD].decode("utf-8", "replace"))
    stated = _BASE.search(head)
    if stated:
        base = shape.join_url(base, shape.unescape(stated[1]))
    found: dict[str, Link] = {}
    for element in _LINK.finditer(head):
        values = {name.lower(): shape.unescape(one or other or bare)
                  for name, one, other, bare in _ATTRIBUTE.findall(element[1])}
        if "alternate" not in values.get("rel", "").lower().split() or values.get("type", "").lower().split(";")[0] not in TYPES:
            continue
        url = shape.safe_url(shape.join_url(base, values.get("href", "").strip()))
        if url.startswith(("http://", "https://")) and len(found) < MAX_LINKS:
            found.setdefault(url, Link(url, shape.plain(values.get("title", ""))[:shape.TITLE]))
    return tuple(found.values())
