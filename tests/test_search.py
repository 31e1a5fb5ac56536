"""Indexing and searching: by FTS5 and without it, whatever is kept, changed, forgotten or typed meanwhile."""
from __future__ import annotations

import json
import random
import sqlite3
import string
import time

import pytest

from penny.core import store
from penny.core.clock import Stop
from penny.core.log import Log
from penny.core.terminal import columns_of
from penny.stages import index, items, near_duplicates, rules, search
from penny.stages.items import Outcome
from penny.stages.search import Wanted
from test_near_duplicates import altered, article, pronounceable

LOG = Log("test")
NOW = 1_800_000_000.0
STORY = ("The ferry came back after eleven years on Friday evening at nine. Four hundred people waited on the quay with lanterns "
         "and a brass band, and the mayor cut a rope instead of a ribbon. Tickets for the first week had gone within the hour. ")


class House:
    """A store, what is kept in it, and a way to do without FTS5."""

    def __init__(self, db, monkeypatch):
        self.db, self.monkeypatch, self.now = db, monkeypatch, NOW
        items.add_feeds(db, [("http://%s.example/" % name, name) for name in "abc"], NOW)

    def keep(self, feed, *entries, most=1000):
        """Each entry is a key, a title and a text."""
        self.now += 60
        found = [({"id": key, "title": title, "content_html": text}, None) for key, title, text in entries]
        owner = next(one for one in items.feeds(self.db) if one.title == feed)
        return items.keep(self.db, owner, Outcome(self.now, self.now, title=feed, items=found[::-1]), most)

    def fts5(self, there):
        """Without FTS5, whatever touches its table fails."""
        def allow(action, one, two, database, trigger):
            return sqlite3.SQLITE_DENY if str(one).startswith("search") or str(two) == "fts5" else sqlite3.SQLITE_OK
        if there:
            self.monkeypatch.undo()
        else:
            self.monkeypatch.setattr(index, "has_fts5", lambda db: False)
        self.db.set_authorizer((lambda *_: sqlite3.SQLITE_OK) if there else allow)

    def find(self, words="", **more):
        return [found.id for found in search.find(self.db, Wanted(words, **more))]

    def stories(self):
        return dict(self.db.execute("SELECT item, story FROM reading").fetchall())

    def check(self):
        """The index holds what it should, and nothing else."""
        rows = self.db.execute("SELECT id, feed, owner, signature, body FROM item JOIN reading ON item = id"
                               " WHERE pending = 0").fetchall()
        assert all(owner == feed and signature == near_duplicates.signature(index.plain(json.loads(body)))
                   for _, feed, owner, signature, body in rows)
        if index.is_live(self.db):
            self.db.execute("INSERT INTO search (search) VALUES ('integrity-check')")
            texts = {id: index.text_of(json.loads(body)) for id, *_, body in rows}
            words = {word for text in texts.values() for word in text.words() if word}
            for word in sorted(words):
                found = {row[0] for row in self.db.execute("SELECT rowid FROM search WHERE search MATCH ?", ('"%s"' % word,))}
                assert found == {id for id, text in texts.items() if word in text.words()}, word


@pytest.fixture
def house(tmp_path, monkeypatch):
    with items.opened(str(tmp_path), LOG) as db:
        yield House(db, monkeypatch)


@pytest.fixture
def chooser():
    seed = random.randrange(1 << 30)
    print("seed", seed)
    return random.Random(seed)


# Searching ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("there", [True, False], ids=["FTS5", "without"])
def test_a_word_with_another_vowel_sign_is_another_word(house, there):
    house.fts5(there)
    house.keep("a", ("1", "T", "\u0926\u093f\u0928"), ("2", "T", "\u0926\u093e\u0928"), ("3", "T", "\u0926 \u0928"))
    search.index_new(house.db)
    assert house.find("\u0926\u093f\u0928") == [1] and house.find("\u0926\u0928") == [] and house.find("\u0926\u093e*") == [2]


