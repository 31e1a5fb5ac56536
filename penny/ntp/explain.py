"""`penny ntp explain`: every field that is served and where its value comes from, and why a client may refuse it.

The fields are read from an answer as the server would give it now, made by the server's own functions. The reasons are those
by which clients judge a server, of which chronyd's are the strictest but for the root distance:

    chronyd        leap 3, stratum 0 or over 15 (test 6); root distance of 3 s (maxdistance); if it serves others (allow), a
                   reference that is itself, a loop (test D)
    ntpd           the same, at 1.5 s (MAXDIST); more than 1000 s from its own clock
    timesyncd      leap 3, stratum 0 or over 15; root distance of 5 s (RootDistanceMaxSec)
    ntpdate, SNTP  leap 3, stratum 0; a reference time that is older than a day

Whether anybody answers is tried, with a real question to an address of this box; what stands between this box and the
client cannot be seen from here.
"""
from __future__ import annotations

import argparse
import json
import os
import socket
import sys
import time
from types import SimpleNamespace
from typing import Callable, Iterable

from penny.core import run
from penny.core.clock import rfc3339
from penny.core.errors import UsageError, one_line
from penny.core.listen import UNPRIVILEGED
from penny.core.run import Context, option
from penny.core.terminal import fold, table
from penny.ntp import access, source
from penny.ntp.source import State
from penny.wire import ntp_packet
from penny.wire.ntp_packet import PORT, MalformedPacket, Reply

WIDTH = 80
PATIENCE = 1.0  # seconds for an answer of our own server
DAY = 86_400  # seconds
# Root distance in seconds from which on a client refuses.
DISTANCES = ((5.0, "systemd-timesyncd (RootDistanceMaxSec)"), (3.0, "chronyd (maxdistance)"), (1.5, "ntpd (MAXDIST)"))
LEAPS = ("no leap second", "61 s in the last minute", "59 s in the last minute", "not synchronised")
FIELDS = ("leap", "stratum", "precision", "root_delay", "root_dispersion", "reference_id", "reference_time")


def served(state: State, now: int) -> Reply:
    """What an answer says of the clock at `now` (Unix nanoseconds)."""
    question = ntp_packet.request(1)
    return ntp_packet.parse_reply(ntp_packet.answer(question, now, now, ntp_packet.header(state.clock, now)), 1)


def values(reply: Reply, now: int) -> dict[str, str]:
    """The fields of an answer, for a person."""
    reference = ntp_packet.unix_nanoseconds(reply.reference_time, now) / 1e9
    return {"leap": "%d, %s" % (reply.leap, LEAPS[reply.leap]), "stratum": str(reply.stratum),
            "precision": "%d, %s" % (reply.precision, _seconds(2.0 ** reply.precision)),
            "root_delay": _seconds(reply.root_delay), "root_dispersion": _seconds(reply.root_dispersion),
            "reference_id": ntp_packet.name_of(reply.reference_id, reply.stratum) if any(reply.reference_id) else "none",
            "reference_time": rfc3339(reference) if reply.reference_time else "never"}


def _seconds(span: float) -> str:
    return "%.0f ns" % (span * 1e9) if span < 1e-6 else "%.6f s" % span


def faults(reply: Reply, why: str, now: int) -> list[str]:
    """Why any client may refuse a clock that answers so; `why` is where the leap comes from."""
    if reply.leap == ntp_packet.UNSYNCHRONISED:
        return ["This box does not know the time and says so (leap 3, stratum 0); every client refuses that. The reason: %s. "
                "Have chronyd, systemd-timesyncd or penny ntp steer set the clock; or, for a lab that goes by this clock, set "
                "local = 10." % why]
    found = []
    distance = reply.root_delay / 2 + reply.root_dispersion
    refusing = [name for most, name in DISTANCES if distance >= most]
    if refusing:
        found.append("The root distance is %.3f s, too much for %s: the clock was not set for long, or from far away."
                     % (distance, ", ".join(refusing)))
    if not reply.reference_time or now - ntp_packet.unix_nanoseconds(reply.reference_time, now) > DAY * 1_000_000_000:
        found.append("The reference time is older than a day: ntpdate and some SNTP clients refuse that.")
    if reply.stratum == ntp_packet.MAX_STRATUM:
        found.append("The stratum is 15: a client that serves others in turn would be at stratum 16, which nobody takes.")
    if reply.reference_id == source.LOCAL_ID:
        found.append("The time is that of this box alone (local): a client that asks other servers too finds that it disagrees "
                     "with them, and one whose clock is over 1000 s off may give up (ntpd without -g).")
    return found


def refusals(client: str, reply: Reply, allows: Callable[[str], bool], listening: Iterable[str]) -> list[str]:
    """Why this client, an IP address, may get no answer, or refuse it; `listening` is the setting."""
    six, found, listening = ":" in client, [], list(listening)
    if not allows(client):
        found.append("%s is not among those who may ask, and gets no answer: name it, or its network, in the setting allow."
                     % client)
    mine = [one for one in listening if (":" in one) == six]
    if not mine:
        found.append("The server does not listen on any IPv%d address: add one to the setting listen." % (6 if six else 4))
    elif all(map(is_loopback, mine)) and not is_loopback(client):
        found.append("The server listens on %s alone, which no other box can reach: set listen = *." % " and ".join(listening))
    if reply.stratum > 1 and reply.reference_id == source.reference_id(client):
        found.append("This box takes its time from %s, which refuses that as a loop if it serves others (allow)." % client)
    return found


