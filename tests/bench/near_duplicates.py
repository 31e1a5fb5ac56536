"""How well and how fast near-duplicates are found: `python3 tests/bench/near_duplicates.py ARTICLES [--count N]`.

ARTICLES is a folder, a zip or a file: each .txt is an article, and so is each row of a .csv with a column `text`. Of N
of them, chosen by the seed, each gets a copy with 10 to 30 % of its sentences left out and 3 % of its words changed.
Printed are the share of copies that are found (a band in common, and alike enough), the pairs found among all the
originals with the exact J of each, to be judged by hand, the time an article takes, and what other ways would give.
"""
from __future__ import annotations

import argparse
import csv
import hashlib
import io
import itertools
import math
import os
import random
import re
import statistics
import sys
import time
import zipfile
import zlib
from typing import Callable, Iterator, Sequence

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from penny.stages import near_duplicates  # noqa: E402

LEAST_WORDS = 30  # of an article that is used
PRIME = (1 << 61) - 1
CONSTANTS = [(random.Random(number).getrandbits(60) | 1, random.Random(-number - 1).getrandbits(32)) for number in range(64)]


def texts_of(name: str, data: bytes) -> Iterator[str]:
    if name.endswith(".zip"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for inner in sorted(archive.namelist()):
                yield from texts_of(inner, archive.read(inner))
    elif name.endswith(".txt"):
        yield data.decode("utf-8", "replace")
    elif name.endswith(".csv"):
        csv.field_size_limit(1 << 24)
        for row in csv.DictReader(io.StringIO(data.decode("utf-8", "replace"))):
            yield row["text"]


def read_articles(path: str) -> list[str]:
    found = []
    names = [path] if os.path.isfile(path) else [os.path.join(at, name) for at, _, files in os.walk(path) for name in files]
    for name in sorted(names):
        with open(name, "rb") as file:
            found += texts_of(name, file.read())
    return [text for text in found if len(text.split()) >= LEAST_WORDS]


def altered(text: str, words: Sequence[str], chooser: random.Random) -> str:
    """A copy with 10 to 30 % of the sentences left out and 3 % of the words changed for others of `words`."""
    sentences = re.split(r"(?<=[.!?])\s+", text)
    gone = set(chooser.sample(range(len(sentences)), round(len(sentences) * chooser.uniform(0.1, 0.3))))
    kept = " ".join(one for number, one in enumerate(sentences) if number not in gone).split()
    return " ".join(chooser.choice(words) if chooser.random() < 0.03 else word for word in kept)


# Other ways -----------------------------------------------------------------------------------------------------------

def triples(text: str) -> set[tuple[bytes, ...]]:
    words = near_duplicates._words(text)
    return set(zip(words, words[1:], words[2:]))


def crc(shingles: set[tuple[bytes, ...]]) -> set[int]:
    return {zlib.crc32(b"".join(one)) for one in shingles}


def blake(shingles: set[tuple[bytes, ...]]) -> set[int]:
    return {int.from_bytes(hashlib.blake2b(b" ".join(one), digest_size=4).digest(), "big") for one in shingles}


def universal(hashes: set[int]) -> list[int]:
    return [min([(a * value + b) % PRIME for value in hashes]) for a, b in CONSTANTS]


def exclusive_or(hashes: set[int]) -> list[int]:
    return [min([value ^ b for value in hashes]) for _, b in CONSTANTS]


def exclusive_or_and_multiply(hashes: set[int]) -> list[int]:
    return [min([(value ^ b) * 0x9E3779B1 & 0xFFFFFFFF for value in hashes]) for _, b in CONSTANTS]


def one_permutation(hashes: set[int]) -> list[int]:
    """An empty slot takes what the next full one has."""
    slots = near_duplicates._lowest(hashes)
    filled = []
    for number in range(64):
        steps = next(steps for steps in range(64) if slots[(number + steps) % 64] < 1 << 32)
        filled.append(slots[(number + steps) % 64] + (steps << 32))
    return filled


def rounds(hashes: set[int]) -> list[int]:
    """What penny does, on hashes that are given."""
    slots = near_duplicates._lowest(hashes)
    while 1 << 32 in slots:
        hashes = [(value ^ value >> 15) * 0x9E3779B1 & 0xFFFFFFFF for value in hashes]
        slots = [mine if mine < 1 << 32 else new for mine, new in zip(slots, near_duplicates._lowest(hashes))]
    return slots


def four_bits(hashes: set[int]) -> list[int]:
    return [value & 15 for value in rounds(hashes)]


WAYS: list[tuple[str, Callable, Callable]] = [
    ("64 x universal hashing", crc, universal), ("64 x xor and multiply", crc, exclusive_or_and_multiply),
    ("64 x xor", crc, exclusive_or), ("one permutation, rotation", crc, one_permutation),
    ("rounds, 4 bits a slot", crc, four_bits), ("rounds on BLAKE2b", blake, rounds), ("rounds on CRC-32", crc, rounds)]


def compare_ways(title: str, originals: list[str], copies: list[str]) -> None:
    pairs = [(triples(one), triples(other)) for one, other in zip(originals, copies)]
    pairs = [pair for pair in pairs if min(map(len, pair)) >= near_duplicates.MIN_SHINGLES]
    exact = [jaccard(one, other) for one, other in pairs]
    print("%s: J %.2f on average, expected error of 64 draws %.3f" % (
        title, statistics.mean(exact), math.sqrt(statistics.mean(j * (1 - j) / 64 for j in exact))))
    for name, hashed, sketch in WAYS:
        hashes = [(hashed(one), hashed(other)) for one, other in pairs]
        taken, errors = 0.0, []
        for j, (one, other) in zip(exact, hashes):
            start = time.process_time()
            mine, theirs = sketch(one), sketch(other)
            taken += time.process_time() - start
            share = sum(a == b for a, b in zip(mine, theirs)) / 64
            errors.append((share if sketch is not four_bits else (share - 1 / 16) * 16 / 15) - j)
        print("  %-26s %.3f ms from hash to signature, bias %+.4f, error %.3f" % (
            name, taken * 500 / len(pairs), statistics.mean(errors), math.sqrt(statistics.mean(e * e for e in errors))))


def jaccard(one: set, other: set) -> float:
    return len(one & other) / (len(one | other) or 1)


# What penny does --------------------------------------------------------------------------------------------------------

def measure_recall(signatures: list[bytes | None], copies: list[bytes | None]) -> None:
    both = [(a, b) for a, b in zip(signatures, copies) if a and b]
    met = [near_duplicates.similarity(a, b) for a, b in both if set(near_duplicates.bands(a)) & set(near_duplicates.bands(b))]
    print("recall: %.4f of %d copies (%d pairs too short to say)" % (
        sum(found >= near_duplicates.THRESHOLD for found in met) / len(both), len(both), len(signatures) - len(both)))
    for threshold in (0.25, 0.3, 0.35, 0.4, 0.45):
        print("  at %.2f: %.4f, and %.4f without bands" % (
            threshold, sum(found >= threshold for found in met) / len(both),
            sum(near_duplicates.similarity(a, b) >= threshold for a, b in both) / len(both)))


def find_pairs(signatures: list[bytes | None]) -> tuple[list[tuple[float, int, int]], int]:
    """The pairs that are found, as (similarity, position, position), and how many were candidates."""
    members: dict[int, list[int]] = {}
    for position, signature in enumerate(signatures):
        for band in near_duplicates.bands(signature) if signature else ():
            members.setdefault(band, []).append(position)
    candidates = {pair for positions in members.values() for pair in itertools.combinations(positions, 2)}
    found = [(near_duplicates.similarity(signatures[a], signatures[b]), a, b) for a, b in candidates]
    return sorted((one for one in found if one[0] >= near_duplicates.THRESHOLD), reverse=True), len(candidates)


def show_pairs(articles: list[str], signatures: list[bytes | None], shown: int) -> None:
    pairs, candidates = find_pairs(signatures)
    possible = len(articles) * (len(articles) - 1) / 2e6
    print("among %d originals, %.2f million pairs: %d candidates, %d found, %.1f in a million" % (
        len(articles), possible, candidates, len(pairs), len(pairs) / possible))
    for found, a, b in pairs[-shown:] if shown else []:
        one, other = triples(articles[a]), triples(articles[b])
        print("  similarity %.2f, J %.2f" % (found, jaccard(one, other)))
        for text in (articles[a], articles[b]):
            print("      %4d words: %s" % (len(text.split()), " ".join(text.split())[:150]))


def milliseconds(work: Callable[[str], object], texts: list[str]) -> float:
    """An article, the best of three goes: what else the machine does only ever adds to it."""
    taken = []
    for _ in range(3):
        start = time.process_time()
        for text in texts:
            work(text)
        taken.append(time.process_time() - start)
    return min(taken) / len(texts) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("articles", help="a folder, a zip, a .csv or a .txt")
    parser.add_argument("--count", type=int, default=1000, help="articles that get a copy")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--shown", type=int, default=30, help="pairs shown, the least alike of those found")
    parser.add_argument("--ways", action="store_true", help="measure other ways too")
    options = parser.parse_args()
    articles = read_articles(options.articles)
    chooser = random.Random(options.seed)
    chosen = chooser.sample(articles, min(options.count, len(articles)))
    words = [word for text in chosen[:200] for word in text.split()]
    copies = [altered(text, words, chooser) for text in chosen]
    print("%d articles, %d with a copy, median %d words, seed %d" % (
        len(articles), len(chosen), statistics.median(len(text.split()) for text in chosen), options.seed))
    signatures = [near_duplicates.signature(text) for text in chosen]
    measure_recall(signatures, [near_duplicates.signature(text) for text in copies])
    print("%.2f ms an article, %.2f with curly quotes, %.2f for 12,000 characters" % (
        milliseconds(near_duplicates.signature, chosen),
        milliseconds(near_duplicates.signature, [text.replace("'", "\u2019") + "\u2019" for text in chosen]),
        milliseconds(near_duplicates.signature, [(text * 100)[:6000] + text[::-1] * 100 for text in chosen[:50]])))
    show_pairs(articles, [near_duplicates.signature(text) for text in articles], options.shown)
    if options.ways:
        compare_ways("whole articles", chosen, copies)
        heads = [" ".join(text.split()[:30]) for text in chosen]
        compare_ways("their first 30 words", heads, [altered(text, words, chooser) for text in heads])


if __name__ == "__main__":
    main()