@pytest.mark.parametrize("there", [True, False], ids=["FTS5", "without"])
@pytest.mark.parametrize("words, found", [
    ("ferry", [1]), ("FERRY caf\u00e9", [1]), ("ferry -caf\u00e9", []), ("-ferry", [3, 2]), ('"brass band"', [1]), ('"band brass"', []),
    ("ferr*", [1]), ("ferr", []), ('"a brass ba"*', [1]), ("linu* -kernel", [3]), ('-"linux kernel" linux', [3]), ("e-mail", [2]),
    ("\u672c\u8a9e", [3]), ("caf\u00e9 \u672c\u8a9e", []), ("hidden", []), ("AT&T", [2]), ('"band', [1]), ("!!!", []), ("-", []), ("ferry OR linux", []),
    ("title:linux", []), ("NEAR(ferry band)", []), ("", [3, 2, 1]), ("ferry*band", []), ('"" ferry', [1])])
def test_what_a_person_types(house, there, words, found):
    house.fts5(there)
    house.keep("a", ("1", "Caf\u00e9 am Kai", "<p>%s</p><script>hidden</script>" % STORY), ("2", "Linux kernel", "By e-mail from AT&amp;T"))
    house.keep("b", ("3", "\u65e5\u672c\u8a9e", "of Linux"))
    assert search.index_new(house.db) == 3
    assert house.find(words) == found


def test_what_else_may_be_wanted(house):
    house.keep("a", *((str(number), "Title %d" % number, "word " + "even" * (number % 2 == 0)) for number in range(10)))
    house.keep("b", ("b", "Other", "word"))
    search.use_rules(house.db, rules.listed(["even"], [], [("t", ["other"]), ("tt", ["title 3"])]))
    search.index_new(house.db)
    items.star(house.db, [2, 3], NOW)
    for words in ("word", ""):
        assert house.find(words) == [11, 10, 8, 6, 4, 2]
        assert house.find(words, most=2) == [11, 10] and house.find(words, before=10, most=2) == [8, 6]
        assert house.find(words, dropped=True, most=3) == [11, 10, 9]
        assert house.find(words, feed=2) == [11] and house.find(words, feed=1, before=4) == [2]
        assert house.find(words, starred=True) == [2] and house.find(words, starred=True, dropped=True) == [3, 2]
        assert house.find(words, label="t") == [11] and house.find(words, label="tt") == [4] and house.find(words, label='"') == []
        assert search.count(house.db, Wanted(words, dropped=True, most=1)) == 11
    found, = search.find(house.db, Wanted(label="t"))
    assert (found.feed, found.labels, found.mark, found.starred, found.story) == (2, ("t",), 0, None, 11)


def test_nothing_that_is_typed_is_an_error(house, chooser):
    house.keep("a", ("1", "T", STORY))
    search.index_new(house.db)
    pieces = list(string.printable) + ["NEAR(", " AND ", " OR ", " NOT ", '"', "*", "-", "title:", "^", "{a b}:", "\0", "\ud800", "\u0301", "\u65e5",
                                       "ferry", "\udcff", "\U0001f600", "1e9", "%", "_", "\\"]
    for _ in range(1500):
        words = "".join(chooser.choices(pieces, k=chooser.randrange(12)))
        assert house.find(words) in ([], [1]), words
        search.snippet({"content_text": STORY}, words, 60)
    for words in ('"a" ' * 5000, "x" * 100_000, "-" * 5000, '"' * 5001, "a* " * 5000, "ferry -" * 2000):
        assert house.find(words) in ([], [1])


def test_the_bounds_of_a_search():
    assert len(search.parse("a " * 100)) == search.MAX_TERMS and search.parse(" " * search.MAX_QUERY + "x") == ()


def test_few_stars_count_and_only_behind_two_letters():
    def prefixes(words):
        return [term.words[-1] for term in search.parse(words) if term.prefix]
    assert prefixes("a* ab* -bc* c \"x cd\"* \u65e5*") == ["ab", "bc", "cd"]
    assert prefixes(" ".join("a%s*" % letter for letter in string.ascii_lowercase)) == ["aa", "ab", "ac", "ad"]


