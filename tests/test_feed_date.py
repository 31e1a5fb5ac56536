"""Dates: each spelling that feeds use, what is no date, and the bound on what is read."""
from __future__ import annotations

import random
import time
from datetime import datetime, timezone

import pytest

from penny.wire import feed_date
from penny.wire.feed_date import parse_date

MEANT = "2004-01-01T19:48:21"   # what every spelling below stands for, unless it says otherwise

SPELLINGS = [
    # RFC 822 and 1123, and how they are broken
    ("Thu, 01 Jan 2004 19:48:21 GMT", MEANT),
    ("Thu, 01 Jan 2004 19:48:21 +0000", MEANT),
    ("Thu,  1 Jan 2004 19:48:21 UT", MEANT),
    ("01 Jan 2004 19:48:21 Z", MEANT),
    ("Thu, 1 Jan 2004 19:48 GMT", "2004-01-01T19:48:00"),
    ("Thu, 01 Jan 04 19:48:21 GMT", MEANT),
    ("Thu, 01 Jan 99 19:48:21 GMT", "1999-01-01T19:48:21"),
    ("Thu, 01 Jan 104 19:48:21 GMT", MEANT),
    ("Thu, 01 Jan 2004 14:48:21 EST", MEANT),
    ("Thu, 01 Jan 2004 11:48:21 PST", MEANT),
    ("Thu, 01 Jan 2004 20:48:21 CET", MEANT),
    ("Fri, 02 Jan 2004 04:48:21 JST", MEANT),
    ("Thu, 01 Jan 2004 14:48:21 -0500", MEANT),
    ("Thu, 01 Jan 2004 14:48:21 -0500 (EST)", MEANT),
    ("Thu, 01 Jan 2004 20:48:21 +01:00", MEANT),
    ("Thu, 01 Jan 2004 21:48:21 GMT+2", MEANT),
    ("Thu, 01 Jan 2004 21:48:21 UTC+0200", MEANT),
    ("Thu, 01 Jan 2004 19:48:21", MEANT),
    ("Thu, 01 Jan 2004 19:48:21 XYZ", MEANT),
    ("Thursday, 01 January 2004 19:48:21 GMT", MEANT),
    ("thu, 01 jan 2004 19:48:21 gmt", MEANT),
    ("Donnerstag, 01 Jan 2004 19:48:21 GMT", MEANT),
    ("Thu 01-Jan-2004 19:48:21 GMT", MEANT),
    ("Thu, Jan 01 2004 19:48:21 GMT", MEANT),
    ("Jan 1, 2004 7:48:21 PM", MEANT),
    ("January 1, 2004 7:48 pm EST", "2004-01-02T00:48:00"),
    ("1 Jan 2004 7pm", "2004-01-01T19:00:00"),
    ("1 Jan 2004 12:05 am", "2004-01-01T00:05:00"),
    ("Thu Jan  1 19:48:21 2004", MEANT),
    ("Thu Jan 01 14:48:21 -0500 2004", MEANT),
    ("Thu, 01 Jan 2004", "2004-01-01T00:00:00"),
    ("2004 Jan 1 19:48:21", MEANT),
    ("Thu, 2004 Jan 1 19:48:21", MEANT),
    ("Wed, 31 Dec 2003 24:00:00 GMT", "2004-01-01T00:00:00"),
    ("Sat, 31 Dec 2016 23:59:60 GMT", "2017-01-01T00:00:00"),
    ("  Thu,\n 01 Jan 2004\t19:48:21 GMT ", MEANT),
    # RFC 3339, W3C profile, ISO 8601
    ("2004-01-01T19:48:21Z", MEANT),
    ("2004-01-01t19:48:21z", MEANT),
    ("2004-01-01T14:48:21-05:00", MEANT),
    ("2004-01-01T20:48:21+0100", MEANT),
    ("2004-01-01T20:48:21+01", MEANT),
    ("2004-01-01T20:48:21 +01:00", MEANT),
    ("2004-01-01 19:48:21", MEANT),
    ("2004-01-01 14:48:21 EST", MEANT),
    ("2004-01-01 19:48:21 +0000 UTC", MEANT),
    ("2004/01/01 19:48:21", MEANT),
    ("2004-1-1T19:48:21Z", MEANT),
    ("2004-01-01T19:48:9Z", "2004-01-01T19:48:09"),
    ("2004-01-01T19:48Z", "2004-01-01T19:48:00"),
    ("2004-01-01T19Z", "2004-01-01T19:00:00"),
    ("2004-01-01", "2004-01-01T00:00:00"),
    ("2004-02", "2004-02-01T00:00:00"),
    ("2004", "2004-01-01T00:00:00"),
    ("20040101", "2004-01-01T00:00:00"),
    ("20040101T194821Z", MEANT),
    ("2004-060", "2004-02-29T00:00:00"),
    ("2004060", "2004-02-29T00:00:00"),
    ("2004-W01-4", "2004-01-01T00:00:00"),
    ("2004W01", "2003-12-29T00:00:00"),
    ("Sat, 26 Jul 2008 11:37 -040", "2008-07-26T15:37:00"),
    ("2006-07-11T14:51: 43Z", "2006-07-11T14:51:43"),
    ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00"),
    ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59"),
]


