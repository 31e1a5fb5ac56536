from __future__ import annotations

import json
import math
import os
import re
import shutil
import socket
import struct
import subprocess
import threading
import time
from types import SimpleNamespace

import pytest

from penny.core import dial
from penny.core.clock import Stop
from penny.core.errors import UsageError
from penny.ntp import query, source
from penny.wire import ntp_packet
from penny.wire.ntp_packet import ClockState
from ntp_support import Chronyd
from support import context, until


class Timekeeper:
    """A real server whose clock is `shift` seconds ahead of ours, and that says what it is told to.

    `meddle(packet, reply, number, address)` may send what it likes, and returns the reply to the number-th question, None
    for silence. A question that no client of ours should ask fails the test when the server is closed.
    """

    def __init__(self, shift=0.0, address="127.0.0.1", meddle=None, **fields):
        self.shift, self.meddle, self.fields = shift, meddle, fields
        self.asked: list[tuple[bytes, tuple, float]] = []
        self.unexpected: list[bytes] = []
        self.socket = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((address, 0))
        self.name = ("[%s]:%d" if ":" in address else "%s:%d") % self.socket.getsockname()[:2]
        self.closing = False
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def now(self):
        return time.time_ns() + round(self.shift * 1e9)

    def run(self):
        while True:
            packet, address = self.socket.recvfrom(2048)
            arrival = self.now()
            if self.closing:
                return
            self.asked.append((packet, address, time.monotonic()))
            # RFC 9109 and data minimisation: version 4, mode 3, 64 bits of chance, and nothing else
            if packet[:40] != b"\x23" + bytes(39) or len(packet) != 48 or packet[40:] == bytes(8):
                self.unexpected.append(packet)
            state = ClockState(0, 2, -24, 0.0, 0.0005, b"\xc0\0\2\1", arrival - 60 * 10 ** 9, arrival)._replace(**self.fields)
            reply = ntp_packet.answer(packet, arrival, self.now(), ntp_packet.header(state, arrival))
            if self.meddle:
                reply = self.meddle(packet, reply, len(self.asked), address)
            if reply is not None:
                self.socket.sendto(reply, address)

    def close(self):
        self.closing = True
        with socket.socket(self.socket.family, socket.SOCK_DGRAM) as one:
            one.sendto(b"", self.socket.getsockname())
        self.thread.join(5)
        assert not self.thread.is_alive()
        self.socket.close()
        assert not self.unexpected, "asked what should not be asked: %s" % self.unexpected


@pytest.fixture
def timekeeper(monkeypatch):
    """A function that starts servers; they are closed at the end. Samples follow each other quickly."""
    monkeypatch.setattr(query, "GAP", 0.01)
    started = []

    def start(*words, **how):
        started.append(Timekeeper(*words, **how))
        return started[-1]
    yield start
    for one in started:
        one.close()


def survey(*servers):
    return query.survey([one if isinstance(one, str) else one.name for one in servers], 0.0, Stop())


def problem(server):
    heard, = survey(server).heard
    return heard.problem


def ask(tmp_path, capsys, *servers, json=False):
    """Exit code and output of the verb."""
    options = SimpleNamespace(hosts=[one if isinstance(one, str) else one.name for one in servers], json=json)
    code = query.query(SimpleNamespace(), context(tmp_path), options)
    return code, capsys.readouterr().out


def test_an_honest_server(timekeeper):
    server = timekeeper(3.25)
    found = survey(server)
    heard, = found.heard
    assert heard.host == server.name and heard.address == "127.0.0.1" and not heard.problem
    assert abs(found.choice.offset - 3.25) <= found.choice.bound < 0.1
    assert heard.peer.reply.stratum == 2 and 0 < heard.peer.delay < 0.1


def test_a_clock_of_another_era_is_understood(timekeeper):
    """It shows a time after 2036, and ours one before."""
    shift = 20 * 365 * 86400.0
    assert survey(timekeeper(shift)).choice.offset == pytest.approx(shift, abs=0.1)


def test_the_time_of_arrival_is_the_kernels(timekeeper, monkeypatch):
    said, arrival = [], query._arrival

    def listen(ancillary, sent, now):
        said.append(arrival(ancillary, sent, now) < now)
        return arrival(ancillary, sent, now)
    monkeypatch.setattr(query, "_arrival", listen)
    survey(timekeeper())
    assert any(said)


