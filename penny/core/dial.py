"""A connection to a host that a stranger may have named: its name looked up, every address judged, TCP, and TLS.

The rule it keeps: a name is looked up once, every address that is found is judged, and the connection goes to that very
address, so that a name server cannot answer otherwise in between (rebinding). All of it, TLS included, ends at one
deadline; an address that does not answer uses up its share of the time and no more.

Deliberately left out: connecting to several addresses at once (RFC 8305), client certificates, a store of authorities
other than the system's.

Sources: IANA's registries of special-purpose addresses; RFC 6052 (NAT64); RFC 3056 (6to4); RFC 6761 §6.3, RFC 6762 and
RFC 8375 (names that are not public).
"""
from __future__ import annotations

import functools
import ipaddress
import os
import re
import socket
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import ssl

ADDRESSES = 8  # of one name; more are not tried

_SIX_UNICAST = ipaddress.ip_network("2000::/3")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_NOT_GLOBAL = (ipaddress.ip_network("192.0.0.0/24"), ipaddress.ip_network("3fff::/20"))  # let through by Python 3.9
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")  # as the last label: an address in some resolver's eyes, and never a name
_PRIVATE_NAMES = ("localhost", "localdomain", "local", "internal", "home.arpa")  # with all that is below them
_CERTIFICATE = {  # by OpenSSL's X509_V_ERR number: 62 is about names, 64 about addresses
    9: "its certificate is not valid yet (is this machine's clock right?)", 10: "its certificate has expired",
    62: "its certificate is for another name", 64: "its certificate is for another name"}


class Failed(Exception):
    """A reason, for a person; who asked for the connection adds what it was wanted for."""


class Deadline(NamedTuple):
    """When a connection must stand at the latest."""

    at: float  # on the monotonic clock
    seconds: float  # that were granted, for messages

    def left(self) -> float:
        return max(0.001, self.at - time.monotonic())

    def missed(self) -> Failed:
        return Failed(f"no answer within {self.seconds:g} s")


def connect(host: str, port: int, deadline: Deadline, *, private: bool, tls: bool) -> socket.socket:
    """A socket that is connected to one of the host's addresses, over TLS if asked for.

    `host` is a name in ASCII or a numeric address. `private` lets in addresses that are not public. Raises Failed and
    OSError.
    """
    found = look_up(host, port, deadline)
    allowed = [(family, address) for family, address in found if private or is_public(address[0])]
    if not allowed:
        raise _refused(found[0][1][0], "address")
    for number, (family, address) in enumerate(allowed):
        # A share of what is left, so that one dead address does not use up the others' time.
        now = time.monotonic()
        share = deadline._replace(at=now + (deadline.at - now) / (len(allowed) - number))
        try:
            return _connect(family, address, share, host if tls else "")
        except (Failed, OSError) as error:  # also a family that this machine lacks
            failure = error
    raise deadline.missed() if isinstance(failure, socket.timeout) else failure


def secure(plain: socket.socket, host: str, deadline: Deadline) -> socket.socket:
    """TLS over `plain`, whose descriptor it takes over; the certificate has been checked. Raises Failed and OSError."""
    try:
        import ssl
    except ImportError:
        raise Failed("https needs Python's ssl module, which is missing here") from None
    paths = ssl.get_default_verify_paths()
    context = _trust(paths.cafile, paths.capath, os.stat(paths.cafile).st_mtime if paths.cafile else 0.0)
    plain.settimeout(deadline.left())  # for the handshake as a whole
    try:
        return context.wrap_socket(plain, server_hostname=host.rstrip("."))
    except ssl.SSLCertVerificationError as error:
        otherwise = f"its certificate is not accepted: {error.verify_message}"
        raise Failed(_CERTIFICATE.get(error.verify_code, otherwise)) from error
    except socket.timeout:
        raise deadline.missed() from None


def is_public(address: str) -> bool:
    """Whether a numeric address is global unicast, and so is the IPv4 address that it may carry.

    `is_global` alone differs between Python versions and trusts translated addresses. Raises ValueError.
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        carried = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else ip.ipv4_mapped or ip.sixtofour
        if carried is not None:
            return is_public(str(carried))
        if ip not in _SIX_UNICAST:
            return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved and not any(ip in net for net in _NOT_GLOBAL)


def judge_unresolved(host: str) -> None:
    """Judge by its letters a host (ASCII, lower case) that somebody else will look up; raises Failed.

    Refused are numeric addresses that are not public or not in their one plain form, which no two resolvers read alike
    (010.0.0.1), and names that mean this machine or this network wherever they are looked up.
    """
    name = host.rstrip(".")
    try:
        if str(ipaddress.ip_address(name)) == name:  # Python 3.9.0 takes 010.0.0.1 for 10.0.0.1
            if is_public(name):
                return
            raise _refused(name, "address")
    except ValueError:
        pass
    if _NUMBER.fullmatch(name.rpartition(".")[2]):
        raise _refused(name, "address, or an odd form of one")
    if "." not in name or name.endswith(tuple("." + end for end in _PRIVATE_NAMES)) or name in _PRIVATE_NAMES:
        raise _refused(name, "name")


def _refused(what: str, kind: str) -> Failed:
    return Failed(f"refused: {what} is a private {kind} (private = allow lets it in)")


def look_up(host: str, port: int, deadline: Deadline) -> list[tuple[int, tuple]]:
    """Address families and socket addresses, as getaddrinfo orders them.

    getaddrinfo knows no deadline, hence the thread; one that is late ends by itself when the resolver gives up.
    """
    answer: list[list | Exception] = []

    def ask() -> None:
        try:
            # As bytes, since a str would import the IDNA tables (1 MB) for what is ASCII already.
            answer.append(socket.getaddrinfo(host.encode(), port, type=socket.SOCK_STREAM))
        except (OSError, ValueError) as error:
            answer.append(error)

    thread = threading.Thread(target=ask, name="look-up", daemon=True)
    try:
        thread.start()
    except RuntimeError:
        raise Failed("no thread to be had for the name look-up") from None
    thread.join(max(0.0, deadline.at - time.monotonic()))
    if not answer:
        raise Failed(f"name look-up took over {deadline.seconds:g} s")
    if isinstance(answer[0], Exception):
        raise answer[0]
    return [(entry[0], entry[4]) for entry in answer[0][:ADDRESSES]]


def _connect(family: int, address: tuple, deadline: Deadline, tls_host: str) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.settimeout(deadline.left())
        sock.connect(address)
        return secure(sock, tls_host, deadline) if tls_host else sock
    except (Failed, OSError):
        sock.close()
        raise


@functools.lru_cache(maxsize=1)  # reading 144 authorities takes 20 ms on a machine of today
def _trust(bundle: str | None, folder: str | None, changed: float) -> ssl.SSLContext:
    """The system's authorities; read again when their file has another name or another time."""
    import ssl
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
