from __future__ import annotations

import time

import pytest

from penny.wire.feed_links import MAX_LINKS, Link, find_feeds

RSS = "application/rss+xml"


def page(*links, before=""):
    return ("<!doctype html><html><head>%s%s</head><body>" % (before, "".join(links))).encode()


@pytest.mark.parametrize("element, link", [
    ("<link rel='alternate' type='%s' title='News &amp; more' href='/feed'>" % RSS, Link("http://a.example/feed", "News & more")),
    ('<LINK TYPE="application/atom+xml" HREF="feed.atom" REL="home alternate"/>', Link("http://a.example/b/feed.atom", "")),
    ("<link rel=alternate type=application/feed+json href=//cdn.example/f.json>", Link("http://cdn.example/f.json", "")),
    ("<link rel=alternate type='%s; charset=utf-8' href='?a=1&amp;b=2'>" % RSS, Link("http://a.example/b/?a=1&b=2", "")),
])
def test_a_feed_that_a_page_names(element, link):
    assert find_feeds(page(element), "http://a.example/b/") == (link,)


@pytest.mark.parametrize("element", [
    "<link rel=stylesheet type='%s' href=/x>" % RSS, "<link rel=alternate type=text/html hreflang=de href=/de>",
    "<link rel=alternate type='%s' href='javascript:alert(1)'>" % RSS, "<link rel=alternate type='%s' href='file:///etc/x'>" % RSS,
    "<link rel=alternate type='%s'" % RSS, "<!-- <link rel=alternate type='%s' href=/x> -->" % RSS,
    "<script>'<link rel=alternate type=\"%s\" href=/x>'</script>" % RSS,
])
def test_what_is_no_feed(element):
    assert find_feeds(page(element), "http://a.example/") == ()


def test_each_address_once_and_no_more_than_so_many():
    links = ["<link rel=alternate type=%s href=/%d>" % (RSS, number // 2) for number in range(100)]
    found = find_feeds(page(*links), "http://a.example/")
    assert [link.url for link in found] == ["http://a.example/%d" % number for number in range(MAX_LINKS)]


def test_a_base_element_counts():
    found = find_feeds(page("<link rel=alternate type=%s href=f>" % RSS, before="<base href='/blog/'>"), "http://a.example/x")
    assert found == (Link("http://a.example/blog/f", ""),)


@pytest.mark.parametrize("piece", [b"<link ", b"<link rel=", b"<base ", b"<link rel='", b"<", b"<!--", b"\xff\x00"])
def test_hostile_pages_take_little_time(piece):
    started = time.process_time()
    find_feeds(piece * (1_000_000 // len(piece)), "http://a.example/")
    assert time.process_time() - started < 2
