from __future__ import annotations

import random

import pytest

from penny.stages import extract


@pytest.mark.parametrize("source, text", [
    ("<p>One.</p><p>Two.</p><p>Three.</p>", "One. Two."),
    ("Mr. Smith met Dr. J. Jones. They spoke. Then it rained.", "Mr. Smith met Dr. J. Jones. They spoke."),
    ("It costs 3.50 in the U.S. market today. Yes.", "It costs 3.50 in the U.S. market today. Yes."),
    ("<script>alert('x. Y.')</script><style>a{b:c}</style>Real text. More.", "Real text. More."),
    ("<!-- hidden. Text. -->Seen.", "Seen."),
    ("a &lt;b&gt; &amp;amp; c", "a <b> &amp; c"),
    ("Was it? Yes! No.", "Was it? Yes!"),
    ("<p>no full stop</p><p>Second block here</p>third", "no full stop Second block here"),
    ("これは文です。二つ目です。三つ目。", "これは文です。 二つ目です。"),
    ("<p>A line that\nwas wrapped. Second\nhere.</p>", "A line that was wrapped. Second here."),
    ("Plain text that\nwas wrapped.\n\nNext one", "Plain text that was wrapped. Next one"),
    ("<p>Seen.</p><script>var hidden = 1. Hidden.", "Seen."), ("Seen.<!-- hidden", "Seen."), ("Seen. <a href='cut", "Seen."),
    ("<p>Seen.</p><style>" + "a{b:c} " * 2000 + "</style>", "Seen."),
    ("", ""), ("<img src=x>", ""), ("<a title='1 > 0' href=x>link</a>", "0' href=x>link"),
    ("zero\u200bwidth \u202eevil\u202c", "zerowidth evil"),
])
def test_lead(source, text):
    assert extract.lead(source) == text


def test_a_first_line_that_repeats_the_title_is_passed_over():
    assert extract.lead("<h1>Big news</h1><p>It happened.</p>", "Big News.") == "It happened."


def test_an_extract_is_bounded_and_says_so():
    found = extract.lead("word " * 1000)
    assert len(found) <= extract.MAX_EXTRACT + 1 and found.endswith("word\u2026")


def test_whatever_comes_in_one_clean_line_comes_out():
    seed = random.randrange(1 << 30)
    alphabet = ["<", ">", "<p>", "</p>", "<script", "<!--", "-->", "&", "&#0;", "&#xD800;", ";", "a", "B", ". ", "\n", "\r", "\x00",
                "\u202e", "\u2028", "\x85", "'", '"', "=", "/", "\u3002", "</script>", "é", "&#10;"]
    for number in range(3000):
        chooser = random.Random(seed + number)
        source = "".join(chooser.choice(alphabet) for _ in range(chooser.randrange(60)))
        found = extract.lead(source)
        assert "\n" not in found and "\r" not in found, (seed + number, source)
        assert not set(found) & set("\x00\u202e\u2028\x85"), (seed + number, source)
        found.encode()
