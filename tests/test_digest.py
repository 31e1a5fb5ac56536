"""The edition: what goes in, when it is sealed, and how it looks. The clock is the test's own."""
from __future__ import annotations

import json
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest

from penny.core.clock import rfc3339
from penny.core.log import Log
from penny.core.terminal import columns_of
from penny.digest import edition, render
from penny.digest.desk import Desk
from penny.stages import items, rules, search
from penny.stages.items import Outcome
from support import FakeClock, context

CLOSE = 1_795_323_600.0  # 2026-11-22 05:00 UTC
HOUR, DAY = 3600.0, 86400.0
SETTINGS = SimpleNamespace(closes=300, items=100, share=0.25)


@pytest.fixture(autouse=True)
def utc(timezone):
    timezone("UTC")


class House:
    """A store, a clock and a desk."""

    def __init__(self, state_dir, settings=SETTINGS):
        self.clock = FakeClock(CLOSE - 10 * HOUR)
        self.context = context(state_dir, self.clock)
        self.desk = Desk(settings, self.context)
        self.state_dir = str(state_dir)

    def add(self, *titles):
        with items.opened(self.state_dir, Log("t")) as db:
            items.add_feeds(db, [("http://%s.example/" % title, title) for title in titles], self.clock.now)

    def publish(self, number, *keys, problem="", **more):
        with items.opened(self.state_dir, Log("t")) as db:
            entries = [({"id": key, "title": "Title " + key, "url": "http://x.example/" + key,
                         "content_html": "<p>First of %s. Second. Third.</p>" % key, **more}, self.clock.now - 60) for key in keys]
            feed = items.feeds(db)[number]
            items.keep(db, feed, Outcome(self.clock.now, self.clock.now, problem, feed.title,
                                         "http://home.example/", items=None if problem else entries), 1000)

    def index(self, *owners):
        with items.opened(self.state_dir, Log("t")) as db:
            search.use_rules(db, rules.listed(*owners) if owners else ())
            search.index_new(db)


@pytest.fixture
def house(tmp_path):
    return House(tmp_path)


def titles(found):
    return {section.title: [entry.title for entry in section.entries] for section in found.sections}


def test_the_first_edition_is_the_draft_of_the_next_morning(house):
    house.add("a", "b")
    assert (house.desk.today().waiting, house.desk.today().sealed) == (2, False)
    house.publish(0, "1", "2")
    house.publish(1, "3")
    found = house.desk.today()
    assert found.day == "2026-11-22" and not found.sealed and found.waiting == 0
    assert titles(found) == {"a": ["Title 1", "Title 2"], "b": ["Title 3"]}
    entry = found.sections[0].entries[0]
    assert entry.extract == "First of 1. Second." and entry.source == "a" and entry.time == house.clock.now - 60


def test_a_morning_seals_it_and_building_it_again_gives_the_same_bytes(house):
    house.add("a")
    house.publish(0, "1")
    assert house.desk.seal_due() is None
    house.clock.now = CLOSE
    made = house.desk.seal_due()
    assert made.sealed and made.day == "2026-11-22"
    house.publish(0, "1", "2", title="Changed afterwards")
    for name, (write, _) in render.FORMATS.items():
        assert write(house.desk.sealed("2026-11-22")) == write(made), name
    assert house.desk.seal_due() is None
    other = Desk(SETTINGS, house.context)
    assert other.today() == made and titles(other.draft()) == {"a": ["Changed afterwards"]}
    assert house.desk.days() == ["2026-11-22"]


def test_nothing_is_lost_or_repeated_over_a_fortnight(house):
    house.add("a", "b")
    published, seen = [], []
    for hour in range(14 * 24):
        house.clock.now += HOUR
        key = "h%d" % hour
        house.publish(hour % 2, key)
        published.append("Title " + key)
        if hour % 5 == 0:
            house.desk.seal_due()  # late by up to four hours
    house.clock.now += DAY
    house.desk.seal_due()
    for day in house.desk.days():
        seen += [title for found in titles(house.desk.sealed(day)).values() for title in found]
    assert sorted(seen) == sorted(published)
    assert len(house.desk.days()) == 15


