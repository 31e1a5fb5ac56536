"""OPML subscription lists (1.0, 1.1, 2.0) to subscriptions, and subscriptions to OPML 2.0.

An outline with an `xmlUrl` is a subscription, one without is a folder; folders within folders become one name
joined by "/". Outlines that are neither (notes, links) are passed over. The file is read through
`xml_text.read_xml`, so it is as safe, and as forgiving, as reading a feed.

Source: http://opml.org/spec2.opml
"""
from __future__ import annotations

import html
from typing import TYPE_CHECKING, Iterable, NamedTuple

from penny.wire.feed import TITLE, URL, MalformedFeed, Notes, encodable, plain, safe_url
from penny.wire.xml_text import SEPARATOR, WrongRoot, read_xml

if TYPE_CHECKING:
    from xml.parsers.expat import XMLParserType

SUBSCRIPTIONS = 5_000   # in one list; a longer one is refused, since nobody would notice what was left out
FOLDERS = 16            # folders within one another; deeper ones count as the sixteenth


class Subscription(NamedTuple):
    url: str
    title: str = ""
    home_page_url: str = ""
    folder: str = ""


def parse(data: bytes) -> tuple[Subscription, ...]:
    """The subscriptions of an OPML file, in its order. Raises MalformedFeed for whatever is not one."""
    return tuple(read_xml(data, "", _Outlines, Notes()).found)


class _Outlines:
    """Expat's handlers: `folders` holds the names of the outlines that are open, "" for those that are no folder."""

    ROOTS = ("opml",)

    def __init__(self, parser: XMLParserType, notes: Notes) -> None:
        self.parser = parser
        self.found: list[Subscription] = []
        self.folders: list[str] = []
        self.deeper = 0   # outlines open beyond FOLDERS
        parser.StartElementHandler = self.start_root

    def start_root(self, name: str, attrs: dict) -> None:
        local = _local(name)
        if local not in self.ROOTS:
            raise WrongRoot(f"the document is <{local[:40]}>, not an OPML list")
        self.parser.StartElementHandler, self.parser.EndElementHandler = self.start, self.end

    def start(self, name: str, attrs: dict) -> None:
        if _local(name) != "outline":
            return
        values = {key.lower(): value for key, value in attrs.items()}
        title = plain(values.get("title") or values.get("text") or "", markup=False)[:TITLE]
        url = _feed_url(values)
        if url:
            if len(self.found) == SUBSCRIPTIONS:
                raise MalformedFeed(f"the list has more than {SUBSCRIPTIONS:,} subscriptions")
            home = safe_url(values.get("htmlurl", ""))
            home = home if len(home) <= URL else ""
            title = "" if title == url else title
            folder = "/".join(filter(None, self.folders))
            self.found.append(Subscription(url, title, home, folder))
        if len(self.folders) == FOLDERS:
            self.deeper += 1
        else:
            self.folders.append("" if url else title)

    def end(self, name: str) -> None:
        if _local(name) == "outline":
            if self.deeper:
                self.deeper -= 1
            else:
                self.folders.pop()

    def is_worth_keeping(self) -> bool:
        return bool(self.found)


def _local(name: str) -> str:
    return name.rpartition(SEPARATOR)[2].lower()


def _feed_url(values: dict) -> str:
    """The feed's URL; some programs write `url`, others the scheme feed:."""
    url = values.get("xmlurl") or (values.get("url", "") if values.get("type", "").lower() in ("rss", "atom") else "")
    url = url.strip()
    if url.lower().startswith("feed:"):
        url = url[5:] if url[5:].lower().startswith(("http:", "https:")) else "http:" + url[5:]
    url = safe_url(url)
    return url if url.lower().startswith(("http:", "https:")) and len(url) <= URL else ""


def render(title: str, subscriptions: Iterable[Subscription]) -> bytes:
    """An OPML 2.0 file. Subscriptions of one folder stand together, folders in the order in which they first occur."""
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', '<opml version="2.0">',
             f"  <head><title>{_quote(title)}</title></head>", "  <body>"]
    tree: dict = {}
    for subscription in subscriptions:
        branch = tree
        for name in filter(None, subscription.folder.split("/")[:FOLDERS]):
            branch = branch.setdefault(name, {})
        branch.setdefault("", []).append(subscription)   # no folder is called ""
    _render_branch(tree, lines, "    ")
    lines += ["  </body>", "</opml>", ""]
    return "\n".join(lines).encode()


def _render_branch(branch: dict, lines: list[str], indent: str) -> None:
    for name, inner in branch.items():
        if name:
            lines.append(f'{indent}<outline text="{_quote(name)}">')
            _render_branch(inner, lines, indent + "  ")
            lines.append(f"{indent}</outline>")
            continue
        for url, title, home, _ in inner:
            page = f' htmlUrl="{_quote(home)}"' if home else ""
            lines.append(f'{indent}<outline type="rss" text="{_quote(title or url)}" xmlUrl="{_quote(url)}"{page}/>')


def _quote(text: str) -> str:
    return html.escape(encodable(plain(text, markup=False)))
