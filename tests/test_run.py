"""The command line: what every service and command has in common."""
from __future__ import annotations

import io
import os
import shutil
import socket
import subprocess
import sys

import pytest

from penny.core import listen, manifest as manifests, run
from penny.core.errors import PennyError
from penny.core.log import Log
from penny.core.manifest import Manifest, Runs, Socket
from penny.core.run import Home
from support import ROOT, context, free_port, until


def test_penny_alone_lists_services_and_commands_with_their_titles(penny):
    ended = subprocess.run(penny.command(), capture_output=True, text=True, env=penny.environment(), cwd=ROOT)
    assert ended.returncode == 0
    for name in manifests.names():
        assert "  %s" % name in ended.stdout and manifests.load(name).title in ended.stdout
    assert max(map(len, ended.stdout.splitlines())) <= 80


@pytest.mark.parametrize("name", manifests.names())
def test_help_everywhere(penny, name):
    ended = penny.run(name, "--help")
    assert ended.returncode == 0 and manifests.load(name).title in ended.stdout
    for key in manifests.load(name).settings:
        assert "  %s = " % key in ended.stdout


def test_every_verb_has_help(penny):
    for verb in ("add", "remove", "list", "collect", "import", "export", "parse", "serve"):
        ended = penny.run("rss", verb, "--help")
        assert ended.returncode == 0 and "usage: penny rss %s" % verb in ended.stdout


def test_mistakes_on_the_command_line(penny):
    ended = penny.run("rsss")
    assert (ended.returncode, ended.stderr) == (
        2, "penny: there is no service or command rsss (did you mean rss?); `penny` lists them\n")
    assert penny.run("rss", "colect").returncode == 2
    assert penny.run("rss", "list", "--jsn").returncode == 2
    assert penny.run("rss", "list", "--set", "interval=soon").returncode == 78


def test_a_service_without_a_verb_serves(penny):
    process = penny.start("rss", "--set", "port=%d" % free_port(), "--set", "listen=127.0.0.1")
    until(lambda: "ready on 127.0.0.1" in penny.log())
    process.terminate()
    assert process.wait(5) == 0


def test_settings_before_and_after_the_verb_both_count(penny):
    ended = penny.run("rss", "--set", "bogus=1", "list", "--set", "private=allow")
    assert ended.returncode == 78 and "unknown key bogus" in ended.stderr


