"""Feeds in XML: what each fixture means, what is refused and why, every bound, and a thousand broken copies."""
from __future__ import annotations

import json
import random
import time
from pathlib import Path

import pytest

from penny.wire import feed, feed_xml
from penny.wire.feed import MalformedFeed, Notes, parse, plain, safe_url
from penny.wire.feed_json import render

FEEDS = Path(__file__).parent / "fixtures" / "feeds"
VALID = sorted(path for path in (FEEDS / "valid").iterdir() if path.suffix != ".json")
REPAIRED = sorted(path for path in (FEEDS / "repaired").iterdir() if path.suffix != ".json")
INVALID = sorted(path for path in (FEEDS / "invalid").iterdir() if path.suffix != ".reason")
ALL = VALID + REPAIRED + INVALID
SEED = 20261122
SCRAPS = [b"<", b">", b"&", b"]]>", b"<![CDATA[", b"&#x", b"\0", b"\xff", b"'", b"<item>", b"</item>", b"{", b"]", b'"',
          b"<!--", b"&nbsp;", b"<p>", b"</title>", b"<?", b"<!ENTITY a 'b'>", b"x:", b"&#55296;", b"\\ud800", b"9" * 40]


def rss(inside: str, attributes: str = "") -> bytes:
    return f'<rss version="2.0" {attributes}><channel><title>t</title>{inside}</channel></rss>'.encode()


def only_item(inside: str, attributes: str = ""):
    found = parse(rss(f"<item>{inside}</item>", attributes))
    assert len(found.items) == 1
    return found.items[0], found.notes


def test_there_are_fixtures():
    assert len(VALID) > 15 and len(REPAIRED) > 12 and len(INVALID) > 8


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.name)
def test_a_valid_feed_means_what_its_expectation_says(path):
    expected = json.loads(path.with_suffix(".json").read_text("utf-8"))
    assert render(parse(path.read_bytes())) == expected


@pytest.mark.parametrize("path", INVALID, ids=lambda path: path.name)
def test_an_invalid_document_is_refused_with_its_reason(path):
    with pytest.raises(MalformedFeed) as refusal:
        parse(path.read_bytes())
    assert str(refusal.value) == path.with_suffix(".reason").read_text().strip()


def mutated(original: bytes, chance: random.Random) -> bytes:
    data = bytearray(original)
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(data) + 1)
        kind = chance.randrange(4)
        if kind == 0:
            del data[at:at + chance.randint(1, 30)]
        elif kind == 1:
            data[at:at] = chance.choice(SCRAPS)
        elif kind == 2 and at < len(data):
            data[at] = chance.randrange(256)
        else:
            other = chance.randrange(len(data) + 1)
            data[at:at] = data[other:other + chance.randint(1, 60)]
    return bytes(data)


def check_mutations(path: Path, times: int) -> None:
    """Whatever is made of a fixture is read or refused in a line, soon, and can be written."""
    chance = random.Random(f"{SEED}/{path.name}")
    original = path.read_bytes() or b"<rss/>"
    for step in range(times):
        data = mutated(original, chance)
        started = time.process_time()
        try:
            json.dumps(render(parse(data)), ensure_ascii=False).encode()
        except MalformedFeed as refusal:
            assert str(refusal) and "\n" not in str(refusal)
        except Exception as error:
            raise AssertionError(f"seed {SEED}, {path.name}, step {step}: {data!r}") from error
        assert time.process_time() - started < 2, f"seed {SEED}, {path.name}, step {step}: {data!r}"


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.name)
def test_mutated_documents_are_read_or_refused(path):
    check_mutations(path, 200)


@pytest.mark.slow
@pytest.mark.parametrize("path", ALL, ids=lambda path: path.name)
def test_mutated_documents_are_read_or_refused_twenty_thousand_times(path):
    check_mutations(path, 20_000)


# Decoding ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("codec", ["utf-8", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "koi8-r", "cp1251",
                                   "iso8859-5", "gb18030", "big5", "euc-jp", "iso2022_jp", "cp037", "euc-kr"])
