"""NTP packets: what a server answers, to whom, and what a client makes of an answer. Pure.

      0                   1                   2                   3
      0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
     +---+-----+-----+---------------+---------------+---------------+
   0 |LI | VN  |mode |    stratum    |     poll      |   precision   |
   4 |                     root delay (16.16 s)                      |
   8 |                  root dispersion (16.16 s)                    |
  12 |                          reference id                         |
  16 |                  reference timestamp (32.32 s)                |
  24 |                    origin timestamp (32.32 s)                 |
  32 |                   receive timestamp (32.32 s)                 |
  40 |                   transmit timestamp (32.32 s)                |
     +---------------------------------------------------------------+
  48   extension fields: type (2), length (2, all of it), value, filled up to words of 4 bytes
       a MAC: key id (4), digest

Timestamps count seconds since 1900 modulo 2**32, so they begin anew on 2036-02-07 (era 1): nothing here compares two of
them, and `unix_nanoseconds` takes the era that is nearest to the clock at hand.

The server rules are those of a chronyd without keys. It answers clients (mode 3), symmetric active peers (mode 1, as
Windows is told to ask) and version 1 clients that know no modes. Everything else is met with silence, and that no answer
is ever answered is what breaks loops. So is who wants to be authenticated, who could only be lied to. An answer has 48
bytes, no more than any request.

Left out on purpose: NTS (RFC 8915: the ssl module has no exporter and the standard library no AES), MACs, interleaved mode
(RFC 9769), control messages (modes 6 and 7).

Sources: RFC 5905 sections 6 (formats), 7.3 and 7.4 (header, kiss codes), 9.2 (dispatch); RFC 7822 (extension fields); RFC
9109 and the data minimisation draft (client); RFC 8633 (kiss codes).
"""
from __future__ import annotations

import struct
from typing import NamedTuple

HEADER = struct.Struct("!BBbbII4sQQQQ")
LENGTH = HEADER.size  # 48
LONGEST = 1_092 + 28  # bytes: a longer packet is nobody's question
EPOCH = 2_208_988_800  # seconds from 1900 to 1970
CLIENT, SERVER, ACTIVE, PASSIVE = 3, 4, 1, 2
SYNCHRONISED, UNSYNCHRONISED = 0, 3  # leap indicators; 1 and 2 announce a leap second
MAX_STRATUM = 15
PORT = 123
LONGEST_MAC = 24  # bytes that a MAC can have; a last field is longer, so that the two are told apart (RFC 7822 3)
SHORT_MAX, MASK = 0xffffffff, 0xffffffffffffffff
UNITS = (1 << 64) // 1_000_000_000 + 1  # of 2**-64 s in a nanosecond: a multiplication is faster than a division

_ANSWER = struct.Struct("!BBB21s8sQQ")
_NTS = range(0x0104, 0x0504, 0x100)


class MalformedPacket(ValueError):
    """No answer to the question that was asked; the message says what is wrong with it."""


class ClockState(NamedTuple):
    """What a server knows of its clock. Times are Unix nanoseconds, spans seconds."""

    leap: int  # SYNCHRONISED, 1 or 2 (the last minute of the day has 61 or 59 seconds), or UNSYNCHRONISED
    stratum: int  # 1 to 15; whatever it is, an unsynchronised clock says 0
    precision: int  # log2 of the seconds between two readings, -30 to 0
    root_delay: float
    root_dispersion: float  # as it was at `updated`
    reference_id: bytes  # 4
    reference_time: int  # when the clock was last set or corrected; 0 for never
    updated: int


class Header(NamedTuple):
    """The part of every answer that does not depend on the question, packed for a second or so."""

    leap: int  # where an answer has it: the upper two bits of a byte
    stratum: int
    rest: bytes  # 21, from the precision to the reference time


UNKNOWN = ClockState(UNSYNCHRONISED, 0, -20, 0.0, 0.0, bytes(4), 0, 0)


# Timestamps -------------------------------------------------------------------------------------------------------