def test_a_box_that_was_off_for_days_makes_one_edition_of_them(house):
    house.add("a")
    house.publish(0, "1")
    house.clock.now = CLOSE + 3 * DAY + HOUR
    assert house.desk.seal_due().day == "2026-11-25"
    assert house.desk.days() == ["2026-11-25"]


def test_no_morning_is_sealed_before_there_was_a_feed(house):
    house.clock.now = CLOSE + HOUR
    assert house.desk.seal_due() is None
    house.add("a")
    assert house.desk.seal_due() is None
    house.clock.now = CLOSE + DAY
    assert house.desk.seal_due().day == "2026-11-23"


def test_a_clock_that_was_in_the_future_does_not_stop_the_mornings(house):
    house.add("a")
    house.clock.now += 4000 * DAY
    house.publish(0, "future")
    assert house.desk.seal_due()
    house.clock.now -= 4000 * DAY
    house.publish(0, "now")
    house.clock.now = CLOSE
    assert titles(house.desk.seal_due()) == {"a": ["Title future", "Title now"]}


@pytest.mark.parametrize("change", [lambda zone: 420, lambda zone: zone("EST5") or 300])
def test_a_sealed_edition_is_never_replaced_whatever_the_owner_changes(house, timezone, change):
    house.add("a")
    house.publish(0, "1")
    house.clock.now = CLOSE
    made = house.desk.seal_due()
    house.clock.now += HOUR
    house.publish(0, "2")
    minutes = change(timezone)
    for _ in range(48):
        house.clock.now += HOUR
        desk = Desk(SimpleNamespace(closes=minutes, items=100, share=0.25), house.context)
        desk.seal_due()
    assert desk.sealed("2026-11-22") == made
    titles_of_all = [title for day in desk.days() for found in titles(desk.sealed(day)).values() for title in found]
    assert sorted(titles_of_all) == ["Title 1", "Title 2"]


def test_feeds_that_were_added_under_a_future_clock_are_news_all_the_same(house):
    house.clock.now += 4000 * DAY
    house.add("a")
    house.clock.now = CLOSE + HOUR
    house.publish(0, "1")
    house.clock.now = CLOSE + DAY
    assert titles(house.desk.seal_due()) == {"a": ["Title 1"]}


def test_an_edition_is_shared_out(tmp_path):
    house = House(tmp_path, SimpleNamespace(closes=300, items=8, share=0.5))
    house.add("many", "few", "one")
    house.publish(0, *("m%d" % number for number in range(20)))
    house.publish(1, "f1", "f2")
    house.publish(2, "o1")
    found = house.desk.today()
    assert {section.title: (len(section.entries), section.left_out) for section in found.sections} == {
        "many": (4, 16), "few": (2, 0), "one": (1, 0)}


def test_with_too_many_sections_each_gets_its_first_item_before_any_gets_a_second(tmp_path):
    house = House(tmp_path, SimpleNamespace(closes=300, items=5, share=1.0))
    house.add(*"abcd")
    for number in range(4):
        house.publish(number, *("%d-%d" % (number, index) for index in range(5)))
    assert sorted(len(section.entries) for section in house.desk.today().sections) == [1, 1, 1, 2]


def test_what_could_not_be_reached_is_said_with_since_when(house):
    house.add("a", "b")
    house.publish(0, problem="name not found")
    since = house.clock.now
    house.clock.now += HOUR
    house.publish(0, problem="name not found")
    house.publish(1, "1")
    trouble, = house.desk.today().troubles
    assert (trouble.title, trouble.problem, trouble.since) == ("a", "name not found", since)
    for write in (render.text, render.markdown, render.html):
        assert "name not found, since Sat 21 Nov 19:00" in write(house.desk.today())


STORY = ("The ferry came back after eleven years on Friday evening at nine. Four hundred people waited on the quay with lanterns "
         "and a brass band, and the mayor cut a rope instead of a ribbon. Tickets for the first week had gone within the hour. ")


