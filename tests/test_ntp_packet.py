"""NTP packets: the table of who is answered, every field of an answer, eras, and what a client believes."""
from __future__ import annotations

import random
import struct

import pytest

from penny.wire import ntp_packet
from penny.wire.ntp_packet import ClockState, MalformedPacket, answer, header, kiss, parse_reply, refusal, request, timestamp

SECOND = 1_000_000_000
NOW = 1_800_000_000 * SECOND
ROLLOVER = ((1 << 32) - ntp_packet.EPOCH) * SECOND  # 2036-02-07T06:28:16Z, in Unix nanoseconds
CLOCK = ClockState(0, 3, -24, 0.010, 0.002, bytes((192, 0, 2, 1)), NOW - 60 * SECOND, NOW)


def packet(first=0x23, tail=b"", length=48):
    return (bytes((first,)) + bytes(39) + b"nonce-64" + tail)[:length + len(tail)]


def field(kind, length, value=b""):
    return struct.pack("!HH", kind, length) + value.ljust(length - 4, b"\0")


# Packets of which a chronyd without keys (4.3) is silent or answers: test_ntp_server asks it again.
ANSWERED = {
    "v1 client": packet(0x0b), "v2 client": packet(0x13), "v3 client": packet(0x1b), "v4 client": packet(0x23),
    "v1 without a mode": packet(0x08), "v4 active": packet(0x21), "v3 active": packet(0x19), "unsynchronised": packet(0xe3),
    "no transmit time": packet()[:40] + bytes(8), "junk in it": b"\x23" + bytes(range(1, 48)),
    "an unknown field of 28": packet(0x23, field(0x7777, 28)),
    "two fields": packet(0x23, field(0x7777, 16) + field(0x2104, 28)), "a long field": packet(0x23, field(0x7777, 200)),
}
REFUSED = {
    "v0": (packet(0x03), "version"), "v5": (packet(0x2b), "version"), "v6": (packet(0x33), "version"),
    "v7": (packet(0x3b), "version"), "mode 0": (packet(0x20), "mode"), "passive": (packet(0x22), "mode"),
    "server": (packet(0x24), "mode"), "broadcast": (packet(0x25), "mode"), "control": (packet(0x26), "mode"),
    "private": (packet(0x27), "mode"), "nothing": (b"", "length"), "one byte": (b"\x23", "length"),
    "47 bytes": (packet()[:47], "length"), "49 bytes": (packet() + b"\0", "length"), "50 bytes": (packet() + b"\0\0", "length"),
    "a crypto-NAK": (packet(0x23, bytes(4)), "authenticated"), "a MAC with MD5": (packet(0x23, b"\0\0\0\1" + bytes(16)), "authenticated"),
    "a MAC with SHA1": (packet(0x23, b"\0\0\0\1" + bytes(20)), "authenticated"),
    "v3 and a MAC": (packet(0x1b, b"\0\0\0\1" + bytes(16)), "authenticated"), "v3 and a field": (packet(0x1b, field(0x7777, 28)), "authenticated"),
    "a last field of 16": (packet(0x23, field(0x7777, 16)), "authenticated"),
    "field and MAC": (packet(0x23, field(0x7777, 16) + b"\0\0\0\1" + bytes(16)), "authenticated"),
    "a field of no length": (packet(0x23, field(0x7777, 28)[:2] + bytes(26)), "extension"),
    "a field past the end": (packet(0x23, struct.pack("!HH", 0x7777, 64) + bytes(24)), "extension"),
    "a field of 30": (packet(0x23, struct.pack("!HH", 0x7777, 30) + bytes(28)), "extension"),
    "a field of 12": (packet(0x23, field(0x7777, 12) + field(0x7777, 16)), "extension"),
    "an NTS cookie": (packet(0x23, field(0x0104, 36) + field(0x0204, 104) + field(0x0404, 40)), "authenticated"),
    "a tail of 2 KB": (packet(0x23, field(0x7777, 2000)), "length"),
}


