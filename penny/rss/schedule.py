"""When a feed is asked next. Pure: what it answered and `now` in, a time out.

The manners of a good guest: never more often than the owner's interval, nor than the publisher asks (Cache-Control and
Expires, ttl, sy:updatePeriod, skipHours, skipDays, Retry-After); once a day where there is no validator, since each
request then costs the whole body; and ever later while it fails, but never given up. Times between boxes and in the
future are bounded: nobody's header puts a feed to sleep for a year.

Sources: RFC 9110 10.2.3 (Retry-After), RFC 9111 4.2.1 (freshness), the RSS 2.0 specification (skipHours, skipDays).
"""
from __future__ import annotations

import re
import time
from typing import Collection, Mapping

from penny.wire.feed_date import parse_date

HOUR, DAY = 3600.0, 86400.0
LONGEST_REST = 7 * DAY  # between two tries of a feed that fails
LONGEST_WISH = DAY  # that a publisher may ask for
RETRY = 300.0  # seconds until a host is tried again that gave no answer at all: most often the fault is on this side
WITHOUT_VALIDATOR = DAY  # between two requests to a feed that always sends its whole body


def after_success(now: float, interval: float, wish: float, skip: tuple[Collection[int], Collection[int]],
                  jitter: float) -> float:
    """After an answer: `wish` is the longest rest in seconds that the publisher asked for; `skip` the hours (UTC) and
    days (Monday is 0) in which it does not want to be asked. `jitter`, 0 to 1, spreads feeds that were added together
    by up to a tenth."""
    due = now + max(interval, min(wish, LONGEST_WISH)) * (1 + jitter / 10)
    hours, days = skip
    for _ in range(7 * 24):
        there = time.gmtime(due)
        if there.tm_hour not in hours and there.tm_wday not in days:
            return due
        due += HOUR - due % HOUR  # the next full hour
    return due  # it skips the whole week, which cannot be meant


def after_failure(now: float, rest: float, failures: int, jitter: float) -> float:
    """After the `failures`-th failure in a row: `rest` seconds at first, then twice as long each time."""
    return now + min(rest * 2.0 ** min(max(failures - 1, 0), 20), LONGEST_REST) * (1 + jitter / 10)


def freshness(headers: Mapping[str, str], now: float) -> float:
    """For how many seconds an answer says that it stays fresh: max-age, else Expires; 0 when it does not say."""
    directives = headers.get("cache-control", "").lower()
    if re.search(r"\bno-(?:cache|store)\b", directives):
        return 0.0
    match = re.search(r"\bmax-age\s*=\s*\"?(\d{1,10})", directives)
    if match:
        return float(match[1])
    expires = parse_date(headers.get("expires", ""))
    # Against the publisher's own clock: this box's may be wrong by years.
    return max(0.0, expires - (parse_date(headers.get("date", "")) or now)) if expires else 0.0


def retry_after(headers: Mapping[str, str], now: float) -> float:
    """How many seconds a Retry-After asks for, in both its forms; 0 when there is none. At most a week."""
    value = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,10}", value):
        return min(float(value), LONGEST_REST)
    moment = parse_date(value) if value else None
    return min(max(0.0, moment - (parse_date(headers.get("date", "")) or now)), LONGEST_REST) if moment else 0.0