@pytest.mark.parametrize("text, meant", SPELLINGS)
def test_each_spelling_is_read(text, meant):
    assert parse_date(text) == datetime.fromisoformat(meant).replace(tzinfo=timezone.utc).timestamp()


@pytest.mark.parametrize("text", ["2004-01-01T19:48:21.25Z", "2004-01-01T19:48:21,25Z", "2004-01-01 19:48:21.25"])
def test_fractions_of_a_second_are_kept(text):
    assert parse_date(text) == 1072986501.25


@pytest.mark.parametrize("text", [
    "", " ", "yesterday", "-1", "0", "1e999", "NaN", "9" * 64, "2004-02-30", "2003-366", "2004-13-01", "2004-00-10",
    "0000-00-00T00:00:00Z", "2004-01-01T25:00:00Z", "2004-01-01T24:00:01Z", "2004-01-01T10:60:00Z",
    "Thu, 31 Sep 2004 10:00:00 GMT", "Mon, 99 Foo 99999 99:99:99 +9999", "Thu, 01 Jan 2004 99:00:00 GMT",
    "03/04/2020", "2020 is a year", "Jan", "10:00", "\u0661 Jan 2004", "2004-W54-1\ud800",
])
def test_what_is_no_date_is_none(text):
    assert parse_date(text) is None


def test_an_offset_that_no_place_has_is_ignored():
    assert parse_date("2004-01-01T00:00:00+99:00") == parse_date("2004-01-01T00:00:00Z")


def test_only_the_first_characters_are_read():
    date = "Thu, 01 Jan 2004 19:48:21 GMT"
    assert parse_date(date.rjust(feed_date.LONGEST)) == 1072986501
    assert parse_date(date.rjust(feed_date.LONGEST + 26)) is None
    started = time.process_time()
    for filler in "A 9:-+,.(":
        parse_date(date + filler * 200_000)
    assert time.process_time() - started < 0.5


def test_mutated_dates_are_dates_or_none():
    seed = 20260722
    chance = random.Random(seed)
    texts = [text for text, _ in SPELLINGS]
    for step in range(5_000):
        text = list(chance.choice(texts))
        for _ in range(chance.randint(1, 4)):
            start, end = chance.randrange(len(text)), chance.randrange(len(text) + 1)
            text[start:end] = chance.choice("0195 :-+.,WTZaP\xe9\0\ud800")
            text = text or ["x"]
        found = parse_date("".join(text))
        assert found is None or -62_135_700_000 < found < 253_402_400_000, (seed, step, text)
