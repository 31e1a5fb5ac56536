"""Asking other servers for the time: four samples of each, and whom to believe.

What keeps an answer honest. Each question goes out from a socket of its own, on a port that the kernel picks at random, and
bears 64 random bits; only a packet from the address that was asked, with these bits, is an answer to it (RFC 9109). The
kernel stamps its arrival (SO_TIMESTAMPNS), so that a busy box adds nothing to the delay.

What keeps it polite. Samples are GAP apart; a server that is silent twice, or that says it has had enough (a
kiss-o'-death), is not asked again. No address is asked for two hosts, and so none has two votes.
"""
from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import socket
import sys
import threading
import time
from types import SimpleNamespace
from typing import NamedTuple, Sequence

from penny.core import dial, run
from penny.core.clock import Stop
from penny.core.errors import UsageError, one_line
from penny.core.run import Context
from penny.core.terminal import cut, fold, table
from penny.ntp import selection, source
from penny.ntp.selection import Choice, Peer, Sample
from penny.ntp.stamps import SO_TIMESTAMPNS, nanoseconds
from penny.wire import ntp_packet
from penny.wire.ntp_packet import MalformedPacket

SAMPLES = 4
GAP = 0.2  # seconds between two of them
PATIENCE = 2.0  # seconds for an answer
SILENCES = 2  # questions without any answer until a server is given up
LOOK_UP = 5.0  # seconds for a name
ADDRESSES = 2  # of one host that are tried
HOSTS = 32
WIDTH = 80
NO_MAJORITY = "no majority of the servers agrees on one time"


class Heard(NamedTuple):
    """What came of one host."""

    host: str  # as it was written
    address: str  # "" where none was found
    peer: Peer | None
    problem: str  # why it has no vote; "" if it has one


class Survey(NamedTuple):
    """What came of all of them."""

    heard: list[Heard]
    choice: Choice

    def verdict(self, one: Heard) -> str:
        """Why a host is not believed; "" if it is."""
        return one.problem or self.choice.rejected.get(one.host, "")


def survey(hosts: Sequence[str], floor: float, stop: Stop) -> Survey:
    """Ask all hosts at the same time. `floor` is a time (Unix seconds) that has certainly passed: this clock may show one of
    another era. Raises UsageError."""
    places = {host: parse_host(host) for host in hosts}
    if len(places) > HOSTS:
        raise UsageError("cannot ask %d servers: %d are the most" % (len(places), HOSTS))
    claimed: dict[tuple, str] = {}
    found: dict[str, Heard] = {}

    def ask(host: str) -> None:
        found[host] = ask_host(host, places[host], claimed, int(floor * 1e9), stop)
    threads = [threading.Thread(target=ask, args=(host,), name="ask", daemon=True) for host in places]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    heard = [found[host] for host in places]
    return Survey(heard, selection.choose({one.host: one.peer for one in heard if one.peer and not one.problem}, len(places)))


def parse_host(text: str) -> tuple[str, int]:
    """Host and port of 'ntp.example.org', '192.0.2.1:1123', '2001:db8::1' and '[2001:db8::1]:1123'. Raises UsageError."""
    bracketed = "[%s]" % text if text.count(":") > 1 and text[0] != "[" else text
    found = re.fullmatch(r"(?:\[([^][]+)\]|([^][:]+))(?::([0-9]{1,5}))?", bracketed)
    port = int(found[3] or ntp_packet.PORT) if found else 0
    if not found or not 0 < port < 65536:
        raise UsageError("cannot ask %s: expected HOST, HOST:PORT or [IPV6]:PORT" % text)
    return found[1] or found[2], port


def ask_host(host: str, place: tuple[str, int], claimed: dict[tuple, str], floor: int, stop: Stop) -> Heard:
    """Ask the first address of a host that answers, be it by a refusal, and is not `claimed` by another one."""
    heard = Heard(host, "", None, "it has no address")
    try:
        found = dial.look_up(*place, dial.Deadline(time.monotonic() + LOOK_UP, LOOK_UP))
    except (dial.Failed, OSError, ValueError) as error:
        return heard._replace(problem=one_line(error))
    for family, address in found[:ADDRESSES]:
        # setdefault is one step, whatever other threads do
        owner = claimed.setdefault(address[:2], host)
        if owner != host:
            heard = heard._replace(address=address[0], problem="it is the same server as %s" % owner)
            continue
        try:
            return ask_address(host, family, address, floor, stop)
        except OSError as error:
            heard = heard._replace(address=address[0], problem=one_line(error))
    return heard


def ask_address(host: str, family: int, address: tuple, floor: int, stop: Stop) -> Heard:
    """Four samples of one address. Raises OSError when it cannot be reached, or is silent."""
    samples: list[Sample] = []
    silences, own_id = 0, b""
    for number in range(SAMPLES):
        if silences == SILENCES or (number and stop.wait(GAP)):
            break
        try:
            sample, own_id = exchange(family, address, floor)
            samples.append(sample)
        except socket.timeout:
            silences += 1
        except MalformedPacket as error:
            return Heard(host, address[0], None, one_line(error))
    if not samples:
        raise socket.timeout("no answer within %g s" % PATIENCE)
    peer = selection.clock_filter(samples, time.time_ns())
    return Heard(host, address[0], peer, selection.unfit(peer, own_id))


