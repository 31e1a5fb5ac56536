"""What is kept, as other programs and people see it: through the real server, over a real store."""
from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from html.parser import HTMLParser
from urllib.parse import quote, urlsplit

import pytest

from penny.core.log import Log
from penny.rss import api, site
from penny.stages import items, search
from penny.stages.items import Outcome
from penny.stages.rules import listed
from penny.wire import feed
from support import ROOT, Publisher, context, free_port, get, rss, until
from test_atom import NASTY, check, words

NOW = 1_800_000_000.0
A, B = "https://ada:secret@a.example/feed", "http://b.example/feed"


class House:
    """The collector's site over a store of two feeds, without the collector."""

    def __init__(self, state_dir) -> None:
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(16)
        self.port = self.listener.getsockname()[1]
        ready = threading.Event()
        self.context = context(state_dir, sockets={site.SOCKET: [self.listener]}, ready=ready.set)
        with self.store() as db:
            items.add_feeds(db, [(A, "Ada's"), (B, "Bob's <b>")], NOW)
            search.use_rules(db, listed(["gossip"], ["pentium"], [("retro", ["pentium", "floppy"])]))
        self.thread = threading.Thread(target=site.serve, args=(self.context,))
        self.thread.start()
        assert ready.wait(5)

    def store(self):
        return items.opened(self.context.state_dir, Log("test"))

    def keep(self, number, *bodies, at=NOW) -> None:
        """Have a feed publish these, the newest first."""
        with self.store() as db:
            one = items.feeds(db)[number]
            home = "https://a.example/blog/" if number == 0 else ""
            items.keep(db, one, Outcome(at, at, home_page_url=home, items=[(body, NOW - 60) for body in bodies]), 10_000)
            search.index_new(db)

    def star(self, *numbers) -> None:
        with self.store() as db:
            items.star(db, numbers, NOW + 5)

    def get(self, path, **headers):
        return get(self.port, path, **headers)

    def json(self, path, status=200):
        found = self.get(path)
        assert found[0] == status, found
        return json.loads(found[2])

    def numbers(self, path) -> list[int]:
        return [item["_penny"]["number"] for item in self.json(path)["items"]]


@pytest.fixture
def house(tmp_path):
    found = House(tmp_path)
    yield found
    found.context.stop.set()
    found.thread.join(5)
    found.listener.close()
    assert not found.thread.is_alive()


def item(id, title="T", **more):
    return {"id": id, "title": title, "content_html": "<p>Words of %s.</p>" % id, **more}


def test_a_page_is_a_json_feed(house):
    house.keep(0, item("1", "A Pentium II", url="https://a.example/1", date_published="2027-01-15T07:59:00Z",
                       authors=[{"name": "Ada"}]))
    house.star(1)
    status, fields, body = house.get("/v1/items?q=pentium")
    assert (status, fields["content-type"]) == (200, "application/feed+json")
    origin = "http://127.0.0.1:%d" % house.port
    [one] = json.loads(body)["items"]
    assert re.match("urn:uuid:", one.pop("id"))
    assert json.loads(body) == {
        "version": "https://jsonfeed.org/version/1.1", "title": "home: pentium", "home_page_url": origin + "/",
        "feed_url": origin + "/v1/items?q=pentium", "items": [{**one, "id": json.loads(body)["items"][0]["id"]}]}
    assert one == {
        "url": "https://a.example/1", "title": "A Pentium II", "content_html": "<p>Words of 1.</p>",
        "authors": [{"name": "Ada"}], "date_published": "2027-01-15T07:59:00Z",
        "_penny": {"number": 1, "feed": 1, "source": "Ada's", "story": 1, "arrived": "2027-01-15T08:00:00Z",
                   "starred": "2027-01-15T08:00:05Z", "raised": True, "tags": ["retro"]}}
    assert feed.parse(body).items[0].title == "A Pentium II"
    assert house.json("/v1/items/1")["_penny"] == one["_penny"]


