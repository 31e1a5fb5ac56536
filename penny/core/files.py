"""Files that penny ships, and files read within a bound.

services/ and pipeline/ lie beside the package in a checkout and inside it, as penny/data/, in a wheel or zipapp
(setup.py and bin/build-pyz put them there). One rule reads all three homes. pkgutil, not importlib.resources: that costs
3 to 6 MB more.
"""
from __future__ import annotations

import os
import pkgutil
from typing import BinaryIO

import penny

PACKAGE = os.path.dirname(os.path.abspath(penny.__file__))
CHECKOUT = os.path.dirname(PACKAGE)
PIECE = 65536


def read_shipped(folder: str, name: str) -> bytes:
    """The bytes of a shipped file, such as ("services", "rss.ini"). Raises FileNotFoundError."""
    try:
        found = pkgutil.get_data("penny", "data/%s/%s" % (folder, name))
    except OSError:
        found = None
    if found is not None:
        return found
    with open(os.path.join(CHECKOUT, folder, name), "rb") as file:
        return file.read()


def list_shipped(folder: str, ending: str) -> list[str]:
    """The names of the shipped files in a folder that end so, sorted."""
    archive = getattr(penny.__loader__, "archive", "")
    inside = "penny/data/%s/" % folder
    if archive:
        import zipfile  # 1.6 MB, for the zipapp alone
        with zipfile.ZipFile(archive) as file:
            names = [name[len(inside):] for name in file.namelist() if name.startswith(inside)]
    else:
        installed = os.path.join(PACKAGE, "data", folder)
        names = os.listdir(installed if os.path.isdir(installed) else os.path.join(CHECKOUT, folder))
    return sorted(name for name in names if name.endswith(ending) and "/" not in name)


def read_at_most(file: BinaryIO, most: int) -> bytes:
    """What a file holds. Raises ValueError when that is over `most` bytes. In pieces: read(most) would ask for all that
    memory at once, more than a small box has."""
    pieces: list[bytes] = []
    total = 0
    while True:
        piece = file.read(PIECE)
        if not piece:
            return b"".join(pieces)
        pieces.append(piece)
        total += len(piece)
        if total > most:
            raise ValueError("over %d MB" % (most >> 20))