def test_each_question_has_a_port_and_a_nonce_of_its_own(timekeeper):
    server = timekeeper()
    survey(server)
    assert len(server.asked) == 4
    assert len({packet for packet, _, _ in server.asked}) == 4
    assert len({address for _, address, _ in server.asked}) >= 3  # by chance a port may come twice


def test_samples_are_a_gap_apart(timekeeper, monkeypatch):
    monkeypatch.setattr(query, "GAP", 0.1)
    server = timekeeper()
    survey(server)
    times = [at for _, _, at in server.asked]
    assert all(later - earlier >= 0.1 for earlier, later in zip(times, times[1:]))


def test_the_sample_with_the_shortest_way_counts(timekeeper):
    """Three answers dawdle on their way back, by 40 ms and more: their offsets are wrong by half of that."""
    def dawdle(packet, reply, number, address):
        if number != 3:
            time.sleep(0.04)
        return reply
    heard, = survey(timekeeper(meddle=dawdle)).heard
    assert heard.peer.delay < 0.03 and abs(heard.peer.offset) < 0.015 and heard.peer.jitter > 0.015


def test_a_majority_outvotes_a_liar(timekeeper, tmp_path, capsys):
    honest, liar = [timekeeper() for _ in range(3)], timekeeper(-5.0)
    code, out = ask(tmp_path, capsys, *honest, liar, json=True)
    *hosts, result = map(json.loads, out.splitlines())
    assert code == 0
    assert [one["host"] for one in hosts] == [one.name for one in (*honest, liar)]
    assert [one["selected"] for one in hosts] == [True, True, True, False]
    assert hosts[0]["error"] is None and "that is 4.9" in hosts[3]["error"] or "5.0 s off" in hosts[3]["error"]
    assert hosts[0]["reference_id"] == "192.0.2.1" and hosts[0]["stratum"] == 2
    assert hosts[3]["offset"] == pytest.approx(-5, abs=0.1)
    assert abs(result["offset"]) <= result["bound"] and (result["selected"], result["asked"], result["error"]) == (3, 4, None)


def test_no_majority_is_told_by_the_exit_code(timekeeper, tmp_path, capsys):
    code, out = ask(tmp_path, capsys, timekeeper(), timekeeper(1.0))
    assert code == 1
    assert out.endswith("No majority of the servers agrees on one time.\n") and out.count("is rejected: no majority of 2") == 2
    code, out = ask(tmp_path, capsys, timekeeper(), timekeeper(1.0), json=True)
    assert code == 1 and json.loads(out.splitlines()[-1])["offset"] is None
    assert "Infinity" not in out  # is not JSON


def test_the_table_fits_a_narrow_screen(timekeeper, tmp_path, capsys):
    good = [timekeeper(address=one) for one in ("127.0.0.1", "127.0.0.2", "127.0.0.3")]
    _, out = ask(tmp_path, capsys, *good, timekeeper(-1e8, reference_id=b"\xff\xfe\xfd\xfc"), "127.0.0.9:9",
                 "a.name.of.sixty.letters.which.is.not.so.very.uncommon.nowadays.invalid:123")
    assert max(map(len, out.splitlines())) <= 80, out
    assert out.splitlines()[0].split() == ["server", "st", "reference", "offset", "ms", "delay", "+-", "verdict"]
    assert len(re.findall(r" selected$", out, re.M)) == 3 and len(re.findall(r" rejected$", out, re.M)) == 3
    assert "3 of 6 servers agree" in out and "connection refused" in out and "255.254.253.252" in out


def test_json_lines_hold_plain_numbers(timekeeper, tmp_path, capsys):
    _, out = ask(tmp_path, capsys, timekeeper(0.5), json=True)
    one, result = map(json.loads, out.splitlines())
    assert all(math.isfinite(one[key]) for key in ("offset", "delay", "dispersion", "jitter", "root_delay", "root_dispersion",
                                                   "root_distance"))
    assert result["offset"] == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("fields, words", [
    ({"leap": 3}, "it is not synchronised"), ({"reference_time": 0}, "its clock was never set"),
    ({"root_dispersion": 4.0}, "its time may be wrong by 4.0 s"),
    ({"reference_id": b"\x7f\0\0\1"}, "it takes its time from this box"),
])
def test_why_a_server_has_no_vote(timekeeper, fields, words):
    assert problem(timekeeper(**fields)) == words


