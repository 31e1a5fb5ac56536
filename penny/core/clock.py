"""Time as an argument: what reads a clock takes a Clock, what waits can be told to stop.

Wall time (`time`) is for dates, `monotonic` for intervals. `wait` is the only way to sleep: it ends early when `stop`
is set, so that nothing outlives SIGTERM. Tests turn a clock of their own with the same three methods.

PENNY_CLOCK=SCALE@REAL=SHOWN runs a real process in other time, for tests of several boxes: shown = SHOWN +
(now - REAL) x SCALE, all three in Unix seconds. Every process and every restart with the same value agrees. Socket
deadlines, kernel timestamps and ntp stay in real time.
"""
from __future__ import annotations

import math
import os
import select
import socket
import time


LONGEST_POLL = 1e9  # milliseconds; poll(2) takes an int
FIRST, LAST = -62_135_596_800, 253_402_300_799  # the seconds with which the year 1 begins and 9999 ends


class Stop:
    """A flag that can also wake a selector: once set, `fileno()` is readable, for every reader, for good.

    Built on a socket and poll(2), not on threading.Event: a signal handler that sets an Event may find its lock held by
    the very code that it interrupted.
    """

    def __init__(self) -> None:
        self._set = False
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)

    def set(self) -> None:
        """Set it; safe in a signal handler."""
        self._set = True
        try:
            self._writer.send(b"!")
        except OSError:
            pass  # full: it has been set before

    def is_set(self) -> bool:
        return self._set

    def wait(self, seconds: float) -> bool:
        """Sleep at most `seconds` of real time; returns whether it is set."""
        end = time.monotonic() + seconds
        poll = select.poll()
        poll.register(self._reader, select.POLLIN)
        while not self._set and end > time.monotonic():
            poll.poll(min(LONGEST_POLL, (end - time.monotonic()) * 1000))
        return self._set

    def fileno(self) -> int:
        return self._reader.fileno()

    def wakeup_fd(self) -> int:
        """For signal.set_wakeup_fd: a signal that another thread took wakes whoever waits on `fileno()` all the same."""
        return self._writer.fileno()

    def close(self) -> None:
        """Give its descriptors back, when nothing waits on it any more."""
        self._reader.close()
        self._writer.close()


class Clock:
    """The system's clocks, shown as `scale`, `real` and `shown` say (see PENNY_CLOCK above)."""

    def __init__(self, scale: float = 1.0, real: float = 0.0, shown: float = 0.0) -> None:
        self.scale, self.real, self.shown = scale, real, shown

    def time(self) -> float:
        """Seconds since 1970 (UTC)."""
        return self.shown + (time.time() - self.real) * self.scale

    def monotonic(self) -> float:
        """Seconds since some moment; never steps."""
        return time.monotonic() * self.scale

    def wait(self, seconds: float, stop: Stop) -> bool:
        """Wait until `seconds` have passed or `stop` is set; returns whether it is set."""
        return stop.wait(max(0.0, seconds) / self.scale)


def from_environment() -> Clock:
    """The clock that PENNY_CLOCK asks for; without it, the system's. Raises ValueError when it cannot be read."""
    text = os.environ.get("PENNY_CLOCK", "")
    if not text:
        return Clock()
    scale, _, rest = text.partition("@")
    real, _, shown = rest.partition("=")
    values = [float(part) for part in (scale, real, shown)]
    if not all(map(math.isfinite, values)) or values[0] <= 0 or max(map(abs, values)) > 1e12:
        raise ValueError("expected SCALE@REAL=SHOWN, the scale over 0, the others Unix seconds")
    return Clock(*values)


def rfc3339(seconds: float) -> str:
    """Unix seconds as '2026-11-22T05:00:00Z' (RFC 3339), which ends at the years 1 and 9999."""
    return "%04d-%02d-%02dT%02d:%02d:%02dZ" % time.gmtime(min(max(seconds, FIRST), LAST))[:6]


def rfc3339_or_none(seconds: float | None) -> str | None:
    return None if seconds is None else rfc3339(seconds)


def next_time_of_day(now: float, minutes: int) -> float:
    """The first moment after `now` that is so many minutes after midnight, local time."""
    return next(moment for moment in _times_of_day(now, minutes, (0, 1, 2)) if moment > now)


def last_time_of_day(now: float, minutes: int) -> float:
    """The latest such moment that is not after `now`."""
    return next(moment for moment in _times_of_day(now, minutes, (0, -1, -2)) if moment <= now)


def _times_of_day(now: float, minutes: int, days: tuple[int, ...]) -> list[float]:
    """mktime carries days over the end of a month, and minds the change to and from summer time."""
    year, month, day = time.localtime(now)[:3]
    return [_first(time.mktime((year, month, day + ahead, minutes // 60, minutes % 60, 0, 0, 0, -1))) for ahead in days]


def _first(moment: float) -> float:
    """Of a time of day that comes twice in a night, the first: mktime takes the one or the other as it pleases."""
    hour_before = moment - 3600
    return hour_before if time.localtime(hour_before)[3:5] == time.localtime(moment)[3:5] else moment
