"""Dates as feeds spell them, to Unix seconds.

RSS asks for RFC 822 with four-digit years (RFC 1123), Atom and JSON Feed for RFC 3339, Dublin Core for the W3C's
profile of ISO 8601; publishers write all of these, half of them wrongly. The two correct forms take a direct path,
everything else is taken apart word by word. A date without a zone is read as UTC. What names no year, month and
day (ISO 8601 may leave out the smaller ones) is no date: None, never a guess from the clock.

Not read on purpose: 03/04/2020, which is March here and April there, and the month names of other languages.
"""
from __future__ import annotations

import re
from datetime import date

LONGEST = 64   # characters that are looked at

_MONTHS = {name: number for number, name in enumerate(
    "jan feb mar apr may jun jul aug sep oct nov dec".split(), 1)}
_DAY = 86_400
_EPOCH = date(1970, 1, 1).toordinal()
# Hours from UTC. CST, IST, BST and AMT mean several things; RFC 822 settles the first, news from Britain the third.
_ZONES = {
    "nst": -3.5, "ndt": -2.5, "ast": -4, "adt": -3, "est": -5, "edt": -4, "cst": -6, "cdt": -5, "mst": -7, "mdt": -6,
    "pst": -8, "pdt": -7, "akst": -9, "akdt": -8, "hst": -10, "hdt": -9, "brt": -3, "art": -3, "clt": -4, "et": -5,
    "ct": -6, "mt": -7, "pt": -8, "wet": 0, "west": 1, "bst": 1, "ist": 5.5, "cet": 1, "cest": 2, "met": 1, "mest": 2,
    "mez": 1, "mesz": 2, "eet": 2, "eest": 3, "sast": 2, "msk": 3, "msd": 4, "trt": 3, "gst": 4, "pkt": 5, "wib": 7,
    "ict": 7, "hkt": 8, "sgt": 8, "awst": 8, "jst": 9, "kst": 9, "acst": 9.5, "acdt": 10.5, "aest": 10, "aedt": 11,
    "nzst": 12, "nzdt": 13,
}
_OFFSET = r"(?:([+-])(\d{1,2}):?(\d{2}|(?<=[+-]0\d)\d)?)"   # "-040" lacks a digit of its minutes
_RFC822 = re.compile(
    r"(?:[A-Za-z]{3},)?\s*(\d{1,2})\s+([A-Za-z]{3})\s+(\d{4})\s+(\d\d):(\d\d)(?::(\d\d))?\s+"
    r"(?:(?![AaPp][Mm]$)([A-Za-z]{1,5})|" + _OFFSET + r")$")
_RFC3339 = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d(?:\.\d+)?)(?:Z|([+-])(\d\d):(\d\d))$")
_ISO = re.compile(
    r"(\d{4})(?:-?W(\d\d)(?:-?([1-7]))?|-(\d{3})(?!\d)|(\d{3})(?!\d)|([-/]?)(\d\d?)(?:\6(\d\d?))?)?"
    r"(?:[Tt ]\s*(\d\d?)(?::?(\d\d?)(?::?\s?(\d\d?)(?:[.,](\d+))?)?)?)?\s*(.*)$", re.S)
_TIME = re.compile(r"\b(\d{1,2})[:.](\d{1,2})(?:[:.](\d{1,2})(?:[.,]\d+)?)?\s*(?:([ap])\.?m\b\.?)?", re.I)
_HOUR = re.compile(r"\b(\d{1,2})\s*([ap])\.?m\b\.?", re.I)
_NAMED_OFFSET = re.compile(r"(?:GMT|UTC?|Z)?\s*" + _OFFSET + r"(?![\d/-])", re.I)
_WORDS = re.compile(r"[A-Za-z]+|\d+")


def parse_date(text: str) -> float | None:
    """Seconds since 1970 in UTC, or None if `text` is no date. Only the first LONGEST characters are read."""
    text = text[:LONGEST].strip()
    try:
        found = _RFC822.match(text)
        if found:
            day, month, year, hour, minute, second, zone, sign, hours, minutes = found.groups()
            offset = _ZONES.get(zone.lower(), 0) * 3600 if zone else _offset(sign, hours, minutes)
            month = _MONTHS[month.lower()]
            return _seconds(int(year), month, int(day), int(hour), int(minute), int(second or 0), offset)
        found = _RFC3339.match(text)
        if found:
            year, month, day, hour, minute, second, sign, hours, minutes = found.groups()
            return _seconds(int(year), int(month), int(day), int(hour), int(minute), float(second),
                            _offset(sign, hours, minutes))
        if not text.isascii():
            text = text.encode("ascii", "replace").decode("ascii")
        found = _ISO.match(text)
        if found:
            return _iso(found)
        return _loose(text)
    except (KeyError, ValueError, OverflowError):
        return None


