"""The owner's rules: phrases by which items are dropped, raised or tagged. Pure.

A phrase is one word or several in a row, found as whole words, whatever their case and accents. Phrases are parted by
commas; `tag` names each list of them: `retro: pentium, 486; kernel: linux kernel`. What is dropped and raised is raised:
a rule must not hide what another asks for.

Words are looked up in a table, not by expressions: what an item costs does not grow with the number of rules, only with
how many lengths the phrases have that begin with one of its words.
"""
from __future__ import annotations

import re
import unicodedata
from typing import Iterable, Iterator, NamedTuple, Sequence

MAX_PHRASES = 1_000  # of one setting
MAX_PHRASE = 200  # characters
MAX_LABEL = 40  # characters of a tag
KINDS = {"drop": -1, "raise": 1, "tag": 0}  # and the mark that each leaves

_WORD = re.compile("[0-9a-z]+")
# Han, kana, bopomofo, Thai, Lao, Burmese and Khmer are written without spaces: each character counts as a word, so that
# a word is found as the phrase of its characters.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3041-\u30ff\u3105-\u312f\u31a0-\u31ff"
                       "\u3400-\u9fff\U00020000-\U0003ffff]")
_RUN = re.compile(_UNSPACED.pattern + "|[^ %s+" % _UNSPACED.pattern[1:])
# Soft hyphens and what chooses between the shapes of a letter: nobody types them.
_UNSEEN = re.compile("[\u00ad\u034f\u180b-\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef]")


class Rule(NamedTuple):
    kind: str  # one of KINDS
    label: str  # of a tag, else ""
    phrase: str  # as the owner wrote it


class Verdict(NamedTuple):
    """What the rules make of an item."""

    mark: int = 0  # -1 dropped, 1 raised
    labels: tuple[str, ...] = ()


def words_of(text: str) -> list[str]:
    """The words of a text, without case, accents and punctuation: what rules and searches compare."""
    if text.isascii():
        return _WORD.findall(text.lower())
    # Accents go first, too: to normalise sorts a long run of them in the square of its length.
    text = unicodedata.normalize("NFD", _changed(text, accent="", other=None).casefold())
    return _UNSPACED.sub(r" \g<0> ", _changed(text, accent="", other=" ")).split()


def words_in_place(text: str) -> Iterator[tuple[str, int]]:
    """The words of a text as words_of gives them, each with where in it the word begins."""
    apart = _changed(text, accent="\u0301", other=" ")  # as long as it was
    return ((word, run.start()) for run in _RUN.finditer(apart) for word in words_of(run[0]))


def _changed(text: str, accent: str, other: str | None) -> str:
    """A text with its accents changed into `accent` and what parts words into `other`; None leaves it. Marks that stand
    for a sound of their own stay: an Indic word is another one with another vowel sign."""
    changes: dict[int, str] = {}
    for character in set(text):
        if character.isalnum():
            continue
        if unicodedata.combining(character) or _UNSEEN.match(character):
            changes[ord(character)] = accent
        elif other is not None and unicodedata.category(character) not in ("Mc", "Mn"):
            changes[ord(character)] = other
    return text.translate(changes) if changes else text


def phrases(value: str) -> tuple[str, ...]:
    """The phrases of a setting, parted by commas. Raises ValueError with what was expected."""
    found = tuple(" ".join(part.split()) for part in value.split(",") if part.strip())
    if not all(map(words_of, found)) or any(len(phrase) > MAX_PHRASE for phrase in found):
        raise ValueError("phrases with letters or digits, parted by commas")
    if len(found) > MAX_PHRASES:
        raise ValueError("at most %d phrases" % MAX_PHRASES)
    return found


def tags(value: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Tags, each with its phrases. Raises ValueError with what was expected."""
    found = []
    for part in filter(str.strip, value.split(";")):
        label, colon, rest = part.partition(":")
        label = " ".join(label.split())
        if not colon or not label or "," in label or len(label) > MAX_LABEL or not label.isprintable() or not phrases(rest):
            raise ValueError("tags such as retro: pentium, 486; kernel: linux kernel")
        found.append((label, phrases(rest)))
    if sum(len(named) for _, named in found) > MAX_PHRASES:
        raise ValueError("at most %d phrases" % MAX_PHRASES)
    return tuple(found)


def listed(drop: Sequence[str], raised: Sequence[str], tagged: Iterable[tuple[str, Sequence[str]]]) -> tuple[Rule, ...]:
    """The rules one by one, from the values of the three settings."""
    return (tuple(Rule("drop", "", phrase) for phrase in drop) + tuple(Rule("raise", "", phrase) for phrase in raised)
            + tuple(Rule("tag", label, phrase) for label, named in tagged for phrase in named))


class Table:
    """Rules, ready to be applied."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._rules: dict[tuple[str, ...], list[Rule]] = {}  # by their words
        self._lengths: dict[str, set[int]] = {}  # in words, by the first of them
        for rule in rules:
            words = tuple(words_of(rule.phrase))
            self._rules.setdefault(words, []).append(rule)
            self._lengths.setdefault(words[0], set()).add(len(words))

    def apply(self, words: Sequence[str]) -> Verdict:
        """What the rules make of an item with these words, as words_of gives them."""
        met = [rule for position in [at for at, word in enumerate(words) if word in self._lengths]
               for length in self._lengths[words[position]]
               for rule in self._rules.get(tuple(words[position:position + length]), ())]
        mark = max((KINDS[rule.kind] for rule in met if rule.kind != "tag"), default=0)
        return Verdict(mark, tuple(sorted({rule.label for rule in met if rule.kind == "tag"})))
