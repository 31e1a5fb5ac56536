"""Near-duplicates: whether two articles, of whatever feeds, are the same text but for some words and sentences.

Text goes in, and a signature of 256 bytes comes out, by which any two texts can be compared and like ones be looked up.
Two texts are as alike as the shingles (three words in a row) that they share: J = shared / all (Jaccard), and a
signature estimates J. It has 64 slots, and in each the shingle whose hash is lowest among those that fell there; the
share of slots in which two signatures agree is the estimate, with a standard error of 0.06 at most.

    signature   64 slots, each a big-endian unsigned number of 32 bits; its upper 6 bits are the slot's number
    shingle     CRC-32 (zlib) of its three words as UTF-8, run together
    1st round   each hash falls into the slot of its upper 6 bits, and the lowest stays
    next ones   each hash h becomes (h ^ h >> 15) * 0x9E3779B1 modulo 2**32 and may fall into the slots still empty
    bands       the first 16 pairs of slots, each pair a signed number of 64 bits, as SQLite keeps them

Signatures are stored, so what they are made of must never change: not the words, not the hash, not the order. They
hold whatever the machine's word and byte order and whatever PYTHONHASHSEED; only a letter that Unicode assigned later
than the oldest Python of a lab is a letter to some and a gap to others.

A store looks for items that share one or more bands with a new one, then compares their signatures: a pair is one from
`similarity` THRESHOLD on (stages/index.py).

Why so (1,000 news articles, median 440 words, copies with 10 to 30 % of the sentences left out and 3 % of the words
changed; milliseconds an article for the signature alone, root mean square error of J; tests/bench/near_duplicates.py):
    64 functions a * h + b modulo a prime   5.4 ms, 0.059   and from 30 words 0.37 ms, 0.040
    64 times exclusive or, multiply         4.1 ms, 0.057                     0.27 ms, 0.040
    64 times exclusive or                   1.9 ms, 0.058                     0.12 ms, 0.056
    one permutation, empty slots rotated    0.08 ms, 0.053                    0.05 ms, 0.054
    one permutation, empty slots by rounds  0.06 ms, 0.051                    0.09 ms, 0.029: chosen
CRC-32 of three words takes 0.11 ms an article and BLAKE2b 0.34, for the same error. All in all it is 0.2 ms an article,
where 64 functions would be 5.6. Of 3,000 copies 99.8 % are found with J estimated at 0.35 or more, 99.5 % at 0.4. Among
7.02 million pairs of 3,748 originals 38 are found: 16 tell one event, 16 are later reports that keep much of an earlier
one, 6 are wrong (0.9 in a million; one of these from 0.4 on). 16 bands of two slots lose one copy in 3,000 that whole
signatures would have found; 16 of three lose 1.5 %, 8 of two 1 %, and 32 of two are twice the rows to write.
The rounds that fill what is empty are the idea of S. Dahlgaard, M. Knudsen and M. Thorup, "Fast Similarity Sketching"
(2017): one hash a shingle for a long text, some rounds for a short one, and J without bias for both.

It does not tell a story told in other words, nor a teaser from the article that it is the head of (their J is low), and
it looks at the head of a long text only. Background that a publisher repeats below each article of a topic counts as
text: the pairs that are wrong are mostly of that kind, within one feed.
"""
from __future__ import annotations

import operator
import re
import struct
import unicodedata
import zlib

MAX_CHARACTERS = 12_000  # that are looked at: some 2,000 English words
MIN_SHINGLES = 24        # different ones; a shorter text says too little, and the phrases of its feed too much
THRESHOLD = 0.35

_SLOTS = 64
_BANDS = 16
_EMPTY = 1 << 32  # above every hash
_SIGNATURE = struct.Struct(">%dI" % _SLOTS)
_BAND_KEYS = struct.Struct(">%dq" % _BANDS)

