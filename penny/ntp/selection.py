"""Which servers to believe: from what each of them answered to one offset, and how far that may be wrong. Pure.

A server's time is right within its root distance: half the way to it and from there to the primary clock, and all that
the clocks on the way may have drifted. So each server says "the true offset lies in here", and where most of these spans
overlap is the truth, as long as less than half of the servers lie. Only a strict majority counts, that is all in one place:
without one there is no answer. A server alone is believed only where nobody else was asked.

The bound of the result is a promise: whatever the lies, the true offset is within it if a majority was honest. It is the
reach of all places where a majority overlaps, which may be wider than where most do.

Left out on purpose: the cluster algorithm (RFC 5905 11.2.2), which prunes honest servers of many for less jitter.

Sources: RFC 5905 sections 8 (on-wire), 10 (clock filter), 11.2.1 and 11.2.3 (select, combine), appendix A.5.5.2 (root
distance); chrony's sources.c, whose stricter rule is taken: who is selected contains all of the place where most agree.
"""
from __future__ import annotations

import math
from typing import Iterable, NamedTuple, Sequence

from penny.wire.ntp_packet import MAX_STRATUM, UNSYNCHRONISED, Reply, unix_nanoseconds

DRIFT = 15e-6  # seconds a second that a clock may go wrong (RFC 5905, PHI)
PRECISION = 2.0 ** -20  # of our own readings, seconds
MIN_DISTANCE = 0.001  # seconds; honest clocks of one room must not contradict each other (ntpd: tos mindist)
MAX_DISTANCE = 3.0  # seconds (chrony: maxdistance)
OLDEST = 86_400_000_000_000  # nanoseconds since a server's clock was set


class Sample(NamedTuple):
    """One question and its answer. Spans are seconds."""

    offset: float  # what our clock lacks
    delay: float  # there and back, without the time that the server took
    dispersion: float  # at `taken`
    taken: int  # when the answer came, Unix nanoseconds of our clock
    reply: Reply


class Peer(NamedTuple):
    """What the samples of one server come to: the best of them, and how much the others differ."""

    offset: float
    delay: float
    dispersion: float
    jitter: float
    reply: Reply

    @property
    def root_delay(self) -> float:
        return self.reply.root_delay + self.delay

    @property
    def root_dispersion(self) -> float:
        return self.reply.root_dispersion + self.dispersion + self.jitter

    @property
    def distance(self) -> float:
        """By how much its time may be wrong at most."""
        return max(MIN_DISTANCE, self.root_delay / 2 + self.root_dispersion)


class Choice(NamedTuple):
    """What the servers come to. Hosts are as they were asked for."""

    offset: float | None  # what our clock lacks; None without a majority
    bound: float  # by how much that may be wrong
    selected: tuple[str, ...]  # the most exact one first
    rejected: dict[str, str]  # with the reason


def measure(reply: Reply, sent: int, received: int, near: int) -> Sample:
    """A sample from a reply and our own times of asking and of the answer, Unix nanoseconds; the server's times are taken
    in the era that is next to `near`."""
    arrived, left = unix_nanoseconds(reply.receive, near), unix_nanoseconds(reply.transmit, near)
    return Sample((arrived - sent + left - received) / 2e9, max(PRECISION, (received - sent - (left - arrived)) / 1e9),
                  2.0 ** reply.precision + PRECISION + DRIFT * (received - sent) / 1e9, received, reply)


def clock_filter(samples: Sequence[Sample], now: int) -> Peer:
    """The sample with the least delay, as it is at `now` (Unix nanoseconds): what delays a packet delays it one way."""
    best = min(samples, key=lambda one: one.delay)
    squares = sum((one.offset - best.offset) ** 2 for one in samples)
    return Peer(best.offset, best.delay, best.dispersion + DRIFT * max(0, now - best.taken) / 1e9,
                math.sqrt(squares / max(1, len(samples) - 1)), best.reply)


def unfit(peer: Peer, own_id: bytes) -> str:
    """Why a server has no vote, "" if it has one. `own_id` is the reference id of our own address, as that server sees it.

    Its times are compared with each other, never with our clock, which may be the one that is wrong."""
    reply = peer.reply
    left = unix_nanoseconds(reply.transmit, 0)  # in any era
    age = left - unix_nanoseconds(reply.reference_time, left)
    if reply.leap == UNSYNCHRONISED or reply.stratum == 0:
        return "it is not synchronised"
    if reply.stratum > MAX_STRATUM:
        return "it is of stratum %d" % reply.stratum
    if unix_nanoseconds(reply.receive, left) > left:
        return "it answered before it was asked"
    if not reply.reference_time:
        return "its clock was never set"
    if not 0 <= age <= OLDEST:
        return "its clock was last set %s" % ("in the future" if age < 0 else "%d hours ago" % (age // 3_600_000_000_000))
    if peer.distance > MAX_DISTANCE:
        return "its time may be wrong by %s" % shown(peer.distance)
    if reply.stratum > 1 and reply.reference_id == own_id:
        return "it takes its time from this box"
    return ""


def choose(peers: dict[str, Peer], asked: int) -> Choice:
    """Whom of the servers that have a vote to believe, of so many that were asked."""
    majority = len(peers) // 2 + 1
    spans = {host: (peer.offset - peer.distance, peer.offset + peer.distance) for host, peer in peers.items()}
    low, high = next(filter(None, (overlap(spans.values(), most) for most in range(len(peers), 0, -1))), (0.0, 0.0))
    selected = [host for host, (start, end) in spans.items() if start <= low and high <= end]
    if len(selected) < majority:
        return _nobody(peers, "no majority of %d servers agrees on one time" % len(peers))
    if len(peers) == 1 and asked > 1:
        return _nobody(peers, "it is the only one of %d servers that has a vote" % asked)
    selected.sort(key=lambda host: peers[host].distance)
    offset = max(low, min(high, combine([peers[host] for host in selected])))
    first, last = overlap(spans.values(), majority) or (low, high)
    return Choice(offset, max(last - offset, offset - first), tuple(selected),
                  {host: _contradiction(span, low, high) for host, span in spans.items() if host not in selected})


def overlap(spans: Iterable[tuple[float, float]], most: int) -> tuple[float, float] | None:
    """The first and the last point that lies in at least so many spans. Between them may be points that do not."""
    spans = list(spans)

    def depth(point: float) -> int:
        return sum(start <= point <= end for start, end in spans)
    # Spans that touch in a point overlap there: the depth rises at a start, and falls only after an end.
    starts = [start for start, _ in spans if depth(start) >= most]
    ends = [end for _, end in spans if depth(end) >= most]
    return (min(starts), max(ends)) if starts else None


def combine(peers: Sequence[Peer]) -> float:
    """The mean of their offsets, each with the weight of its exactness."""
    weights = [1 / peer.distance for peer in peers]
    return sum(weight * peer.offset for weight, peer in zip(weights, peers)) / sum(weights)


def shown(seconds: float) -> str:
    """A span for a person."""
    if abs(seconds) < 1:
        return "%.3f ms" % (seconds * 1e3)
    return ("%.1f s" if abs(seconds) < 100 else "%.0f s") % seconds


def _nobody(peers: dict[str, Peer], reason: str) -> Choice:
    return Choice(None, math.inf, (), {host: reason for host in peers})


def _contradiction(span: tuple[float, float], low: float, high: float) -> str:
    apart = max(span[0] - high, low - span[1])
    if apart > 0:
        return "the majority agrees on a time that is %s off its own" % shown(apart)
    return "as many agree with another one that contradicts it"
