"""What is no XML: each repair and what is said of it, the bounds, and that no document takes longer than its length."""
from __future__ import annotations

import json
import time

import pytest

from penny.wire import feed, feed_fields, feed_repair, opml
from penny.wire.feed import MalformedFeed, Notes, parse
from penny.wire.feed_json import render
from penny.wire.feed_xml import Collector
from penny.wire.xml_text import decode
from test_feed_xml import REPAIRED, VALID, rss


def repaired(text: str):
    """The feed that the tolerant reader alone sees in `text`, as JSON."""
    notes = Notes()
    reader = feed_repair.read(text, Collector, notes)
    return reader and render(feed_fields.feed(reader.feed, reader.items, notes))


@pytest.mark.parametrize("path", REPAIRED, ids=lambda path: path.name)
def test_a_broken_feed_is_repaired_and_says_so(path):
    found = render(parse(path.read_bytes()))
    assert found == json.loads(path.with_suffix(".json").read_text("utf-8"))
    assert found["_penny"]["repaired"]


# External entities vanish in expat, which knows that they are; the tolerant reader shows what it does not know.
SOUND = [path for path in VALID if path.suffix == ".xml" and path.stem != "external_entity"]


@pytest.mark.parametrize("path", SOUND, ids=lambda path: path.name)
def test_the_tolerant_reader_sees_in_xml_what_expat_sees(path):
    expected = json.loads(path.with_suffix(".json").read_text("utf-8"))
    found = repaired(decode(path.read_bytes(), "", Notes()))
    assert {**found, "_penny": None} == {**expected, "_penny": None}


@pytest.mark.parametrize("cut", range(80, 420, 3))
def test_a_feed_cut_anywhere_keeps_the_items_before(cut):
    items = "".join(f"<item><guid>{number}</guid><title><![CDATA[T{number}]]></title></item>" for number in range(8))
    whole = rss(items)
    assert len(whole) > 420
    found = parse(whole[:cut])
    done = whole[:cut].count(b"</item>")
    assert [item.id for item in found.items[:done]] == [str(number) for number in range(done)]
    assert len(found.items) <= done + 1 and found.notes


@pytest.mark.parametrize("document", [
    b'<!DOCTYPE rss [<!ENTITY a "haha">]><rss><channel><title>&a;</channel>',
    b"<!DOCTYPE rss [<!ENTITY a '<b>'>]><html><rss><channel><title>&a;</title></channel></rss></html>",
    b"</x><!DOCTYPE rss [<!ENTITY % a 'x'>]><rss><channel></rss>",
])
def test_entities_of_its_own_are_refused_here_too(document):
    with pytest.raises(MalformedFeed, match="the document declares entities of its own"):
        parse(document)
    with pytest.raises(MalformedFeed, match="the document declares entities of its own"):
        repaired(document.decode())


def test_htmls_own_entities_may_be_declared_and_external_ones_are_never_read():
    declared = b'<!DOCTYPE rss [<!ENTITY nbsp "&#160;"><!ENTITY x SYSTEM "file:///etc/hostname">]>'
    found = parse(declared + b"<rss><channel><title>a&nbsp;b &x;</channel></rss>")
    assert found.title == "a b &x;"


def test_what_breaks_off_before_anything_can_be_kept_is_refused():
    with pytest.raises(MalformedFeed, match="line 2: no element found"):
        parse(b"<rss><channel><title>t</title>\n<item>")
    with pytest.raises(MalformedFeed, match="line 1: no element found"):
        opml.parse(b"<opml><body>")
    assert parse(b"<rss><channel><link>http://a.example/</link>").home_page_url == "http://a.example/"


@pytest.mark.parametrize("document", [
    b"<br><p>x", b"no markup & at all", b"<html><body><br></html>", b"<", b"<![CDATA["])
def test_what_holds_no_feed_is_refused(document):
    with pytest.raises(MalformedFeed):
        parse(document)


