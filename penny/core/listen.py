"""Sockets to listen on, and systemd's side of it: sockets that it hands over, and telling it how things go.

Only this module binds. A socket is non-blocking from the start, and IPv6 sockets take IPv6 alone, so that the two
families never fight for a port.
"""
from __future__ import annotations

import errno
import os
import socket
from types import SimpleNamespace

from penny.core.errors import PennyError, one_line
from penny.core.log import Log
from penny.core.manifest import Manifest, Socket

FIRST_FD = 3  # sd_listen_fds(3)
BACKLOG = 256
UNPRIVILEGED = 8000  # added to a port below 1024 that this user may not bind

Sockets = dict  # of a manifest's socket name to a list of sockets


def open_sockets(manifest: Manifest, settings: SimpleNamespace, log: Log) -> Sockets:
    """All sockets that a manifest names, bound to every address of the setting `listen`. Raises PennyError."""
    found: Sockets = {}
    try:
        for index, wanted in enumerate(manifest.sockets):
            port = settings.port if index == 0 else wanted.port
            found[wanted.name] = _bind_all(wanted, port, settings.listen, log)
    except PennyError:
        close(found)
        raise
    return found


def close(sockets: Sockets) -> None:
    for group in sockets.values():
        for one in group:
            one.close()


def duplicate(sockets: Sockets) -> Sockets:
    """The same listening sockets under descriptors of their own: a service may close these and be started again."""
    return {name: [one.dup() for one in group] for name, group in sockets.items()}


def inherited(manifest: Manifest) -> Sockets:
    """The sockets that systemd passed to this very process (LISTEN_PID, LISTEN_FDS), by protocol in order; empty when
    it passed none. Raises PennyError when they are not those of the manifest."""
    count = os.environ.get("LISTEN_FDS", "0")
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or not count.isdigit() or count == "0":
        return {}
    found: Sockets = {wanted.name: [] for wanted in manifest.sockets}
    for fd in range(FIRST_FD, FIRST_FD + int(count)):
        one = socket.socket(fileno=fd)
        one.setblocking(False)
        os.set_inheritable(fd, False)
        protocol = "tcp" if one.type == socket.SOCK_STREAM else "udp"
        port = one.getsockname()[1]
        same = [wanted for wanted in manifest.sockets if wanted.protocol == protocol]
        exact = [wanted for wanted in same if wanted.port == port]
        for wanted in (exact or same)[:1]:
            found[wanted.name].append(one)
    for name, group in found.items():
        if not group:
            raise PennyError("cannot listen: systemd passed %s sockets, and none of them is for %s" % (count, name))
    return found


def _bind_all(wanted: Socket, port: int, addresses: tuple[str, ...], log: Log) -> list[socket.socket]:
    bound: list[socket.socket] = []
    for address in addresses:
        try:
            bound.append(_bind(wanted.protocol, address, port))
        except OSError as error:
            missing = error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
            if missing and (bound or address != addresses[-1]):
                log.debug("no %s on this box: %s", address, one_line(error))
                continue
            for one in bound:
                one.close()
            if error.errno == errno.EACCES and port < 1024:
                log.warning("may not bind port %d: port %d instead", port, port + UNPRIVILEGED)
                return _bind_all(wanted, port + UNPRIVILEGED, addresses, log)
            hint = " (is another penny running?)" if error.errno == errno.EADDRINUSE else ""
            raise PennyError("cannot listen on %s port %d/%s: %s%s"
                             % (address, port, wanted.protocol, one_line(error), hint)) from error
        if port == 0:
            port = bound[0].getsockname()[1]  # any port: but the same one on every address
    return bound


def _bind(protocol: str, address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    one = socket.socket(family, kind)
    try:
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if protocol == "tcp":
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind((address, port))
        if protocol == "tcp":
            one.listen(BACKLOG)
        one.setblocking(False)
    except OSError:
        one.close()
        raise
    return one


def local(path: str) -> socket.socket:
    """A socket that programs of this user reach by its path; one that an earlier run left behind is replaced. The folder
    must be there."""
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)  # from the start: nobody else may connect before a chmod
    try:
        if os.path.exists(path):
            os.unlink(path)
        one.bind(path)
        one.listen(4)
        one.setblocking(False)
    except OSError as error:
        one.close()
        raise PennyError("cannot listen at %s: %s" % (path, one_line(error))) from error
    finally:
        os.umask(before)
    return one


def address_of(one: socket.socket) -> str:
    """'127.0.0.1:8104' or '[::1]:8104'."""
    host, port = one.getsockname()[:2]
    return "[%s]:%d" % (host, port) if ":" in host else "%s:%d" % (host, port)


def notify(text: str) -> None:
    """Tell systemd, where it listens: READY=1, STOPPING=1, WATCHDOG=1 (sd_notify(3))."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as one:
        try:
            one.sendto(text.encode(), "\0" + path[1:] if path.startswith("@") else path)
        except OSError:
            pass  # a systemd that has gone away is no reason to stop
