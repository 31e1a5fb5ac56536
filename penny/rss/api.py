"""What is kept, for other programs: as JSON Feed 1.1 and as Atom, a page at a time, newest first by number.

    GET /v1/items      a JSON Feed; each item has `_penny`, next_url leads to older ones
    GET /v1/items/N    one of its items
    GET /v1/feeds      the feeds, and how each fares
    GET /atom.xml      the same items as Atom 1.0

/v1/items and /atom.xml take q (a search), feed (its number), starred (1), tag, before (a number: only items below it) and
limit. Content is made safe. Whoever asks again with the ETag is told that nothing changed before any content is looked at;
the ETag is that of what was read from the store, not of its stamp, which every round of collecting changes.
"""
from __future__ import annotations

import json
import re
import threading
from hashlib import blake2b
from sqlite3 import Connection
from typing import Callable, NamedTuple
from urllib.parse import urlencode

from penny import __version__
from penny.core import http_message, web
from penny.core.clock import rfc3339, rfc3339_or_none
from penny.core.run import Context
from penny.stages import items, search
from penny.stages.search import Found, Wanted
from penny.wire import feed as shape
from penny.wire import feed_json

MOST = 200  # items on a page
ROOM = 1_000_000  # characters of content on a page; it has one item at least
DIGITS = 15
_ABSOLUTE = re.compile("https?:|mailto:", re.I)


class Page(NamedTuple):
    found: list[Found]
    sources: dict[int, shape.Feed]  # the feeds that they are from, by number
    next: dict[str, str]  # the parameters of the page that goes on, if there is one


def routes(context: Context, turn: threading.Lock) -> list[web.Route]:
    """The routes of the API. One page is made at a `turn`: the server's four threads would hold four in memory."""
    def listing(request: web.Request, render: Callable[..., web.Response]) -> web.Response:
        with turn:
            page = read(request, context)
            if isinstance(page, web.Response):
                return page
            origin = "http://" + request.headers["host"] if "host" in request.headers else ""
            return _unless_known(request, (origin, page), lambda: render(page, request, origin, context))

    def one(request: web.Request) -> web.Response:
        text = request.path[len("/v1/items/"):]
        number = int(text) if _is_number(text) else 0
        with turn, items.opened(context.state_dir, context.log) as db:
            found = next(search.find(db, Wanted(before=number + 1, dropped=True, most=1)), None)
            if found is None or found.id != number:
                return web.problem(404, "there is no item %s" % text)
            return web.as_json(_json_item(found, _sources(db, [found.feed])[found.feed]))

    def feeds(request: web.Request) -> web.Response:
        with items.opened(context.state_dir, context.log) as db:
            return web.as_json({"feeds": [_json_feed(feed) for feed in items.feeds(db)]})

    return [web.Route("/v1/items", lambda request: listing(request, _json_page)), web.Route("/v1/items/*", one),
            web.Route("/v1/feeds", feeds), web.Route("/atom.xml", lambda request: listing(request, _atom_page))]


def read(request: web.Request, context: Context) -> Page | web.Response:
    """The page that a request asks for, or the answer that says what is wrong with its parameters."""
    try:
        wanted = wanted_of(request.query)
    except ValueError as error:
        return web.problem(400, str(error))
    with items.opened(context.state_dir, context.log) as db:
        db.execute("BEGIN")  # one view of the store for all that is read
        if wanted.feed is not None and not _sources(db, [wanted.feed]):
            return web.problem(404, "there is no feed %d" % wanted.feed)
        found, further = _read_some(db, wanted)
        sources = _sources(db, [one.feed for one in found])
    return Page(found, sources, {**request.query, "before": str(found[-1].id)} if further else {})


def wanted_of(query: dict[str, str]) -> Wanted:
    """What a query asks for; a parameter without a value counts as absent. Raises ValueError with what was expected."""
    known = ("q", "feed", "starred", "tag", "before", "limit")
    for name, text in query.items():
        if name not in known:
            raise ValueError("there is no parameter %s, only %s" % (name, ", ".join(known)))
        if text and name in ("feed", "before", "limit") and not _is_number(text):
            raise ValueError("%s is a whole number" % name)
    limit = int(query.get("limit") or Wanted().most)
    if not 1 <= limit <= MOST:
        raise ValueError("limit is a number from 1 to %d" % MOST)
    if query.get("starred", "") not in ("", "0", "1"):
        raise ValueError("starred is 1 or 0")
    feed = query.get("feed")
    return Wanted(query.get("q", ""), int(feed) if feed else None, query.get("starred") == "1", query.get("tag", ""),
                  before=int(query.get("before") or 0), most=limit)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= DIGITS


def _sources(db: Connection, numbers: list[int]) -> dict[int, shape.Feed]:
    """Those of these feeds that there are, as others may see them."""
    return {feed.id: shape.Feed(feed.name, _whole(feed.home_page_url, feed.shown_url), feed.shown_url)
            for feed in items.feeds(db) if feed.id in numbers}


