"""penny ntp as a real process: who is answered and from where, floods, memory, and real clients that take its time.

Its clock is its own (`local`), unless something disciplines that of the box on which the tests run.
"""
from __future__ import annotations

import os
import random
import re
import shutil
import socket
import subprocess
import sys
import threading
import time

import pytest

from ntp_support import MARKER, Asker, Chronyd, free_port
from test_ntp_packet import ANSWERED, REFUSED, field, packet

@pytest.fixture
def serve(penny):
    """Starts the server with settings; returns its port."""
    def start(*settings, listen="127.0.0.1"):
        port = free_port()
        words = [word for setting in ("local=10", "port=%d" % port, "listen=" + listen, *settings) for word in ("--set", setting)]
        start.process = penny.start("ntp", "serve", *words)
        asker = Asker(port)
        asker.wait()
        asker.close()
        return port
    return start


@pytest.fixture
def ask():
    askers = []

    def connect(port, host="127.0.0.1"):
        askers.append(Asker(port, host))
        return askers[-1]
    yield connect
    for one in askers:
        one.close()


def resident(pid, name="VmRSS"):
    with open("/proc/%d/status" % pid) as file:
        return int(re.search(name + r":\s+(\d+) kB", file.read())[1])


def test_it_answers_whom_it_should(serve, ask):
    asker = ask(serve())
    for name, question in ANSWERED.items():
        said, = asker.answers(question)
        assert len(said) == 48 and said[24:32] == question[40:48] and 0 < said[1] < 16 and said[0] >> 6 < 3, name
        assert abs(int.from_bytes(said[40:44], "big") - 2_208_988_800 - time.time()) < 2, name
    for name, (question, _) in REFUSED.items():
        assert asker.answers(question) == [], name


def test_the_answer_comes_from_the_address_that_was_asked(serve, ask):
    port = serve(listen="*")
    for host in ("127.0.0.1", "127.0.0.2", "127.3.2.1", "::1"):
        assert len(ask(port, host).answers(packet())) == 1  # a connected socket hears that address alone


def test_who_may_not_ask_hears_nothing(penny, serve):
    penny.write_lab("[segment attic]\nsubnet = 127.0.0.1\n")
    port = serve("allow=attic 192.0.2.0/24")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind(("127.0.0.2", 0))
        stranger.settimeout(0.3)
        stranger.sendto(packet(), ("127.0.0.1", port))
        with pytest.raises(TimeoutError if sys.version_info >= (3, 10) else socket.timeout):
            stranger.recv(100)


def test_a_name_of_no_segment_is_bad_configuration(penny):
    ended = penny.run("ntp", "serve", "--set", "allow=cellar", "--set", "port=0")
    assert ended.returncode == 78 and "allow = cellar: expected private, all, a segment of lab.ini, or" in ended.stderr


@pytest.mark.parametrize("kiss", ["no", "yes"])
def test_who_asks_too_often_is_answered_now_and_then(serve, kiss):
    port = serve("limit=1000", "kiss=" + kiss)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as often:
        often.bind(("127.0.0.9", 0))  # not the one that waited for the server
        often.connect(("127.0.0.1", port))
        often.settimeout(0.5)
        for _ in range(40):
            often.send(packet())
        said = []
        try:
            while True:
                said.append(often.recv(100))
        except OSError:
            pass
    good = [one for one in said if one[1]]
    assert len(good) == 8 + 32 // 4
    assert len(said) - len(good) == (24 if kiss == "yes" else 0)
    assert all(one[12:16] == b"RATE" and one[0] >> 6 == 3 for one in said if one not in good)


def test_what_was_counted_is_told(penny, serve, ask):
    asker = ask(serve())
    for question in (packet(), packet(0x24), b"", packet(0x23, bytes(4))):
        asker.answers(question)
    said = penny.run("ntp", "figures").stdout
    for verdict in ("mode", "length", "authenticated"):
        assert 'ntp_requests_total{verdict="%s"} 1\n' % verdict in said
    assert "ntp_clients 1\n" in said and "ntp_root_distance_seconds " in said and said.endswith("# EOF\n")