def test_what_several_feeds_say_stands_once_and_names_the_others(house):
    house.add("first", "second", "third")
    house.publish(0, "1", content_html="<p>%s</p>" % STORY)
    house.clock.now += HOUR
    house.publish(1, "2", content_html=STORY + "Photographs by our reader.")
    house.publish(2, "3", content_html="<p>" + STORY.replace("lanterns", "torches"))
    house.publish(2, "3", "4", content_html=STORY)  # its own follow-up: never taken for the same
    assert len(titles(house.desk.today())) == 3  # not indexed yet: each is a story of its own
    house.index()
    found = house.desk.today()
    assert titles(found) == {"first": ["Title 1"]} and [section.left_out for section in found.sections] == [0]
    entry = found.sections[0].entries[0]
    assert sorted(entry.also)[0] == ("second", "http://x.example/2") and len(entry.also) == 3
    assert edition.from_json(edition.to_json(found)) == found
    assert "Also in second, third" in render.text(found)
    assert '<a href="http://x.example/2" rel="noopener noreferrer">second</a>' in render.html(found)


def test_a_story_of_an_earlier_edition_is_not_news_again(house):
    house.add("first", "second")
    house.publish(0, "1", content_html=STORY)
    house.clock.now = CLOSE
    assert titles(house.desk.seal_due()) == {"first": ["Title 1"]}
    house.clock.now += HOUR
    house.publish(1, "2", content_html=STORY + "Also in the evening paper.")
    house.publish(1, "3")
    assert titles(house.desk.today()) == {"first": ["Title 1"]} and titles(house.desk.draft()) == {"second": ["Title 3", "Title 2"]}
    house.clock.now = CLOSE + DAY
    assert titles(house.desk.seal_due()) == {"second": ["Title 3"]}  # sealing indexes first
    house.clock.now = CLOSE + 2 * DAY
    assert titles(house.desk.seal_due()) == {}


def test_only_what_is_nearly_the_same_counts_as_told_before(house):
    """Two programmes of one network end with the same words of a sponsor: neither silences the other."""
    sponsor = " ".join("sponsor%d" % number for number in range(150))
    def own(name):
        return " ".join("%s%d" % (name, number) for number in range(50)) + " "
    house.add("first", "second")
    house.publish(0, "1", content_html=own("a") + sponsor)
    house.clock.now = CLOSE
    house.desk.seal_due()
    house.clock.now += HOUR
    house.publish(1, "2", content_html=own("b") + sponsor)
    house.publish(1, "2", "3", content_html=own("a") + sponsor + " Last.")
    house.publish(1, "2", content_html=own("b") + sponsor)
    house.clock.now = CLOSE + DAY
    assert titles(house.desk.seal_due()) == {"second": ["Title 2"]}
    house.clock.now += HOUR
    house.publish(0, "4", content_html=own("c") + sponsor)
    house.publish(1, "5", content_html=own("d") + sponsor)
    house.index()
    found = house.desk.draft()
    assert titles(found) == {"first": ["Title 4"]} and found.sections[0].entries[0].also == (("second", "http://x.example/5"),)


def test_a_morning_does_not_wait_for_the_whole_index(house, capsys):
    house.add("a")
    house.publish(0, *("old%d" % number for number in range(70)))
    house.clock.now = CLOSE
    house.desk.seal_due()
    house.clock.now += HOUR
    house.publish(0, *("new%d" % number for number in range(70)))
    with items.opened(house.state_dir, Log("t")) as db:
        db.execute("DELETE FROM note")  # as after an upgrade
        house.clock.now = CLOSE + DAY
        assert house.desk.seal_due() and (search.pending(db), search.pending(db, 70)) == (70, 0)
        assert "not indexed" not in capsys.readouterr().err
        db.execute("DELETE FROM note")
        house.clock.now = CLOSE + 2 * DAY
        house.publish(0, *("last%d" % number for number in range(70)))
        house.clock.monotonic = iter(range(0, 999, 31)).__next__
        house.clock.now += 60
        assert house.desk.seal_due() and search.pending(db) == 160
    assert "20 items are not indexed yet" in capsys.readouterr().err