def _whole(url: str, base: str) -> str:
    """A URL that leads to the same place wherever it is read; "" where there is none."""
    url = shape.safe_url(shape.join_url(base, url)) if url else ""
    return url if _ABSOLUTE.match(url) else ""


def _read_some(db: Connection, wanted: Wanted) -> tuple[list[Found], bool]:
    """As many as were wanted and have room, and whether there are more."""
    found: list[Found] = []
    room = ROOM
    for one in search.find(db, wanted._replace(most=wanted.most + 1)):
        room -= sum(len(str(one.body.get(name, ""))) for name in ("content_html", "content_text", "summary"))
        if found and (room < 0 or len(found) == wanted.most):
            return found, True
        found.append(one)
    return found, False


def _unless_known(request: web.Request, read: tuple, render: Callable[[], web.Response]) -> web.Response:
    """The answer made from what was read, or none if the client has it already."""
    etag = '"%s"' % blake2b(repr((__version__, read)).encode(), digest_size=12).hexdigest()
    for tag in (etag, etag[:-1] + '-gzip"'):  # as core/web marks what it packed
        if http_message.matches(request.headers.get("if-none-match", ""), tag):
            return web.Response(304, headers=(("ETag", tag), ("Vary", "Accept-Encoding")))
    return render()._replace(headers=(("ETag", etag),))


# Items as others may see them

def item_of(found: Found, source: shape.Feed) -> shape.Item:
    """A kept item as a record whose URLs are absolute. Its content is as published."""
    body = {**found.body, "id": items.key_of(found.body)}
    item = feed_json.parse(json.dumps({"items": [body]}).encode()).items[0]
    base = source.home_page_url or source.feed_url
    return item._replace(
        url=_whole(item.url, base), external_url=_whole(item.external_url, base), image=_whole(item.image, base),
        comments_url=_whole(item.comments_url, base),
        authors=tuple(one._replace(url=_whole(one.url, base), avatar=_whole(one.avatar, base)) for one in item.authors),
        attachments=tuple(one._replace(url=_whole(one.url, base)) for one in item.attachments if _whole(one.url, base)))


def _safe_item_of(found: Found, source: shape.Feed) -> shape.Item:
    from penny.wire import html_safe  # tables and expressions that a collector whom nobody asks has no use for
    item = item_of(found, source)
    return item._replace(content_html=html_safe.sanitise(item.content_html, item.url or source.home_page_url))


def _json_item(found: Found, source: shape.Feed) -> dict:
    from penny.wire import atom
    item = _safe_item_of(found, source)
    id = atom.id_of(item, source.feed_url)  # two feeds may both call an item "1"
    document = feed_json.render_item(item._replace(id=id))
    if not item.content_html and not item.content_text:  # JSON Feed wants the one or the other
        document["content_text"] = item.summary or item.title
    document["_penny"] = {
        "number": found.id, "feed": found.feed, "source": source.title, "story": found.story, "arrived": rfc3339(found.arrived),
        "starred": rfc3339_or_none(found.starred), "raised": found.mark > 0, "tags": found.labels, **document.get("_penny", {})}
    return document


def _json_feed(feed: items.Feed) -> dict:
    """A feed; moved_to is left out, since it may hold a password."""
    times = {name: rfc3339_or_none(getattr(feed, name))
             for name in ("added", "due", "checked", "succeeded", "failing_since", "parked")}
    return {"number": feed.id, "url": feed.shown_url, "title": feed.title, "home_page_url": feed.home_page_url, **times,
            "problem": feed.problem, "failures": feed.failures}


def _heading(request: web.Request, origin: str, context: Context) -> shape.Feed:
    """What a page says of itself."""
    asked = " ".join(filter(None, (request.query.get("tag"), request.query.get("q"))))
    return shape.Feed("%s: %s" % (context.lab.name, asked or "items"), origin + "/", _url(request, origin, request.query))


def _url(request: web.Request, origin: str, query: dict[str, str]) -> str:
    return origin + request.path + ("?" + urlencode(query) if query else "")


def _json_page(page: Page, request: web.Request, origin: str, context: Context) -> web.Response:
    document = feed_json.render(_heading(request, origin, context))
    if page.next:
        document["next_url"] = _url(request, origin, page.next)
    document["items"] = [_json_item(found, page.sources[found.feed]) for found in page.found]
    return web.as_json(document)._replace(type="application/feed+json")


def _atom_page(page: Page, request: web.Request, origin: str, context: Context) -> web.Response:
    from penny.wire import atom
    entries = []
    for found in page.found:
        item = _safe_item_of(found, page.sources[found.feed])
        item = item._replace(tags=tuple(dict.fromkeys(found.labels + item.tags)))
        entries.append(atom.Entry(item, found.arrived, page.sources[found.feed]))
    # The same on every page, and whatever name this box was asked for by (RFC 4151).
    same = {name: text for name, text in request.query.items() if name not in ("before", "limit")}
    id = "tag:%s,2026:%s" % (context.lab.domain, _url(request, "", same))
    further = _url(request, origin, page.next) if page.next else ""
    return web.Response(200, atom.render(_heading(request, origin, context), entries, id, further), atom.CONTENT_TYPE)
