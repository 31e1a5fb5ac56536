"""JSON Feed: hostile types, bounds, and the way from a Feed to JSON and back. test_feed_xml reads its fixtures."""
from __future__ import annotations

import json
import random

import pytest

from penny.wire import feed
from penny.wire.feed import Attachment, Author, Feed, Item, MalformedFeed, parse
from penny.wire.feed_json import DIGITS, VERSION, render

FULL = Feed(
    title="Loom", home_page_url="https://loom.example/", feed_url="https://loom.example/feed.json",
    description="warp and weft", language="en", icon="https://loom.example/i.png",
    authors=(Author("L. Oom", "https://loom.example/l", "https://loom.example/l.png"),),
    items=(
        Item(id="1", url="https://loom.example/1", external_url="https://yarn.example/", title="One <1>",
             content_html="<p>\U0001f9f6 &amp; \u202e</p>", content_text="plain", summary="short",
             date_published=0.0, date_modified=1_700_000_000.25,
             authors=(Author("A"), Author(url="mailto:a@b.example")), tags=("wool", "silk"),
             image="https://loom.example/1.png", language="de", comments_url="https://loom.example/1#said", comments=0,
             attachments=(Attachment("https://loom.example/1.mp3", "audio/mpeg", "sound", 0, 62.5),)),
        Item(id="2"), Item(id="3", comments=7),
    ))


def document(**fields) -> bytes:
    return json.dumps({"version": VERSION, "title": "t", "items": [], **fields}).encode()


def only_item(**fields) -> Item:
    return parse(document(items=[{"id": "1", **fields}])).items[0]


def test_what_is_rendered_is_parsed_as_it_was():
    assert parse(json.dumps(render(FULL)).encode()) == FULL
    assert parse(json.dumps(render(FULL), ensure_ascii=False).encode("utf-16")) == FULL


def test_empty_fields_are_left_out_and_zero_is_not_empty():
    assert render(Feed()) == {"version": VERSION, "title": "", "items": []}
    first, second, third = render(FULL)["items"]
    assert first["_penny"] == {"comments_url": "https://loom.example/1#said", "comments": 0}
    assert third == {"id": "3", "_penny": {"comments": 7}}
    assert second == {"id": "2"}
    assert first["date_published"] == "1970-01-01T00:00:00Z" and first["attachments"][0]["size_in_bytes"] == 0
    assert first["date_modified"] == "2023-11-14T22:13:20.250Z"


def test_notes_are_rendered_and_never_believed():
    rendered = render(Feed(title="t", notes=("an item was cut",)))
    assert rendered["_penny"] == {"repaired": ["an item was cut"]}
    assert parse(json.dumps(rendered).encode()).notes == ()


def test_rendered_json_can_always_be_encoded():
    lone = "a\ud800b"
    broken = Feed(lone, lone, lone, lone, lone, lone, (Author(lone, lone, lone),), notes=(lone,), items=(
        Item(lone, lone, lone, lone, lone, lone, lone, None, None, (Author(lone),), (lone,),
             (Attachment(lone, lone, lone),), lone, lone),))
    text = json.dumps(render(broken), ensure_ascii=False)
    assert "a\ufffdb" in text.encode().decode()
    assert "\\ud800" not in json.dumps(render(parse(b'{"title": "\\ud800", "items": [{"id": "\\udfff\\ud800"}]}')))


@pytest.mark.parametrize("seconds", [1e300, -1e300, float("inf"), float("nan"), 300_000_000_000.0])
def test_dates_that_cannot_be_written_are_left_out(seconds):
    assert render(Feed(items=(Item(id="1", date_published=seconds),)))["items"] == [{"id": "1"}]


HOSTILE = [None, True, False, 0, -1, 7, 1.5, 10**17, "", "x", "\x00", [], [[]], [None], {}, {"a": {}}, [{"url": 1}],
           [1, "x"], {"name": []}, "https://a.example/"]


@pytest.mark.parametrize("value", HOSTILE, ids=repr)
def test_any_type_may_stand_anywhere(value):
    item = {key: value for key in (*Item._fields, "author", "banner_image")}
    item["attachments"] = [value, {"url": "https://a.example/", "mime_type": value, "size_in_bytes": value,
                                   "duration_in_seconds": value, "title": value}]
    item["authors"] = [value, {"name": value, "url": value, "avatar": value}]
    top = {key: value for key in (*Feed._fields, "author", "favicon", "version")}
    found = parse(json.dumps({**top, "items": [value, item]}).encode())
    text = json.dumps(render(found), ensure_ascii=False)
    assert json.loads(text)["version"] == VERSION
    assert all(isinstance(field, str) for field in found[:6])


@pytest.mark.parametrize("data, reason", [
    (b'{"items":' + b"[" * 200_000 + b"]" * 200_000 + b"}", "the JSON is nested too deeply"),
    (b"[" * 200_000, "the JSON is nested too deeply"),
    (b'{"items": {}}', "this JSON document is not a JSON Feed"),
    (b'{"title": "cut', "line 1: Unterminated string starting at"),
    (b'{"items": []} trailing', "line 1: Extra data"),
])
def test_what_is_no_json_feed_is_refused(data, reason):
    with pytest.raises(MalformedFeed) as refusal:
        parse(data)
    assert str(refusal.value) == reason


def test_huge_numbers_are_passed_over():
    data = b'{"items": [{"id": %s, "url": "https://a.example/", "attachments": [{"url": "https://a.example/1", '
    data += b'"size_in_bytes": 1e999, "duration_in_seconds": NaN}]}]}'
    item = parse(data % (b"9" * 1_000_000)).items[0]
    assert item.id == "https://a.example/"
    assert item.attachments == (Attachment("https://a.example/1"),)
    assert parse(data % (b"9" * DIGITS)).items[0].id == "9" * DIGITS


def test_bounds_leave_notes():
    assert parse(document(items=[{"id": "x"}] * (feed.ITEMS + 1)))[-1] == ("only the first 5,000 items were kept",)
    long = parse(document(title="x" * (feed.TITLE + 1), icon="https://a.example/" + "x" * feed.URL, items=[
        {"id": "1", "content_html": "x" * (feed.TEXT + 1), "date_published": "2026-01-01T00:00:00Z" + " " * 99 + "x",
         "tags": [str(number) for number in range(feed.LIST + 1)]}]))
    assert len(long.title) == feed.TITLE and long.icon == "" and long.items[0].date_published == 1_767_225_600
    assert len(long.items[0].content_html) == feed.TEXT and len(long.items[0].tags) == feed.LIST
    assert len(long.notes) == 5


def test_control_characters_within_strings_are_taken():
    assert parse(b'{"title": "a\nb\x01", "items": []}').title == "a b"


def test_a_title_is_plain_text_already():
    assert only_item(title="<b> &amp; \u202e").title == "<b> &amp;"


def test_mutated_values_are_read_or_refused():
    seed = 7_112_026
    chance = random.Random(seed)
    for step in range(1_000):
        text = list(json.dumps(render(FULL)))
        for _ in range(chance.randint(1, 3)):
            at = chance.randrange(len(text))
            text[at:at + chance.randint(0, 9)] = chance.choice(['"', *"{}[],:-\\", "1e9", "null", "\\u"])
        try:
            json.dumps(render(parse("".join(text).encode())), ensure_ascii=False).encode()
        except MalformedFeed:
            continue
        except Exception as error:
            raise AssertionError(f"seed {seed}, step {step}: {''.join(text)}") from error
