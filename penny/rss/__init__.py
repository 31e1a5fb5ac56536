"""The feed collector: reads RSS, Atom and JSON feeds, on each feed's own schedule, into the item store."""
from __future__ import annotations

import argparse
import json
import sys
from contextlib import contextmanager
from functools import partial
from io import BufferedReader
from sqlite3 import Connection
from types import SimpleNamespace
from typing import Iterator
from urllib.parse import urlsplit

from penny.core import fetch, files, run, settings as conversion
from penny.core.errors import PennyError, UsageError, one_line
from penny.core.run import Context, Verb, option
from penny.core.terminal import Progress, cut, table
from penny.rss import collect, schedule, verbs
from penny.stages import archive, items, rules, search
from penny.wire import feed as shape
from penny.wire import feed_json, feed_links, opml

STARTER = ("pipeline", "starter.opml")  # what a first run without any feed begins with
MAX_FILE = 64 << 20  # bytes of a file that is read whole
SHORTEST_INTERVAL = 60.0
LONGEST_NAP = 60.0  # seconds between two looks at what is due: feeds may be added meanwhile
INDEXING = 10.0  # seconds between two looks at most: after an upgrade the whole store is indexed anew


def private(value: str) -> bool:
    """Whether private addresses may be asked: allow or refuse."""
    if value not in ("allow", "refuse"):
        raise ValueError("allow or refuse")
    return value == "allow"


def interval(value: str) -> float:
    """Seconds; at least SHORTEST_INTERVAL, since a slip of the pen must not have the owner banned."""
    if conversion.duration(value) < SHORTEST_INTERVAL:
        raise ValueError("a duration of a minute or more, such as 1h")
    return conversion.duration(value)


def age(value: str) -> int:
    """Whole days, 0 for no limit."""
    days, rest = divmod(conversion.duration(value), schedule.DAY)
    if rest or days > items.LONGEST_AGE:
        raise ValueError("whole days, such as 90d, or 0 for no limit")
    return int(days)


SETTINGS = {"interval": interval, "private": private, "keep": conversion.count, "age": age,
            "drop": rules.phrases, "raise": rules.phrases, "tag": rules.tags}


def serve(settings: SimpleNamespace, context: Context) -> None:
    """Collect every feed on its own schedule, and show how that goes."""
    from penny.rss import site
    with items.opened(context.state_dir, context.log) as db:
        begin_with_starter(db, context)
        search.use_rules(db, verbs.owners_rules(settings))
    with run.beside(partial(_collect_for_ever, settings), context):
        site.serve(context)


def _collect_for_ever(settings: SimpleNamespace, context: Context) -> None:
    rest = 0.0

    def collect_due() -> None:
        nonlocal rest
        rest = _collect_due(settings, context)
    while not context.clock.wait(rest, context.stop):
        rest = LONGEST_NAP
        reason = run.guarded(collect_due, context.log)
        if reason:
            context.log.error("collecting stopped: %s", reason)


def _collect_due(settings: SimpleNamespace, context: Context) -> float:
    """Ask the feeds that are due; returns the seconds until it is worth looking again."""
    def report(result: collect.Result) -> None:
        kind = "failed" if result.outcome.problem else "unchanged" if result.outcome.items is None else "read"
        context.figures.count("rss_feeds", "Feeds asked, by how it went.", outcome=kind)
        context.figures.count("rss_items", "Items that were new.", result.counts.new)
        # A feed that goes on failing is said once; an unchanged one not at all.
        if result.counts != (0, 0) or (result.outcome.problem and result.outcome.problem != result.feed.problem):
            context.log.info("%s", collect.say(result))

    with items.opened(context.state_dir, context.log) as db:
        now = context.clock.time()
        # A due time further off than any rest was set by a clock that was wrong.
        due = [feed for feed in items.feeds(db)
               if not feed.parked and not now < feed.due <= now + 2 * schedule.LONGEST_REST]
        if due:
            collect.collect(db, due, collect_options(settings, context.lab), context.clock, context.stop, report)
        if search.is_due(db, now):
            end = context.clock.monotonic() + INDEXING
            search.index_new(db, context.stop, is_over=lambda: context.clock.monotonic() >= end)
            if search.is_due(db, now):
                return 0.0
        following = min((feed.due for feed in items.feeds(db) if not feed.parked), default=0.0)
    return min(LONGEST_NAP, max(1.0, following - context.clock.time()))


def collect_options(settings: SimpleNamespace, lab: conversion.Lab) -> collect.Options:
    parallel, limits = collect.capacity(collect.read_memory())
    return collect.Options(settings.interval, settings.private, settings.keep, parallel, limits, lab.contact,
                           settings.age)


def begin_with_starter(db: Connection, context: Context) -> None:
    """A store that never had a feed begins with the shipped ones."""
    if items.is_untouched(db):
        found = opml.parse(files.read_shipped(*STARTER))
        items.add_feeds(db, [(one.url, one.title) for one in found], context.clock.time())
        context.log.info("begun with %d feeds that come with penny; see penny rss list, add and remove", len(found))


# Verbs