def test_who_has_no_vote_helps_nobody(timekeeper):
    found = survey(timekeeper(), timekeeper(leap=3))
    assert found.choice.offset is None
    assert [found.verdict(one) for one in found.heard] == ["it is the only one of 2 servers that has a vote",
                                                           "it is not synchronised"]


def test_who_says_that_it_has_had_enough_is_not_asked_again(timekeeper, tmp_path, capsys):
    server = timekeeper(meddle=lambda packet, reply, number, address: ntp_packet.kiss(packet, b"RATE", 8))
    code, out = ask(tmp_path, capsys, server)
    assert code == 1 and len(server.asked) == 1
    assert "it refuses: RATE" in out


def test_a_kiss_of_death_after_a_good_sample_still_ends_it(timekeeper):
    server = timekeeper(meddle=lambda packet, reply, number, address:
                        ntp_packet.kiss(packet, b"RATE", 8) if number == 2 else reply)
    assert problem(server) == "it refuses: RATE" and len(server.asked) == 2


def test_a_refusal_does_not_lead_to_another_address(timekeeper, monkeypatch):
    """It may be the same server, asked over another protocol."""
    refuses = timekeeper(meddle=lambda packet, reply, number, address: ntp_packet.kiss(packet, b"DENY", 8))
    other = timekeeper()
    monkeypatch.setattr(dial, "look_up", lambda *_: [(socket.AF_INET, one.socket.getsockname()) for one in (refuses, other)])
    assert problem("pool.example.org") == "it refuses: DENY" and not other.asked


def forge(meddled_socket):
    """Wrong answers before the right one: from the right address with wrong bits, from others with the right ones."""
    def meddle(packet, reply, number, address):
        false = reply[:32] + struct.pack("!QQ", *[ntp_packet.timestamp(10 ** 18)] * 2)
        meddled_socket.sendto(false, address)
        for bad in (b"", reply[:24], false[:24] + bytes(8) + false[32:], false[:24] + os.urandom(8) + false[32:],
                    ntp_packet.kiss(packet[:40] + os.urandom(8), b"DENY", 4)):
            server.socket.sendto(bad, address)
        return reply
    server = Timekeeper(0.7, meddle=meddle)
    return server


def test_nothing_but_the_asked_address_with_the_right_bits_is_believed(timekeeper):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind(("127.0.0.1", 0))
        server = forge(stranger)
        try:
            found = survey(server)
        finally:
            server.close()
    assert not found.heard[0].problem and abs(found.choice.offset - 0.7) <= found.choice.bound < 0.1


def test_a_silent_server_is_given_up(timekeeper, monkeypatch):
    monkeypatch.setattr(query, "PATIENCE", 0.1)
    server = timekeeper(meddle=lambda *_: None)
    started = time.monotonic()
    assert problem(server) == "no answer within 0.1 s"
    assert len(server.asked) == query.SILENCES and 0.2 <= time.monotonic() - started < 2


def test_one_lost_packet_is_no_matter(timekeeper, monkeypatch):
    monkeypatch.setattr(query, "PATIENCE", 0.1)
    server = timekeeper(meddle=lambda packet, reply, number, address: None if number == 1 else reply)
    assert not problem(server) and len(server.asked) == 4


def test_a_flood_of_false_answers_does_not_lengthen_the_wait(timekeeper, monkeypatch):
    monkeypatch.setattr(query, "PATIENCE", 0.2)
    ended = threading.Event()

    def flood(packet, reply, number, address):
        while not ended.is_set():
            server.socket.sendto(reply[:24] + bytes(8) + reply[32:], address)
    server = timekeeper(meddle=flood)
    started = time.monotonic()
    try:
        said = problem(server)
    finally:
        ended.set()
    assert said == "no answer within 0.2 s" and time.monotonic() - started < 3