@pytest.mark.parametrize("streams", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
def test_closed_standard_streams_are_no_fault(penny, streams):
    command = "%s -m penny rss list --home %s %s" % (sys.executable, penny.home, streams)
    ended = subprocess.run(["sh", "-c", command], capture_output=True, text=True, env=penny.environment(), cwd=ROOT)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_full_standard_output_is_one_line(penny):
    for unbuffered in ("", "1"):
        ended = subprocess.run(["sh", "-c", "%s -m penny >/dev/full" % sys.executable], capture_output=True, text=True,
                               env=penny.environment(PYTHONUNBUFFERED=unbuffered), cwd=ROOT)
        assert (ended.returncode, ended.stderr) == (1, "penny: cannot write the output: no space left on device\n")


def test_a_module_runs_by_itself_too(penny):
    ended = subprocess.run([sys.executable, "-m", "penny.rss", "list", "--home", penny.home], capture_output=True, text=True,
                           env=penny.environment(), cwd=ROOT)
    assert ended.returncode == 0 and ended.stdout.startswith("There are no feeds yet")


def test_a_reader_that_goes_away_is_no_fault(penny):
    for words in ("completion", "", "rss list"):
        for unbuffered in ("", "1"):
            ended = subprocess.run(["sh", "-c", "%s -m penny %s | true" % (sys.executable, words)], capture_output=True, text=True,
                                   env=penny.environment(PYTHONUNBUFFERED=unbuffered), cwd=ROOT)
            assert ended.stderr == ""


def test_where_things_are(monkeypatch):
    for name in ("CONFIGURATION_DIRECTORY", "STATE_DIRECTORY", "XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert run.find_home(None) == Home("/home/ada/.config/penny", "/home/ada/.local/state/penny")
    assert run.find_home("/x") == Home("/x/etc", "/x/var")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert run.find_home(None) == Home("/etc/penny", "/var/lib/penny")
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/a:/var/lib/b")
    assert run.find_home(None) == Home("/etc/penny", "/var/lib/a")


def test_the_net_tells_faults_from_what_is_expected(capsys):
    def crash():
        raise KeyError("x\ny")

    def refuse():
        raise PennyError("cannot reach it")
    assert run.guarded(lambda: None, Log("t")) == ""
    assert run.guarded(refuse, Log("t")) == "cannot reach it" and capsys.readouterr().err == ""
    assert run.guarded(lambda: sys.exit(3), Log("t")) == "SystemExit: 3"
    assert run.guarded(crash, Log("t")) == "KeyError: 'x\\ny'"
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
@pytest.mark.parametrize("words, found", [
    (["penny", "di"], ["digest"]), (["penny", "rss", "co"], ["collect"]), (["penny", "rss", "collect", "--j"], ["--json"]),
    (["penny", "digest", "--f"], ["--format"]), (["penny", "up", "--on"], ["--only"]),
])
def test_completion_in_a_real_bash(penny, words, found):
    script = penny.run("completion").stdout
    ask = "%s\nCOMP_WORDS=(%s); COMP_CWORD=%d; _penny; printf '%%s\\n' \"${COMPREPLY[@]}\"" % (
        script, " ".join(words), len(words) - 1)
    ended = subprocess.run(["bash", "-c", ask], capture_output=True, text=True)
    assert (ended.stdout.split(), ended.stderr) == (found, "")


# Sockets

def manifest(*sockets):
    return Manifest("x", "X", "penny.x", Runs("always"), "work", sockets, {})


class Settings:
    def __init__(self, port, *addresses):
        self.port, self.listen = port, addresses


def test_any_port_is_the_same_on_every_address():
    found = listen.open_sockets(manifest(Socket(8104, "tcp"), Socket(free_port(), "udp")), Settings(0, "127.0.0.1", "127.0.0.2"),
                                Log("t"))
    ports = {one.getsockname()[1] for one in found["8104/tcp"]}
    assert len(ports) == 1 and len(found) == 2
    assert all(not one.getblocking() for group in found.values() for one in group)
    again = listen.duplicate(found)
    listen.close(found)
    with socket.create_connection(again["8104/tcp"][0].getsockname(), 2):
        pass
    listen.close(again)


def test_an_address_that_this_box_lacks_is_left_out_unless_it_is_the_only_one():
    found = listen.open_sockets(manifest(Socket(8104, "tcp")), Settings(free_port(), "127.0.0.1", "192.0.2.1"), Log("t"))
    assert len(found["8104/tcp"]) == 1
    listen.close(found)
    with pytest.raises(PennyError, match="cannot listen on 192.0.2.1 port 1234/tcp"):
        listen.open_sockets(manifest(Socket(8104, "tcp")), Settings(1234, "192.0.2.1"), Log("t"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may bind any port")
def test_a_port_that_this_user_may_not_bind_moves_up_by_8000(capsys):
    with open("/proc/sys/net/ipv4/ip_unprivileged_port_start") as file:
        if int(file.read()) <= 123:
            pytest.skip("any user may bind any port here")
    found = listen.open_sockets(manifest(Socket(123, "udp")), Settings(123, "127.0.0.1"), Log("t"))
    assert found["123/udp"][0].getsockname()[1] == 8123
    assert "may not bind port 123: port 8123 instead" in capsys.readouterr().err
    listen.close(found)


# The log

def test_lines_of_the_log(capsys):
    Log("rss").info("read %s", "a\x1b[31m\u202efeed")
    Log("rss").warning("two\nlines with %")
    Log("rss").debug("not shown")
    Log("rss", verbose=True).debug("shown")
    lines = capsys.readouterr().err.splitlines()
    assert [line[20:] for line in lines] == ["rss: read a\ufffd[31m\ufffdfeed", "rss: warning: two", "rss: warning: lines with %",
                                            "rss: debug: shown"]


def test_under_journald_every_line_has_its_priority(tmp_path):
    code = "from penny.core.log import Log; Log('rss').error('one\\ntwo'); Log('rss').info('three')"
    with open(tmp_path / "journal", "w+b") as journal:
        status = os.fstat(journal.fileno())
        subprocess.run([sys.executable, "-c", code], stderr=journal, check=True, cwd=ROOT,
                       env={**os.environ, "PYTHONPATH": str(ROOT), "JOURNAL_STREAM": "%d:%d" % (status.st_dev, status.st_ino)})
        journal.seek(0)
        assert journal.read() == b"<3>rss: one\n<3>rss: two\n<6>rss: three\n"


def test_nobody_reading_standard_error_is_no_fault(monkeypatch):
    class Closed(io.StringIO):
        def write(self, text):
            raise BrokenPipeError
    monkeypatch.setattr(sys, "stderr", Closed())
    Log("rss").info("to nobody")


@pytest.mark.slow
def test_installed_from_a_wheel_it_finds_its_files(tmp_path):
    if subprocess.run([sys.executable, "-c", "import ensurepip"], capture_output=True).returncode:
        pytest.skip("needs venv (Debian: python3-venv)")
    shutil.copytree(ROOT, tmp_path / "src", ignore=shutil.ignore_patterns(".git", ".test-env", "dist", "build", "__pycache__"))
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    pip = [tmp_path / "venv" / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    installed = subprocess.run([*pip, tmp_path / "src"], capture_output=True, text=True)
    if "Could not find a version" in installed.stderr or "No matching distribution" in installed.stderr:
        pytest.skip("needs a package index for setuptools")
    assert installed.returncode == 0, installed.stderr
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    shown = subprocess.run([tmp_path / "venv" / "bin" / "penny"], capture_output=True, text=True, env=clean, cwd=tmp_path)
    assert "Feed collector" in shown.stdout
    started = subprocess.run([tmp_path / "venv" / "bin" / "penny", "rss", "collect", "--home", tmp_path / "h"],
                             capture_output=True, text=True, env=clean, cwd=tmp_path)
    assert "begun with 8 feeds" in started.stderr


def test_a_service_that_crashes_takes_its_other_half_with_it(tmp_path):
    ended = []

    def other_half(context):
        context.stop.wait(20)
        ended.append(context.stop.is_set())
    outer = context(tmp_path)
    with pytest.raises(ZeroDivisionError):
        with run.beside(other_half, outer):
            raise ZeroDivisionError
    assert ended == [True] and not outer.stop.is_set()
