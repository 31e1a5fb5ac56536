"""Atom: what RFC 4287 asks for, the way there and back, hostile words, and a peer that reads it."""
from __future__ import annotations

import json
import os
import random
import re
import subprocess
from xml.etree import ElementTree

import pytest

from penny.wire import feed
from penny.wire.atom import Entry, id_of, render
from penny.wire.feed import Attachment, Author, Feed, Item
from support import ROOT

NOW = 1_800_000_000.0
ID = "tag:lab.home.arpa,2026:kept"
KEPT = Feed("Kept & all", "http://box:8105/", "http://box:8105/atom.xml?q=a&b")
SOURCE = Feed("News \u6771\u4eac", "https://news.example/", "https://news.example/feed")
ITEM = Item(
    "https://news.example/1", "https://news.example/1?a=1&b=2", "https://other.example/",
    'One < two & "three" <b>',
    '<p>Fish &amp; chips & <a href="https://x.example/?a=1&amp;b">\U0001f41f</a></p>]]>', "", "A summary < 3 &amp; more",
    NOW - 60, NOW - 30, (Author("Ada", "https://ada.example/"), Author("Bob", "mailto:bob@b.example")), ("R&D", "two words"),
    (Attachment("https://news.example/1.mp3", "audio/mpeg", 'The "sound"', 1234),), language="de-AT")
NASTY = ["\0", "\x01", "\x08", "\x0b", "\x1f", "\x7f", "\x85", "\ud800", "\udfff", "\ufffe", "\uffff", "\U0010ffff", "<", ">",
         "&", '"', "'", "]]>", "<![CDATA[", "&amp;", "&#0;", "<!--", "<?x", "</entry>", "\r", "\n", "\t", " ", "a",
         "\u202e", "%"]


def name(element):
    return "{http://www.w3.org/2005/Atom}" + element


def check(document: bytes):
    """The root of a document that has what RFC 4287 asks for."""
    root = ElementTree.fromstring(document)
    for place in [root, *root.iter(name("entry")), *root.iter(name("source"))]:
        for needed in ("id", "title", "updated"):
            assert len(place.findall(name(needed))) == 1, (place.tag, needed)
        assert re.match(r"(https?|tag|urn):\S+\Z", place.findtext(name("id")))
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", place.findtext(name("updated")))
        rels = [link.get("rel") for link in place.findall(name("link"))]
        assert rels.count("alternate") <= 1
        if place.tag == name("entry"):
            assert rels.count("alternate") or place.find(name("content")) is not None
            assert any(one.find(name("author")) is not None for one in (place, *place.findall(name("source")), root))
    for element in root.iter():
        assert not re.search(r'[\x00-\x20\x7f<>"{}|\\^`]', element.get("href", ""))
    return root


def test_what_is_rendered_is_parsed_as_it_was():
    document = render(KEPT, [Entry(ITEM, NOW, SOURCE)], ID)
    assert check(document).findtext(".//{*}email") == "bob@b.example"
    parsed = feed.parse(document)
    assert parsed.items == (ITEM,)
    assert parsed[:3] == KEPT[:3] and parsed.authors == (Author(KEPT.title),) and not parsed.notes


def test_an_entry_without_an_author_is_its_source_s_not_ours():
    root = check(render(KEPT, [Entry(ITEM._replace(authors=()), NOW, SOURCE)], ID))
    source = root.find(name("entry")).find(name("source"))
    assert [child.text or child.get("href") for child in source.iter()] == [
        None, SOURCE.feed_url, SOURCE.title, "2027-01-15T07:59:30Z", SOURCE.home_page_url, SOURCE.feed_url, None, SOURCE.title]
    assert feed.parse(ElementTree.tostring(root)).items[0].authors == (Author(SOURCE.title),)


