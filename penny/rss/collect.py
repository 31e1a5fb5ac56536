"""Collecting: ask every feed that is due, keep what it published, and remember how it went.

Feeds are fetched by a few threads, one connection to a host at a time; parsing and storing is done by the caller's
thread alone, so the store has one writer and memory holds one parsed feed. What a feed answered is kept in one
transaction, its items with its validators: killed at any moment, a feed is either kept whole or asked again.
"""
from __future__ import annotations

import json
import queue
import random
import sqlite3
import threading
from typing import Callable, Iterable, NamedTuple, Union
from urllib.parse import urlsplit

from penny.core import fetch
from penny.core.clock import Clock, Stop
from penny.rss import schedule
from penny.stages import items
from penny.wire import feed as shape
from penny.wire import feed_json

SMALL_BOX = 256 << 20  # bytes of memory
ROUND = 50  # feeds without news whose state is kept in one transaction: each one writes pages of a disk that may be flash
LONGEST_UNKEPT = 5.0  # seconds until it is kept at the latest, for the page that shows how the first round goes
GAP = 0.5  # seconds between two requests to one host


class Options(NamedTuple):
    interval: float  # seconds that a feed is left alone after an answer
    private: bool  # whether private addresses may be asked
    keep: int  # items of a feed that are kept
    parallel: int  # feeds fetched at a time
    limits: fetch.Limits
    contact: str = ""  # how a publisher reaches the owner
    age: int = 0  # days that items are kept; 0: for good


POSTPONED = "its host asks to be left alone"
BUSY = (429, 503)  # Too Many Requests, Service Unavailable: said by one page, meant by its host
PERMANENT = (301, 308)
Answer = Union[fetch.Reply, str]  # a reply, or the reason why there is none


class Result(NamedTuple):
    """What became of one feed in a round."""

    feed: items.Feed
    outcome: items.Outcome
    counts: items.Counts
    note: str  # what was cut or replaced while reading


def capacity(memory: int) -> tuple[int, fetch.Limits]:
    """How many feeds a box with so many bytes of memory fetches at a time, and what one may weigh."""
    if memory < SMALL_BOX:
        return 2, fetch.Limits(body=2 << 20, inflated=4 << 20)
    return 12, fetch.Limits()


def parse_meminfo(text: str) -> int:
    """MemTotal in bytes, from the text of /proc/meminfo; a large box where it does not say."""
    for line in text.splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return SMALL_BOX


def read_memory() -> int:
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            return parse_meminfo(file.read())
    except OSError:
        return SMALL_BOX


def by_host(feeds: Iterable[items.Feed]) -> list[list[items.Feed]]:
    """The feeds in groups of one host each: a group is asked one feed after the other."""
    groups: dict[str, list[items.Feed]] = {}
    for feed in feeds:
        groups.setdefault(host_of(feed.url), []).append(feed)
    return list(groups.values())


def host_of(url: str) -> str:
    """Host and port; for an address that cannot be read, the address: fetching it says what is wrong."""
    try:
        return urlsplit(url).netloc.rpartition("@")[2].lower()
    except ValueError:
        return url


def collect(db: sqlite3.Connection, feeds: list[items.Feed], options: Options, clock: Clock, stop: Stop,
            report: Callable[[Result], None]) -> None:
    """Ask all `feeds` and keep what they answer, then forget what is too old, whichever feed had it. `report` hears of each
    answer, of items once they are kept. Ends early on `stop`.

    Raises store.StoreError when nothing can be kept any more; feeds not reported stay due.
    """
    groups: queue.SimpleQueue[list[items.Feed]] = queue.SimpleQueue()
    for group in by_host(feeds):
        groups.put(group)
    # One answer waits while another is kept: a slow disk must not let bodies pile up in memory.
    answers: queue.Queue[tuple[items.Feed, Answer] | None] = queue.Queue(1)
    quit = threading.Event()
    threads = [threading.Thread(target=_fetch_all, args=(groups, answers, options, stop, quit), name="fetch", daemon=True)
               for _ in range(min(options.parallel, groups.qsize()))]
    for thread in threads:
        thread.start()
    try:
        _keep_all(db, answers, len(threads), options, clock, stop, report)
        while options.age and not stop.is_set() and items.forget_old(db, options.age):
            pass
    finally:
        quit.set()  # each thread ends after the feed at hand, at the latest when its deadline is over


def headers(options: Options) -> dict[str, str]:
    """What every request says of who asks."""
    return {"User-Agent": fetch.USER_AGENT + (" (+%s)" % options.contact if options.contact else "")}


def _fetch_all(groups: queue.SimpleQueue, answers: queue.Queue, options: Options, stop: Stop,
               quit: threading.Event) -> None:
    """A fetching thread: host after host, until there is none left. Ends with None in the queue, whatever happens."""
    try:
        while not quit.is_set():
            _fetch_group(groups.get_nowait(), answers, options, stop, quit)
    except queue.Empty:
        pass
    finally:
        _hand_in(None, answers, quit)


def _hand_in(answer: tuple[items.Feed, Answer] | None, answers: queue.Queue, quit: threading.Event) -> None:
    """Put an answer into the queue, unless nobody reads it any more."""
    while not quit.is_set():
        try:
            return answers.put(answer, timeout=0.5)
        except queue.Full:
            pass