@pytest.mark.parametrize("name", ANSWERED)
def test_who_is_answered(name):
    question = ANSWERED[name]
    assert refusal(question, 40_000) == ""
    said = answer(question, 1, 2, header(CLOCK, NOW))
    assert len(said) == 48 <= len(question)
    assert said[0] >> 3 & 7 == question[0] >> 3 & 7 and said[24:32] == question[40:48] and said[2] == question[2]
    assert said[0] & 7 == {1: 2}.get(question[0] & 7, 4)
    assert refusal(said, 40_000) == "mode", "an answer is never answered"


@pytest.mark.parametrize("name", REFUSED)
def test_who_is_not(name):
    question, why = REFUSED[name]
    assert refusal(question, 40_000) == why


def test_ports_that_are_not_answered():
    assert refusal(packet(), 0) == "port" and refusal(packet(0x08), 123) == "port"
    assert refusal(packet(), 123) == ""


def test_every_field_of_an_answer():
    said = answer(packet(0x23), NOW, NOW + 5000, header(CLOCK, NOW + 100 * SECOND))
    assert said.hex(" ", 4) == " ".join((
        "240300e8", "00000290", "000000e6", "c0000201", struct.pack("!Q", timestamp(NOW - 60 * SECOND)).hex(" ", 4),
        b"nonce-64".hex(" ", 4), struct.pack("!Q", timestamp(NOW)).hex(" ", 4), struct.pack("!Q", timestamp(NOW + 5000)).hex(" ", 4)))
    assert 0x290 / 65536 >= 0.010 and 0xe6 / 65536 >= 0.002 + 100 * 15e-6  # rounded up, and grown


@pytest.mark.parametrize("state", [
    CLOCK._replace(leap=3), CLOCK._replace(stratum=0), CLOCK._replace(stratum=16), ntp_packet.UNKNOWN])
def test_a_clock_that_nobody_set_says_so(state):
    said = answer(packet(), 1, 2, header(state, NOW))
    assert said[0] >> 6 == 3 and said[1] == 0 and said[12:24] == bytes(12)


def test_leap_seconds_are_announced_and_spans_saturate():
    assert answer(packet(), 1, 2, header(CLOCK._replace(leap=1), NOW))[0] >> 6 == 1
    wild = header(CLOCK._replace(root_delay=1e9, root_dispersion=-1.0, reference_time=NOW + SECOND), NOW)
    assert wild.rest[1:9] == b"\xff\xff\xff\xff\0\0\0\0"
    assert wild.rest[13:] == struct.pack("!Q", timestamp(NOW)), "never set in the future"


def test_a_kiss_names_its_code_and_repeats_the_question():
    said = kiss(packet(0x1b), b"RATE", 8)
    assert said[:4] == bytes((0xdc, 0, 8, 0)) and said[12:16] == b"RATE" and said[24:32] == b"nonce-64" and len(said) == 48
    with pytest.raises(MalformedPacket, match="it refuses: RATE"):
        parse_reply(said, int.from_bytes(b"nonce-64", "big"))


def test_a_day_across_the_rollover_of_2036():
    """Every fraction of a second of that day keeps its order and is read back, whichever side of it the clock is on."""
    seconds, head = range(-43_200, 43_200, 3), header(CLOCK, NOW)
    for second in seconds:
        moment = ROLLOVER + second * SECOND + 123_456_789
        stamp = timestamp(moment)
        assert stamp >> 32 == (second if second >= 0 else (1 << 32) + second)
        assert abs(ntp_packet.unix_nanoseconds(stamp, ROLLOVER) - moment) <= 1
        said = answer(packet(), moment, moment + 2 * SECOND, head)
        assert int.from_bytes(said[32:40], "big") == stamp
        assert abs(int.from_bytes(said[40:48], "big") - timestamp(moment + 2 * SECOND)) <= 8
    state = CLOCK._replace(reference_time=ROLLOVER - SECOND, updated=ROLLOVER - SECOND)
    said = answer(packet(), ROLLOVER - 1000, ROLLOVER + 1000, header(state, ROLLOVER))
    assert said[32:36] == b"\xff\xff\xff\xff" and said[40:44] == bytes(4)
    with pytest.raises(MalformedPacket, match="no time"):  # that very instant cannot be told from "never"
        parse_reply(answer(packet(), ROLLOVER, ROLLOVER, header(state, ROLLOVER)), int.from_bytes(b"nonce-64", "big"))