def test_a_declared_codec_is_believed(codec):
    word = {"big5": "\u6771\u4eac", "euc-jp": "\u6771\u4eac", "iso2022_jp": "\u6771\u4eac", "cp037": "caf\u00e9",
            "euc-kr": "\ud55c\uad6d"}.get(codec, "\u0434\u0435\u043d\u044c")
    document = f'<?xml version="1.0" encoding="{codec}"?><rss><channel><title>{word}</title></channel></rss>'
    assert parse(document.encode(codec)).title == word


def test_order_of_belief_is_mark_declaration_header_then_utf8():
    russian = "\u0434\u0435\u043d\u044c"
    bare = f"<rss><channel><title>{russian}</title></channel></rss>"
    declared = f'<?xml version="1.0" encoding="koi8-r"?>{bare}'
    assert parse(bare.encode("koi8-r"), "text/xml; charset=koi8-r").title == russian
    assert parse(declared.encode("koi8-r"), "text/xml; charset=cp1251").title == russian
    assert parse(b"\xef\xbb\xbf" + declared.encode(), "text/xml; charset=cp1251").title == russian
    assert parse(bare.encode(), "text/xml").title == russian


def test_utf7_and_codecs_that_are_no_character_sets_are_not_believed():
    for codec in ("utf-7", "unicode_escape", "punycode", "idna", "rot13", "bz2", "no-such-thing", "..", "undefined"):
        title = b"+ADw-b+AD4- \\x41"
        document = b'<?xml version="1.0" encoding="%s"?><rss><channel><title>%s</title></channel></rss>'
        assert parse(document % (codec.encode(), title)).title == title.decode(), codec
        assert parse(b"<rss><channel><title>%s</title></channel></rss>" % title, f"a/b; charset={codec}").title


# Bounds --------------------------------------------------------------------------------------------------------

def test_bound_on_items():
    found = parse(rss("<item><title>i</title></item>" * (feed.ITEMS + 1)))
    assert len(found.items) == feed.ITEMS and found.notes == ("only the first 5,000 items were kept",)
    assert parse(rss("<item><title>i</title></item>" * feed.ITEMS)).notes == ()


def test_bound_on_depth_within_content():
    deep = feed.DEPTH + 5
    item, notes = only_item("<description>" + "<b>" * deep + "x" + "</b>" * deep + "</description>")
    assert item.content_html == "<b>" * feed.DEPTH + "x" + "</b>" * feed.DEPTH
    assert notes == ("tags deeper than 256 within one another were left out",)


def test_bound_on_entered_elements():
    nested = "<items>" * 100_000 + "<link>http://deep.example/</link>" + "</items>" * 100_000
    assert parse(rss(nested + "<link>http://a.example/</link>")).home_page_url == "http://a.example/"


def test_bound_on_names():
    many = "".join(f"<x{number}/>" for number in range(feed_xml.NAMES + 10))
    assert parse(rss(many + "<link>http://a.example/</link>")).home_page_url == "http://a.example/"


def test_bound_on_attributes():
    many = " ".join(f'a{number}="1"' for number in range(feed.ATTRIBUTES + 1))
    item, notes = only_item(f"<description>x<b {many}>y</b></description>")
    assert item.content_html.count('="1"') == feed.ATTRIBUTES
    assert notes == ("no more than 64 attributes of an element were kept",)


def test_bound_on_text():
    item, notes = only_item("<description>" + "x" * (feed.TEXT + 1) + "</description>")
    assert len(item.content_html) == feed.TEXT and notes == ("a text was cut to 1,000,000 characters",)


def test_bound_on_titles_and_names():
    item, notes = only_item(f"<title>{'x' * (feed.TITLE + 1)}</title><author>{'y' * (feed.TITLE + 1)}</author>")
    assert len(item.title) == len(item.authors[0].name) == feed.TITLE
    assert set(notes) == {"a title was cut to 1,000 characters", "a name was cut to 1,000 characters"}