def _fetch_group(group: list[items.Feed], answers: queue.Queue, options: Options, stop: Stop,
                 quit: threading.Event) -> None:
    answer: Answer = ""
    for number, feed in enumerate(group):
        if quit.is_set() or stop.is_set() or (number and answer != POSTPONED and stop.wait(GAP)):
            break
        if answer != POSTPONED:
            try:
                answer = fetch.get(feed.url, headers=headers(options), etag=feed.etag, modified=feed.modified,
                                   private=options.private, limits=options.limits)
            except fetch.FetchError as error:
                answer = error.reason
        _hand_in((feed, answer), answers, quit)
        if isinstance(answer, fetch.Reply) and answer.status in BUSY:
            answer = POSTPONED


def _keep_all(db: sqlite3.Connection, answers: queue.Queue, threads: int, options: Options, clock: Clock, stop: Stop,
              report: Callable[[Result], None]) -> None:
    unchanged: list[tuple[items.Feed, items.Outcome]] = []
    flushed = clock.monotonic()

    def flush() -> None:
        nonlocal flushed
        flushed = clock.monotonic()
        if unchanged:
            items.keep_unchanged(db, unchanged)
            unchanged.clear()
    while threads and not stop.is_set():
        if len(unchanged) >= ROUND or clock.monotonic() - flushed > LONGEST_UNKEPT:
            flush()
        try:
            answer = answers.get(timeout=0.2)
        except queue.Empty:
            continue
        if answer is None:
            threads -= 1
            continue
        feed, reply = answer
        if reply == POSTPONED:
            report(Result(feed, items.Outcome(clock.time(), feed.due, POSTPONED), items.Counts(0, 0), ""))
            continue
        outcome, note = outcome_of(feed, reply, options, clock.time(), random.random())
        if isinstance(reply, fetch.Reply) and reply.status in BUSY:
            same_host = [other for other in items.feeds(db) if host_of(other.url) == host_of(feed.url)]
            flush()  # a 304 of the same host must not be kept after this, with its earlier time
            items.postpone(db, same_host, outcome.due)
        if outcome.items is None:
            unchanged.append((feed, outcome))
            report(Result(feed, outcome, items.Counts(0, 0), note))
        else:
            report(Result(feed, outcome, items.keep(db, feed, outcome, options.keep), note))
    flush()


def outcome_of(feed: items.Feed, answer: Answer, options: Options, now: float, jitter: float) -> tuple[items.Outcome, str]:
    """What an answer means for its feed, and a note about how it was read."""
    if isinstance(answer, str):
        return _failed(feed, answer, schedule.RETRY, now, jitter), ""
    if answer.status == 304:
        wish = max(feed.wish, schedule.freshness(answer.headers, now))
        due = schedule.after_success(now, options.interval, wish, json.loads(feed.skip), jitter)
        return items.Outcome(now, due, etag=feed.etag, modified=feed.modified, wish=feed.wish, skip=feed.skip,
                             moved_to=moved_to(answer)), ""
    if answer.status == 410:
        gone = "is gone for good (status 410) and not asked any more: penny rss remove takes it off the list"
        return items.Outcome(now, now + schedule.LONGEST_REST, gone, parked=True), ""
    if answer.status != 200:
        rest = max(options.interval, schedule.retry_after(answer.headers, now))
        return _failed(feed, "answered with status %d" % answer.status, rest, now, jitter), ""
    try:
        parsed = shape.parse(answer.body, answer.headers.get("content-type", ""))
    except shape.MalformedFeed as error:
        return _failed(feed, str(error), options.interval, now, jitter), ""
    return _read(answer, parsed, options, now, jitter), "; ".join(parsed.notes)


def _failed(feed: items.Feed, reason: str, rest: float, now: float, jitter: float) -> items.Outcome:
    return items.Outcome(now, schedule.after_failure(now, rest, feed.failures + 1, jitter), problem=reason)


def _read(reply: fetch.Reply, parsed: shape.Feed, options: Options, now: float, jitter: float) -> items.Outcome:
    """The outcome of a feed that was sent whole."""
    etag, modified = reply.headers.get("etag", ""), reply.headers.get("last-modified", "")
    wish = max(parsed.ttl or 0, schedule.freshness(reply.headers, now))
    interval = options.interval if etag or modified else max(options.interval, schedule.WITHOUT_VALIDATOR)
    skip = (parsed.skip_hours, parsed.skip_days)
    # How many comments there are is old at once; kept, each new one would make the item an updated one.
    entries = [(feed_json.render_item(item._replace(comments=None)), item.date_published or item.date_modified)
               for item in parsed.items]
    return items.Outcome(now, schedule.after_success(now, interval, wish, skip, jitter), "", parsed.title,
                         parsed.home_page_url, etag, modified, entries, moved_to(reply), False, wish, json.dumps(skip))


def moved_to(reply: fetch.Reply) -> str:
    """Where a feed has moved for good: the end of the permanent redirects that stand at the beginning."""
    found = ""
    for status, url in reply.redirects:
        if status not in PERMANENT:
            break
        found = url
    return found


def say(result: Result) -> str:
    """The outcome of a feed, for a person."""
    name = result.outcome.title or result.feed.name
    if result.outcome.problem:
        return "%s: %s" % (name, result.outcome.problem)
    if result.outcome.items is None:
        return "%s: nothing new" % name
    told = "%s: %d new, %d updated" % (name, result.counts.new, result.counts.updated)
    return "%s (%s)" % (told, result.note) if result.note else told
