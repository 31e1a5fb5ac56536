from __future__ import annotations

import pytest

from penny.rss import schedule

NOW = 1_795_323_600.0  # Sunday, 2026-11-22 05:00 UTC
NEVER = ((), ())


@pytest.mark.parametrize("interval, wish, rest", [(3600, 0, 3600), (3600, 60, 3600), (3600, 7200, 7200), (3600, 1e12, 86400),
                                                    (1e6, 0, 1e6)])
def test_the_longest_of_the_owners_interval_and_the_publishers_wish(interval, wish, rest):
    assert schedule.after_success(NOW, interval, wish, NEVER, 0) == NOW + rest
    assert schedule.after_success(NOW, interval, wish, NEVER, 1) == pytest.approx(NOW + rest * 1.1)


def test_hours_and_days_that_the_publisher_skips():
    assert schedule.after_success(NOW, 3600, 0, ((6, 7), ()), 0) == NOW + 3 * 3600
    assert schedule.after_success(NOW, 3600, 0, ((), (6,)), 0) == NOW + 19 * 3600
    assert schedule.after_success(NOW, 3600, 0, (range(24), ()), 0) <= NOW + 7.1 * 86400


def test_a_feed_that_fails_is_asked_less_and_less_often_but_never_given_up():
    rests = [schedule.after_failure(0, 300, failures, 0) for failures in range(1, 60)]
    assert rests[:4] == [300, 600, 1200, 2400]
    assert rests == sorted(rests) and rests[-1] == schedule.LONGEST_REST


@pytest.mark.parametrize("headers, seconds", [
    ({}, 0), ({"cache-control": "public, max-age=1800"}, 1800), ({"cache-control": "no-cache, max-age=1800"}, 0),
    ({"cache-control": 'Max-Age = "60"'}, 60), ({"cache-control": "max-age=soon"}, 0), ({"cache-control": "max-age=-5"}, 0),
    ({"expires": "Sun, 22 Nov 2026 06:00:00 GMT"}, 3600), ({"expires": "0"}, 0), ({"expires": "-1"}, 0),
    ({"expires": "Sun, 22 Nov 2026 04:00:00 GMT"}, 0),
    ({"expires": "Fri, 22 Nov 2019 06:00:00 GMT", "date": "Fri, 22 Nov 2019 05:30:00 GMT"}, 1800),
    ({"cache-control": "max-age=60", "expires": "Sun, 22 Nov 2026 06:00:00 GMT"}, 60),
])
def test_how_long_an_answer_stays_fresh(headers, seconds):
    assert schedule.freshness(headers, NOW) == seconds


@pytest.mark.parametrize("value, seconds", [
    ("", 0), ("120", 120), ("Sun, 22 Nov 2026 05:10:00 GMT", 600), ("Sun, 22 Nov 2026 04:10:00 GMT", 0), ("soon", 0),
    ("-5", 0), ("9999999999", 7 * 86400), ("9" * 5000, 0), ("Sun, 22 Nov 2099 05:10:00 GMT", 7 * 86400),
])
def test_retry_after_in_both_forms(value, seconds):
    assert schedule.retry_after({"retry-after": value}, NOW) == seconds
