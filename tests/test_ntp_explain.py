"""penny ntp explain: the table, the reasons, and that a real chronyd refuses what it says chronyd refuses."""
from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from types import SimpleNamespace

import pytest

from penny.core.errors import ConfigError, UsageError
from penny.ntp import explain, kernel, source
from penny.wire import ntp_packet
from penny.wire.ntp_packet import ClockState
from ntp_support import free_port
from support import context, until

NOW = 1_800_000_000_000_000_000
SECOND = 1_000_000_000
GOOD = ClockState(0, 3, -24, 0.010, 0.002, bytes((192, 0, 2, 1)), NOW - 5 * SECOND, NOW)
WHY = {"leap": "the server's", "stratum": "the server's 2, and 1", "precision": "measured", "root_delay": "a",
       "root_dispersion": "b", "reference_id": "chronyd follows 192.0.2.1", "reference_time": "c"}


def state(**change):
    return source.State(GOOD._replace(**change), "chrony", WHY)


def reply(**change):
    return explain.served(state(**change), NOW)


def everybody(host):
    return True


# Values

def test_the_values_are_those_of_the_packet():
    shown = explain.values(reply(), NOW)
    assert shown == {
        "leap": "0, no leap second", "stratum": "3", "precision": "-24, 60 ns", "root_delay": "0.010010 s",
        "root_dispersion": "0.002014 s", "reference_id": "192.0.2.1", "reference_time": "2027-01-15T07:59:55Z"}
    later = explain.served(state(), NOW + 1000 * SECOND)
    assert later.root_dispersion == pytest.approx(0.017, abs=2e-5)  # grown by 15 ppm


def test_the_values_of_a_clock_that_nobody_vouches_for():
    shown = explain.values(explain.served(source.unsynchronised("why", NOW), NOW), NOW)
    assert (shown["leap"], shown["stratum"], shown["reference_id"], shown["reference_time"]) == (
        "3, not synchronised", "0", "none", "never")


def test_letters_at_stratum_1():
    assert explain.values(reply(stratum=1, reference_id=b"GPS\0"), NOW)["reference_id"] == "GPS"


# Reasons

@pytest.mark.parametrize("change, words", [
    ({}, []),
    ({"leap": 3}, ["says so (leap 3, stratum 0); every client refuses that. The reason: the server's."]),
    ({"stratum": 0}, ["does not know the time"]),
    ({"root_dispersion": 1.490}, []),
    ({"root_dispersion": 1.496}, ["for ntpd (MAXDIST):"]),
    ({"root_dispersion": 3.0}, ["for chronyd (maxdistance), ntpd (MAXDIST):"]),
    ({"root_delay": 10.0}, ["for systemd-timesyncd (RootDistanceMaxSec), chronyd (maxdistance), ntpd (MAXDIST):"]),
    ({"reference_time": NOW - 86_401 * SECOND}, ["older than a day"]),
    ({"reference_time": NOW - 86_399 * SECOND}, []),
    ({"reference_time": 0}, ["older than a day"]),
    ({"stratum": 15}, ["stratum 16"]),
    ({"stratum": 14}, []),
    ({"reference_id": source.LOCAL_ID}, ["of this box alone"])])
def test_faults(change, words):
    found = explain.faults(reply(**change), "the server's", NOW)
    assert len(found) == len(words)
    for reason, wanted in zip(found, words):
        assert wanted in reason


@pytest.mark.parametrize("client, listen, words", [
    ("192.168.1.7", ("0.0.0.0", "::"), []),
    ("192.168.1.7", ("192.168.1.1",), []),
    ("192.168.1.7", ("127.0.0.1", "::1"), ["listens on 127.0.0.1 and ::1 alone"]),
    ("192.168.1.7", ("127.0.0.1", "fd00::1"), ["alone"]),
    ("192.168.1.7", ("::",), ["does not listen on any IPv4"]),
    ("fd00::7", ("0.0.0.0",), ["does not listen on any IPv6"]),
    ("127.0.0.1", ("127.0.0.1", "::1"), []), ("::1", ("127.0.0.1", "::1"), []),
    ("192.0.2.1", ("0.0.0.0",), ["loop"])])
def test_refusals(client, listen, words):
    found = explain.refusals(client, reply(), everybody, listen)
    assert len(found) == len(words)
    assert all(wanted in reason for reason, wanted in zip(found, words))


def test_who_may_not_ask():
    asked = []
    found = explain.refusals("198.51.100.7", reply(), asked.append, ("0.0.0.0",))
    assert asked == ["198.51.100.7"] and len(found) == 1 and "198.51.100.7 is not among those who may ask" in found[0]


def test_a_loop_by_ipv6():
    found = explain.refusals("fd77::1", reply(reference_id=bytes.fromhex("77a94bdf")), everybody, ("::",))
    assert len(found) == 1 and "as a loop" in found[0]


def test_letters_are_no_address():
    assert not explain.refusals("71.80.83.0", reply(stratum=1, reference_id=b"GPS\0"), everybody, ("0.0.0.0",))


