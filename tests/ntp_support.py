"""Real NTP servers on loopback for the tests: penny's, and chronyd, which never touches the clock (-x)."""
from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time

import pytest

MARKER = b"\x23" + bytes(39) + b"a marker"


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Asker:
    """Asks a server from one socket."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self.socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.settimeout(2)
        self.socket.connect((host, port))

    def answers(self, packet: bytes) -> list[bytes]:
        """What comes back for a packet: a good question is sent after it, and its answer ends the waiting."""
        self.socket.send(packet)
        self.socket.send(MARKER)
        found = []
        while True:
            said = self.socket.recv(4096)
            if said[24:32] == MARKER[40:]:
                return found
            found.append(said)

    def wait(self) -> None:
        """Until the server answers at all."""
        end = time.monotonic() + 10
        while True:
            try:
                self.socket.send(MARKER)
                self.socket.settimeout(0.2)
                self.socket.recv(4096)
                break
            except OSError:
                assert time.monotonic() < end, "it does not answer"
                time.sleep(0.05)
        self.socket.settimeout(0.3)
        try:
            while True:
                self.socket.recv(4096)
        except OSError:
            self.socket.settimeout(2)

    def close(self) -> None:
        self.socket.close()


class Chronyd:
    """A chronyd without keys that serves its own clock at stratum 10."""

    def __init__(self, folder, *directives: str) -> None:
        program = shutil.which("chronyd", path=os.environ.get("PATH", "") + ":/usr/sbin")
        if not program:
            pytest.skip("needs chronyd (Debian: chrony)")
        self.port = free_port()
        self.process = subprocess.Popen(
            [program, "-x", "-d", "port %d" % self.port, "local stratum 10", "allow", "cmdport 0", "bindcmdaddress /",
             "user %s" % ("root" if os.geteuid() == 0 else os.environ.get("USER", "nobody")),
             "pidfile %s" % (folder / "chronyd.pid"), *directives],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(5)
