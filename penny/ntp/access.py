"""Who may ask: the networks that the setting `allow` names."""
from __future__ import annotations

import socket
from bisect import bisect_right
from types import SimpleNamespace
from typing import TYPE_CHECKING, Iterable, NamedTuple

from penny.core.errors import ConfigError
from penny.core.settings import network

if TYPE_CHECKING:
    from penny.core.run import Context

# Private, loopback and link-local addresses (RFC 1918, 6598, 3927, 4193, 4291): what a lab is made of.
PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "127.0.0.0/8",
           "::1/128", "fc00::/7", "fe80::/10")
ALL = ("0.0.0.0/0", "::/0")


class Access(NamedTuple):
    """The networks of each family as sorted numbers: where they begin and where they end, none within another."""

    four: tuple[list[int], list[int]]
    six: tuple[list[int], list[int]]

    def allows(self, host: str) -> bool:
        """Whether a numeric address is in one of the networks."""
        if ":" in host:
            starts, ends = self.six
            number = int.from_bytes(socket.inet_pton(socket.AF_INET6, host.partition("%")[0]), "big")
        else:
            starts, ends = self.four
            number = int.from_bytes(socket.inet_aton(host), "big")
        place = bisect_right(starts, number)
        return place > 0 and number <= ends[place - 1]


def read(settings: SimpleNamespace, context: Context) -> Access:
    """Who may ask, by the owner's settings. Raises ConfigError."""
    try:
        return parse(settings.allow, context.lab.segments)
    except ValueError as error:
        raise ConfigError("%s [service ntp]: allow = %s: expected %s"
                          % (context.written.lab_file, " ".join(settings.allow), error)) from None


def parse(words: Iterable[str], segments: dict[str, tuple[str, ...]]) -> Access:
    """Access for `private`, `all`, the lab's segments by name, and networks such as 192.0.2.0/24. Raises ValueError."""
    names = {"private": PRIVATE, "all": ALL, **segments}
    try:
        spans = [network(one) for word in words for one in names.get(word, (word,))]
    except ValueError as error:
        raise ValueError("private, all, a segment of lab.ini, or %s" % error) from None
    return Access(*(_merged([(start, end) for bits, start, end in spans if bits == wanted]) for wanted in (32, 128)))


def _merged(spans: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
    found: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return [start for start, _ in found], [end for _, end in found]
