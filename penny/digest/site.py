"""The digest's pages, and the thread that seals each edition at its time."""
from __future__ import annotations

import re
from functools import partial

from penny.core import run, web
from penny.core.run import Context
from penny.digest import render
from penny.digest.desk import Desk
from penny.digest.edition import Edition

SOCKET = "8104/tcp"
RETRY = 60.0  # seconds until sealing is tried again after it failed, on a full disk say


def serve(desk: Desk, context: Context) -> None:
    """Answer until context.stop is set."""
    def listing(request: web.Request) -> web.Response:
        return web.html(render.listing(desk.days(), context.lab.name))

    def sealed(request: web.Request) -> web.Response:
        day = request.path.rpartition("/")[2]
        found = desk.sealed(day) if re.fullmatch(r"\d{4}-\d\d-\d\d", day) else None
        return _answer(request, found) if found else web.problem(404, "there is no edition of that day")

    with run.beside(partial(_seal_on_time, desk), context):
        web.serve([
            web.Route("/", lambda request: _answer(request, desk.today())),
            web.Route("/draft", lambda request: _answer(request, desk.draft())),
            web.Route("/editions", listing),
            web.Route("/editions/*", sealed),
        ], context, context.sockets[SOCKET], hosts=("." + context.lab.domain,))


def _seal_on_time(desk: Desk, context: Context) -> None:
    def seal() -> None:
        made = desk.seal_due()
        if made:
            context.log.info("the edition of %s is closed, with %d sections", made.day, len(made.sections))

    while not context.stop.is_set():
        reason = run.guarded(seal, context.log)
        if reason:
            context.log.error("cannot close the edition: %s", reason)
        # At least once an hour: a clock that was set may have jumped over the closing time.
        rest = RETRY if reason else min(3600.0, desk.next_closing() - context.clock.time())
        context.clock.wait(rest, context.stop)


def _answer(request: web.Request, found: Edition) -> web.Response:
    name = request.query.get("format", "html")
    if name not in render.FORMATS:
        return web.problem(400, "format is one of %s" % ", ".join(sorted(render.FORMATS)))
    write, kind = render.FORMATS[name]
    return web.Response(body=write(found).encode(), type=kind)
