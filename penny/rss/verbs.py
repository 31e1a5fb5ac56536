"""What an owner does with the items that are kept: search them, give them stars, see what the rules find."""
from __future__ import annotations

import argparse
import json
import sys
import time
from sqlite3 import Connection
from types import SimpleNamespace
from typing import Iterator

from penny.core import run, settings as conversion
from penny.core.clock import rfc3339, rfc3339_or_none
from penny.core.errors import PennyError
from penny.core.run import Context
from penny.core.terminal import Progress, cut, screen_width, table
from penny.stages import items, rules, search

TITLES = 3  # of the newest items that a rule finds


def owners_rules(settings: SimpleNamespace) -> tuple[rules.Rule, ...]:
    return rules.listed(settings.drop, getattr(settings, "raise"), settings.tag)


def catch_up(db: Connection, context: Context) -> None:
    """Index what is not indexed yet."""
    progress = Progress(search.pending(db))
    try:
        search.index_new(db, context.stop, progress.step)
    finally:
        progress.clear()


def search_items(settings: SimpleNamespace, context: Context, options: argparse.Namespace) -> int:
    words = " ".join(options.words)
    code = run.FAULT
    for one, feed in _search(words, context, options):
        print(_as_json(one, feed, words) if options.json else _as_lines(one, feed, words))
        code = run.DONE
    if code == run.FAULT and not options.json:
        sys.stderr.write("penny: nothing was found\n")
    return code


def _search(words: str, context: Context, options: argparse.Namespace) -> Iterator[tuple[search.Found, items.Feed]]:
    """What is found, one by one: a person may ask for all that there is."""
    with items.opened(context.state_dir, context.log) as db:
        feeds = {feed.id: feed for feed in items.feeds(db)}
        wanted = search.Wanted(words, _number_of(feeds, options.feed), options.starred, options.tag, options.dropped,
                               most=options.most)
        catch_up(db, context)
        for one in search.find(db, wanted):
            if one.feed in feeds:  # else it was added since
                yield one, feeds[one.feed]


def _number_of(feeds: dict[int, items.Feed], url: str | None) -> int | None:
    known = {feed.url: number for number, feed in feeds.items()}
    if url is not None and url not in known:
        raise PennyError("cannot search %s: there is no such feed%s" % (url, conversion.nearest(url, known)))
    return known[url] if url is not None else None


def _as_json(found: search.Found, feed: items.Feed, words: str) -> str:
    return json.dumps({
        "number": found.id, "feed": feed.shown_url, "source": feed.name, "title": found.body.get("title", ""),
        "url": found.body.get("url", ""), "time": rfc3339(items.time_of(found.published, found.arrived)),
        "starred": rfc3339_or_none(found.starred), "mark": found.mark,
        "tags": found.labels, "story": found.story, "snippet": search.snippet(found.body, words, 300)}, ensure_ascii=False)


def _as_lines(found: search.Found, feed: items.Feed, words: str) -> str:
    """Two lines that fit the screen: number, star, date, source and title; and where the words stand."""
    width = screen_width()
    labels = list(found.labels) + (["dropped"] if found.mark < 0 else [])
    day = time.strftime("%Y-%m-%d", time.localtime(items.time_of(found.published, found.arrived)))
    head = "%6d%s %s %s: %s%s" % (found.id, "*" if found.starred is not None else " ", day, feed.name,
                                  "[%s] " % ", ".join(labels) if labels else "", found.body.get("title") or "(no title)")
    below = search.snippet(found.body, words, width - 8)
    return cut(head, width) + ("\n        " + below if below else "")


def star(settings: SimpleNamespace, context: Context, options: argparse.Namespace) -> int:
    with items.opened(context.state_dir, context.log) as db:
        items.star(db, options.numbers, context.clock.time())
    return run.DONE


def unstar(settings: SimpleNamespace, context: Context, options: argparse.Namespace) -> int:
    with items.opened(context.state_dir, context.log) as db:
        items.star(db, options.numbers, None)
    return run.DONE


def show_rules(settings: SimpleNamespace, context: Context, options: argparse.Namespace) -> int:
    """What each rule of the settings finds, whether it is in use yet or not: a trial of a rule costs nothing."""
    owners = owners_rules(settings)
    if not owners:
        print("There are no rules. They go into lab.ini under [service rss]: drop, raise and tag, see penny rss --help")
        return run.DONE
    rows = []
    with items.opened(context.state_dir, context.log) as db:
        catch_up(db, context)
        for rule in owners:
            wanted = search.Wanted('"%s"' % " ".join(rules.words_of(rule.phrase)), dropped=True, most=TITLES)
            titles = "; ".join(str(one.body.get("title", "")) for one in search.find(db, wanted))
            rows.append((("%s %s" % (rule.kind, rule.label)).strip(), rule.phrase, str(search.count(db, wanted)), titles))
        in_use = search.rules_in_use(db)
    sys.stdout.write(table(rows))
    if in_use != owners:
        print("These rules are not in use yet. Next: penny rss collect, or start the service again")
    return run.DONE