def test_bound_on_urls_and_ids():
    item, notes = only_item(f"<link>http://a.example/{'x' * feed.URL}</link><guid>{'g' * (feed.URL + 1)}</guid>")
    assert item.url == "" and len(item.id) == feed.URL
    assert set(notes) == {"URLs longer than 4096 characters were left out", "an id was cut to 4,096 characters"}


def test_bound_on_dates():
    item, notes = only_item(f"<pubDate>Thu, 01 Jan 1970 00:00:01 GMT{' ' * 99}A</pubDate>")
    assert item.date_published == 1 and notes == ("a date was cut to 64 characters",)


@pytest.mark.parametrize("field, one", [
    ("tags", "<category>%d</category>"), ("authors", "<author>a%d</author>"),
    ("attachments", '<enclosure url="http://a.example/%d"/>')])
def test_bound_on_lists(field, one):
    item, notes = only_item("".join(one % number for number in range(feed.LIST + 1)))
    assert len(getattr(item, field)) == feed.LIST
    assert notes == ("no more than 200 authors, tags or attachments of an item were kept",)


def test_bound_on_keywords():
    words = ",".join(map(str, range(feed.LIST)))
    spoken = f"<i:keywords>{words}</i:keywords><category>last</category>"
    item, notes = only_item(spoken, 'xmlns:i="http://www.itunes.com/dtds/podcast-1.0.dtd"')
    assert len(item.tags) == feed.LIST and "last" not in item.tags and len(notes) == 1


def test_bound_on_notes():
    notes = Notes()
    for number in range(feed.NOTES + 5):
        notes.add(f"note {number}")
        notes.add(f"note {number}")
    assert notes == [f"note {number}" for number in range(feed.NOTES)]


def test_bound_on_junk():
    document = b"<?xml version='1.0'?><rss><channel><title>t</title></channel></rss>"
    assert parse(b"x" * (feed.JUNK - 100) + document).title == "t"
    with pytest.raises(MalformedFeed):
        parse(b"x" * (feed.JUNK + 1) + document)


# Text ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("url, safe", [
    ("https://a.example/x y", "https://a.example/x y"), (" HTTP://A.example ", "HTTP://A.example"),
    ("a/b?c:d", "a/b?c:d"), ("mailto:a@b.example", "mailto:a@b.example"), ("", ""),
    ("http://a.example/\r\nx\u202e", "http://a.example/x"),
    ("javascript:alert(1)", ""), ("\x01java\nscript:x", ""), ("JaVaScRiPt :x", ""), ("javascript&colon;x", ""),
    ("&#106;avascript:x", ""), ("data:,x", ""), ("file:///etc/passwd", ""), ("vbscript:x", ""),
    ("ftp://a.example/", "")])
def test_only_harmless_schemes_are_kept(url, safe):
    assert safe_url(url) == safe


@pytest.mark.parametrize("text, clean", [
    ("  a \n b\t", "a b"), ("a<br>b<i>c</i>", "a bc"), ("<!-- <b> -->x<script>y</script>z<style>w", "xzw"),
    ("AT&amp;T &#8220;q&#8221;", "AT&T \u201cq\u201d"), ("1 < 2 > 0", "1 < 2 > 0"), ("a\u202eb\u2066c\u200bd", "abcd"),
    ("\u06cc\u200c\u062e", "\u06cc\u200c\u062e"), ("x\ud800y", "x\ufffdy"), ("&#" + "9" * 9_000 + ";", "\ufffd"),
    ("a\x00b\x1bc\x85d", "abc d"), ("<p>a</p><p>b</p>", "a b")])
def test_titles_are_plain_text(text, clean):
    assert plain(text) == clean


def test_a_malformed_declaration_is_not_needed():
    assert parse(b'<?xml version="1.0"\nencoding="utf 8"?>' + rss("")).title == "t"