def test_what_can_be_asked_for(house):
    house.keep(0, item("4", "gossip"), item("3", "floppy"), item("2"), item("1"))
    house.keep(1, item("6", "floppy, too"), item("5", "last"))
    house.star(1, 5)
    assert house.numbers("/v1/items") == [6, 5, 3, 2, 1]  # without what a rule dropped
    assert house.numbers("/v1/items?q=&feed=&starred=&tag=&before=&limit=") == [6, 5, 3, 2, 1]
    assert house.numbers("/v1/items?q=floppy") == [6, 3] and house.numbers("/v1/items?q=floppy+-too") == [3]
    assert house.numbers("/v1/items?feed=2") == [6, 5] and house.numbers("/v1/items?feed=2&starred=1") == [5]
    assert house.numbers("/v1/items?starred=1") == [5, 1] and house.numbers("/v1/items?tag=retro") == [6, 3]
    assert house.numbers("/v1/items?before=5&limit=2") == [3, 2] and house.numbers("/v1/items?q=nowhere") == []
    assert house.json("/v1/items/4")["title"] == "gossip"


@pytest.mark.parametrize("path", ["/v1/items", "/atom.xml", "/search"])
def test_what_cannot(house, path):
    for query, status, error in REFUSED:
        assert house.json(path + "?" + query, status)["error"].startswith(error), query


@pytest.mark.parametrize("path", ["/v1/items", "/atom.xml", "/search"])
def test_a_page_is_read_from_one_search(house, path, monkeypatch):
    house.keep(0, *(item(str(number)) for number in range(60)))
    asked, find = [], search.find
    monkeypatch.setattr(search, "find", lambda db, wanted: asked.append(wanted) or find(db, wanted))
    assert house.get(path + "?q=words&limit=50")[0] == 200 and len(asked) == 1


