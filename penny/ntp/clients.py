"""Who asks: a table of fixed size, so that no number of spoofed addresses takes more memory, with chrony's rate limit.

An address finds its slot by its seeded hash, in a row of WAYS; a new one takes the slot of the row that was not heard of
for longest. IPv6 counts by /64, since a client has that many addresses to itself. Each slot has a bucket of tokens that
fills up by one in each interval to BURST at most; a question costs one. When it is empty one question in LEAK is
answered all the same: who sends in a victim's name must not be able to lock it out (chrony.conf, ratelimit).
"""
from __future__ import annotations

import socket
from array import array

ROWS, WAYS = 1024, 4
SLOTS = ROWS * WAYS
BURST = 8
LEAK = 4


class Clients:
    """`interval` is the seconds in which an address may ask once, over time; 0 for as often as it likes."""

    def __init__(self, interval: float) -> None:
        self.interval = interval
        self.keys = array("q", bytes(8 * SLOTS))  # 0: free
        self.seen = array("d", bytes(8 * SLOTS))  # when it asked last, and when its bucket was filled up to now
        self.tokens = array("d", bytes(8 * SLOTS)) if interval else array("d")
        self.refused = 0

    def find(self, host: str) -> int:
        """The slot of an address that has asked before, else -1."""
        key = hash(host) if ":" not in host else key_of(host)  # as key_of has it, without the call
        keys, slot = self.keys, (key & ROWS - 1) * WAYS
        if keys[slot] == key:  # unrolled: this is done for every packet
            return slot
        if keys[slot + 1] == key:
            return slot + 1
        if keys[slot + 2] == key:
            return slot + 2
        return slot + 3 if keys[slot + 3] == key else -1

    def add(self, host: str, now: float) -> int:
        """A slot for an address that has none."""
        key = key_of(host)
        row = (key & ROWS - 1) * WAYS
        slot = min(range(row, row + WAYS), key=self.seen.__getitem__)
        self.keys[slot], self.seen[slot] = key, now
        if self.interval:
            self.tokens[slot] = BURST
        return slot

    def may_ask(self, slot: int, now: float) -> bool:
        """Whether the rate limit lets this question pass; `now` is monotonic."""
        earned = max(0.0, now - self.seen[slot]) / self.interval
        self.seen[slot] = now
        tokens = min(BURST, self.tokens[slot] + earned)
        if tokens >= 1:
            self.tokens[slot] = tokens - 1
            return True
        self.tokens[slot] = tokens
        self.refused += 1
        return self.refused % LEAK == 0

    def active(self, since: float) -> int:
        """How many addresses have asked since then."""
        return sum(bool(key) and seen >= since for key, seen in zip(self.keys, self.seen))


def key_of(host: str) -> int:
    """A seeded hash (PYTHONHASHSEED) of an IPv4 address or of the /64 of an IPv6 one; never 0."""
    if ":" in host:
        return hash(socket.inet_pton(socket.AF_INET6, host.partition("%")[0])[:8]) or 1
    return hash(host) or 1