def test_bound_on_marks():
    one = "<b></b>"
    many = one * (feed_repair.MARKS // 2)
    found = repaired("<rss><channel><title>t</title>" + many + "<link>http://a.example/</link>")
    assert "only the first 250,000 tags were read" in found["_penny"]["repaired"]
    assert found["title"] == "t" and "home_page_url" not in found


def test_bound_on_open_elements():
    deep = feed_repair.OPEN + 5_000
    found = repaired("<rss><channel>" + "<b>" * deep + "</b>" * deep + "</channel></rss>")
    assert found["_penny"]["repaired"][0] == "tags deeper than 1,000 within one another were left out"
    found = repaired("<rss><channel><item><description>" + "<i>" * deep + "x</description><guid>1</guid></item></rss>")
    assert found["items"][0]["id"] == "1" and found["items"][0]["content_html"].count("<i>") == feed.DEPTH


def test_bound_on_prefixes():
    many = "".join(f'<x xmlns:p{number}="http://purl.org/dc/elements/1.1/">' for number in range(feed_repair.PREFIXES))
    found = repaired(f"<rss><channel>{many}<item><p1:title>known</p1:title></item>"
                     f"<item><p{feed_repair.PREFIXES - 1}:title>unknown</p{feed_repair.PREFIXES - 1}:title></item>")
    assert [item.get("title") for item in found["items"]] == ["known", None]


def test_bound_on_attributes():
    many = " ".join(f"a{number}=1" for number in range(feed_repair.ATTRIBUTES))
    assert repaired(f'<rss><channel><link {many} href="http://a.example/"/></channel></rss>').get("home_page_url") is None
    assert repaired(f'<rss><channel><link href="http://a.example/" {many}/>')["home_page_url"] == "http://a.example/"


HOSTILE = {
    "stray <": "<", "tags": "<a>", "ends": "</a>", "unclosed tags": "<a b='", "entities": "&nbsp;", "ampersands": "&",
    "comments": "<!--", "sections": "<![CDATA[", "sections that end": "<![CDATA[</a>", "declarations": "<!x [",
    "instructions": "<?", "attributes": " a=1", "attributes without value": " a", "quotes": '"', "spaces": " ",
    "digits": "9", "letters": "x", "namespaces": '<a xmlns:b="c">', "items": "<item>", "titles": "<title>",
    "breaks": "<title><br>", "prefixes": "<o:p/>", "control characters": "\x01", "crossing": "<b><i></b>",
    "references": "&#9;", "long references": "&#99999999999", "paragraphs": "<p>", "colons": ":",
}


@pytest.mark.parametrize("prolog", ["<rss><channel><item><description></x>", "<rss><channel></x>", "<rss </x><a "])
@pytest.mark.parametrize("kind", HOSTILE)
def test_time_is_linear(kind, prolog):
    def seconds(size):
        data = (prolog + HOSTILE[kind] * (size // len(HOSTILE[kind]))).encode()
        started = time.process_time()
        try:
            render(parse(data))
        except MalformedFeed:
            pass
        return time.process_time() - started
    assert seconds(40_000) < 0.25   # quadratic time would take seconds


@pytest.mark.parametrize("opening", ["<!--", "<![CDATA[", "<![CDATA[</x><!--"])
def test_an_end_that_is_nowhere_is_looked_for_once(opening):
    started = time.process_time()
    repaired("<rss><channel><title>" + opening * (400_000 // len(opening)))
    assert time.process_time() - started < 1.5


@pytest.mark.slow
@pytest.mark.parametrize("kind", HOSTILE)
def test_eight_megabytes_take_less_than_two_seconds(kind):
    for prolog in ("<rss><channel><item><description></x>", "<rss><channel></x>", "<rss </x><a "):
        data = (prolog + HOSTILE[kind] * ((8 << 20) // len(HOSTILE[kind]))).encode()
        started = time.process_time()
        try:
            render(parse(data))
        except MalformedFeed:
            pass
        assert time.process_time() - started < 2


def test_the_notes_are_sentences_and_each_comes_once():
    found = parse(b"<rss><channel><link>http://a.example/</link><o:p/><q:p/><title>&nbsp;&x; & </b></i>").notes
    assert len(found) == len(set(found)) <= feed.NOTES
    assert all(note == note.strip() and not note.endswith(".") for note in found)
