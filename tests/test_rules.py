"""The owner's rules: what may be written, and what is met."""
from __future__ import annotations

import contextlib
import random
import sqlite3
import sys
import time

import pytest

from penny.stages import rules
from penny.stages.rules import Rule, Table, Verdict, words_of

SAMPLE = rules.listed(rules.phrases("crypto, horse racing"), rules.phrases("Caf\u00e9"),
                      rules.tags("retro: pentium, 486; kernel: linux kernel"))


@pytest.mark.parametrize("text, words", [
    ("The Caf\u00e9's 486-DX!", "the cafe s 486 dx"), ("cafe\u0301 \u00c4RGER Stra\u00dfe", "cafe arger strasse"), ("snake_case", "snake case"),
    ("\u65e5\u672c\u8a9e OK", "\u65e5 \u672c \u8a9e ok"), ("\u041b\u0418\u041d\u0423\u041a\u0421", "\u043b\u0438\u043d\u0443\u043a\u0441"),
    ("", ""), ("\u0301\u0301 ... \ud800", ""), ("Donau\u00addampf \u2764\ufe0f", "donaudampf"),
    ("\u0926\u093f\u0928 \u0926\u093e\u0928, \u0926\u0941\u0928!", "\u0926\u093f\u0928 \u0926\u093e\u0928 \u0926\u0941\u0928")])
def test_words(text, words):
    assert words_of(text) == words.split()


@pytest.mark.parametrize("one, other", [
    ("\u0926\u093f\u0928", "\u0926\u093e\u0928"), ("\u0915\u092e\u0932", "\u0915\u094b\u092e\u0932"),
    ("\u09ae\u09be", "\u09ae\u09bf"),
    ("\u0baa\u0bb2", "\u0baa\u0bbe\u0bb2\u0bcd"), ("\u0e01\u0e32", "\u0e01\u0e33"), ("\u1000\u102c", "\u1000\u1031")])
def test_another_vowel_is_another_word(one, other):
    assert words_of(one) != words_of(other) and words_of(one) != words_of(one[0])


CHARACTERS = [chr(number) for number in range(sys.maxunicode + 1)]


@pytest.mark.parametrize("characters", [
    pytest.param(CHARACTERS[:0x3400] + CHARACTERS[0xd7a0:0x12000] + CHARACTERS[0x1b000:0x20000], id="most"),
    pytest.param(CHARACTERS, id="all", marks=pytest.mark.slow)])
def test_what_words_are_made_of_any_character_is_found_again(characters):
    text = " ".join(characters) + " " + " ".join("a%sb" % character for character in characters)
    words = words_of(text)
    assert words_of(" ".join(words)) == words and len(set(words)) > len(characters) / 10
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        # As index.prepare makes it.
        db.execute("CREATE VIRTUAL TABLE search USING fts5(text, content='', columnsize=0, tokenize='ascii')")
        db.execute("CREATE VIRTUAL TABLE terms USING fts5vocab(search, row)")
        db.execute("INSERT INTO search (rowid, text) VALUES (1, ?)", (" ".join(words),))
        assert {term for term, in db.execute("SELECT term FROM terms")} == set(words)


def test_words_in_place_are_the_words_where_they_are():
    seed = random.randrange(1 << 30)
    chooser = random.Random(seed)
    for _ in range(300):
        text = "".join(chooser.choices(CHARACTERS, k=20) + chooser.choices("ab \u0e48\u0926\u093f\u0301\u65e5\uac01-_", k=20))
        assert [word for word, _ in rules.words_in_place(text)] == words_of(text), (seed, text)
    assert list(rules.words_in_place(
        "A Caf\u00e9's \u65e5\u672c.")) == [("a", 0), ("cafe", 2), ("s", 7), ("\u65e5", 9), ("\u672c", 10)]


@pytest.mark.parametrize("text, mark, labels", [
    ("Nothing of that", 0, ()), ("CRYPTO!", -1, ()), ("cryptography", 0, ()), ("horse, racing", -1, ()), ("horse and racing", 0, ()),
    ("a cafe", 1, ()), ("crypto in a CAFE\u0301", 1, ()), ("the 486", 0, ("retro",)), ("Pentium: Linux-Kernel 2.0", 0, ("kernel", "retro")),
    ("linux linux kernel", 0, ("kernel",)), ("horse", 0, ()), ("racing", 0, ())])
def test_what_is_met(text, mark, labels):
    assert Table(SAMPLE).apply(words_of(text)) == Verdict(mark, labels)
    assert Table(()).apply(words_of(text)) == Verdict()


def test_phrases_are_found_where_a_slow_search_finds_them():
    seed = random.randrange(1 << 30)
    chooser = random.Random(seed)
    for _ in range(300):
        words = chooser.choices("abc", k=12)
        phrases = {" ".join(chooser.choices("abc", k=chooser.randrange(1, 5))) for _ in range(4)}
        expected = {phrase for phrase in phrases if " %s " % phrase in " %s " % " ".join(words)}
        assert set(Table(Rule("tag", phrase, phrase) for phrase in phrases).apply(words).labels) == expected, seed


def test_lists():
    assert rules.phrases("") == rules.phrases(" , ") == () and rules.phrases("a b ,, c") == ("a b", "c")
    assert rules.tags("") == () and rules.tags("x y: a, b; z: c;") == (("x y", ("a", "b")), ("z", ("c",)))
    assert SAMPLE[0] == Rule("drop", "", "crypto") and SAMPLE[-1] == Rule("tag", "kernel", "linux kernel")


@pytest.mark.parametrize("convert, value", [
    (rules.phrases, "good, !!!"), (rules.phrases, ",".join(map(str, range(rules.MAX_PHRASES + 1)))),
    (rules.phrases, "x" * (rules.MAX_PHRASE + 1)), (rules.tags, "no colon"), (rules.tags, ": a"), (rules.tags, "a:"),
    (rules.tags, "a: ,"), (rules.tags, "a: !!!"), (rules.tags, "%s: a" % ("x" * (rules.MAX_LABEL + 1))), (rules.tags, "a\x1b: b"),
    (rules.tags, "a: %s; b: c" % ",".join(map(str, range(rules.MAX_PHRASES))))])
def test_what_cannot_be_a_rule_is_said(convert, value):
    with pytest.raises(ValueError, match="phrases|tags such as"):
        convert(value)


@pytest.mark.parametrize("unit", ["word ", "a", "a\u0301\u0323\u0301", "\u65e5", "\ufdfa", "_"])
def test_many_rules_and_a_long_text_take_bounded_time(unit):
    table = Table(Rule("drop", "", "word" + " word" * (number % 20) + " end%d" % number) for number in range(100))
    start = time.process_time()
    table.apply(words_of(unit * (100_000 // len(unit)))[:5_000])
    assert time.process_time() - start < 2


def test_what_an_item_costs_does_not_grow_with_the_number_of_rules():
    words = "the x y z q r s".split() * 2_000
    def cost(number):
        table = Table(Rule("drop", "", "the w%d" % one) for one in range(number))
        start = time.process_time()
        for _ in range(5):
            assert table.apply(words) == Verdict()
        return time.process_time() - start
    assert cost(1000) < 10 * cost(1) + 0.1