def collect_now(settings: SimpleNamespace, context: Context, options: argparse.Namespace) -> int:
    with items.opened(context.state_dir, context.log) as db:
        begin_with_starter(db, context)
        feeds = items.feeds(db)
        results = _ask(db, feeds, settings, context, options.json)
    reached = any(not result.outcome.problem for result in results)
    return run.DONE if reached or not feeds else run.FAULT


def _ask(db: Connection, feeds: list[items.Feed], settings: SimpleNamespace, context: Context,
         as_json: bool) -> list[collect.Result]:
    """Ask these feeds now, and print what each answered."""
    run.stop_on_signals(context.stop)
    progress = Progress(len(feeds))
    results: list[collect.Result] = []

    def report(result: collect.Result) -> None:
        results.append(result._replace(outcome=result.outcome._replace(items=None)))  # not all bodies at once
        progress.clear()
        if as_json:
            print(json.dumps({"url": result.feed.url, "new": result.counts.new, "updated": result.counts.updated,
                              "error": result.outcome.problem or None}, ensure_ascii=False), flush=True)
        else:
            print(cut(collect.say(result), 300), flush=True)
        progress.step(result.feed.shown_url)
    try:
        collect.collect(db, feeds, collect_options(settings, context.lab), context.clock, context.stop, report)
    finally:
        progress.clear()
    search.use_rules(db, verbs.owners_rules(settings))
    verbs.catch_up(db, context)
    if context.stop.is_set():
        raise KeyboardInterrupt
    return results


def add(settings: SimpleNamespace, context: Context, options: argparse.Namespace) -> int:
    url = checked_url(options.url)
    with items.opened(context.state_dir, context.log) as db:
        problem = _add_and_ask(db, url, settings, context)
        named = named_feeds(url, settings, context) if problem == shape.HTML_PAGE else ()
        if named:
            items.remove_feeds(db, [url])
            url = named[0].url
            print("The page names its feed: %s" % url)
            for other in named[1:]:
                print("and another, to be added by: penny rss add %s   %s" % (other.url, other.title))
            problem = _add_and_ask(db, url, settings, context)
    if problem:
        print("It was added all the same, and will be asked again. To take it back: penny rss remove %s" % url)
    return run.DONE


def _add_and_ask(db: Connection, url: str, settings: SimpleNamespace, context: Context) -> str:
    """Returns the problem of the feed, "" when it answered well."""
    if not items.add_feeds(db, [(url, "")], context.clock.time()):
        raise PennyError("cannot add %s: it is there already" % url)
    mine = [feed for feed in items.feeds(db) if feed.url == url]
    return _ask(db, mine, settings, context, as_json=False)[0].outcome.problem


def named_feeds(url: str, settings: SimpleNamespace, context: Context) -> tuple[feed_links.Link, ...]:
    """The feeds that the HTML page at an address names."""
    options = collect_options(settings, context.lab)
    try:
        page = fetch.get(url, headers=collect.headers(options), private=options.private, limits=options.limits)
    except fetch.FetchError:
        return ()
    return feed_links.find_feeds(page.body, page.url)


def checked_url(typed: str) -> str:
    """A feed's address as the owner typed it; https where no scheme was. Raises UsageError."""
    url = typed.strip()
    url = url if "://" in url else "https://" + url
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and url.isprintable() and " " not in url
    except ValueError:
        good = False
    if not good:
        raise UsageError("cannot add %s: not an http or https address" % typed)
    return url


def remove(settings: SimpleNamespace, context: Context, options: argparse.Namespace) -> int:
    with items.opened(context.state_dir, context.log) as db:
        known = [feed.url for feed in items.feeds(db)]
        for url in options.urls:
            if url not in known:
                raise PennyError("cannot remove %s: there is no such feed%s" % (url, conversion.nearest(url, known)))
        items.remove_feeds(db, options.urls)
    return run.DONE


def list_feeds(settings: SimpleNamespace, context: Context, options: argparse.Namespace) -> int:
    with items.opened(context.state_dir, context.log) as db:
        feeds = items.feeds(db)
    if options.json:
        for feed in feeds:
            print(json.dumps(feed._asdict(), ensure_ascii=False))
    elif feeds:
        sys.stdout.write(table([(feed.url, feed.title or "-", feed.problem or ("up" if feed.checked else "new"))
                                for feed in feeds]))
    else:
        print("There are no feeds yet. Next: penny rss add URL, or penny rss collect to begin with those that penny ships")
    return run.DONE


def import_file(settings: SimpleNamespace, context: Context, options: argparse.Namespace) -> int:
    """An archive, told by its first bytes, or an OPML list."""
    with open_file(options.file) as file:
        begun = file.read(len(archive.START))  # all of it, where peek gives what a pipe has at this moment
        if begun == archive.START:
            with items.opened(context.state_dir, context.log) as db:
                counts = archive.read(db, file, context.clock.time(), Progress(0), begun)
            print("New feeds: %d, items: %d, stars: %d. Next: penny rss collect" % counts)
            return run.DONE
        listed = begun + files.read_at_most(file, MAX_FILE)
    try:
        found = opml.parse(listed)
    except shape.MalformedFeed as error:
        raise PennyError("cannot import %s: %s" % (options.file, error)) from None
    good, bad = [], []
    for one in found:
        try:
            good.append((checked_url(one.url), one.title))
        except UsageError as error:
            bad.append(str(error))
    with items.opened(context.state_dir, context.log) as db:
        new = items.add_feeds(db, good, context.clock.time())
    for reason in bad:
        context.log.warning("%s", reason)
    print("New feeds: %d, there already: %d. Next: penny rss collect" % (new, len(good) - new))
    return run.DONE