def test_one_page_is_made_at_a_time(house, monkeypatch):
    house.keep(0, item("1"))
    making, most, read = [], [], api.read

    def slow(*arguments):
        making.append(None)
        most.append(len(making))
        time.sleep(0.02)
        making.pop()
        return read(*arguments)
    monkeypatch.setattr(api, "read", slow)
    threads = [threading.Thread(target=house.get, args=(path,)) for path in ("/v1/items", "/search", "/search", "/atom.xml")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 4


REFUSED = (
    ("limit=0", 400, "limit is a number from 1 to 200"), ("limit=201", 400, "limit is a number from 1 to 200"),
    ("limit=-1", 400, "limit is a whole number"), ("limit=x", 400, "limit is a whole number"),
    ("before=1.5", 400, "before is a whole number"),
    ("before=%s" % ("9" * 16), 400, "before is a whole number"), ("feed=x", 400, "feed is a whole number"),
    ("feed=%D9%A1", 400, "feed is a whole number"), ("feed=3", 404, "there is no feed 3"),
    ("starred=yes", 400, "starred is 1 or 0"),
    ("colour=red", 400, "there is no parameter colour, only q, feed, starred, tag, before, limit"),
)


def test_an_item_that_is_not_there(house):
    house.keep(0, item("1"))
    for number in ("0", "2", "1/1", "-1", "x", "1x", "%D9%A1", "999999999999999", "9" * 30, "1/2"):
        assert "there is no item" in house.json("/v1/items/" + number, 404)["error"], number


def pages(house, url):
    """All pages from this one on, by next_url."""
    while url:
        parts = urlsplit(url)
        found = house.json(parts.path + "?" + parts.query)
        yield found["items"]
        url = found.get("next_url", "")


def test_pages_lead_to_all_that_is_kept_once(house):
    house.keep(0, *(item(str(number)) for number in range(100)))
    for limit, lengths in ((40, [40, 40, 20]), (50, [50, 50]), (100, [100]), (99, [99, 1])):
        found = list(pages(house, "/v1/items?limit=%d&feed=1" % limit))
        assert list(map(len, found)) == lengths
        assert [one["_penny"]["number"] for page in found for one in page] == list(range(100, 0, -1))


def test_a_page_is_as_short_as_its_items_are_long(house, monkeypatch):
    monkeypatch.setattr(api, "ROOM", 1000)
    house.keep(0, *(item(str(number), content_text="x" * (2000 if number == 5 else 290)) for number in range(9)))
    found = list(pages(house, "/v1/items"))
    assert list(map(len, found)) == [3, 2, 1, 3]
    assert [one["_penny"]["number"] for page in found for one in page] == list(range(9, 0, -1))


def test_content_is_safe_and_links_lead_where_they_led(house):
    house.keep(0, item("1", '<script>"x"</script>', url="post/1", external_url="//c.example/x", image="javascript:x",
                       content_html="<script>alert(1)</script><a href=2 onclick=x>b</a><img src='javascript:x'>",
                       attachments=[{"url": "/sound.mp3", "mime_type": "audio/mpeg"}, {"url": "//[no"}]))
    [found] = house.json("/v1/items")["items"]
    assert found["content_html"] == '<a href="https://a.example/blog/post/2" rel="noopener noreferrer nofollow">b</a>'
    assert (found["url"], found["external_url"]) == ("https://a.example/blog/post/1", "https://c.example/x")
    assert [one.get("url") for one in found["attachments"]] == ["https://a.example/sound.mp3"] and "image" not in found
    page = house.get("/search")[2].decode()
    assert '<a href="https://a.example/blog/post/1" rel="noopener noreferrer">&lt;script&gt;&quot;x&quot;&lt;/script' in page
    assert "<script" not in page and "onclick" not in page


def test_every_item_has_content_and_an_id_of_its_own(house):
    house.keep(0, {"id": "1", "title": "Only a title"}, {"url": "https://a.example/2", "summary": "Sum."},
               {"content_text": "x < y"}, {"content_text": "z"})
    house.keep(1, {"id": "1", "content_html": "<script>x</script>"})
    found = house.json("/v1/items")["items"]
    assert [one.get("content_text") for one in found] == ["", "Only a title", "Sum.", "x < y", "z"]
    assert len({one["id"] for one in found}) == 5
    assert len(check(house.get("/atom.xml")[2]).findall("{*}entry")) == 5


def test_feeds(house):
    house.keep(0, item("1"))
    with house.store() as db:
        items.keep(db, items.feeds(db)[1], Outcome(NOW, NOW + 300, "connection refused"), 10)
    one, other = house.json("/v1/feeds")["feeds"]
    assert one == {"number": 1, "url": "https://a.example/feed", "title": "Ada's", "home_page_url": "https://a.example/blog/",
                   "added": "2027-01-15T08:00:00Z", "due": "2027-01-15T08:00:00Z", "checked": "2027-01-15T08:00:00Z",
                   "succeeded": "2027-01-15T08:00:00Z", "failing_since": None, "parked": None, "problem": "", "failures": 0}
    assert (other["problem"], other["failures"], other["failing_since"]) == ("connection refused", 1, "2027-01-15T08:00:00Z")


def test_no_answer_tells_a_password(house):
    house.keep(0, {"content_html": "<a href='x'>y</a>", "title": "No link"})
    with house.store() as db:
        db.execute("UPDATE feed SET title = '', home_page_url = '', moved_to = ? WHERE id = 1", (A,))
    for path in ("/", "/search", "/v1/items", "/v1/items/1", "/v1/feeds", "/atom.xml"):
        status, fields, body = house.get(path)
        assert status == 200 and b"a.example/feed" in body and b"secret" not in body and b"ada" not in body, path


@pytest.mark.parametrize("path", ["/v1/items", "/atom.xml", "/v1/items?q=words&limit=8"])
@pytest.mark.parametrize("coding", ["identity", "gzip"])
def test_who_asks_again_is_told_that_nothing_changed(house, path, coding):
    house.keep(0, *(item(str(number)) for number in range(9)))

    def ask(tag=""):
        status, fields, body = house.get(path, Accept_Encoding=coding, If_None_Match=tag)
        assert fields["vary"] == "Accept-Encoding" and (status == 200) == bool(body)
        assert (fields.get("content-encoding") == "gzip") == (status == 200 and coding == "gzip")
        return status, fields["etag"]
    status, tag = ask()
    assert status == 200 and ask(tag) == (304, tag) and ask('"x", W/%s' % tag) == (304, tag)
    house.keep(0, *(item(str(number)) for number in range(9)), at=NOW + 60)  # a round without news
    assert ask(tag) == (304, tag)
    for step in (lambda: house.star(9), lambda: house.keep(0, item("0", "Corrected")), lambda: house.keep(1, item("new"))):
        step()
        status, newer = ask(tag)
        assert status == 200 and newer != tag and ask(newer) == (304, newer)
        tag = newer


@pytest.mark.parametrize("coding", ["identity", "gzip"])
def test_nothing_is_rendered_for_who_has_it(house, monkeypatch, coding):
    house.keep(0, *(item(str(number)) for number in range(9)))
    tag = house.get("/v1/items", Accept_Encoding=coding)[1]["etag"]
    monkeypatch.setattr(api, "_json_item", None)
    assert house.get("/v1/items", Accept_Encoding=coding, If_None_Match=tag)[0] == 304
    assert house.get("/v1/items")[0] == 500


def test_atom(house):
    house.keep(0, item("2"), item("1", "A < pentium", url="https://a.example/1", tags=["x", "retro"]))
    status, fields, body = house.get("/atom.xml?q=pentium&limit=1")
    assert (status, fields["content-type"]) == (200, "application/atom+xml")
    root = check(body)
    assert root.findtext("{*}id") == "tag:lab.home.arpa,2026:/atom.xml?q=pentium"
    [one] = feed.parse(body).items
    assert (one.title, one.url, one.tags) == ("A < pentium", "https://a.example/1", ("retro", "x"))
    assert root.find("{*}entry/{*}source/{*}id").text == "https://a.example/feed"
    first = check(house.get("/atom.xml?limit=1")[2])
    following = urlsplit({one.get("rel"): one.get("href") for one in first.findall("{*}link")}["next"])
    second = check(house.get(following.path + "?" + following.query)[2])
    assert [one.findtext("{*}entry/{*}title") for one in (first, second)] == ["T", "A < pentium"]
    assert first.findtext("{*}id") == second.findtext("{*}id") == "tag:lab.home.arpa,2026:/atom.xml"
    ids = [one.findtext("{*}entry/{*}id") for one in (first, second)]
    assert ids == [one["id"] for one in house.json("/v1/items")["items"]]


def test_a_client_without_host_gets_relative_links(house):
    with socket.create_connection(("127.0.0.1", house.port)) as client:
        client.sendall(b"GET /v1/items HTTP/1.0\r\n\r\n")
        with client.makefile("rb") as file:
            assert json.loads(file.read().partition(b"\r\n\r\n")[2])["feed_url"] == "/v1/items"


class Elements(HTMLParser):
    """The elements of a page, with their attributes, and its text."""

    def __init__(self, page) -> None:
        super().__init__()
        self.elements, self.text = [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, sorted(attrs)))

    def handle_data(self, data):
        self.text += data


