from __future__ import annotations

import math
import random

import pytest

from penny.ntp import selection
from penny.ntp.selection import Peer, choose, clock_filter, measure, overlap, unfit
from penny.wire.ntp_packet import Reply, timestamp

NOW = 1_800_000_000_000_000_000
ROLLOVER = 2_085_978_496_000_000_000  # 2036-02-07T06:28:16Z, when timestamps begin anew
MS = 1_000_000


def reply(at=NOW, took=10_000, **fields):
    """An answer that came at `at` of the server's clock."""
    return Reply(0, 4, 2, 6, -24, 0.01, 0.002, b"\xc0\0\2\1", timestamp(at - 60_000 * MS), timestamp(at),
                 timestamp(at + took))._replace(**fields)


def peer(offset=0.0, distance=0.01, **fields):
    return Peer(offset, 0.0, 0.0, 0.0, reply(root_delay=0.0, root_dispersion=distance, **fields))


def sample(offset, delay, dispersion=0.0, taken=NOW):
    return selection.Sample(offset, delay, dispersion, taken, reply())


@pytest.mark.parametrize("now", [NOW, ROLLOVER - 5 * MS, ROLLOVER + 3 * 365 * 86_400_000 * MS])
@pytest.mark.parametrize("shift", [0, 300, -300, 3_600_000, -40 * 365 * 86_400_000])
def test_a_sample_from_four_times(now, shift):
    """20 ms there, 10 ms back: the offset is wrong by half of the difference, whatever our clock shows, in any era."""
    sent, arrived = now - shift * MS, now + 20 * MS
    received = sent + 31 * MS
    found = measure(reply(arrived, 1 * MS), sent, received, received)
    assert found.offset == pytest.approx(shift / 1000 + 0.005, abs=1e-6)
    assert found.delay == pytest.approx(0.03, abs=1e-8)
    assert found.dispersion == pytest.approx(2 ** -24 + 2 ** -20 + 15e-6 * 0.031)
    assert found.taken == received


def test_a_clock_that_shows_another_era_is_helped_by_the_floor():
    true = NOW + 20 * 365 * 86_400_000 * MS
    assert measure(reply(true, 0), 0, 0, NOW).offset == pytest.approx(true / 1e9)
    assert measure(reply(true, 0), 0, 0, 0).offset < 0


def test_a_delay_is_never_less_than_can_be_measured():
    assert measure(reply(NOW, 50 * MS), NOW, NOW + 20 * MS, NOW).delay == selection.PRECISION


def test_the_sample_with_the_least_delay_is_taken():
    samples = [sample(0.010, 0.030), sample(0.002, 0.011, 0.001), sample(0.003, 0.012), sample(0.000, 0.015)]
    found = clock_filter(samples, NOW + 2_000 * MS)
    assert (found.offset, found.delay) == (0.002, 0.011)
    assert found.dispersion == pytest.approx(0.001 + 2 * 15e-6)
    assert found.jitter == pytest.approx(math.sqrt((0.008 ** 2 + 0.001 ** 2 + 0.002 ** 2) / 3))
    assert clock_filter(samples[:1], NOW).jitter == 0


def test_the_root_distance_is_all_that_may_be_wrong():
    found = Peer(0.0, 0.02, 0.003, 0.004, reply(root_delay=0.1, root_dispersion=0.05))
    assert found.distance == pytest.approx(0.06 + 0.05 + 0.003 + 0.004)
    assert Peer(0.0, 1e-5, 1e-6, 0.0, reply(root_delay=0.0, root_dispersion=0.0)).distance == selection.MIN_DISTANCE


@pytest.mark.parametrize("fields, reason", [
    ({}, ""), ({"leap": 1}, ""), ({"stratum": 15}, ""), ({"root_delay": 5.9}, ""),
    ({"leap": 3}, "it is not synchronised"), ({"stratum": 0}, "it is not synchronised"),
    ({"stratum": 16}, "it is of stratum 16"),
    ({"transmit": timestamp(NOW - 1000)}, "it answered before it was asked"),
    ({"reference_time": 0}, "its clock was never set"),
    ({"reference_time": timestamp(NOW + 2_000 * MS)}, "its clock was last set in the future"),
    ({"reference_time": timestamp(NOW - 26 * 3_600_000 * MS)}, "its clock was last set 26 hours ago"),
    ({"reference_time": timestamp(NOW - 23 * 3_600_000 * MS)}, ""),
    ({"root_dispersion": 2.995}, "its time may be wrong by 3.0 s"), ({"root_delay": 6.0}, "its time may be wrong by 3.0 s"),
    ({"root_delay": 65535.0}, "its time may be wrong by 32768 s"), ({"precision": 127}, "its time may be wrong by"),
    ({"reference_id": b"\xc0\0\2\7"}, "it takes its time from this box"),
    ({"reference_id": b"\xc0\0\2\7", "stratum": 1}, ""),
])
def test_who_has_no_vote(fields, reason):
    found = reply(took=0, **fields)
    one = measure(found, NOW - 5 * MS, NOW + 5 * MS, NOW)
    said = unfit(clock_filter([one], NOW), b"\xc0\0\2\7")
    assert said.startswith(reason) and bool(said) == bool(reason), said


def test_who_has_no_vote_does_not_depend_on_our_own_clock():
    """One that shows 1970 must be able to learn better."""
    found = clock_filter([measure(reply(), 0, 10 * MS, 10 * MS)], 10 * MS)
    assert unfit(found, b"") == ""


def test_an_answer_across_the_rollover_is_fit():
    found = reply(ROLLOVER - 5 * MS, 10 * MS)
    assert unfit(clock_filter([measure(found, ROLLOVER - 10 * MS, ROLLOVER + 10 * MS, ROLLOVER)], ROLLOVER), b"") == ""