def test_without_a_server_there_are_no_figures(penny):
    ended = penny.run("ntp", "figures")
    assert ended.returncode == 1 and ended.stderr.startswith("penny: cannot read the figures: nobody serves time here")


def test_it_stops_at_once(serve):
    serve()
    started = time.monotonic()
    serve.process.terminate()
    assert serve.process.wait(5) == 0 and time.monotonic() - started < 2


def structured(chance):
    """A packet that may or may not deserve an answer."""
    if chance.random() < 0.2:
        return chance.randbytes(chance.randrange(0, 140))
    data = bytearray(chance.choice([*ANSWERED.values(), *(question for question, _ in REFUSED.values())]))
    for _ in range(chance.randrange(3)):
        if data:
            data[chance.randrange(len(data))] = chance.randrange(256)
    if chance.random() < 0.4:
        for _ in range(chance.randrange(1, 3)):
            data += field(chance.choice((0x7777, 0x0104, 0x0204, 0x2104, chance.randrange(65536))), chance.randrange(4, 80, 4))
    if chance.random() < 0.2:
        data = data[:chance.randrange(len(data) + 1)]
    return bytes(data)


@pytest.mark.slow
def test_chronyd_without_keys_gives_the_same_verdict(serve, ask, tmp_path):
    chronyd = Chronyd(tmp_path)
    try:
        theirs, ours = ask(chronyd.port), ask(serve())
        theirs.wait()
        seed = random.randrange(1 << 30)
        chance = random.Random(seed)
        print("seed %d" % seed)
        questions = [*ANSWERED.values(), *(question for question, _ in REFUSED.values())]
        questions += [structured(chance) for _ in range(5000)]
        for question in questions:
            expected, found = theirs.answers(question), ours.answers(question)
            assert len(found) == len(expected), (seed, question.hex())
            assert [one[0] & 0x3f for one in found] == [one[0] & 0x3f for one in expected], (seed, question.hex())
    finally:
        chronyd.close()


@pytest.mark.slow
def test_a_million_packets_of_all_kinds(serve, ask):
    """A flood that is not waited for, while a good client asks ten times a second."""
    port = serve()
    seed = random.randrange(1 << 30)
    chance = random.Random(seed)
    print("seed %d" % seed)
    asked, answered = [0], [0]
    done = threading.Event()

    def good_client():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.connect(("127.0.0.1", port))
            one.settimeout(1)
            while not done.wait(0.1):
                asked[0] += 1
                try:
                    one.send(packet())
                    answered[0] += one.recv(100)[1] > 0
                except OSError:
                    pass
    flood = [structured(chance) for _ in range(20_000)] + [chance.randbytes(chance.randrange(1500)) for _ in range(20_000)]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.connect(("127.0.0.1", port))
        for question in flood[::10]:
            one.send(question)
        time.sleep(1)
        before = resident(serve.process.pid)
        thread = threading.Thread(target=good_client)
        thread.start()
        one.settimeout(5)
        said = 0
        for start in range(0, 1_000_000, 20):  # no more than a socket surely holds: all of them are read
            for number in range(start, start + 20):
                one.send(flood[number % len(flood)])
            said += hear(one)
        done.set()
        thread.join()
    print("%d answers; a good client got %d of %d; %d KB more" % (
        said, answered[0], asked[0], resident(serve.process.pid) - before))
    assert serve.process.poll() is None and said > 1000
    assert resident(serve.process.pid) - before < 1024
    assert asked[0] > 10 and answered[0] >= 0.9 * asked[0]


def hear(one):
    """How many answers came until that to a marker; none is longer than 48 bytes or of another mode than an answer's."""
    one.send(MARKER)
    for count in range(1000):
        said = one.recv(4096)
        assert len(said) == 48 and said[0] & 7 in (2, 4)
        if said[24:32] == MARKER[40:]:
            return count


@pytest.mark.slow
def test_a_hundred_thousand_addresses_take_no_more_memory(serve):
    port = serve()
    before = resident(serve.process.pid)
    for number in range(100_000):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.bind(("127.%d.%d.%d" % (1 + (number >> 16), number >> 8 & 255, number & 255), 0))
            one.sendto(packet(), ("127.0.0.1", port))
    time.sleep(0.5)
    more = resident(serve.process.pid) - before
    print("%d KB, %d KB more" % (before, more))
    assert more <= 256