def test_the_search_page(house):
    house.keep(0, {**item("1", "A Pentium II", url="https://a.example/1"),
                   "content_html": "<p>Old. " + "x " * 500 + "Pentium, found.</p>"})
    house.keep(1, *(item(str(number), "", content_html="Pentium %d &amp; <i>more</i>" % number) for number in range(60)))
    house.star(1)
    front = house.get("/")[2].decode()
    assert '<form action="/search"' in front and 'href="/atom.xml" rel="alternate" type="application/atom+xml"' in front
    page = house.get("/search?q=pentium+%22ii%22")[2].decode()
    found = Elements(page)
    assert ("value", 'pentium "ii"') in next(attributes for tag, attributes in found.elements if tag == "input")
    assert "\u2605 A Pentium II" in found.text and "Ada's, Fri 15 Jan 2027" in found.text and "Pentium, found." in found.text
    assert ("a", [("href", "/atom.xml?q=pentium+%22ii%22")]) in found.elements
    first = Elements(house.get("/search?q=pentium&limit=59")[2].decode())
    assert "Pentium 0 & more" in first.text and "\u2605" not in first.text
    links = [dict(attributes)["href"] for tag, attributes in first.elements if tag == "a"]
    earlier = next(link for link in links if "before=" in link)
    second = Elements(house.get(earlier)[2].decode())
    assert "\u2605 A Pentium II" in second.text and "Bob's <b>, Fri" in first.text
    assert ("a", [("href", "/atom.xml?q=pentium&limit=59")]) in second.elements
    assert ("i", []) not in Elements(house.get("/search?q=%3Ci%3E")[2].decode()).elements
    assert "Nothing is kept" in house.get("/search?q=%3C%3E")[2].decode()