def test_an_item_that_says_next_to_nothing():
    root = check(render(Feed(), [Entry(Item(id="1"), NOW), Entry(Item(content_text="a < b"), NOW, SOURCE)], ID))
    bare, text = root.findall(name("entry"))
    assert bare.findtext(name("content")) == "" and bare.findtext(name("updated")) == "2027-01-15T08:00:00Z"
    assert text.find(name("content")).attrib == {} and text.findtext(name("content")) == "a < b"
    assert check(render(Feed(), [], ID)).findtext(name("updated")) == "1970-01-01T00:00:00Z"


@pytest.mark.parametrize("dates, updated", [
    ((NOW, NOW + 5), "2027-01-15T08:00:05Z"), ((NOW + 0.9, None), "2027-01-15T08:00:00Z"),
    ((None, None), "2027-01-15T08:00:07Z"),
    ((-62135596801.0, 1e300), "2027-01-15T08:00:07Z"), ((-1.5, None), "1969-12-31T23:59:58Z"),
    ((float("nan"), float("inf")), "2027-01-15T08:00:07Z"),
])
def test_the_best_date_that_can_be_written(dates, updated):
    item = Item(id="1", date_published=dates[0], date_modified=dates[1])
    assert check(render(Feed(), [Entry(item, NOW + 7)], ID)).find(name("entry")).findtext(name("updated")) == updated


def test_the_feed_is_as_new_as_its_newest_entry():
    entries = [Entry(Item(id=str(at), date_published=at), NOW) for at in (NOW - 9, NOW - 3, NOW - 5)]
    assert check(render(Feed(), entries, ID)).findtext(name("updated")) == "2027-01-15T07:59:57Z"


@pytest.mark.parametrize("id", ["https://a.example/1", "http://a.example/\u00e9", "tag:a.example,2020:1", "urn:uuid:1"])
def test_an_id_that_is_an_iri_stays(id):
    assert id_of(Item(id=id), "https://a.example/feed") == id


@pytest.mark.parametrize("id", ["", "1", "post:12", "http:a", "https://a b", "https://a.example/<1>", "a\ud800", "tag:"])
def test_another_id_is_made_one_that_is_always_the_same(id):
    made = id_of(Item(id=id), "https://a.example/feed")
    assert re.fullmatch("urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}", made)
    assert made == id_of(Item(id=id, title="Corrected"), "https://a.example/feed")
    assert made != id_of(Item(id=id), "https://b.example/feed")


def test_made_ids_never_change_between_versions():
    assert id_of(Item(id="1"), "https://a.example/feed") == "urn:uuid:939bb8cc-332b-84fa-8a47-d64f46ccaa36"


def test_the_next_page_and_languages():
    following = "http://box/?a&before=1"
    root = check(render(KEPT._replace(language="en"), [Entry(ITEM._replace(language='x" y="'), NOW)], ID, following))
    assert {link.get("rel"): link.get("href") for link in root.findall(name("link"))}["next"] == following
    language = "{http://www.w3.org/XML/1998/namespace}lang"
    assert root.get(language) == "en" and root.find(name("entry")).get(language) is None


def test_urls_become_iris():
    item = Item(id="1", url='https://a.example/a b"<c>{d}|e\\f^g`', authors=(Author("", "https://a.example/ x"),),
                attachments=(Attachment("https://a.example/\u00e9", "no type"),))
    entry = check(render(Feed(), [Entry(item, NOW)], ID)).find(name("entry"))
    links = [link.attrib for link in entry.findall(name("link"))]
    assert links == [{"rel": "alternate", "href": "https://a.example/a%20b%22%3Cc%3E%7Bd%7D%7Ce%5Cf%5Eg%60"},
                     {"rel": "enclosure", "href": "https://a.example/\u00e9"}]
    assert entry.find(name("author")).findtext(name("uri")) == "https://a.example/%20x"


def words(chance):
    return "".join(chance.choice(NASTY) for _ in range(chance.randint(0, 12)))


def cleaned(text):
    """What XML 1.0 can hold of a text."""
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return "".join(c for c in text if c in "\t\n\r" or " " <= c <= "\ufffd" or c > "\uffff")