def timestamp(nanoseconds: int) -> int:
    """Unix nanoseconds as 64 bits: seconds since 1900 modulo 2**32, and their fractions."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return ((seconds + EPOCH) << 32) + (rest * UNITS >> 32) & MASK


def unix_nanoseconds(stamp: int, near: int) -> int:
    """A timestamp as Unix nanoseconds, in the era that puts it next to `near` (Unix nanoseconds)."""
    seconds = (stamp >> 32) - EPOCH
    era = (near // 1_000_000_000 - seconds + (1 << 31)) >> 32
    return (seconds + (era << 32)) * 1_000_000_000 + ((stamp & 0xffffffff) * 1_000_000_000 + (1 << 31) >> 32)


def short(seconds: float) -> int:
    """Seconds in the short format, rounded up: it bounds an error."""
    return min(SHORT_MAX, max(0, -int(-seconds * 65536 // 1)))


# Serving ----------------------------------------------------------------------------------------------------------

def header(state: ClockState, now: int) -> Header:
    """What answers say of the clock at `now` (Unix nanoseconds). Its dispersion grows by 15 ppm (RFC 5905 7.2, PHI)."""
    if state.leap == UNSYNCHRONISED or not 0 < state.stratum <= MAX_STRATUM:
        return Header(UNSYNCHRONISED << 6, 0, struct.pack("!bII4sQ", state.precision, 0, short(16.0), bytes(4), 0))
    grown = state.root_dispersion + 15e-6 * max(0, now - state.updated) / 1e9
    return Header(state.leap << 6, state.stratum, struct.pack(
        "!bII4sQ", state.precision, short(state.root_delay), short(grown), state.reference_id,
        timestamp(min(state.reference_time, now)) if state.reference_time else 0))


# By the first byte of a question: version and mode of its answer, 0 for none.
_ANSWERS = bytes(
    (byte & 0x38) | {CLIENT: SERVER, ACTIVE: PASSIVE}.get(byte & 7, SERVER if byte & 0x3f == 0x08 else 0)
    if 1 <= (byte >> 3 & 7) <= 4 and ((byte & 7) in (CLIENT, ACTIVE) or byte & 0x3f == 0x08) else 0 for byte in range(256))


def refusal(packet: bytes, port: int) -> str:
    """Why a packet from that source port is met with silence, in a word for the figures; "" if it is to be answered."""
    length = len(packet)
    if length < LENGTH or length > LONGEST or length % 4:
        return "length"
    first = packet[0]
    if not _ANSWERS[first]:
        return "mode" if 1 <= (first >> 3 & 7) <= 4 else "version"
    if port == 0 or (port == PORT and first & 7 == 0):
        return "port"
    return _tail_refusal(packet) if length > LENGTH else ""


def _tail_refusal(packet: bytes) -> str:
    """What follows the header: extension fields are passed over, a MAC or NTS asks for what cannot be given."""
    if packet[0] >> 3 & 7 < 4:
        return "authenticated"  # nothing but a MAC could follow
    at = LENGTH
    while at < len(packet):
        left = len(packet) - at
        if left <= LONGEST_MAC:
            return "authenticated"
        kind, length = struct.unpack_from("!HH", packet, at)
        if length < 16 or length % 4 or length > left:
            return "extension"
        if kind in _NTS:
            return "authenticated"
        at += length
    return ""


def answer(packet: bytes, arrival: int, departure: int, head: Header) -> bytes:
    """The answer to a packet that is not refused; `arrival` and `departure` are Unix nanoseconds, not far apart."""
    seconds, rest = divmod(arrival, 1_000_000_000)
    came = ((seconds + EPOCH) << 32) + (rest * UNITS >> 32)
    left = came + ((departure - arrival) * UNITS >> 32)
    return _ANSWER.pack(head.leap | _ANSWERS[packet[0]], head.stratum, packet[2], head.rest, packet[40:48],
                        came & MASK, left & MASK)


def kiss(packet: bytes, code: bytes, poll: int) -> bytes:
    """A kiss-o'-death (RFC 5905 7.4) to a packet that is not refused: `code` such as b"RATE", `poll` the log2 of the seconds
    that the client should wait between questions."""
    stamp = packet[40:48]
    return _ANSWER.pack(UNSYNCHRONISED << 6 | _ANSWERS[packet[0]], 0, poll, struct.pack("!bII4sQ", 0, 0, 0, code, 0), stamp,
                        *struct.unpack("!QQ", stamp * 2))


# Asking -----------------------------------------------------------------------------------------------------------

class Reply(NamedTuple):
    """What a server says. Timestamps are as they stand in the packet, spans are seconds."""

    leap: int
    version: int
    stratum: int
    poll: int
    precision: int
    root_delay: float
    root_dispersion: float
    reference_id: bytes
    reference_time: int
    receive: int
    transmit: int


def request(nonce: int) -> bytes:
    """A question that says nothing of who asks: zeros, and 64 random bits in the place of the time (RFC 9109)."""
    return HEADER.pack(4 << 3 | CLIENT, 0, 0, 0, 0, 0, bytes(4), 0, 0, 0, nonce)


def parse_reply(packet: bytes, nonce: int) -> Reply:
    """The answer to the question with this nonce. Raises MalformedPacket for anything else, and for a kiss-o'-death."""
    if len(packet) < LENGTH:
        raise MalformedPacket("only %d bytes" % len(packet))
    (first, stratum, poll, precision, delay, dispersion, reference_id, reference_time, origin, receive,
     transmit) = HEADER.unpack_from(packet)
    if origin != nonce:
        raise MalformedPacket("the answer to another question")
    if first & 7 != SERVER:
        raise MalformedPacket("mode %d, not a server's" % (first & 7))
    if stratum == 0 and reference_id.isalpha():
        raise MalformedPacket("it refuses: %s" % reference_id.decode("ascii", "replace"))
    if not receive or not transmit:
        raise MalformedPacket("no time in it")
    return Reply(first >> 6, first >> 3 & 7, stratum, poll, precision, delay / 65536, dispersion / 65536, reference_id,
                 reference_time, receive, transmit)


def name_of(reference_id: bytes, stratum: int) -> str:
    """A reference id for a person: letters at stratum 0 and 1, else an IPv4 address or the hash of an IPv6 one."""
    letters = reference_id.rstrip(b"\0")
    if stratum <= 1:
        return letters.decode("ascii") if letters.isalnum() and letters.isascii() else letters.hex()
    return "%d.%d.%d.%d" % tuple(reference_id)