def test_whatever_the_words_every_page_is_well_formed_and_says_them(house):
    seed = random.randrange(1 << 30)
    chance = random.Random(seed)
    known = Elements(house.get("/search")[2].decode()).elements
    allowed = {"article", "h3", "span", "time", "p", "a", "i", "b"} | {tag for tag, _ in known}
    nasty = ["<script>x</script>", "<p onclick=x>", "javascript:x", "http://x/", *NASTY]
    for step in range(25):
        def say():
            return feed.plain("".join(chance.choice(nasty) for _ in range(chance.randint(0, 9))), markup=False)
        body = item(feed.encodable(words(chance)) + str(step), say(), url=feed.safe_url(say()), content_html=say(),
                    tags=[say()], summary=say(), authors=[{"name": say(), "url": feed.safe_url(say())}])
        asked = quote(words(chance).encode("utf-8", "replace").decode())
        try:
            house.keep(0, body, at=NOW + step)
            [found] = house.json("/v1/items?limit=1")["items"]
            assert found.get("title", "") == feed.plain(body["title"], markup=False)
            check(house.get("/atom.xml?limit=1")[2])
            page = Elements(house.get("/search?limit=1")[2].decode())
            for path in ("/search?q=", "/atom.xml?q=", "/v1/items?tag=", "/search?tag="):
                assert house.get(path + asked)[0] == 200
            assert {tag for tag, _ in page.elements} <= allowed, page.elements
            links = [dict(attributes).get("href", "") for tag, attributes in page.elements if tag == "a"]
            assert all(re.match(r"https?:|mailto:|/(search|atom.xml|v1/items)?(\?|\Z)", link) for link in links), links
        except Exception as error:
            raise AssertionError("seed %d, step %d: %r %r" % (seed, step, body, asked)) from error


def test_what_makes_content_safe_is_not_loaded_before_it_is_asked_for():
    code = "import sys, penny.rss, penny.rss.site; print([name for name in sys.modules if name.startswith('penny.wire')])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT,
                            env={**os.environ, "PYTHONPATH": str(ROOT)}).stdout
    assert "penny.wire.feed_json" in loaded and "penny.wire.html_safe" not in loaded and "penny.wire.atom" not in loaded


@pytest.mark.slow
def test_lynx_shows_it_in_80_columns(house):
    if not shutil.which("lynx"):
        pytest.skip("there is no lynx")
    house.keep(0, item("1", "A Pentium II " + "with a long title " * 9, url="https://a.example/1", content_html="word " * 90))
    house.star(1)
    address = "http://127.0.0.1:%d/search?q=pentium" % house.port
    shown = subprocess.run(["lynx", "-dump", "-width=80", "-display_charset=utf-8", address],
                           capture_output=True, text=True, check=True).stdout
    assert max(map(len, shown.splitlines())) <= 80
    for text in ("Search", "\u2605 [", "A Pentium II", "Ada's, Fri 15 Jan 2027", "JSON Feed", "word word"):
        assert text in shown, shown


@pytest.mark.slow
def test_through_the_service(penny):
    with contextlib.closing(Publisher()) as publisher:
        url = publisher.publish("/feed", rss("News", [("1", "Pentium", "First."), ("2", "Two", "Second.")]))
        penny.run("rss", "add", url, "--set", "private=allow")
        port = free_port()
        penny.start("rss", "serve", "--set", "port=%d" % port, "--set", "private=allow")
        found = json.loads(until(lambda: get(port, "/v1/items?q=pentium"), what="an answer")[2])
        assert [one["title"] for one in found["items"]] == ["Pentium"]
        assert b"Pentium" in get(port, "/atom.xml")[2] and b"Pentium" in get(port, "/search?q=first")[2]