# Of UTF-8: ASCII letters become small, other ASCII but digits becomes a space, the rest stays.
_WORDS = bytes(byte if byte > 127 or chr(byte).isalnum() else 32 for byte in bytes(range(256)).lower())
# Thai, Lao, Burmese and Khmer; Han, kana and bopomofo. They are written without spaces between words, so a space or a
# point in between may be no more than the end of a line.
_UNSPACED = re.compile(
    "[{0}][{0}\\W_]*|[{1}][{1}\\W_]*".format(
        "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff",
        "\u3005-\u3007\u3041-\u30ff\u3105-\u312f\u31a0-\u31ff\u3400-\u9fff\U00020000-\U0003ffff"))


def signature(text: str) -> bytes | None:
    """The signature of a plain text, 256 bytes; None for one too short to be compared."""
    words = _words(text)
    # CRC-32 goes on from where it was left, so three maps are the hashes of all threes without a loop of ours.
    hashes = set(map(zlib.crc32, words[2:], map(zlib.crc32, words[1:], map(zlib.crc32, words))))
    if len(hashes) < MIN_SHINGLES:
        return None
    slots = _lowest(hashes)
    for _ in range(_SLOTS):
        if _EMPTY not in slots:
            break
        hashes = [(value ^ value >> 15) * 0x9E3779B1 & 0xFFFFFFFF for value in hashes]
        slots = [mine if mine != _EMPTY else new for mine, new in zip(slots, _lowest(hashes))]
    # After 64 rounds of 24 hashes a slot is empty once in ten million texts, and then it is so in the copy as well.
    return _SIGNATURE.pack(*(min(value, _EMPTY - 1) for value in slots))


def bands(signature: bytes) -> tuple[int, ...]:
    """The 16 keys under which a signature is looked up, each within 64 bits and with a sign. Texts with J of 0.6 share
    one or more at 99.9 %, of 0.4 at 94 %, of 0.02 at 0.6 %."""
    return _BAND_KEYS.unpack_from(_checked(signature))


def similarity(a: bytes, b: bytes) -> float:
    """How alike the texts of two signatures are, from 0 to 1: an estimate of the share of their shingles in common."""
    return sum(map(operator.eq, _SIGNATURE.unpack(_checked(a)), _SIGNATURE.unpack(_checked(b)))) / _SLOTS


def _checked(signature: bytes) -> bytes:
    if len(signature) != _SIGNATURE.size:
        raise ValueError("cannot read a signature: it has %d bytes, not %d" % (len(signature), _SIGNATURE.size))
    return signature


def _lowest(hashes: set[int] | list[int]) -> list[int]:
    """The lowest hash of each slot."""
    slots = [_EMPTY] * _SLOTS
    for value in hashes:
        slot = value >> 26
        if value < slots[slot]:
            slots[slot] = value
    return slots


def _words(text: str) -> list[bytes]:
    """The words of the head of a text, without case, accents and punctuation."""
    text = text[:MAX_CHARACTERS]
    if not text.isascii():
        # Marks go before normalisation too: it would sort a long run of them in the square of its length.
        text = _letters(text)
        if not text.isascii():
            text = _letters(unicodedata.normalize("NFKD", text).casefold())[:MAX_CHARACTERS]
            text = _UNSPACED.sub(_pieces, text)
    return text.encode().translate(_WORDS).split()


def _letters(text: str) -> str:
    """`text` without marks and invisible characters, and with a space for whatever else is no letter or digit.

    Marks are looked for in every script: an Indic vowel sign is one, and would cut its word in two.
    """
    changed: dict[int, str | None] = {}
    for character in set(text):
        if not character.isalnum() and not character.isascii():
            kind = unicodedata.category(character)
            changed[ord(character)] = None if kind[0] == "M" or kind == "Cf" else " "
    return text.translate(changed) if changed else text


def _pieces(run: re.Match[str]) -> str:
    """A run without spaces as overlapping pieces in the place of words: two Han characters or kana, or four letters of
    South-East Asia, so that three pieces in a row are four characters or six."""
    text = "".join(filter(str.isalnum, run[0]))
    length = 2 if text[0] > "\u2fff" else 4
    return " " + " ".join([text[start:start + length] for start in range(max(1, len(text) - length + 1))]) + " "