def test_a_search_is_made_once_and_read_as_far_as_is_wanted(house):
    house.keep("a", *((str(number), "T", "even" if number % 2 else "odd") for number in range(100)))
    search.index_new(house.db)
    said = []
    house.db.set_trace_callback(said.append)
    for words in ("even", "ev* -odd", "-odd", ""):
        found = search.find(house.db, Wanted(words, most=1000))
        assert [next(found).id for _ in range(3)] in ([100, 98, 96], [100, 99, 98])
        asked, = [one for one in said if one.startswith("SELECT reading.item")]
        assert sum("body" in one for one in said) == 3
        assert "ORDER BY" not in str([row[3] for row in house.db.execute("EXPLAIN QUERY PLAN " + asked)])  # nothing is sorted
        said.clear()


def test_of_a_long_text_the_head_is_read_and_no_half_tag(house):
    head = "word " * (index.MAX_SOURCE // 5 - 4) + "end <a "
    house.keep("a", ("1", "T", head + "href='http://half.example/'>beyond</a>"))
    search.index_new(house.db)
    assert house.find("end") == [1] and house.find("beyond") == house.find("a") == []


def test_with_fts5_and_without_the_same_is_found(house, chooser):
    vocabulary = ["alpha", "beta", "caf\u00e9", "\u65e5\u672c", "x1", "o'neil", "Stra\u00dfe", "\u041b\u0438\u043d"]
    for number in range(60):
        house.keep(chooser.choice("abc"), *((str(number), " ".join(chooser.choices(vocabulary, k=2)), " ".join(chooser.choices(vocabulary, k=4)))
                                            for _ in range(1)))
    search.index_new(house.db)
    searches = []
    for _ in range(150):
        words = chooser.choices(vocabulary, k=chooser.randrange(1, 4))
        joined = chooser.choice([" ".join(words), '"%s"' % " ".join(words), " -".join(words), "-" + " ".join(words), words[0][:2] + "*"])
        searches.append((joined, house.find(joined)))
    house.fts5(False)
    assert [(words, house.find(words)) for words, _ in searches] == searches
    assert 20 < sum(bool(found) for _, found in searches) < 150


def test_a_snippet_shows_the_match_and_no_more_than_fits(chooser):
    body = {"content_html": "<p>%s</p>" % (STORY * 3 + "Where the Caf\u00e9 is. \x1b[31mred\u202e " + STORY)}
    assert "Caf\u00e9 is" in search.snippet(body, "cafe", 60) and search.snippet(body, "cafe", 60).startswith("\u2026")
    assert "brass band" in search.snippet(body, '"brass band"', 60) and search.snippet(body, "", 60).startswith("The ferry")
    assert search.snippet({}, "x", 60) == "" and search.snippet({"title": "x"}, "x", 60) == ""
    for _ in range(50):
        words, width = " ".join(chooser.choices(STORY.split(), k=2)), chooser.randrange(20, 100)
        found = search.snippet({"content_text": STORY + "\u6587" * 60 + STORY}, words, width)
        assert columns_of(found) <= width and found.isprintable()


# The index follows what is kept ---------------------------------------------------------------------------------------

def test_a_snippet_shows_the_match_where_there_are_no_spaces():
    text = "\u3053\u308c\u306f\u65e5\u672c\u8a9e\u3067\u3059\u3002" * 60 + "\u691c\u7d22\u3055\u308c\u305f" + "\u3042" * 300
    assert "\u691c\u7d22" in search.snippet({"content_text": text}, "\u691c\u7d22", 60)
    assert "some_name" in search.snippet({"content_text": "foo " * 100 + "some_name here"}, "name", 60)
    one, other = "\u0926\u093f\u0928", "\u0926\u093e\u0928"
    assert one in search.snippet({"content_text": (other + " ") * 99 + one}, one, 60)


def test_whatever_happens_the_index_holds_what_is_kept(house, chooser):
    vocabulary = [pronounceable(chooser) for _ in range(80)]
    for step in range(120):
        feeds = [feed.title for feed in items.feeds(house.db)]
        action = chooser.choice("kkkkkuisr" if step % 20 else "x")
        if action in "ku":
            entries = [(str(chooser.randrange(40)), pronounceable(chooser), article(chooser, vocabulary, chooser.randrange(4)))
                       for _ in range(chooser.randrange(5))]
            house.keep(chooser.choice(feeds), *entries, most=15)
        elif action == "x":
            items.remove_feeds(house.db, ["http://a.example/"])
            items.add_feeds(house.db, [("http://a.example/", "a")], NOW)
        elif action == "r":
            search.use_rules(house.db, rules.listed(chooser.sample(vocabulary, 2), [], []))
        else:
            search.index_new(house.db)
            house.check()
    search.index_new(house.db)
    house.check()
    table = rules.Table(search.rules_in_use(house.db))
    for found in search.find(house.db, Wanted(dropped=True, most=1000)):
        assert found.mark == table.apply(index.text_of(found.body).words()).mark and found.story <= found.id


def test_an_item_that_changed_is_found_by_its_new_words_and_is_no_news(house):
    house.keep("a", ("1", "T", STORY))
    house.keep("b", ("2", "T", STORY))
    search.index_new(house.db)
    assert house.stories() == {1: 1, 2: 1}
    house.keep("a", ("1", "T", "Something else entirely. " * 9))
    assert house.find("entirely") == [] and house.find("ferry") == [2]
    search.index_new(house.db)
    assert house.find("entirely") == [1] and house.stories() == {1: 1, 2: 1}
    house.keep("b", ("2", "T", STORY + "New."))
    search.index_new(house.db)
    house.keep("c", ("3", "T", STORY))
    search.index_new(house.db)
    assert house.stories() == {1: 1, 2: 1, 3: 1}
    house.check()


def test_a_new_date_alone_costs_no_indexing(house):
    feed = items.feeds(house.db)[0]
    for date in ("2026-01-01", "2026-01-02"):
        entry = {"id": "1", "url": "http://a.example/1", "title": "T", "content_html": STORY, "date_modified": date}
        items.keep(house.db, feed, Outcome(NOW, NOW, items=[(entry, None)]), 10)
        assert search.index_new(house.db) == (1 if date == "2026-01-01" else 0)
    house.check()


def test_stories_go_on_in_other_feeds_only(house):
    house.keep("a", ("1", "T", STORY), ("2", "T", STORY))
    house.keep("b", ("3", "T", STORY + "Once more."), ("4", "T", "Too short to say."))
    house.keep("c", ("5", "T", "Too short to say."))
    search.index_new(house.db)
    assert house.stories() == {1: 1, 2: 2, 3: 1, 4: 4, 5: 5}


def told(house, *feeds_and_texts):
    """What each item repeats and which story it tells, when these came one after the other."""
    for number, (feed, text) in enumerate(feeds_and_texts):
        house.keep(feed, (str(number), "T", text))
        search.index_new(house.db)
    return [tuple(row) for row in house.db.execute("SELECT story, repeats FROM reading ORDER BY item")]


def test_what_a_rule_dropped_silences_nobody(house):
    search.use_rules(house.db, rules.listed(["sponsored"], [], []))
    assert told(house, ("a", "Sponsored. " + STORY), ("b", STORY), ("c", STORY + "Again.")) == [(1, None), (2, None), (2, 2)]


def test_only_what_is_nearly_the_same_repeats_another(house, chooser):
    vocabulary = [pronounceable(chooser) for _ in range(3000)]
    def words(number):
        return " ".join(chooser.sample(vocabulary, number)) + " "
    sponsor, own = words(150), words(300)
    found = told(house, ("a", words(50) + sponsor), ("b", words(50) + sponsor), ("a", own), ("b", own + words(12)),
                 ("c", own + words(3)))
    assert found[1][1] is None and found[3:] == [(3, 3), (3, 3)]


def test_who_repeats_another_is_not_repeated_itself(house, chooser):
    """A page that changes little by little becomes news again."""
    words = [pronounceable(chooser) + str(number) for number in range(700)]
    found = told(house, *(("ab"[number % 2], " ".join(words[30 * number:30 * number + 400])) for number in range(8)))
    assert {story for story, _ in found} == {1} and sum(repeats is None for _, repeats in found) > 1


def test_stories_are_looked_up_among_the_newest(house, monkeypatch):
    monkeypatch.setattr(index, "RECENT", 3)
    others = [("c", " ".join(str(number * other) for other in range(40))) for number in (7, 11)]
    found = told(house, ("a", STORY), *others, ("b", STORY), ("c", "Short."), ("c", "Shorter."), ("c", STORY))
    assert found[3::3] == [(1, 1), (1, None)]


def test_what_is_only_somewhat_alike_is_another_story(house):
    words = [str(number * number) for number in range(3000)]
    one, other = next(
        (one, other) for start in range(1000) for one, other in [(words[start:start + 100], words[start + 60:start + 160])]
        if set(near_duplicates.bands(near_duplicates.signature(" ".join(one))))
        & set(near_duplicates.bands(near_duplicates.signature(" ".join(other))))
        and near_duplicates.similarity(*(near_duplicates.signature(" ".join(text)) for text in (one, other))) < 0.34)
    house.keep("a", ("1", "T", " ".join(one)))
    house.keep("b", ("2", "T", " ".join(other)))
    search.index_new(house.db)
    assert house.stories() == {1: 1, 2: 2}


def test_removing_a_large_feed_lets_others_write_in_between(house):
    house.keep("a", *((str(number), "T", "text %d" % number) for number in range(120)))
    search.index_new(house.db)
    said = []
    house.db.set_trace_callback(said.append)
    items.remove_feeds(house.db, ["http://a.example/"])
    house.db.set_trace_callback(None)
    assert said.count("BEGIN IMMEDIATE") == 4
    house.check()


def test_rules_that_changed_are_applied_to_all_that_is_kept(house):
    house.keep("a", ("1", "T", STORY), ("2", "Quay", "x"))
    search.index_new(house.db)
    rows = house.db.execute("SELECT * FROM search_data").fetchall()
    search.use_rules(house.db, rules.listed(["quay"], ["brass band"], []))
    search.use_rules(house.db, rules.listed(["quay"], ["brass band"], []))
    assert search.index_new(house.db) == 2 and house.find() == [1]
    search.use_rules(house.db, rules.listed(["quay"], ["brass band"], []))
    assert search.index_new(house.db) == 0
    search.use_rules(house.db, ())
    assert search.index_new(house.db) == 2 and house.find() == [2, 1]
    assert house.db.execute("SELECT * FROM search_data").fetchall() == rows
    house.check()


def test_a_store_without_fts5_gets_the_index_when_there_is_one_and_the_reverse(house):
    house.fts5(False)
    house.keep("a", ("1", "One", STORY), ("2", "Two", "second"))
    house.keep("b", ("3", "Three", STORY))
    assert search.index_new(house.db) == 3 and search.index_new(house.db) == 0
    house.fts5(True)
    assert not index.is_live(house.db) and house.find("ferry") == [3, 1]
    assert search.index_new(house.db) == 3 and index.is_live(house.db) and house.find("ferry") == [3, 1]
    house.check()
    house.fts5(False)
    house.keep("a", ("1", "One", "changed"), ("4", "Four", "ferry"))
    assert search.index_new(house.db) == 2 and house.find("ferry") == [4, 3]
    items.remove_feeds(house.db, ["http://b.example/"])
    house.fts5(True)
    assert search.index_new(house.db) == 3 and house.find("ferry") == [4] and house.find("changed") == [1]
    assert house.stories() == {1: 1, 2: 2, 4: 4}
    house.check()


def test_an_index_that_was_missed_out_is_made_anew(house):
    house.keep("a", ("1", "One", STORY), ("2", "Two", "second"))
    search.index_new(house.db)
    house.fts5(False)
    house.keep("a", ("1", "One", "changed"))
    house.fts5(True)
    assert not index.is_live(house.db) and house.find("ferry") == [] and house.find("second") == [2]
    assert search.index_new(house.db) == 2
    house.check()


def test_indexing_ends_when_it_is_told_to_and_goes_on_later(house):
    house.keep("a", *((str(number), "T", "text %d" % number) for number in range(120)))
    stop, seen = Stop(), []
    def step(title):
        seen.append(title)
        stop.set()
    assert search.index_new(house.db, stop, step) == len(seen) == search.BATCH
    assert search.pending(house.db) == 70 and house.find("text", most=100) == list(range(50, 0, -1))
    assert search.index_new(house.db) == 70
    stop.close()


def test_indexing_ends_when_its_time_is_over_and_begins_where_it_is_told(house):
    house.keep("a", *((str(number), "T", "text %d" % number) for number in range(220)))
    assert search.index_new(house.db, after=190) == 30 == 220 - search.pending(house.db) and search.pending(house.db, 190) == 0
    times = iter((False, True, True))
    assert search.index_new(house.db, is_over=lambda: next(times)) == 2 * search.BATCH
    assert search.index_new(house.db, is_over=lambda: next(times)) == search.BATCH  # a batch each time, however short that is
    house.check()


def test_a_few_items_wait_for_others_but_not_for_long(house):
    assert not search.is_due(house.db, NOW)
    house.keep("a", ("1", "T", "x"))
    assert not search.is_due(house.db, house.now) and not search.is_due(house.db, house.now + search.PATIENCE - 1)
    assert search.is_due(house.db, house.now + search.PATIENCE) and search.is_due(house.db, house.now - 1)
    house.keep("a", *((str(number), "T", "x") for number in range(2, search.BATCH + 1)))
    assert search.is_due(house.db, house.now)
    search.index_new(house.db)
    house.keep("a", ("1", "T", "changed"))
    assert not search.is_due(house.db, house.now)


def test_an_item_writes_few_pages(house, chooser):
    vocabulary = [pronounceable(chooser) for _ in range(3000)]
    pages = 0
    house.db.execute("PRAGMA wal_autocheckpoint = 0")
    for start in range(0, 400, 20):
        house.keep(chooser.choice("abc"), *((str(start + number), "T", article(chooser, vocabulary)) for number in range(20)))
        house.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        search.index_new(house.db)
        pages += house.db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1]
    assert pages / 400 < 4