def test_a_false_answer_does_not_lengthen_the_wait_either(timekeeper, monkeypatch):
    monkeypatch.setattr(query, "PATIENCE", 0.4)

    def late(packet, reply, number, address):
        time.sleep(0.3)
        return reply[:24] + bytes(8) + reply[32:]
    started = time.monotonic()
    assert problem(timekeeper(meddle=late)) == "no answer within 0.4 s"
    assert time.monotonic() - started < 1.2


def test_hosts_are_asked_at_the_same_time(timekeeper, monkeypatch):
    monkeypatch.setattr(query, "PATIENCE", 0.4)
    silent = [timekeeper(meddle=lambda *_: None) for _ in range(8)]
    started = time.monotonic()
    survey(*silent)
    assert time.monotonic() - started < 2.5


def test_over_ipv6(timekeeper):
    try:
        server = timekeeper(1.0, address="::1")
    except OSError:
        pytest.skip("no IPv6 here")
    found = survey(server)
    assert abs(found.choice.offset - 1.0) <= found.choice.bound and found.heard[0].address == "::1"


def test_a_server_that_takes_its_time_from_us_over_ipv6(timekeeper):
    try:
        server = timekeeper(address="::1", reference_id=source.reference_id("::1"))
    except OSError:
        pytest.skip("no IPv6 here")
    assert problem(server) == "it takes its time from this box"


def test_a_name_of_this_box(timekeeper):
    """localhost is ::1 first in some places, and this server is at 127.0.0.1 alone."""
    server = timekeeper(1.0)
    assert abs(survey("localhost:" + server.name.rpartition(":")[2]).choice.offset - 1.0) < 0.1


def test_of_a_name_with_many_addresses_the_first_two_are_tried(timekeeper, monkeypatch):
    dead, server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), timekeeper(1.0)
    dead.bind(("127.0.0.1", 0))
    closed = dead.getsockname()
    dead.close()
    found = [(socket.AF_INET, closed), (socket.AF_INET, server.socket.getsockname())]
    monkeypatch.setattr(dial, "look_up", lambda *_: found)
    assert abs(survey("pool.example.org").choice.offset - 1.0) < 0.1
    second = timekeeper()
    found.append((socket.AF_INET, second.socket.getsockname()))
    assert not problem("pool.example.org") and not second.asked and len(server.asked) == 8
    found[:] = found[1:]
    assert not problem("pool.example.org") and not second.asked and len(server.asked) == 12
    found.pop()
    found.insert(0, (socket.AF_INET, closed))
    found.insert(0, (socket.AF_INET, ("127.0.0.2", closed[1])))
    assert problem("pool.example.org") == "connection refused" and len(server.asked) == 12
    found[:] = found[2:]
    heard = survey("a.example.org", "b.example.org").heard
    assert sorted(one.problem for one in heard)[1].startswith("it is the same server as")


def test_one_server_by_two_names_has_one_vote(timekeeper):
    server, liar = timekeeper(1.0), timekeeper()
    alias = "127.1:" + server.name.rpartition(":")[2]
    found = survey(server, alias, liar)
    assert found.choice.offset is None and len(server.asked) == 4
    assert sorted(one.problem for one in found.heard)[2].startswith("it is the same server as 127.")


def test_a_name_that_does_not_exist():
    assert problem("nowhere.invalid") not in ("", "it has no address")


@pytest.mark.parametrize("text, host, port", [
    ("ntp.example.org", "ntp.example.org", 123), ("192.0.2.1", "192.0.2.1", 123), ("192.0.2.1:1123", "192.0.2.1", 1123),
    ("2001:db8::1", "2001:db8::1", 123), ("[2001:db8::1]", "2001:db8::1", 123), ("[2001:db8::1]:1123", "2001:db8::1", 1123),
    ("fe80::1%eth0", "fe80::1%eth0", 123), ("::1", "::1", 123),
])
def test_hosts_with_and_without_a_port(text, host, port):
    assert query.parse_host(text) == (host, port)


@pytest.mark.parametrize("text", ["", ":123", "a:", "a:0", "a:65536", "a:x", "a:-1", "[::1", "[::1]x", "[::1]:", "[::1]123",
                                  "[]", "a:" + "9" * 5000, "[::1]x123"])
def test_hosts_that_cannot_be_read(text):
    with pytest.raises(UsageError):
        query.parse_host(text)