def test_whatever_the_words_the_document_is_well_formed_and_says_them():
    seed = random.randrange(1 << 30)
    chance = random.Random(seed)
    for step in range(500):
        item = Item(*(words(chance) for _ in range(7)), None, None, (Author(words(chance), words(chance)),), (words(chance),),
                    (Attachment(words(chance), words(chance), words(chance), 1),), language=words(chance))
        source = Feed(*(words(chance) for _ in range(3)))
        try:
            entry = check(render(source, [Entry(item, NOW, source)], ID, words(chance))).find(name("entry"))
            assert entry.findtext(name("title")) == cleaned(item.title)
            assert entry.findtext(name("summary"), "") == cleaned(item.summary)
            content = item.content_html or item.content_text
            assert entry.findtext(name("content"), "") == cleaned(content)
            assert entry.find(name("author")).findtext(name("name")) == cleaned(item.authors[0].name or item.authors[0].url)
            assert entry.find(name("category")).get("term").split() == cleaned(item.tags[0]).split()
        except Exception as error:
            raise AssertionError("seed %d, step %d: %r" % (seed, step, item)) from error


FEEDS = sorted((ROOT / "tests" / "fixtures" / "feeds" / "valid").glob("*.[xr]*"))


def test_there_are_feeds():
    assert len(FEEDS) > 10


@pytest.mark.parametrize("path", FEEDS, ids=lambda path: path.name)
def test_real_feeds_there_and_back(path):
    parsed = feed.parse(path.read_bytes())
    parsed = parsed._replace(authors=parsed.authors or (Author(parsed.title),))
    again = feed.parse(render(parsed, [Entry(item, NOW) for item in parsed.items], ID))
    for old, new in zip(parsed.items, again.items):
        assert new == carried(old)
    assert len(again.items) == len(parsed.items) and again.title == parsed.title


def carried(item: Item) -> Item:
    """An item without what Atom has no place for, and as our parser reads what it has."""
    date = [at and at // 1 for at in (item.date_published, item.date_modified)]
    modified = date[1] or (NOW if date[0] is None else None)
    return item._replace(
        id=id_of(item, ""), url=item.url, content_text="" if item.content_html else item.content_text, image="",
        date_published=date[0], date_modified=modified,
        authors=tuple(author._replace(avatar="", name=author.name or author.url) for author in item.authors),
        attachments=tuple(one._replace(duration_in_seconds=None) for one in item.attachments))


READ = """
import feedparser, json, sys
parsed = feedparser.parse(sys.stdin.buffer.read())
print(json.dumps([bool(parsed.bozo), parsed.version, parsed.feed.title, parsed.feed.id,
                  [link.rel for link in parsed.feed.links],
                  [[e.id, e.title, e.link, e.updated, e.published, [t.term for t in e.tags], e.enclosures[0].length,
                    e.content[0].type, e.content[0].value, e.summary, [a.get("name") for a in e.authors], e.source.title]
                   for e in parsed.entries]]))
"""


@pytest.mark.slow
def test_feedparser_reads_the_same():
    python = os.environ.get("PENNY_FEEDPARSER_PYTHON")
    if not python:
        pytest.skip("PENNY_FEEDPARSER_PYTHON names no Python that has feedparser")
    entries = [Entry(ITEM._replace(content_html="<p>Fish &amp; chips</p>"), NOW, SOURCE)]
    document = render(KEPT, entries, ID, "http://box/next")
    ended = subprocess.run([python, "-c", READ], input=document, capture_output=True, check=True)
    bozo, version, title, id, rels, [entry] = json.loads(ended.stdout)
    assert (bozo, version, title, id, rels) == (False, "atom10", "Kept & all", ID, ["alternate", "self", "next"])
    assert entry == [ITEM.id, ITEM.title, ITEM.url, "2027-01-15T07:59:30Z", "2027-01-15T07:59:00Z", ["R&D", "two words"],
                     "1234", "text/html", "<p>Fish &amp; chips</p>", ITEM.summary, ["Ada", "Bob"], SOURCE.title]
