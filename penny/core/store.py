"""SQLite stores: one file, one writing module, readable after any crash.

WAL with synchronous=NORMAL: a SIGKILL loses nothing that was committed; a power cut may lose the last commits but never
the file. Migrations are an append-only tuple of steps, each a tuple of statements (not a script: executescript commits
by itself); user_version counts the steps that were taken. A store newer than the code is refused, a corrupt one is set
aside and never deleted. SQLite may be as old as 3.34: no RETURNING, no STRICT.
"""
from __future__ import annotations

import os
import sqlite3
import time
from contextlib import contextmanager
from typing import Iterator

from penny.core.errors import PennyError, one_line
from penny.core.log import Log
from penny.core.privileges import make_state_dir

Migrations = tuple  # of steps, each a tuple of SQL statements

TIMEOUT = 10.0  # seconds that a writer waits for another
CACHE_KB = 512  # pages kept in memory for each connection
CORRUPT = ("file is not a database", "database disk image is malformed", "file is encrypted")


class StoreError(PennyError):
    """A store that cannot be read or written."""


def open(path: str, migrations: Migrations, log: Log) -> sqlite3.Connection:
    """A connection to the store at `path`, made and migrated when needed. For one thread; the caller closes it.

    Raises StoreError. A corrupt file is renamed to PATH.corrupt-TIME, which is logged, and a fresh one takes its place.
    """
    try:
        _make_folder(os.path.dirname(path))
        try:
            return _connect(path, migrations)
        except sqlite3.DatabaseError as error:
            if one_line(error) not in CORRUPT:
                raise
            log.error("%s is corrupt: kept as %s, a new one is begun", path, set_aside(path))
            return _connect(path, migrations)
    except (sqlite3.Error, OSError) as error:
        raise StoreError("cannot open %s: %s" % (path, _reason(error))) from error


def _connect(path: str, migrations: Migrations) -> sqlite3.Connection:
    fresh = not os.path.exists(path)
    db = sqlite3.connect(path, timeout=TIMEOUT, isolation_level=None)
    try:
        if fresh:
            _give_to_owner_above(path)
        db.row_factory = sqlite3.Row
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA foreign_keys = ON")
        db.execute("PRAGMA cache_size = -%d" % CACHE_KB)
        _migrate(db, path, migrations)
    except BaseException:
        db.close()
        raise
    return db


def _make_folder(folder: str) -> None:
    if not os.path.isdir(folder):
        make_state_dir(os.path.dirname(folder))
        os.makedirs(folder, exist_ok=True)
        _give_to_owner_above(folder)


def _give_to_owner_above(path: str) -> None:
    """Root may start what an unprivileged service goes on with (SQLite itself gives the WAL the owner of the file)."""
    if os.geteuid() == 0:
        owner = os.stat(os.path.dirname(path))
        os.chown(path, owner.st_uid, owner.st_gid)


def _migrate(db: sqlite3.Connection, path: str, migrations: Migrations) -> None:
    if db.execute("PRAGMA user_version").fetchone()[0] == len(migrations):
        return
    db.execute("BEGIN IMMEDIATE")
    try:
        version = db.execute("PRAGMA user_version").fetchone()[0]  # again: another process may have been first
        if version > len(migrations):
            raise StoreError("cannot open %s: it was written by a newer penny (version %d, known are %d)"
                             % (path, version, len(migrations)))
        for step in migrations[version:]:
            for statement in step:
                db.execute(statement)
        db.execute("PRAGMA user_version = %d" % len(migrations))
        db.execute("COMMIT")
    except BaseException:
        _roll_back(db)
        raise


def set_aside(path: str) -> str:
    """Rename a store and its WAL; returns the new name."""
    aside = "%s.corrupt-%s" % (path, time.strftime("%Y%m%dT%H%M%S"))
    for ending in ("-wal", "-shm", ""):
        if os.path.exists(path + ending):
            os.replace(path + ending, aside + ending)
    return aside


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """All of the block, or nothing of it. Raises StoreError when the store cannot be written."""
    try:
        db.execute("BEGIN IMMEDIATE")
        try:
            yield db
            db.execute("COMMIT")
        except BaseException:
            _roll_back(db)
            raise
    except sqlite3.Error as error:
        raise StoreError("cannot write %s: %s" % (path_of(db), _reason(error))) from error


def _roll_back(db: sqlite3.Connection) -> None:
    if db.in_transaction:  # on a full disk SQLite has rolled back by itself
        db.execute("ROLLBACK")


def path_of(db: sqlite3.Connection) -> str:
    """The file behind a connection."""
    return str(db.execute("PRAGMA database_list").fetchone()[2])


def _reason(error: Exception) -> str:
    reason = one_line(error)
    if reason == "database or disk is full":
        return "the disk is full"
    return reason