def test_plain_text_takes_linear_time():
    started = time.process_time()
    for hostile in ("<!--", "<script>", "<a ", "<", "&#9", "&", "<p ", "\u200b ", "<style></"):
        plain(hostile * 50_000)
    for hostile in ("a@", "a@b (", "<a@b", "("):
        parse(rss(f"<item><author>{hostile.replace('<', '&lt;') * 50_000}</author></item>"))
    assert time.process_time() - started < 3


@pytest.mark.parametrize("text, name, url", [
    ("ada@a.example (Ada)", "Ada", "mailto:ada@a.example"),
    ("Ada &lt;ada@a.example&gt;", "Ada", "mailto:ada@a.example"),
    ("Ada (ada@a.example)", "Ada", "mailto:ada@a.example"), ("ada@a.example", "ada@a.example", "mailto:ada@a.example"),
    ("Ada @ home", "Ada @ home", ""), ("Ada", "Ada", "")])
def test_authors_in_one_line(text, name, url):
    item, _ = only_item(f"<author>{text}</author>")
    assert item.authors == (feed.Author(name, url),)


def test_ttl_is_in_seconds_and_at_most_a_year():
    assert parse(rss("<ttl> 90 </ttl>")).ttl == 5_400
    assert parse(rss("<ttl>999999999</ttl>")).ttl == 366 * 86_400
    assert parse(rss("<ttl>soon</ttl>")).ttl is parse(rss("<ttl>0</ttl>")).ttl is None


def test_a_default_attribute_of_a_document_type_is_ignored():
    declared = b'<!DOCTYPE rss [<!ATTLIST item xml:lang CDATA "%s">]>' % (b"x" * 1_000)
    assert parse(declared + rss("<item><title>i</title></item>")).items[0].language == ""


def test_unknown_elements_are_passed_over_at_any_depth():
    nested = "<other>" + "<deeper>x" * 50_000 + "</deeper>" * 50_000 + "</other>"
    found = parse(rss(nested + "<link>http://a.example/</link>"))
    assert found.home_page_url == "http://a.example/" and found.notes == ()


# What is read besides -------------------------------------------------------------------------------------------

SYNDICATION = 'xmlns:sy="http://purl.org/rss/1.0/modules/syndication/"'


@pytest.mark.parametrize("inside, seconds", [
    ("<sy:updatePeriod>hourly</sy:updatePeriod>", 3_600),
    ("<sy:updatePeriod> Daily </sy:updatePeriod><sy:updateFrequency>4</sy:updateFrequency>", 21_600),
    ("<sy:updatePeriod>weekly</sy:updatePeriod><sy:updateFrequency>0</sy:updateFrequency>", 604_800),
    ("<sy:updatePeriod>hourly</sy:updatePeriod><ttl>90</ttl>", 5_400),
    ("<sy:updatePeriod>daily</sy:updatePeriod><ttl>90</ttl>", 86_400),
    ("<sy:updatePeriod>sometimes</sy:updatePeriod>", None), ("<sy:updateFrequency>2</sy:updateFrequency>", None)])
def test_the_longest_rest_that_a_publisher_asks_for_counts(inside, seconds):
    assert parse(rss(inside, SYNDICATION)).ttl == seconds


def test_hours_and_days_to_skip():
    found = parse(rss("<skipHours><hour>24</hour><hour> 5 </hour><hour>25</hour><hour>x</hour></skipHours>"
                      "<skipDays><day>Sunday</day><day>monday</day><day>Someday</day></skipDays>"))
    assert found.skip_hours == (0, 5) and found.skip_days == (0, 6)


def test_an_item_within_another_or_within_the_unknown_is_an_item():
    inside = "<title>outer</title><x><item><title>inner</title></item></x><item/><link>http://a.example/</link>"
    found = parse(rss(f"<item>{inside}</item><y><z><entry><id>deep</id></entry></z></y>"))
    assert [item.id for item in found.items] == ["http://a.example/", "inner", "", "deep"]


