"""OPML: real-world spellings, folders, bounds, and the way there and back."""
from __future__ import annotations

import random

import pytest

from penny.wire.feed import TITLE, URL, MalformedFeed
from penny.wire.opml import FOLDERS, SUBSCRIPTIONS, Subscription, parse, render


def opml(body: str, version: str = "2.0") -> bytes:
    return f'<?xml version="1.0"?><opml version="{version}"><head/><body>{body}</body></opml>'.encode()


SHELF = (
    Subscription("https://a.example/rss", 'Ales & "stouts" <b>', "https://a.example/", "Drink"),
    Subscription("https://b.example/rss?x=1&y=2", "", "", "Drink"),
    Subscription("https://c.example/rss", "\u6771\u4eac", "", "Drink/Tea/Green"),
    Subscription("https://d.example/rss", "Loose"),
)


def test_what_is_rendered_is_parsed_as_it_was():
    data = render("Shelf & <co>", SHELF)
    assert parse(data) == SHELF
    assert b"<title>Shelf &amp; &lt;co&gt;</title>" in data and data.startswith(b"<?xml")
    assert parse(render("", ())) == ()


def test_subscriptions_of_one_folder_stand_together():
    apart = (SHELF[3], SHELF[0], Subscription("https://e.example/", "e", "", "Food"), SHELF[1])
    data = render("x", apart)
    assert data.count(b'text="Drink"') == 1
    assert sorted(parse(data)) == sorted(apart)


@pytest.mark.parametrize("outline, meant", [
    ('<outline type="rss" text="T" title="Title" xmlUrl="http://a.example/f" htmlUrl="http://a.example/"/>',
     Subscription("http://a.example/f", "Title", "http://a.example/")),
    ('<outline text="T" xmlurl="http://a.example/f"/>', Subscription("http://a.example/f", "T")),
    ('<outline TEXT="T" XMLURL=" http://a.example/f "/>', Subscription("http://a.example/f", "T")),
    ('<outline type="rss" text="T" url="http://a.example/f"/>', Subscription("http://a.example/f", "T")),
    ('<outline xmlUrl="feed://a.example/f"/>', Subscription("http://a.example/f")),
    ('<outline xmlUrl="feed:https://a.example/f"/>', Subscription("https://a.example/f")),
    ('<outline text="a&lt;i&gt;b&nbsp;c\u202e" xmlUrl="http://a.example/f"/>',
     Subscription("http://a.example/f", "a<i>b c")),
    ('<outline xmlUrl="http://a.example/f" htmlUrl="javascript:x"/>', Subscription("http://a.example/f")),
    ('<outline text="One"><outline text=""><outline text="Two"><outline xmlUrl="http://a.example/f"/>'
     "</outline></outline></outline>", Subscription("http://a.example/f", "", "", "One/Two")),
    ('<outline text="Before" /><outline text="T" xmlUrl="http://a.example/f"/>',
     Subscription("http://a.example/f", "T")),
    ('<OUTLINE text="T" xmlUrl="http://a.example/f?a=1&b=2"/>', Subscription("http://a.example/f?a=1&b=2", "T")),
])
def test_spellings(outline, meant):
    assert parse(opml(outline)) == (meant,)
    assert parse(opml(outline, "1.0")) == (meant,)


@pytest.mark.parametrize("outline", [
    '<outline text="note"/>', '<outline type="link" url="http://a.example/"/>', '<outline xmlUrl="javascript:x"/>',
    '<outline xmlUrl="mailto:a@b.example"/>', '<outline xmlUrl="relative"/>', '<outline xmlUrl=""/>',
    f'<outline xmlUrl="http://a.example/{"x" * URL}"/>', '<other xmlUrl="http://a.example/"/>'])
def test_what_is_no_subscription_is_passed_over(outline):
    assert parse(opml(outline)) == ()


def test_bound_on_subscriptions():
    one = '<outline xmlUrl="http://a.example/"/>'
    assert len(parse(opml(one * SUBSCRIPTIONS))) == SUBSCRIPTIONS
    with pytest.raises(MalformedFeed, match="more than 5,000 subscriptions"):
        parse(opml(one * (SUBSCRIPTIONS + 1)))


def test_bound_on_folders():
    deep = FOLDERS + 50_000
    nested = '<outline text="f">' * deep + '<outline xmlUrl="http://a.example/"/>' + "</outline>" * deep
    first, second = parse(opml(nested + '<outline text="g"><outline xmlUrl="http://b.example/"/></outline>'))
    assert first.folder == "/".join("f" * FOLDERS) and second.folder == "g"
    assert parse(render("x", (first._replace(folder=first.folder + "/f/f"),))) == (first,)


def test_bound_on_titles():
    assert len(parse(opml(f'<outline text="{"x" * (TITLE + 1)}" xmlUrl="http://a.example/"/>'))[0].title) == TITLE


@pytest.mark.parametrize("data, reason", [
    (b"", "line 1: no element found"),
    (b"<rss/>", "the document is <rss>, not an OPML list"),
    (b"<!doctype html><html><br></html>", "this is an HTML page, not a feed"),
    (b"<html><body/></html>", "the document is <html>, not an OPML list"),
    (b"<opm><body>\n<outline></body></opm>", "the document is <opm>, not an OPML list"),
    (b"<body>\n<outline></body>", "the document is <body>, not an OPML list"),
    (b"\n<outline", "line 2: unclosed token"),
    (b'<!DOCTYPE o [<!ENTITY a "aa">]><opml><body><outline text="&a;"/></body></opml>',
     "the document declares entities of its own, which are not expanded"),
])
def test_what_is_no_list_is_refused(data, reason):
    with pytest.raises(MalformedFeed) as refusal:
        parse(data)
    assert str(refusal.value) == reason


def test_what_is_no_xml_is_repaired():
    broken = opml('<outline text="A & B"><outline xmlUrl=http://a.example/?x&y></outline>')
    assert parse(broken[:-7]) == (Subscription("http://a.example/?x&y", "", "", "A & B"),)


def test_titles_that_xml_cannot_hold_are_cleaned():
    assert parse(render("\x00\ud800", (Subscription("http://a.example/", "a\x01\ud800\uffff", "", "f\x0c"),))) == (
        Subscription("http://a.example/", "a\ufffd", "", "f"),)


def test_mutated_lists_are_read_or_refused():
    seed = 1_999
    chance = random.Random(seed)
    original = render("x", SHELF)
    for step in range(500):
        data = bytearray(original)
        for _ in range(chance.randint(1, 5)):
            at = chance.randrange(len(data))
            data[at:at + chance.randint(0, 20)] = chance.choice(
                [b"", b"<", b'"', b"&", b"\xff", b"\0", b"<outline>", b"</outline>"])
        try:
            render("x", parse(bytes(data)))
        except MalformedFeed:
            continue
        except Exception as error:
            raise AssertionError(f"seed {seed}, step {step}: {bytes(data)!r}") from error