@pytest.mark.parametrize("port, heard, words", [
    (123, reply(), []), (123, "connection refused", ["Nobody answers on port 123 of this box (connection refused)"]),
    (8123, reply(), ["answers on port 8123, and most clients ask port 123"]),
    (123, reply(stratum=4), ["says stratum 4, reference 192.0.2.1"]),
    (8123, reply(reference_id=bytes(4)), ["port 8123, and", "says stratum 3, reference 0.0.0.0"])])
def test_differences(port, heard, words):
    found = explain.differences(port, heard, reply())
    assert len(found) == len(words)
    assert all(wanted in reason for reason, wanted in zip(found, words))


# Showing

@pytest.mark.parametrize("client, found", [("", []), ("192.168.1.7", ["a long reason " * 20]), ("fd00:1111:2222:333::7", [])])
def test_no_line_is_wider_than_a_terminal(client, found):
    for one in (state(), source.unsynchronised("chronyc: " + "x" * 60, NOW), source.local_clock(10, 0.0, "x", NOW)):
        one = one._replace(why={"precision": "measured", **one.why})
        text = explain.as_text(one, explain.served(one, NOW), client, found, NOW)
        assert max(map(len, text.splitlines())) <= explain.WIDTH, text
        assert ("not synchronised  see below" in text) == (one.origin == "nobody")
        assert "By the word of: %s." % one.origin in text and text.splitlines()[-1].startswith("Next: ")
        assert ("Nothing here makes" in text) == (not found)


def test_what_every_source_says_fits():
    says = kernel.Kernel(0, True, 0.0, 0.0, 0.05, 0.001, 0, True, 37)
    ours = source._following("timesyncd", source.Followed(0, 2, "192.168.100.100", 0.1, 0.1, NOW), NOW)
    chrony = source.parse_chrony("01020304,2001:db8:1111:2222:3333:4444:5555:6666,4,1799999999.332352081,-0.000002262,"
                                 "0,0,0,0,0,0.000009418,0.000003925,1.0,Normal", NOW)
    for one in (ours, chrony, source.somebody(says, NOW)):
        one = one._replace(why={**one.why, "precision": "measured"})
        text = explain.as_text(one, explain.served(one, NOW), "", [], NOW)
        assert max(map(len, text.splitlines())) <= explain.WIDTH, text
    assert "2001:db8:1111:2222:3333:4444:5555:6666" in text.replace("\n" + " " * 41, "") or one.origin != "chrony"


# The verb