def test_a_day_across_a_leap_second():
    """The kernel repeats the last second of the day: what is served follows it, and the announcement ends with the day."""
    midnight = 1_798_761_600 * SECOND  # 2027-01-01
    times = [midnight - 2 * SECOND, midnight - SECOND, midnight - SECOND, midnight, midnight + SECOND]
    for leap, now in zip((1, 1, 0, 0, 0), times):
        said = answer(packet(), now, now, header(CLOCK._replace(leap=leap, updated=now), now))
        assert said[0] >> 6 == leap and ntp_packet.unix_nanoseconds(int.from_bytes(said[40:48], "big"), now) == now


def test_timestamps_of_any_age_are_read_in_the_nearest_era():
    chance = random.Random(seed := random.randrange(1 << 30))
    for _ in range(20_000):
        moment = chance.randrange(0, 1 << 62)
        near = moment + chance.randrange(-60 * 365 * 86_400 * SECOND, 60 * 365 * 86_400 * SECOND)
        assert abs(ntp_packet.unix_nanoseconds(timestamp(moment), near) - moment) <= 1, seed


def test_a_reply_says_what_was_served():
    nonce = 0x1234567890abcdef
    question = request(nonce)
    assert question[0] == 0x23 and question[1:40] == bytes(39)
    said = parse_reply(answer(question, NOW, NOW + 1000, header(CLOCK, NOW)), nonce)
    assert (said.leap, said.version, said.stratum, said.precision) == (0, 4, 3, -24)
    assert 0.010 <= said.root_delay < 0.01002 and 0.002 <= said.root_dispersion < 0.00202
    assert ntp_packet.name_of(said.reference_id, said.stratum) == "192.0.2.1"
    assert ntp_packet.name_of(b"GPS\0", 1) == "GPS" and ntp_packet.name_of(b"\0\1\2\3", 1) == "00010203"


@pytest.mark.parametrize("said, why", [
    (b"", "0 bytes"), (answer(packet(), 1, 2, header(CLOCK, NOW))[:47], "47 bytes"),
    (answer(packet(), 1, 2, header(CLOCK, NOW)).replace(b"nonce-64", b"nonce-65"), "another question"),
    (b"\x23" + answer(packet(), 1, 2, header(CLOCK, NOW))[1:], "mode 3"),
    (answer(packet(), 1, 0, header(CLOCK, NOW))[:40] + bytes(8), "no time"),
])
def test_what_is_no_answer_is_not_believed(said, why):
    with pytest.raises(MalformedPacket, match=why):
        parse_reply(said, int.from_bytes(b"nonce-64", "big"))


def test_random_packets_raise_nothing():
    chance = random.Random(seed := random.randrange(1 << 30))
    head, originals = header(CLOCK, NOW), list(ANSWERED.values()) + [question for question, _ in REFUSED.values()]
    for _ in range(50_000):
        data = bytearray(chance.choice(originals)) if chance.random() < 0.7 else bytearray(chance.randbytes(chance.randrange(1500)))
        for _ in range(chance.randrange(4)):
            if data:
                data[chance.randrange(len(data))] = chance.randrange(256)
        question = bytes(data[:chance.randrange(len(data) + 1)] if chance.random() < 0.3 else data)
        if not refusal(question, chance.randrange(65536)):
            assert len(answer(question, 1, 2, head)) <= len(question) and question[0] & 7 in (0, 1, 3), seed
