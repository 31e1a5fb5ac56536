from __future__ import annotations

import signal
import time

import pytest

from penny.core import clock as clocks
from penny.core.clock import Clock, Stop, last_time_of_day, next_time_of_day, rfc3339


@pytest.fixture
def berlin(timezone):
    timezone("CET-1CEST,M3.5.0,M10.5.0/3")


def local(text):
    return time.mktime(time.strptime(text, "%Y-%m-%d %H:%M"))


def test_stop_ends_a_wait_at_once_and_for_good():
    stop = Stop()
    assert not stop.wait(0.01)
    previous = signal.signal(signal.SIGALRM, lambda number, frame: stop.set())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        started = time.monotonic()
        assert stop.wait(20)
        assert time.monotonic() - started < 5
        assert stop.wait(20) and stop.is_set()
    finally:
        signal.signal(signal.SIGALRM, previous)


def test_setting_stop_very_often_does_not_block():
    stop = Stop()
    for _ in range(100_000):
        stop.set()
    assert stop.is_set()


def test_clocks_of_the_same_environment_agree(monkeypatch):
    monkeypatch.setenv("PENNY_CLOCK", "60@%f=1000000000" % (time.time() - 10))
    one, other = clocks.from_environment(), clocks.from_environment()
    assert abs(one.time() - other.time()) < 60
    assert 1_000_000_600 <= one.time() < 1_000_001_000
    started = time.monotonic()
    assert not one.wait(30, Stop())
    assert 0.4 < time.monotonic() - started < 5


@pytest.mark.parametrize("text", ["x", "0@1=2", "-1@1=2", "1@x=2", "1", "nan@0=0", "inf@0=0", "1@0=1e300"])
def test_a_clock_that_cannot_be_read(monkeypatch, text):
    monkeypatch.setenv("PENNY_CLOCK", text)
    with pytest.raises(ValueError):
        clocks.from_environment()


def test_no_variable_means_the_system_clock(monkeypatch):
    monkeypatch.delenv("PENNY_CLOCK", raising=False)
    assert abs(clocks.from_environment().time() - time.time()) < 1
    assert isinstance(clocks.from_environment(), Clock)


@pytest.mark.parametrize("now, last, following", [
    ("2026-11-22 04:59", "2026-11-21 05:00", "2026-11-22 05:00"),
    ("2026-11-22 05:00", "2026-11-22 05:00", "2026-11-23 05:00"),
    ("2026-12-31 23:00", "2026-12-31 05:00", "2027-01-01 05:00"),
    ("2026-03-28 12:00", "2026-03-28 05:00", "2026-03-29 05:00"),  # the night has 23 hours
    ("2026-10-24 12:00", "2026-10-24 05:00", "2026-10-25 05:00"),  # the night has 25 hours
    ("2024-02-28 06:00", "2024-02-28 05:00", "2024-02-29 05:00"),
])
def test_times_of_day(berlin, now, last, following):
    assert last_time_of_day(local(now), 300) == local(last)
    assert next_time_of_day(local(now), 300) == local(following)


def test_every_moment_of_two_years_lies_between_two_closings(berlin):
    now = local("2026-01-01 00:00")
    for _ in range(2 * 365 * 8):
        last, following = last_time_of_day(now, 150), next_time_of_day(now, 150)
        assert last <= now < following <= last + 25 * 3600 + 3600
        now += 3 * 3600 + 17


def test_rfc3339():
    assert rfc3339(0) == "1970-01-01T00:00:00Z"
    assert rfc3339(1795323600.9) == "2026-11-22T05:00:00Z"
    assert rfc3339(-62135596800) == rfc3339(-1e18) == "0001-01-01T00:00:00Z"
    assert rfc3339(253402300799) == rfc3339(1e12) == rfc3339(float("inf")) == "9999-12-31T23:59:59Z"


def test_a_wait_longer_than_poll_can_count():
    stop = Stop()
    previous = signal.signal(signal.SIGALRM, lambda number, frame: stop.set())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        assert stop.wait(30 * 86400.0)
    finally:
        signal.signal(signal.SIGALRM, previous)