def test_overlap_of_spans():
    spans = [(0.0, 10.0), (5.0, 12.0), (11.0, 20.0)]
    assert overlap(spans, 1) == (0.0, 20.0)
    assert overlap(spans, 2) == (5.0, 12.0)
    assert overlap(spans, 3) is None
    assert overlap([(0.0, 1.0), (1.0, 2.0)], 2) == (1.0, 1.0)


def test_four_that_agree_are_weighed_by_their_exactness():
    found = choose({"a": peer(0.100, 0.010), "b": peer(0.102, 0.010), "c": peer(0.110, 0.040)}, 3)
    assert found.offset == pytest.approx((0.100 * 100 + 0.102 * 100 + 0.110 * 25) / 225)
    assert found.selected == ("a", "b", "c") and not found.rejected
    assert choose({"a": peer(0.0, 0.040), "b": peer(0.0, 0.010)}, 2).selected == ("b", "a")


def test_the_mean_stays_where_all_agree():
    """Many vague ones would draw it out of the span of the exact one."""
    found = choose({**{str(number): peer(0.0, 0.010) for number in range(5)}, "exact": peer(0.0109, 0.001)}, 6)
    assert len(found.selected) == 6 and found.offset == pytest.approx(0.0099)
    assert found.bound == pytest.approx(0.0199)  # five of six might be right, and the exact one lie


def test_a_liar_is_named_with_what_its_time_is_off():
    found = choose({"a": peer(0.0), "b": peer(0.004), "liar": peer(1.0)}, 3)
    assert found.selected == ("a", "b") and abs(found.offset - 0.002) < 0.0001
    assert found.rejected == {"liar": "the majority agrees on a time that is 980.000 ms off its own"}


@pytest.mark.parametrize("offsets, asked, agreed", [
    ([0.0], 1, True), ([0.0], 2, False), ([0.0, 0.001], 2, True), ([0.0, 0.001], 4, True), ([0.0, 1.0], 2, False),
    ([0.0, 0.0, 1.0, 1.0], 4, False), ([0.0, 0.0, 1.0, 2.0], 4, False), ([0.0, 0.0, 0.0, 1.0], 4, True),
    ([0.0, 0.0, 1.0, 1.0, 2.0], 5, False), ([0.0, 0.0, 0.0, 1.0, 1.0], 5, True), ([], 3, False),
])
def test_only_a_strict_majority_counts(offsets, asked, agreed):
    found = choose({str(number): peer(offset) for number, offset in enumerate(offsets)}, asked)
    assert (found.offset is not None) == agreed
    if not agreed:
        assert not found.selected and len(found.rejected) == len(offsets) and all(found.rejected.values())


def test_one_that_is_vague_makes_no_majority_of_two_that_contradict_each_other():
    found = choose({"vague": peer(0.0, 1.0), "b": peer(-0.5, 0.01), "c": peer(0.5, 0.01)}, 3)
    assert found.offset is None


def test_two_that_contradict_each_other_are_both_rejected_by_a_majority_that_fits_both():
    found = choose({"a": peer(0.0, 0.1), "b": peer(0.01, 0.1), "c": peer(0.02, 0.1), "d": peer(-0.05), "e": peer(0.05)}, 5)
    assert found.selected == ("a", "b", "c")
    assert found.rejected == dict.fromkeys("de", "as many agree with another one that contradicts it")


@pytest.mark.parametrize("seed", range(4))
def test_no_lies_of_a_minority_move_the_truth_out_of_the_bound(seed):
    """Any lies, from crude to such that fit the spans of honest servers."""
    dice = random.Random(seed)
    selected = 0
    for _ in range(2000):
        count, truth = dice.randint(1, 9), dice.uniform(-10, 10)
        liars = dice.randint(0, (count - 1) // 2)
        peers = {}
        for number in range(count):
            distance = 10 ** dice.uniform(-3, 0)
            lie = dice.choice((dice.uniform(-1, 1), dice.uniform(-0.01, 0.01), 0.05)) if number < liars else 0
            peers[str(number)] = peer(truth + lie + dice.uniform(-1, 1) * distance, distance)
        found = choose(peers, count)
        if found.offset is not None:
            selected += 1
            assert abs(found.offset - truth) <= found.bound + 1e-9, "seed %d: %r" % (seed, peers)
            assert len(found.selected) > count // 2
        assert set(found.selected) | set(found.rejected) == set(peers)
    assert selected > 1500


@pytest.mark.parametrize("seed", range(4))
def test_liars_that_are_far_off_are_rejected_even_if_they_agree(seed):
    dice = random.Random(seed)
    for _ in range(1000):
        count, truth, plot = dice.randint(3, 9), dice.uniform(-10, 10), dice.choice((-50, 50))
        liars = {str(number) for number in range(dice.randint(1, (count - 1) // 2))}
        peers = {}
        for number in map(str, range(count)):
            distance = 10 ** dice.uniform(-3, 0)
            peers[number] = peer(truth + (plot if number in liars else 0) + dice.uniform(-1, 1) * distance, distance)
        found = choose(peers, count)
        assert found.offset is not None and abs(found.offset - truth) <= found.bound + 1e-9, "seed %d: %r" % (seed, peers)
        assert set(found.rejected) >= liars and not set(found.selected) & liars
        # Honest servers have the truth in common, so all of them are selected.
        assert set(found.selected) == set(peers) - liars


@pytest.mark.parametrize("seconds, text", [(0.0001234, "0.123 ms"), (0.98, "980.000 ms"), (1.26, "1.3 s"),
                                           (86400.2, "86400 s")])
def test_spans_for_a_person(seconds, text):
    assert selection.shown(seconds) == text