def exchange(family: int, address: tuple, floor: int) -> tuple[Sample, bytes]:
    """One question, its answer, and the reference id of the address that we asked from. Raises OSError, of which
    socket.timeout means that no answer came, and MalformedPacket if one came that is of no use."""
    nonce = os.urandom(8)
    with socket.socket(family, socket.SOCK_DGRAM) as one:
        with contextlib.suppress(OSError):  # a kernel that cannot: our own clock is read instead
            one.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        one.connect(address)  # from now on the kernel drops what comes from anybody else
        question = ntp_packet.request(int.from_bytes(nonce, "big"))
        end = time.monotonic() + PATIENCE
        sent = time.time_ns()
        one.send(question)
        packet = b""
        while packet[24:32] != nonce:
            left = end - time.monotonic()
            if left <= 0:
                raise socket.timeout
            one.settimeout(left)
            packet, ancillary, _, _ = one.recvmsg(ntp_packet.LONGEST, 256)
        received = _arrival(ancillary, sent, time.time_ns())
        reply = ntp_packet.parse_reply(packet, int.from_bytes(nonce, "big"))
        return selection.measure(reply, sent, received, max(received, floor)), source.reference_id(one.getsockname()[0])


def _arrival(ancillary: list[tuple[int, int, bytes]], sent: int, now: int) -> int:
    """When a packet came, Unix nanoseconds, as the kernel says if that can be."""
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS) and sent <= nanoseconds(data) <= now:
            return nanoseconds(data)
    return now


# Showing ----------------------------------------------------------------------------------------------------------

def query(settings: SimpleNamespace, context: Context, options: argparse.Namespace) -> int:
    """The verb: ask, show, and tell cron by the exit code whether a majority agrees."""
    found = survey(options.hosts, source.time_floor(os.path.join(context.state_dir, "ntp"))[0], context.stop)
    sys.stdout.write(as_json(found) if options.json else as_text(found))
    return run.FAULT if found.choice.offset is None else run.DONE


def as_json(found: Survey) -> str:
    """A line for each host, and one for the result. Spans are seconds."""
    lines: list[dict] = []
    for one in found.heard:
        peer = one.peer
        lines.append({"host": one.host, "address": one.address or None, "selected": one.host in found.choice.selected,
                      "error": found.verdict(one) or None, **({
                          "leap": peer.reply.leap, "stratum": peer.reply.stratum,
                          "reference_id": ntp_packet.name_of(peer.reply.reference_id, peer.reply.stratum),
                          "offset": peer.offset, "delay": peer.delay, "dispersion": peer.dispersion, "jitter": peer.jitter,
                          "root_delay": peer.reply.root_delay, "root_dispersion": peer.reply.root_dispersion,
                          "root_distance": peer.distance} if peer else {})})
    agreed = found.choice.offset is not None
    lines.append({"offset": found.choice.offset, "bound": found.choice.bound if agreed else None,
                  "selected": len(found.choice.selected), "asked": len(found.heard), "error": None if agreed else NO_MAJORITY})
    return "".join(json.dumps(line) + "\n" for line in lines)


def as_text(found: Survey) -> str:
    """A table of WIDTH columns, why servers are rejected, and the result."""
    rows = [("st", "reference", "offset ms", "delay", "+-", "verdict")]
    for one in found.heard:
        verdict = "rejected" if found.verdict(one) else "selected"
        peer = one.peer
        rows.append((str(peer.reply.stratum), ntp_packet.name_of(peer.reply.reference_id, peer.reply.stratum),
                     _ms(peer.offset, "+"), _ms(peer.delay), _ms(peer.distance), verdict) if peer else
                    ("-", "-", "-", "-", "-", verdict))
    taken = sum(max(map(len, column)) + 2 for column in zip(*rows))
    hosts = ["server"] + [cut(one.host, max(12, WIDTH - taken)) for one in found.heard]
    text = table([(host, *row) for host, row in zip(hosts, rows)])
    return text + reasons(found) + summary(found) + "\n"


def reasons(found: Survey) -> str:
    """Why servers are rejected, a line or more for each."""
    return "".join(fold("%s is rejected: %s" % (one.host, found.verdict(one)), WIDTH) + "\n"
                   for one in found.heard if found.verdict(one))


def summary(found: Survey) -> str:
    """The result on one line."""
    if found.choice.offset is None:
        return NO_MAJORITY.capitalize() + "."
    return "The time is %s ms from this clock's, within %s ms: %d of %d servers agree." % (
        _ms(found.choice.offset, "+"), _ms(found.choice.bound), len(found.choice.selected), len(found.heard))


def _ms(seconds: float, sign: str = "") -> str:
    """Milliseconds, to the microsecond where that is not beside the point."""
    return ("%" + sign + (".3f" if abs(seconds) < 10 else ".0f")) % (seconds * 1e3)
