"""The morning digest: what was collected, as a page, and as text for whoever prefers that."""
from __future__ import annotations

import argparse
import re
import sys
from types import SimpleNamespace

from penny.core import run, settings as conversion
from penny.core.errors import PennyError, UsageError
from penny.core.run import Context, option
from penny.digest import render
from penny.digest.desk import Desk

SETTINGS = {"closes": conversion.time_of_day, "items": conversion.count, "share": conversion.share}
OPTIONS = (
    option("--format", choices=sorted(render.FORMATS), default="text", help="text unless you say otherwise"),
    option("--day", metavar="YYYY-MM-DD", help="an earlier edition; today's unless you say otherwise"),
)


def once(settings: SimpleNamespace, context: Context, options: argparse.Namespace) -> int:
    """Print an edition."""
    desk = Desk(settings, context)
    desk.seal_due()
    if options.day is None:
        found = desk.today()
    elif not re.fullmatch(r"\d{4}-\d\d-\d\d", options.day):
        raise UsageError("--day %s: expected such as 2026-11-22" % options.day)
    else:
        found = desk.sealed(options.day) or desk.draft()
        if found.day != options.day:
            raise PennyError("there is no edition of %s; there are: %s"
                             % (options.day, ", ".join(desk.days()[:7] + [found.day + " (draft)"])))
    sys.stdout.write(render.FORMATS[options.format][0](found))
    return run.DONE


def serve(settings: SimpleNamespace, context: Context) -> None:
    """Serve today's edition and the earlier ones, and seal each at its time."""
    from penny.digest import site  # with http.server: 6 MB that the command does without
    site.serve(Desk(settings, context), context)