def export(settings: SimpleNamespace, context: Context, options: argparse.Namespace) -> int:
    with items.opened(context.state_dir, context.log) as db:
        if options.all:
            archive.write(db, sys.stdout.buffer, context.clock.time(), Progress(0))
            return run.DONE
        feeds = items.feeds(db)
    found = [opml.Subscription(feed.url, feed.title, feed.home_page_url, "") for feed in feeds]
    sys.stdout.write(opml.render(context.lab.name, found).decode())
    return run.DONE


def parse(settings: SimpleNamespace, context: Context, options: argparse.Namespace) -> int:
    if len(options.files) > 1 and not options.jsonl:
        raise UsageError("several files need --jsonl")
    code = run.DONE
    for name in options.files:
        try:
            parsed = shape.parse(read_file(name))
            found: dict = feed_json.render(made_safe(parsed) if options.safe else parsed)
        except (PennyError, shape.MalformedFeed) as error:
            found, code = {"error": str(error)}, run.FAULT
        text = json.dumps(found, ensure_ascii=options.jsonl, indent=None if options.jsonl else 1)  # for scripts: ASCII is faster
        sys.stdout.write(text.encode("utf-8", "replace").decode() + "\n")
    return code


def made_safe(feed: shape.Feed) -> shape.Feed:
    """A feed whose content may be shown inside a page; links in it are resolved against the item's own."""
    from penny.wire import html_safe  # tables and expressions that the resident service has no use for
    return feed._replace(items=tuple(
        item._replace(content_html=html_safe.sanitise(item.content_html, item.url or feed.home_page_url)) for item in feed.items))


def read_file(name: str) -> bytes:
    """The bytes of a file that the owner named. Raises PennyError."""
    with open_file(name) as file:
        return files.read_at_most(file, MAX_FILE)


@contextmanager
def open_file(name: str) -> Iterator[BufferedReader]:
    """A file that the owner named, '-' for standard input. Raises PennyError."""
    try:
        with open(0 if name == "-" else name, "rb", closefd=name != "-") as file:
            yield file
    except (OSError, ValueError) as error:
        raise PennyError("cannot read %s: %s" % (name, one_line(error))) from error


_NUMBERS = (option("numbers", metavar="N", nargs="+", type=conversion.count, help="as penny rss search shows them"),)
_JSON = option("--json", action="store_true", help="one JSON object a line, for scripts")
VERBS = {
    "add": Verb(add, (option("url", metavar="URL"),), "add a feed and ask it"),
    "remove": Verb(remove, (option("urls", metavar="URL", nargs="+"),), "remove feeds, and what they published"),
    "search": Verb(verbs.search_items, (
        option("words", metavar="WORD", nargs="*", help="all must be there; -WORD must not, WORD* begins so, '\"several words\"'"
               " is a phrase. Where one begins with -, options come first, then --, then all words: search -- linux -the"),
        option("--starred", action="store_true", help="only those that have a star"),
        option("--tag", metavar="TAG", default="", help="only those that a rule gave this tag"),
        option("--feed", metavar="URL", help="only those of this feed"),
        option("--dropped", action="store_true", help="also those that a rule dropped"),
        option("--most", metavar="N", type=conversion.count, default=50, help="at most so many, 50 unless you say otherwise"),
        _JSON), "find items by their words, newest first (exit code 1: there are none)"),
    "star": Verb(verbs.star, _NUMBERS, "give items a star: they are kept for good"),
    "unstar": Verb(verbs.unstar, _NUMBERS, "take their star away"),
    "rules": Verb(verbs.show_rules, (), "show what each rule of lab.ini finds among the items that are kept"),
    "list": Verb(list_feeds, (_JSON,), "list the feeds and how each fares"),
    "collect": Verb(collect_now, (_JSON,), "ask every feed now"),
    "import": Verb(import_file, (option("file", metavar="FILE"),),
                   "add the feeds of an OPML file, or all of an archive ('-': standard input)"),
    "export": Verb(export, (
        option("--all", action="store_true", help="everything that is kept, as an archive: it holds the feeds' passwords"),),
        "print the feeds as OPML"),
    "parse": Verb(parse, (
        option("--safe", action="store_true", help="with content that may be shown inside a page: nothing in it runs"),
        option("--jsonl", action="store_true", help="one feed a line, in order, {\"error\": ...} where one cannot be read"),
        option("files", metavar="FILE", nargs="+", help="'-' is standard input")), "print feeds as JSON Feed 1.1"),
}
