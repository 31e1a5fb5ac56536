"""Collecting: ask every feed that is due, keep what it published, and remember how it went.

Feeds are fetched by a few threads, one connection to a host at a time; parsing and storing is done by the caller's
thread alone, so the store has one writer and memory holds one parsed feed. What a feed answered is kept in one
transaction, its items with its validators: killed at any moment, a feed is either kept whole or asked again.
"""
from __future__ import annotations

import queue
import random
import sqlite3
import threading
from typing import Callable, Iterable, NamedTuple
from urllib.parse import urlsplit

from penny.core import fetch
from penny.core.clock import Clock, Stop
from penny.stages import items
from penny.wire import feed as shape
from penny.wire import feed_json

DAY = 86400.0
LONGEST_REST = 7 * DAY  # a feed that fails is asked less and less often, but never given up
RETRY = 300.0  # seconds until a host is tried again that gave no answer at all: most often the fault is on this side
SMALL_BOX = 256 << 20  # bytes of memory
ROUND = 50  # unchanged feeds whose state is kept in one transaction
GAP = 0.5  # seconds between two requests to one host


class Options(NamedTuple):
    interval: float  # seconds that a feed is left alone after an answer
    private: bool  # whether private addresses may be asked
    keep: int  # items of a feed that are kept
    parallel: int  # feeds fetched at a time
    limits: fetch.Limits


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


def next_due(now: float, rest: float, failures: int, jitter: float) -> float:
    """When a feed is to be asked next: after `rest`, and after failures in a row twice as late for each but the first.
    `jitter`, 0 to 1, spreads feeds that were added together by up to a tenth."""
    return now + min(rest * 2.0 ** min(max(failures - 1, 0), 20), LONGEST_REST) * (1 + jitter / 10)


def by_host(feeds: Iterable[items.Feed]) -> list[list[items.Feed]]:
    """The feeds in groups of one host each: a group is asked one feed after the other."""
    groups: dict[str, list[items.Feed]] = {}
    for feed in feeds:
        try:
            host = urlsplit(feed.url).netloc.rpartition("@")[2].lower()
        except ValueError:
            host = feed.url  # fetching it says what is wrong with it
        groups.setdefault(host, []).append(feed)
    return list(groups.values())


def collect(db: sqlite3.Connection, feeds: list[items.Feed], options: Options, clock: Clock, stop: Stop,
            report: Callable[[Result], None]) -> None:
    """Ask all `feeds` and keep what they answer; `report` hears of each once it is kept. Ends early on `stop`.

    Raises store.StoreError when nothing can be kept any more; feeds not reported stay due.
    """
    groups: queue.SimpleQueue[list[items.Feed]] = queue.SimpleQueue()
    for group in by_host(feeds):
        groups.put(group)
    # One answer waits while another is kept: a slow disk must not let bodies pile up in memory.
    answers: queue.Queue[tuple[items.Feed, fetch.Reply | str] | None] = queue.Queue(1)
    quit = threading.Event()
    threads = [threading.Thread(target=_fetch_all, args=(groups, answers, options, stop, quit), name="fetch", daemon=True)
               for _ in range(min(options.parallel, groups.qsize()))]
    for thread in threads:
        thread.start()
    try:
        _keep_all(db, answers, len(threads), options, clock, stop, report)
    finally:
        quit.set()  # each thread ends after the feed at hand, at the latest when its deadline is over


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


def _hand_in(answer: tuple[items.Feed, fetch.Reply | str] | None, answers: queue.Queue, quit: threading.Event) -> None:
    """Put an answer into the queue, unless nobody reads it any more."""
    while not quit.is_set():
        try:
            return answers.put(answer, timeout=0.5)
        except queue.Full:
            pass


def _fetch_group(group: list[items.Feed], answers: queue.Queue, options: Options, stop: Stop,
                 quit: threading.Event) -> None:
    for number, feed in enumerate(group):
        if quit.is_set() or stop.is_set() or (number and stop.wait(GAP)):
            break
        answer: fetch.Reply | str
        try:
            answer = fetch.get(feed.url, etag=feed.etag, modified=feed.modified, private=options.private,
                               limits=options.limits)
        except fetch.FetchError as error:
            answer = error.reason
        _hand_in((feed, answer), answers, quit)


def _keep_all(db: sqlite3.Connection, answers: queue.Queue, threads: int, options: Options, clock: Clock, stop: Stop,
              report: Callable[[Result], None]) -> None:
    unchanged: list[Result] = []

    def flush() -> None:
        if unchanged:
            items.keep_unchanged(db, [(result.feed, result.outcome) for result in unchanged])
            for result in unchanged:
                report(result)
            unchanged.clear()
    while threads and not stop.is_set():
        try:
            answer = answers.get(timeout=0.2)
        except queue.Empty:
            flush()  # nothing else to do: what is known may as well be kept
            continue
        if answer is None:
            threads -= 1
            continue
        outcome, note = outcome_of(*answer, options, clock.time(), random.random())
        if outcome.items is None:
            unchanged.append(Result(answer[0], outcome, items.Counts(0, 0), note))
            if len(unchanged) >= ROUND:
                flush()
        else:
            report(Result(answer[0], outcome, items.keep(db, answer[0], outcome, options.keep), note))
    flush()


def outcome_of(feed: items.Feed, answer: fetch.Reply | str, options: Options, now: float,
               jitter: float) -> tuple[items.Outcome, str]:
    """What an answer (a reply, or the reason why there was none) means for its feed, and a note about its reading."""
    def failed(reason: str, rest: float) -> tuple[items.Outcome, str]:
        return items.Outcome(now, next_due(now, rest, feed.failures + 1, jitter), problem=reason), ""
    if isinstance(answer, str):
        return failed(answer, RETRY)
    if answer.status == 304:
        due = next_due(now, options.interval, 0, jitter)
        return items.Outcome(now, due, etag=feed.etag, modified=feed.modified), ""
    if answer.status != 200:
        return failed("answered with status %d" % answer.status, options.interval)
    try:
        parsed = shape.parse(answer.body, answer.headers.get("content-type", ""))
    except shape.MalformedFeed as error:
        return failed(str(error), options.interval)
    entries = [(feed_json.render_item(item), item.date_published or item.date_modified) for item in parsed.items]
    due = next_due(now, max(options.interval, min(parsed.ttl or 0, DAY)), 0, jitter)
    return items.Outcome(now, due, "", parsed.title, parsed.home_page_url, answer.headers.get("etag", ""),
                         answer.headers.get("last-modified", ""), entries), "; ".join(parsed.notes)


def say(result: Result) -> str:
    """The outcome of a feed, for a person."""
    name = result.outcome.title or result.feed.name
    if result.outcome.problem:
        return "%s: %s" % (name, result.outcome.problem)
    if result.outcome.items is None:
        return "%s: nothing new" % name
    told = "%s: %d new, %d updated" % (name, result.counts.new, result.counts.updated)
    return "%s (%s)" % (told, result.note) if result.note else told