def test_so_many_hosts_and_no_more():
    with pytest.raises(UsageError):
        query.survey(["192.0.2.%d" % number for number in range(query.HOSTS + 1)], 0.0, Stop())


@pytest.mark.parametrize("form", ["qq", "ii"])
def test_times_of_arrival_of_both_sizes(form):
    ancillary = [(1, 2, b"x"), (socket.SOL_SOCKET, query.SO_TIMESTAMPNS, struct.pack(form, 1_800_000_000, 5))]
    came = 1_800_000_000_000_000_005
    assert query._arrival(ancillary, came - 10, came + 10) == came
    # One that cannot be, since the clock was set or its seconds ran over
    assert query._arrival(ancillary, came + 5, came + 10) == came + 10
    assert query._arrival(ancillary, came - 10, came - 5) == came - 5
    assert query._arrival([(socket.SOL_SOCKET, query.SO_TIMESTAMPNS, b"odd")], came - 10, came) == came
    assert query._arrival([], 0, came) == came


def test_the_kernel_says_when_a_packet_came():
    """However late we read it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        try:
            one.setsockopt(socket.SOL_SOCKET, query.SO_TIMESTAMPNS, 1)
        except OSError:
            pytest.skip("this kernel has no SO_TIMESTAMPNS of that number")
        one.bind(("127.0.0.1", 0))
        one.settimeout(5)
        for _ in range(3):  # the first one may come before the kernel has turned its stamps on
            sent = time.time_ns()
            one.sendto(b"x", one.getsockname())
            time.sleep(0.05)
            _, ancillary, _, _ = one.recvmsg(10, 256)
        came = query._arrival(ancillary, sent, time.time_ns())
    assert came - sent < 25_000_000


def test_as_a_command(penny, timekeeper):
    servers = [timekeeper(2.0).name for _ in range(3)]
    done = penny.run("ntp", "query", *servers)
    assert done.returncode == 0 and "ms: 3 of 3 servers agree." in done.stdout, done.stderr
    done = penny.run("ntp", "query", "--json", servers[0], timekeeper().name)
    assert done.returncode == 1 and json.loads(done.stdout.splitlines()[-1])["offset"] is None
    done = penny.run("ntp", "query", "a:0")
    assert done.returncode == 2 and done.stderr == "penny: cannot ask a:0: expected HOST, HOST:PORT or [IPV6]:PORT\n"


@pytest.mark.slow
def test_chronyd_as_server(tmp_path):
    """It shares our clock, so that the true offset is 0, and its stratum and reference are known."""
    if os.geteuid() != 0:
        pytest.skip("chronyd starts for root alone")
    server = Chronyd(tmp_path, "local stratum 7")
    name = "127.0.0.1:%d" % server.port
    try:
        until(lambda: not problem(name), what="an answer of chronyd")
        found = survey(name)
    finally:
        server.close()
    heard, = found.heard
    assert not heard.problem and heard.peer.reply.stratum == 7 and heard.peer.reply.reference_id == b"\x7f\x7f\1\1"
    assert abs(found.choice.offset) < 0.001 and heard.peer.delay < 0.002
    print("chronyd on loopback: offset %.1f us, delay %.1f us" % (heard.peer.offset * 1e6, heard.peer.delay * 1e6))


@pytest.mark.slow
@pytest.mark.parametrize("shift", [0.25, -3.5])
def test_chronyd_as_client_finds_the_same_offset(timekeeper, tmp_path, shift):
    server = timekeeper(shift)
    found = survey(server)
    program = shutil.which("chronyd", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if not program:
        pytest.skip("needs chronyd (Debian: chrony)")
    if os.geteuid() != 0:
        pytest.skip("chronyd -Q starts for root alone")
    done = subprocess.run([program, "-Q", "-t", "20", "port 0", "user root", "pidfile %s/pid" % tmp_path,
                           "server 127.0.0.1 port %s iburst" % server.name.rpartition(":")[2]], capture_output=True, text=True)
    said = re.search(r"System clock wrong by (-?[\d.]+) seconds", done.stdout + done.stderr)
    server.unexpected.clear()  # chronyd's own questions are not like ours
    assert said, done.stdout + done.stderr
    assert float(said[1]) == pytest.approx(found.choice.offset, abs=0.002)