def need(name, package):
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/bin")
    if not found:
        pytest.skip("needs %s (Debian: %s)" % (name, package))
    return found


def alone(penny, tmp_path, *commands):
    """Runs shell commands beside a penny on port 123, in a network of their own; returns what they print."""
    if os.geteuid() or subprocess.run(["unshare", "--net", "true"]).returncode:
        pytest.skip("needs root and the right to make network namespaces")
    script = tmp_path / "script"
    server = " ".join(map(str, penny.command("ntp", "serve", "--set", "local=10", "--home", penny.home)))
    script.write_text("\n".join((
        "ip link set lo up", server + " 2>/dev/null & server=$!",
        "for try in $(seq 100); do ss -lun | grep -q :123 && break; sleep 0.1; done", *commands, "kill $server")))
    return subprocess.run(["unshare", "--net", "sh", script], capture_output=True, text=True, timeout=120, cwd=penny.root,
                          env=penny.environment()).stdout


@pytest.mark.slow
def test_ntpdig_takes_it(penny, tmp_path):
    said = alone(penny, tmp_path, need("ntpdig", "ntpsec-ntpdig") + " -j -p 4 127.0.0.1")
    assert re.search(r'"stratum": ?[1-9]', said) and '"leap": ?"no-leap"'.replace(" ?", "") in said.replace(" ", ""), said


@pytest.mark.slow
def test_busybox_ntpd_takes_it(penny, tmp_path):
    busybox = need("busybox", "busybox")
    if subprocess.run([busybox, "ntpd", "--help"], capture_output=True).returncode == 127:
        pytest.skip("needs a busybox that has ntpd, which Debian's has not")
    said = alone(penny, tmp_path, "timeout 12 %s ntpd -w -n -dd -p 127.0.0.1 2>&1" % busybox)
    assert re.search(r"reply from 127.0.0.1: offset:[+-]0\.00\d+ .*strat:[1-9]", said), said


@pytest.mark.slow
def test_a_chronyd_follows_it(penny, tmp_path):
    need("chronyd", "chrony")
    said = alone(
        penny, tmp_path, "PATH=$PATH:/usr/sbin",
        "chronyd -x -d 'server 127.0.0.1 iburst' 'bindcmdaddress 127.0.0.1' 'user root' 'pidfile %s/pid' >/dev/null 2>&1 & it=$!"
        % tmp_path, "for try in $(seq 40); do chronyc -h 127.0.0.1 -c sources | grep -q '^^,[*]' && break; sleep 0.5; done",
        "chronyc -h 127.0.0.1 -c sources", "chronyc -h 127.0.0.1 -c tracking", "kill $it")
    assert re.match(r"\^,\*,127.0.0.1,\d+,.*\n7F000001,127.0.0.1,\d+,", said), said


@pytest.mark.slow
def test_ntplib_takes_it(serve):
    port = serve()
    code = ("import ntplib; r = ntplib.NTPClient().request('127.0.0.1', port=%d, version=3);"
            "print(r.stratum, r.leap, abs(r.offset) < 0.05)" % port)
    ended = subprocess.run(["/usr/bin/python3", "-c", code], capture_output=True, text=True)
    if "No module named" in ended.stderr:
        pytest.skip("needs ntplib (Debian: python3-ntplib)")
    assert re.match(r"[1-9]\d* 0 True", ended.stdout), ended.stdout + ended.stderr


@pytest.mark.slow
def test_chronyd_takes_it(serve, tmp_path):
    chronyd = need("chronyd", "chrony")
    ended = subprocess.run([chronyd, "-Q", "-x", "server 127.0.0.1 port %d iburst maxsamples 4" % serve(), "user root",
                            "pidfile %s" % (tmp_path / "pid")], capture_output=True, text=True, timeout=60)
    print(ended.stdout, ended.stderr)
    assert ended.returncode == 0 and re.search(r"System clock wrong by -?0\.00\d+ seconds", ended.stdout + ended.stderr)
