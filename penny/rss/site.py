"""The collector's pages: every feed, what it answered last and when it is asked next; and what is kept, by its words."""
from __future__ import annotations

import threading
import time
from html import escape
from urllib.parse import urlencode

from penny.core import web
from penny.core.page import link, page
from penny.core.run import Context
from penny.rss import api
from penny.stages import items, search
from penny.stages.search import Found
from penny.wire import feed as shape

SOCKET = "8105/tcp"
SNIPPET = 240  # columns


def serve(context: Context) -> None:
    """Answer until context.stop is set."""
    turn = threading.Lock()

    def front(request: web.Request) -> web.Response:
        with items.opened(context.state_dir, context.log) as db:
            feeds = items.feeds(db)
        return web.html(page("Feeds", listing(feeds, context.clock.time())))

    def results(request: web.Request) -> web.Response:
        with turn:
            found = api.read(request, context)
            return found if isinstance(found, web.Response) else web.html(page("Search", found_items(found, request.query)))

    web.serve([web.Route("/", front), web.Route("/search", results), *api.routes(context, turn)],
              context, context.sockets[SOCKET], hosts=("." + context.lab.domain,))


def listing(feeds: list[items.Feed], now: float) -> str:
    """The feeds as HTML, those in trouble first."""
    failing = sum(bool(feed.problem) for feed in feeds)
    verdict = "%d of %d feeds cannot be reached" % (failing, len(feeds)) if failing else "%d feeds" % len(feeds)
    rows = []
    for feed in sorted(feeds, key=lambda feed: not feed.problem):
        state = '<span class="bad">%s</span>' % escape(feed.problem) if feed.problem else "up" if feed.checked else "new"
        rows.append('<tr><th scope="row">%s</th><td>%s</td><td>%s</td><td>%s</td></tr>' % (
            link(feed.shown_url, feed.name), state, moment(feed.succeeded), moment(max(feed.due, now))))
    return ("<header><h1>%s</h1></header>%s<table><tr><th>Feed<th>State<th>Last answer<th>Asked next</tr>%s</table>"
            '<footer>For programs: <a href="/v1/feeds">these feeds</a>, and <a href="/search">what is kept of them</a> as '
            '<a href="/v1/items">JSON Feed</a> and <a href="/atom.xml" rel="alternate" type="application/atom+xml">Atom</a>'
            "</footer>" % (verdict, search_form(""), "".join(rows)))


def search_form(words: str) -> str:
    return ('<form action="/search" role="search"><input type="search" name="q" size="40" value="%s" aria-label="Words"> '
            '<input type="submit" value="Search"></form>' % escape(words))


def found_items(found: api.Page, query: dict[str, str]) -> str:
    """A page of what was searched for as HTML. Titles, sources and texts are other people's words."""
    words = query.get("q", "")
    parts = ['<header><nav><a href="/">Feeds</a></nav><h1>%s</h1></header>' % escape(words or "What is kept"),
             search_form(words)]
    parts += [found_item(one, found.sources[one.feed], words) for one in found.found]
    parts += ['<p class="note">Nothing is kept that has these words.</p>'] if not found.found else []
    parts += ['<p><a href="/search?%s">Earlier</a></p>' % escape(urlencode(found.next))] if found.next else []
    same = escape(urlencode({name: text for name, text in query.items() if name != "before"}))
    parts.append('<footer>The same as <a href="/v1/items?%s">JSON Feed</a>, <a href="/atom.xml?%s">Atom</a></footer>'
                 % (same, same))
    return "\n".join(parts)


def found_item(found: Found, source: shape.Feed, words: str) -> str:
    item = api.item_of(found, source)
    snippet = search.snippet(found.body, words, SNIPPET)
    star = '<span class="mark">\N{BLACK STAR}</span> ' if found.starred is not None else ""
    at = items.time_of(found.published, found.arrived)
    return ('<article><h3>%s%s</h3><span class="soft">%s, <time>%s</time></span>%s</article>'
            % (star, link(item.url, item.title or snippet[:80] or "(no title)"), escape(source.title),
               time.strftime("%a %d %b %Y %H:%M", time.localtime(at)), "<p>%s</p>" % escape(snippet) if snippet else ""))


def moment(seconds: float | None) -> str:
    """A time for a person, local; "never" for None."""
    return time.strftime("%a %d %b %H:%M", time.localtime(seconds)) if seconds else "never"