def test_the_channel_definition_format():
    found = parse(b'''<CHANNEL HREF="http://cdf.example/" BASE="http://cdf.example/base/"><TITLE>C</TITLE>
        <ABSTRACT>about</ABSTRACT><ITEM HREF="one" LASTMOD="2004-01-02T03:04:05Z"><TITLE>I</TITLE>
        <ABSTRACT>short</ABSTRACT></ITEM></CHANNEL>''')
    assert (found.title, found.home_page_url, found.description) == ("C", "http://cdf.example/", "about")
    assert found.items[0][:2] == ("http://cdf.example/base/one", "http://cdf.example/base/one")
    assert found.items[0].date_modified == 1_073_012_645 and found.items[0].content_html == "short"


@pytest.mark.parametrize("damaged", ["\u00c3\u00a9t\u00c3\u00a9", "\u00e9t\u00e9"])
def test_text_that_was_encoded_twice_is_encoded_once(damaged):
    assert parse(rss(f"<item><title>{damaged}</title></item>")).items[0].title == "\u00e9t\u00e9"
    assert parse(rss("<title>&#226;&#128;&#166;</title>".join(["<item>", "</item>"]))).items[0].title == "\u2026"


@pytest.mark.parametrize("written", ["don\x92t", "don&#146;t", "don&#x92;t", "<![CDATA[don&#146;t]]>"])
def test_c1_controls_are_what_windows_has_there(written):
    assert parse(rss(f"<item><title>{written}</title></item>")).items[0].title == "don\u2019t"


@pytest.mark.parametrize("written, expected", [
    ("<comments>https://a.example/1#said</comments><slash:comments>7</slash:comments>",
     {"comments_url": "https://a.example/1#said", "comments": 7}),
    ("<slash:comments>0</slash:comments>", {"comments": 0}),
    ('<link rel="replies" href="https://a.example/1/said" thr:count="3"/>',
     {"comments_url": "https://a.example/1/said", "comments": 3}),
    ('<link rel="replies" type="application/atom+xml" href="https://a.example/1/said.xml" thr:count="3"/>', None),
    ("<thr:total>12</thr:total>", {"comments": 12}),
    ("<comments>javascript:alert(1)</comments><slash:comments>many</slash:comments>", None),
])
def test_where_an_item_is_discussed(written, expected):
    found = render(parse(b'<rss xmlns:slash="http://purl.org/rss/1.0/modules/slash/" '
                         b'xmlns:thr="http://purl.org/syndication/thread/1.0"><channel><item><title>T</title>%s</item>'
                         b"</channel></rss>" % written.encode()))
    assert found["items"][0].get("_penny") == expected


@pytest.mark.parametrize("ending", ["</channel></rss>", ""])
def test_a_mistyped_namespace_means_what_its_prefix_says(ending):
    found = render(parse(b'<rss xmlns:dc="http://dublincore.example/" xmlns:x="http://x.example/"><channel><item>'
                         b"<dc:creator>Ada</dc:creator><x:title>No</x:title></item>" + ending.encode()))
    assert found["items"] == [{"authors": [{"name": "Ada"}]}]
    # and only in that document
    again = render(parse(b'<rss xmlns:z="http://dublincore.example/"><channel><item><title>T</title>'
                         b"<z:creator>Ada</z:creator></item></channel></rss>"))
    assert again["items"] == [{"id": "T", "title": "T"}]


def test_the_page_is_the_link_that_says_it_is_one():
    found = parse(b'<feed xmlns="http://www.w3.org/2005/Atom"><entry><link href="http://a.example/atom"/><link rel="alternate"'
                  b' type="text/html" href="http://a.example/page"/></entry></feed>')
    assert found.items[0].url == "http://a.example/page"


def test_letters_of_windows_1252_among_utf8_are_read_and_cut_ones_are_not_guessed():
    found = parse("<rss><channel><item><title>Käse, Brötchen, Öl, Nüsse, ".encode() + b"caf\xe9 and \xe2\x80</title></item></channel></rss>")
    assert found.items[0].title == "Käse, Brötchen, Öl, Nüsse, café and \ufffd"
