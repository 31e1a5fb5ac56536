"""Near-duplicates: signatures that hold for years, and pairs that are found or left alone."""
from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
import time
import unicodedata
import zlib

import pytest

from penny.stages import near_duplicates
from penny.stages.near_duplicates import MAX_CHARACTERS, MIN_SHINGLES, THRESHOLD, bands, signature, similarity
from support import ROOT

TEXT = ("The old mill by the river was sold on Tuesday to a group of neighbours, who mean to grind flour there again by "
        "the autumn. They paid 41,500 for it. \u201cNobody else wanted the roof,\u201d said Ada Ness, the caf\u00e9\u2019s owner.")
CHINESE = ("\u90bb\u5c45\u4eec\u5728\u661f\u671f\u4e8c\u4e70\u4e0b\u4e86\u6cb3\u8fb9\u7684\u65e7\u78e8\u574a\uff0c\u6253\u7b97\u79cb\u5929"
           "\u4ee5\u524d\u91cd\u65b0\u78e8\u9762\u3002\u5c4b\u9876\u6f0f\u96e8\uff0c\u8c01\u4e5f\u4e0d\u60f3\u8981\u3002")
THAI = ("\u0e42\u0e23\u0e07\u0e2a\u0e35\u0e40\u0e01\u0e48\u0e32\u0e23\u0e34\u0e21\u0e41\u0e21\u0e48\u0e19\u0e49\u0e33"
        "\u0e16\u0e39\u0e01\u0e02\u0e32\u0e22\u0e43\u0e2b\u0e49\u0e40\u0e1e\u0e37\u0e48\u0e2d\u0e19\u0e1a\u0e49\u0e32"
        "\u0e19\u0e40\u0e21\u0e37\u0e48\u0e2d\u0e27\u0e31\u0e19\u0e2d\u0e31\u0e07\u0e04\u0e32\u0e23")
LETTERS = "aeioulnrstdmkpbg"


def pronounceable(chooser):
    return "".join(chooser.choice(LETTERS) for _ in range(chooser.randrange(2, 9)))


def article(chooser, vocabulary, sentences=25):
    """Sentences of words of which a few are frequent, as in any language."""
    return " ".join(" ".join(vocabulary[int(len(vocabulary) * chooser.random() ** 3)] for _ in range(chooser.randrange(8, 25)))
                    .capitalize() + "." for _ in range(sentences))


def altered(chooser, vocabulary, text):
    """A copy with 10 to 30 % of the sentences left out and 3 % of the words changed."""
    sentences = text.split(". ")
    kept = sorted(chooser.sample(range(len(sentences)), round(len(sentences) * chooser.uniform(0.7, 0.9))))
    words = ". ".join(sentences[number] for number in kept).split()
    return " ".join(chooser.choice(vocabulary) if chooser.random() < 0.03 else word for word in words)


def pairs_of(signatures):
    """The positions of two that share a band and are alike enough: what a store finds."""
    members = {}
    for position, one in enumerate(signatures):
        for band in bands(one):
            members.setdefault(band, []).append(position)
    met = {pair for positions in members.values() for pair in itertools.combinations(positions, 2)}
    return {(a, b) for a, b in met if similarity(signatures[a], signatures[b]) >= THRESHOLD}


@pytest.fixture
def chooser():
    seed = random.randrange(1 << 30)
    print("seed", seed)
    return random.Random(seed)


@pytest.fixture
def vocabulary(chooser):
    return [pronounceable(chooser) for _ in range(3000)]


# Signatures -----------------------------------------------------------------------------------------------------------

def test_a_signature_is_what_it_was_when_the_first_one_was_stored():
    """If this fails, every signature that is stored has lost its meaning: do not change the expected values."""
    found = signature(TEXT)
    assert found.hex()[:64] == "002483970469a5890aa86ca90ee434fe136f1e7d172c98c71bcbf0101e4b3e86"
    assert zlib.crc32(found) == 3311455025
    assert bands(found)[:2] == (10277783798916489, 767983209821779198)
    assert zlib.crc32(signature("\u6c34\u306f\u65b9\u5186\u306e\u5668\u306b\u5f93\u3046" * 2 + CHINESE)) == 2024097837
    assert zlib.crc32(signature(THAI)) == 2927242823