def test_the_owners_rules_drop_and_raise(tmp_path):
    house = House(tmp_path, SimpleNamespace(closes=300, items=2, share=1.0))
    house.add("a", "b", "c")
    for number, words in enumerate(("crypto", "words", "words")):
        house.publish(number, *("%d%s" % (number, letter) for letter in "abc"), content_html="<p>On %s.</p>" % words)
    house.publish(1, "1c", "1b", title="Penny again")
    house.index(["crypto"], ["penny"], [])
    found = house.desk.today()
    assert titles(found) == {"b": ["Penny again", "Penny again"], "c": []}
    assert [section.left_out for section in found.sections] == [1, 3]
    house.index()
    assert sorted(titles(house.desk.today())) == ["a", "b", "c"]


def test_a_page_with_nothing_says_why(house):
    assert "There are no feeds" in render.text(house.desk.today())
    house.add("a", "b")
    assert '<meta http-equiv="refresh"' in render.html(house.desk.today())
    assert "0 of 2 feeds asked" in render.html(house.desk.today())
    house.publish(0, problem="name not found")
    house.publish(1, problem="name not found")
    page = render.html(house.desk.today())
    assert "None of the feeds could be reached" in page and "refresh" not in page


def test_json_comes_back_as_the_same_edition(house):
    house.add("a", "b")
    house.publish(0, "1")
    house.publish(1, problem="x")
    found = house.desk.today()
    assert edition.from_json(edition.to_json(found)) == found
    assert json.loads(edition.to_json(found))["sections"][0]["items"][0]["time"] == rfc3339(house.clock.now - 60)


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found, self.links, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append(tag)
        self.links += [value for name, value in attributes if name in ("href", "src")]
        assert not any(name.startswith("on") for name, _ in attributes)

    def handle_data(self, data):
        self.text += data


HOSTILE = "</h3><script>alert(1)</script><img src=x onerror=alert(1)>\"'&<b>"


def test_other_peoples_words_stay_words(house):
    house.add(HOSTILE)
    house.publish(0, "1", title=HOSTILE, content_html="&lt;script&gt;alert(2)&lt;/script&gt; " + HOSTILE)
    found = house.desk.today()
    page = Tags(render.html(found))
    assert "script" not in page.found and "img" not in page.found and "b" not in page.found
    assert "<script>alert(1)</script>" in page.text
    marked = render.markdown(found)
    assert "<script>" not in marked and "\\<script\\>" in marked
    assert "\x1b" not in render.text(found)


def test_text_fits_a_terminal(house):
    house.add("a")
    house.publish(0, "1", "2", title="word " * 60, content_html="long " * 200)
    house.publish(0, "3", title="\u9577\u3044\u984c\u540d" * 60, content_html="\u6587" * 900)
    assert max(map(columns_of, render.text(house.desk.today()).splitlines())) <= 79


@pytest.mark.parametrize("words, marked", [("&lt;b&gt;", "\\&lt;b\\&gt;"), ("- no list", "\\- no list"),
                                           ("1. no list", "1\\. no list"), ("12) no list", "12\\) no list"), ("a-b 1.5", "a-b 1.5")])
def test_words_do_not_become_markdown(house, words, marked):
    house.add("a")
    house.publish(0, "1", title="T", content_html="", content_text=words.replace("&", "&amp;"))
    assert marked in render.markdown(house.desk.today())


def test_the_command_prints_every_format_and_names_what_is_wrong(penny):
    for name in render.FORMATS:
        assert penny.run("digest", "--format", name).returncode == 0
    wrong = penny.run("digest", "--day", "yesterday")
    assert (wrong.returncode, wrong.stderr) == (2, "penny: --day yesterday: expected such as 2026-11-22\n")
    missing = penny.run("digest", "--day", "2001-01-01")
    assert missing.returncode == 1 and "there is no edition of 2001-01-01; there are: " in missing.stderr
    assert penny.run("digest", "--format", "pdf").returncode == 2