@contextlib.contextmanager
def server(clock, host="127.0.0.1"):
    """A server that says so of its clock; its port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind((host, 0))

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    packet, address = one.recvfrom(2048)
                    if not packet:
                        return
                    now = time.time_ns()
                    one.sendto(ntp_packet.answer(packet, now, now, ntp_packet.header(clock, now)), address)
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield one.getsockname()[1]
        finally:
            one.sendto(b"", one.getsockname())
            thread.join()


def run(tmp_path, capsys, client="", as_json=True, local=10, listen=("127.0.0.1", "::1"), port=1, allow=("private",)):
    settings = SimpleNamespace(local=local, listen=listen, port=port, allow=allow)
    assert explain.explain(settings, context(tmp_path), SimpleNamespace(client=client, json=as_json)) == 0
    text = capsys.readouterr().out
    return json.loads(text) if as_json else text


@pytest.fixture
def nobody_else(monkeypatch, tmp_path):
    """No chronyd and no timesyncd of this box comes in between."""
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(source, "TIMESYNCD_SET", str(tmp_path / "no"))


def test_the_verb(tmp_path, capsys, nobody_else):
    now = time.time_ns()
    with server(source.local_clock(10, 0.0, "", now).clock) as port:
        found = run(tmp_path, capsys, "192.168.1.7", port=port)
        text = run(tmp_path, capsys, "192.168.1.7", as_json=False, port=port)
    assert found["origin"] == "local" and found["client"] == "192.168.1.7" and found["root_distance"] < 0.01
    assert set(found["fields"]) == set(explain.FIELDS)
    assert found["fields"]["stratum"] == {"value": 10, "from": "the setting local"}
    assert found["fields"]["reference_id"]["value"] == "127.127.1.1"
    assert [reason[:18] for reason in found["reasons"]] == ["It answers on port", "The server listens", "The time is that o"]
    assert "reference id     127.127.1.1 " in text and "Why 192.168.1.7 may refuse it" in text


def test_who_answers_is_somebody_else(tmp_path, capsys, nobody_else):
    now = time.time_ns()
    with server(GOOD._replace(updated=now, reference_time=now)) as port:
        found = run(tmp_path, capsys, port=port)
    assert any("says stratum 3, reference 192.0.2.1" in reason for reason in found["reasons"])


def test_nobody_answers(tmp_path, capsys, nobody_else):
    for listen in ("127.0.0.1",), ("0.0.0.0", "::"):
        found = run(tmp_path, capsys, listen=listen)
        assert found["reasons"][0].startswith("Nobody answers on port 1 of this box (connection refused)")


def test_silence_of_who_may_not_be_asked_from_here_says_nothing(tmp_path, capsys, nobody_else):
    found = run(tmp_path, capsys, allow=("192.0.2.0/24",))
    assert not any("answers on port" in reason for reason in found["reasons"])


def test_the_port_of_who_may_not_bind_port_123(monkeypatch):
    with server(GOOD) as port:
        monkeypatch.setattr(explain, "UNPRIVILEGED", port - 1)
        found, heard = explain.find_server("127.0.0.1", 1)
    assert found == port and heard.stratum == 3


def test_a_server_that_is_silent(monkeypatch):
    monkeypatch.setattr(explain, "PATIENCE", 0.1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        assert explain.ask("127.0.0.1", one.getsockname()[1]) == "silence"


@pytest.mark.parametrize("client", ["ntp.example.org", "1.2.3", "300.1.1.1", "::g", "1.2.3.4\0", "\ud800"])
def test_a_client_is_an_address(tmp_path, capsys, client):
    with pytest.raises(UsageError, match="not an IP address"):
        run(tmp_path, capsys, client)


def test_a_wrong_setting_is_one_line(tmp_path, capsys, nobody_else):
    with pytest.raises(ConfigError, match=r"lab.ini \[service ntp\]: allow = kitchen: expected "):
        run(tmp_path, capsys, allow=("kitchen",))


# Real clients

def missing_chronyd():
    return [name for name in ("chronyd", "chronyc") if not shutil.which(name)]


@pytest.mark.slow
def test_chronyd_refuses_what_it_is_said_to_refuse(tmp_path):
    if missing_chronyd():
        pytest.skip("%s is missing: apt install chrony" % missing_chronyd()[0])
    now = time.time_ns()
    good = GOOD._replace(reference_time=now, updated=now)
    cases = {"good": good, "leap": good._replace(leap=3), "far": good._replace(root_dispersion=2.9),
             "too far": good._replace(root_dispersion=3.1), "too long a way": good._replace(root_delay=6.1),
             "old": good._replace(reference_time=now - 2 * 86_400 * SECOND), "15": good._replace(stratum=15),
             "local": source.local_clock(10, 0.0, "", now).clock,
             "kernel": source.somebody(kernel.Kernel(0, True, 0.0, 0.0, 0.05, 0.0, 0, True, 0), now).clock}
    with contextlib.ExitStack() as stack:
        clients = {name: subprocess.Popen(
            ["chronyd", "-U", "-Q", "-t", "10", "server 127.0.0.1 port %d iburst" % stack.enter_context(server(clock)),
             "pidfile %s/%s.pid" % (tmp_path, name.replace(" ", "")), "cmdport 0", "bindcmdaddress /"] + as_root(),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for name, clock in cases.items()}
        said = {name: client.communicate(timeout=30)[0] for name, client in clients.items()}
    refused = {name for name, text in said.items() if b"Fatal" not in text and b"System clock wrong by" not in text}
    assert refused == {"leap", "too far", "too long a way"}, said
    for name, clock in cases.items():
        found = explain.faults(explain.served(source.State(clock, "", WHY), now), "", now)
        assert (name in refused) == any("chronyd" in reason or "every client" in reason for reason in found), name


def as_root():
    return ["user root"] if os.geteuid() == 0 else []


@pytest.mark.slow
@pytest.mark.parametrize("reference, serves, taken", [
    ((127, 0, 0, 1), "allow", False), ((127, 0, 0, 1), "deny", True), ((192, 0, 2, 1), "allow", True)])
def test_chronyd_refuses_a_loop_if_it_serves_others(tmp_path, reference, serves, taken):
    if missing_chronyd():
        pytest.skip("%s is missing: apt install chrony" % missing_chronyd()[0])
    tmp_path.chmod(0o700)  # or it has no command socket
    now, command = time.time_ns(), str(tmp_path / "command")
    with server(GOOD._replace(reference_time=now, updated=now, reference_id=bytes(reference))) as port:
        client = subprocess.Popen(
            ["chronyd", "-x", "-U", "-d", "port %d" % free_port(), serves, "server 127.0.0.1 port %d iburst minpoll 0" % port,
             "cmdport 0", "bindcmdaddress %s" % command, "pidfile %s/pid" % tmp_path] + as_root(),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        def tests():
            """The results of chronyd's tests 1 to 3, 5 to 7 and A to D of the last answer, once it had four."""
            found = subprocess.run(["chronyc", "-h", command, "-n", "-c", "ntpdata", "127.0.0.1"], capture_output=True,
                                   text=True)
            words = found.stdout.strip().split(",")
            return words[23:26] if len(words) > 31 and int(words[-3]) > 4 else None
        try:
            assert until(tests, 20, "an answer") == ["111", "111", "1111" if taken else "1110"]
        finally:
            client.kill()
            client.wait()