def test_a_batch_of_long_texts_is_small(house):
    house.keep("a", *((str(number), "T", "word " * 30_000) for number in range(4)))
    with store.transaction(house.db):
        assert len(search._index_some(house.db, 0)) == 2


def test_a_full_disk_indexes_nothing_by_halves(house, chooser):
    vocabulary = [pronounceable(chooser) for _ in range(150)]
    house.keep("a", ("1", "One", STORY))
    search.index_new(house.db)
    house.keep("b", *((str(number), pronounceable(chooser), article(chooser, vocabulary)) for number in range(60)))
    house.db.execute("PRAGMA max_page_count = %d" % (house.db.execute("PRAGMA page_count").fetchone()[0] + 4))
    with pytest.raises(sqlite3.OperationalError, match="full"):
        search.index_new(house.db)
    house.check()
    assert house.find("ferry") == [1] and search.pending(house.db) == 60
    house.db.execute("PRAGMA max_page_count = 100000")
    assert search.index_new(house.db) == 60
    house.check()


# Near-duplicates, in the store ----------------------------------------------------------------------------------------

def test_edited_copies_are_found_whatever_order_they_come_in(house, chooser):
    vocabulary = [pronounceable(chooser) for _ in range(3000)]
    originals = [article(chooser, vocabulary) for _ in range(150)]
    texts = [(number, text) for number, text in enumerate(originals)]
    texts += [(number, altered(chooser, vocabulary, text)) for number, text in enumerate(originals)]
    owners = {number: chooser.sample("abc", 2) for number in range(150)}
    chooser.shuffle(texts)
    meant = {}
    for place, (number, text) in enumerate(texts, 1):
        house.keep(owners[number].pop(), (str(place), "T", text))
        meant[place] = number
        if chooser.random() < 0.1:
            search.index_new(house.db)
    search.index_new(house.db)
    told = {}
    for item, story in house.stories().items():
        told.setdefault(story, set()).add(meant[item])
    assert all(len(numbers) == 1 for numbers in told.values()), "strangers were taken for one story"
    assert 300 - len(told) >= 0.97 * 150


def test_many_that_are_nearly_the_same_take_bounded_time(house, chooser):
    """A publisher's phrases below each of 1,000 items cost other feeds next to nothing."""
    words = article(chooser, [pronounceable(chooser) for _ in range(500)]).split()
    for feed in "ab":
        house.keep(feed, *((str(number), "T", " ".join(words[:100] + [str(number)])) for number in range(500)), most=5000)
    start = time.process_time()
    search.index_new(house.db)
    assert time.process_time() - start < 3