def is_loopback(address: str) -> bool:
    return address == "::1" or address.startswith("127.")


def differences(port: int, heard: Reply | str, reply: Reply) -> list[str]:
    """What is wrong with who answers on this box: on which port, and what he says, or why nobody does."""
    if isinstance(heard, str):
        return ["Nobody answers on port %d of this box (%s): is penny ntp running?" % (port, heard)]
    found = []
    if port != PORT:
        found.append("It answers on port %d, and most clients ask port %d alone. Started by root or systemd it may have that; "
                     "some clients can be told (chrony: server HOST port %d)." % (port, PORT, port))
    if (heard.stratum, heard.reference_id) != (reply.stratum, reply.reference_id):
        found.append("Who answers on port %d says stratum %d, reference %s: a server that has not looked again yet, or another "
                     "program's." % (port, heard.stratum, ntp_packet.name_of(heard.reference_id, heard.stratum)))
    return found


def find_server(host: str, port: int) -> tuple[int, Reply | str]:
    """The port on which an address of this box answers, and its answer, or why there is none."""
    heard = ask(host, port)
    if isinstance(heard, str) and port < 1024:
        other = ask(host, port + UNPRIVILEGED)
        if not isinstance(other, str):
            return port + UNPRIVILEGED, other
    return port, heard


def ask(host: str, port: int) -> Reply | str:
    """The answer of the server at an address of this box, or why there is none."""
    nonce = int.from_bytes(os.urandom(8), "big")
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.settimeout(PATIENCE)
            one.connect((host, port))  # so that it is told that nobody listens
            one.send(ntp_packet.request(nonce))
            return ntp_packet.parse_reply(one.recv(2048), nonce)
    except socket.timeout:
        return "silence"
    except (OSError, MalformedPacket) as error:
        return one_line(error)


def explain(settings: SimpleNamespace, context: Context, options: argparse.Namespace) -> int:
    """The verb."""
    client = checked(options.client) if options.client else ""
    now = time.time_ns()
    state = source.read_state(settings, context.state_dir, now)
    reply = served(state, now)
    found = faults(reply, state.why["leap"], now)
    allows = access.read(settings, context).allows
    if client:
        found = refusals(client, reply, allows, settings.listen) + found
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.listen[0], settings.listen[0])
    if allows(host):  # else its silence says nothing
        found = differences(*find_server(host, settings.port), reply) + found
    sys.stdout.write((as_json if options.json else as_text)(state, reply, client, found, now))
    return run.DONE


def checked(client: str) -> str:
    """An IP address as it was typed. Raises UsageError."""
    try:
        source.reference_id(client)
    except (OSError, ValueError):
        raise UsageError("cannot explain %s: not an IP address" % client) from None
    return client


def as_text(state: State, reply: Reply, client: str, found: list[str], now: int) -> str:
    """A table, the reasons, and the one next command."""
    shown = values(reply, now)
    why = {**state.why, "leap": "see below"} if reply.leap == ntp_packet.UNSYNCHRONISED else state.why
    rows = [("field", "value", "where it comes from")] + [(name.replace("_", " "), shown[name], why[name]) for name in FIELDS]
    rows.append(("root distance", _seconds(reply.root_delay / 2 + reply.root_dispersion), "root delay / 2 + root dispersion"))
    lines = [table(_folded(rows)),
             "By the word of: %s. It is %s.\n" % (state.origin, rfc3339(now / 1e9)), "\n"]
    whom = client or "a client"
    lines.append(("Why %s may refuse it, the likeliest first:\n" if found else "Nothing here makes %s refuse it.\n") % whom)
    lines += [fold("- " + reason, WIDTH) + "\n" for reason in found]
    lines.append("Not seen from here: a firewall on the way (UDP port 123), and the client's own\nconfiguration.\n")
    lines.append("Next: %s\n" % ("chronyc -n sources, or penny ntp query HOST, on the client" if client else
                                 "penny ntp explain CLIENT, with the IP address of a client"))
    return "".join(lines)


def _folded(rows: list[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """Rows whose last column goes on in the next row where it is too long."""
    room = WIDTH - sum(max(map(len, column)) + 2 for column in list(zip(*rows))[:2])
    return [(name, value, line) if first else ("", "", line) for name, value, text in rows
            for first, line in zip([True] + [False] * len(text), fold(text, room).splitlines())]


def as_json(state: State, reply: Reply, client: str, found: list[str], now: int) -> str:
    """One object. Spans are seconds."""
    shown = values(reply, now)
    exact = {**reply._asdict(), "reference_id": shown["reference_id"], "reference_time": shown["reference_time"]}
    return json.dumps({
        "origin": state.origin, "client": client or None, "reasons": found,
        "root_distance": reply.root_delay / 2 + reply.root_dispersion,
        "fields": {name: {"value": exact[name], "from": state.why[name]} for name in FIELDS}}, ensure_ascii=False) + "\n"


EXPLAIN_OPTIONS = (option("client", metavar="CLIENT", nargs="?", default="", help="IP address of a client that refuses us"),
                   option("--json", action="store_true", help="one JSON object, for scripts"))