def _seconds(year: int, month: int, day: int, hour: int, minute: int, second: float, offset: float) -> float:
    if hour > 24 or minute > 59 or second >= 61 or (hour == 24 and (minute or second)):
        raise ValueError("no such time of day")
    return float((date(year, month, day).toordinal() - _EPOCH) * _DAY + hour * 3600 + minute * 60 + second - offset)


def _offset(sign: str | None, hours: str | None, minutes: str | None) -> float:
    """Seconds east of Greenwich. Offsets beyond 15 hours do not exist, so they are read as none."""
    if not sign:
        return 0
    offset = int(hours) * 3600 + int(minutes or 0) * 60
    return 0 if offset > 15 * 3600 else -offset if sign == "-" else offset


def _zone(text: str) -> float:
    """The offset that is spelt in `text`, the rest of a date; an unknown name counts as UTC (RFC 2822 4.3)."""
    found = _NAMED_OFFSET.search(text)
    if found:
        return _offset(*found.groups())
    for word in _WORDS.findall(text):
        if word.lower() in _ZONES:
            return _ZONES[word.lower()] * 3600
    return 0


def _iso(found: re.Match) -> float | None:
    year, week, weekday, dashed, ordinal, _, month, day, hour, minute, second, fraction, rest = found.groups()
    if hour is None and rest and not re.match(r"(?i)(z|utc|gmt)?$", rest):
        return _loose(found.string)   # "2004 Jan 1"
    clock = (int(hour or 0), int(minute or 0), int(second or 0) + (float("." + fraction) if fraction else 0),
             _zone(rest) if rest else 0)
    start = date(int(year), 1, 1).toordinal()
    if week:
        # ISO 8601: week 1 is the one that holds 4 January.
        monday = date(int(year), 1, 4).toordinal() - date(int(year), 1, 4).weekday()
        when = date.fromordinal(monday + 7 * (int(week) - 1) + int(weekday or 1) - 1)
        return _seconds(when.year, when.month, when.day, *clock)
    if dashed or ordinal:
        when = date.fromordinal(start + int(dashed or ordinal) - 1)
        if when.year != int(year):
            return None
        return _seconds(when.year, when.month, when.day, *clock)
    return _seconds(int(year), int(month or 1), int(day or 1), *clock)


def _loose(text: str) -> float | None:
    """Day, month name, year and time in whatever order: "Jan 5, 2004 7:48 PM EST", asctime, "5-Jan-04"."""
    hour = minute = second = 0
    rest = text
    clock = _TIME.search(text) or _HOUR.search(text)
    if clock:
        parts = clock.groups()
        hour = int(parts[0])
        minute, second = (int(parts[1]), int(parts[2] or 0)) if len(parts) == 4 else (0, 0)
        half = (parts[-1] or "").lower()
        if half and hour <= 12:
            hour = hour % 12 + (12 if half == "p" else 0)
        tail = text[clock.end():]
        rest = text[:clock.start()] + " " + _NAMED_OFFSET.sub(" ", tail, 1)
        offset = _zone(tail)
    else:
        offset = 0
    month, numbers = 0, []
    for word in _WORDS.findall(rest):
        if word[0].isdigit():
            numbers.append(word)
        elif not month and len(word) >= 3:
            month = _MONTHS.get(word[:3].lower(), 0)
    if not month or len(numbers) < 2:
        return None
    day, year = numbers[:2]
    if len(day) > 2:
        day, year = year, day
    return _seconds(_year(year), month, int(day), hour, minute, second, offset)


def _year(digits: str) -> int:
    """The year that RFC 2822 4.3 sees in two or three digits."""
    year = int(digits)
    if len(digits) == 2:
        return year + (2000 if year < 50 else 1900)
    return year + 1900 if len(digits) == 3 else year
