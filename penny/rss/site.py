"""The collector's page: every feed, what it answered last, and when it is asked next."""
from __future__ import annotations

import time
from html import escape

from penny.core import web
from penny.core.page import link, page
from penny.core.run import Context
from penny.stages import items

SOCKET = "8105/tcp"


def serve(context: Context) -> None:
    """Answer until context.stop is set."""
    def front(request: web.Request) -> web.Response:
        with items.opened(context.state_dir, context.log) as db:
            feeds = items.feeds(db)
        return web.html(page("Feeds", listing(feeds, context.clock.time())))

    web.serve([web.Route("/", front)], context, context.sockets[SOCKET], hosts=("." + context.lab.domain,))


def listing(feeds: list[items.Feed], now: float) -> str:
    """The feeds as HTML, those in trouble first."""
    failing = sum(bool(feed.problem) for feed in feeds)
    verdict = "%d of %d feeds cannot be reached" % (failing, len(feeds)) if failing else "%d feeds" % len(feeds)
    rows = []
    for feed in sorted(feeds, key=lambda feed: not feed.problem):
        state = '<span class="bad">%s</span>' % escape(feed.problem) if feed.problem else "up" if feed.checked else "new"
        rows.append('<tr><th scope="row">%s</th><td>%s</td><td>%s</td><td>%s</td></tr>' % (
            link(feed.shown_url, feed.name), state, moment(feed.succeeded), moment(max(feed.due, now))))
    return ("<header><h1>%s</h1></header><table><tr><th>Feed<th>State<th>Last answer<th>Asked next</tr>%s</table>"
            % (verdict, "".join(rows)))


def moment(seconds: float | None) -> str:
    """A time for a person, local; "never" for None."""
    return time.strftime("%a %d %b %H:%M", time.localtime(seconds)) if seconds else "never"