def test_a_signature_is_as_its_docstring_says():
    """Written once more, word by word and slot by slot, from the description alone."""
    words = ("the old mill by the river was sold on tuesday to a group of neighbours who mean to grind flour there again by "
             "the autumn they paid 41 500 for it nobody else wanted the roof said ada ness the cafe s owner").split()
    hashes = [zlib.crc32("".join(words[at:at + 3]).encode()) for at in range(len(words) - 2)]
    slots = {}
    while len(slots) < 64:
        for slot in set(range(64)) - set(slots):
            inside = [value for value in hashes if value // 2 ** 26 == slot]
            if inside:
                slots[slot] = min(inside)
        hashes = [((value ^ (value >> 15)) * 0x9E3779B1) % 2 ** 32 for value in hashes]
    assert signature(TEXT) == b"".join(slots[number].to_bytes(4, "big") for number in range(64))
    assert bands(signature(TEXT)) == tuple(
        int.from_bytes(signature(TEXT)[at:at + 8], "big", signed=True) for at in range(0, 128, 8))


def test_a_signature_does_not_depend_on_the_process():
    code = "from penny.stages.near_duplicates import signature; import sys; print(signature(sys.argv[1]).hex())"
    for seed in ("1", "2"):
        shown = subprocess.run([sys.executable, "-c", code, TEXT], cwd=ROOT, check=True, capture_output=True, text=True,
                               env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"})
        assert shown.stdout.strip() == signature(TEXT).hex()


@pytest.mark.parametrize("other", [
    TEXT.upper(), TEXT.replace(" ", " \n\t "), TEXT.replace("\u201c", '"').replace("\u201d", '"').replace("\u2019", "'"),
    TEXT.replace("caf\u00e9", "cafe"), TEXT.replace("mill", "mi\u00adll").replace("roof", "ro\u200bof"), TEXT.replace(",", " \u2014 "),
    unicodedata.normalize("NFD", TEXT), TEXT.replace("for", "\uff46\uff4f\uff52"), TEXT.replace("flour", "\ufb02our"),
    "\ufeff" + TEXT, TEXT + "\ud800", TEXT + " \U0001f600",
], ids=["case", "space", "quotes", "accents", "invisible", "dash", "decomposed", "full width", "ligature", "mark", "surrogate",
        "emoji"])
def test_how_it_is_set_does_not_count(other):
    assert other != TEXT and signature(other) == signature(TEXT)


@pytest.mark.parametrize("text", [
    "", " \n", "Too short to say.", "\u6c34", "\u0301" * 500, "\u201c" * 500, "la la la " * 500, "a" * 100_000, "\ud800" * 100])
def test_a_text_that_says_too_little_has_no_signature(text):
    assert signature(text) is None


def test_the_least_length():
    words = ["word%d" % number for number in range(MIN_SHINGLES + 2)]
    assert signature(" ".join(words)) is not None
    assert signature(" ".join(words[:-1])) is None
    assert signature(" ".join(words[:-1] * 2)) is not None  # there are two more where it begins again


@pytest.mark.parametrize("a, b", [(b"", b""), (bytes(256), bytes(255)), (bytes(257), bytes(256))])
def test_what_is_no_signature_is_refused(a, b):
    with pytest.raises(ValueError, match="cannot read a signature: it has "):
        similarity(a, b)


def test_bands_are_of_one_place_each_and_fit_sqlite(chooser, vocabulary):
    for _ in range(50):
        found = bands(signature(article(chooser, vocabulary, 5)))
        assert len(set(found)) == len(found) == 16
        assert all(-1 << 63 <= band < 1 << 63 for band in found)
        assert [(band % (1 << 64)) >> 58 for band in found] == list(range(0, 32, 2))


# Similarity -----------------------------------------------------------------------------------------------------------

def test_similarity_rises_with_what_is_shared(chooser):
    words = ["%s%d" % (pronounceable(chooser), number) for number in range(1200)]
    whole = signature(" ".join(words[:600]))
    found = [similarity(whole, signature(" ".join(words[600 - shared:1200 - shared]))) for shared in (0, 200, 450, 600)]
    assert found == sorted(found) and found[0] < 0.05 and found[-1] == 1


@pytest.mark.parametrize("length", [30, 60, 120, 400, 1500])
def test_similarity_is_the_share_of_shingles_in_common(chooser, length):
    """Without bias, and no farther off than 64 draws would be, for short texts too."""
    errors = []
    for _ in range(60):
        words = ["%d" % chooser.randrange(1 << 20) for _ in range(2 * length)]
        shared = chooser.randrange(length // 2, length)
        one, other = words[:length], words[:shared] + words[length:2 * length - shared]
        exact = (shared - 2) / (2 * (length - 2) - (shared - 2))
        errors.append(similarity(signature(" ".join(one)), signature(" ".join(other))) - exact)
    assert abs(sum(errors)) / 60 < 0.04
    assert (sum(error * error for error in errors) / 60) ** 0.5 < 0.085


def test_copies_are_found_and_strangers_are_not(chooser, vocabulary):
    originals = [article(chooser, vocabulary) for _ in range(200)]
    copies = [altered(chooser, vocabulary, text) for text in originals]
    found = pairs_of([signature(text) for text in originals + copies])
    assert sum((number, number + 200) in found for number in range(200)) >= 194
    assert [pair for pair in found if pair[0] + 200 != pair[1]] == []


@pytest.mark.parametrize("letters, gap, words", [
    ("".join(map(chr, range(0x4e00, 0x4e00 + 1500))), "", 150), ("".join(map(chr, range(0x3042, 0x3094))), "", 150),
    ("".join(map(chr, range(0x0e01, 0x0e2f))), "", 150), ("".join(map(chr, range(0xac00, 0xac00 + 900))), " ", 150),
    ("".join(map(chr, range(0x0430, 0x0450))), " ", 150), ("".join(map(chr, range(0x0915, 0x093a))) + "\u093e\u093f\u0940", " ", 150),
    ("".join(map(chr, range(0x0621, 0x063b))), " ", 150)], ids=["Han", "kana", "Thai", "Hangul", "Cyrillic", "Devanagari", "Arabic"])
def test_scripts(chooser, letters, gap, words):
    """Copies are found and strangers are not, with spaces between words or without."""
    vocabulary = ["".join(chooser.choice(letters) for _ in range(chooser.randrange(1, 6))) for _ in range(1500)]
    originals = [[chooser.choice(vocabulary) for _ in range(words)] for _ in range(40)]
    copies = [[chooser.choice(vocabulary) if chooser.random() < 0.03 else word for word in text[30:]] for text in originals]
    assert signature(gap.join(originals[0]).upper()) == signature(gap.join(originals[0]))
    found = pairs_of([signature(gap.join(text)) for text in originals + copies])
    assert sum((number, number + 40) in found for number in range(40)) >= 37
    assert [pair for pair in found if pair[0] + 40 != pair[1]] == []


def test_chinese_is_compared_by_its_characters():
    one = signature(CHINESE)
    assert similarity(one, signature(CHINESE.replace("\uff0c", "").replace("\u3002", " \n"))) == 1
    assert similarity(one, signature(CHINESE.replace("\u5c4b\u9876", "\u7a97\u6237"))) > 0.6


def test_an_indic_vowel_sign_does_not_cut_its_word():
    assert near_duplicates._words("\u0915\u093f\u0924\u093e\u092c x") == ["\u0915\u0924\u092c".encode(), b"x"]


# Bounds ---------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("unit", ["word ", "a", "\u6c34", "\u0e01", "\ufdfa", "\u0301\u0323", "a\u0301\u0323\u0301", "\uff9e\uff9f", "\u200b"])
def test_eight_megabytes_take_no_longer_than_the_head(unit):
    text = unit * (8_000_000 // len(unit))
    start = time.process_time()
    signature(text)
    signature(TEXT + text)
    assert time.process_time() - start < 1


def test_what_is_beyond_the_head_is_not_looked_at(chooser, vocabulary):
    text = article(chooser, vocabulary, 300)
    assert len(text) > MAX_CHARACTERS + 5000
    assert signature(text) == signature(text[:MAX_CHARACTERS]) != signature(text[:MAX_CHARACTERS // 2])


def test_any_characters_at_all():
    seed = random.randrange(1 << 30)
    for number in range(300):
        chooser = random.Random(seed + number)
        plane = chooser.choice([0x80, 0x800, 0x3000, 0x10000, 0x110000])
        text = "".join(chr(chooser.randrange(plane)) for _ in range(chooser.randrange(300)))
        found = signature(text)
        assert found is None or len(found) == 256 and len(bands(found)) == 16, seed + number
