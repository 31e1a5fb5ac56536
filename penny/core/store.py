"""SQLite stores: one file, one writing module, readable after any crash.

WAL with synchronous=NORMAL: a SIGKILL loses nothing that was committed; a power cut may lose the last commits but never
the file. Migrations are an append-only tuple of steps, each a tuple of statements (not a script: executescript commits
by itself); user_version counts the steps that were taken. A store newer than the code is refused, a corrupt one is set
aside and never deleted. SQLite may be as old as 3.34: no RETURNING, no STRICT.
"""
from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from contextlib import closing, contextmanager
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


@contextmanager
def opened(path: str, migrations: Migrations, log: Log) -> Iterator[sqlite3.Connection]:
    """A connection to the store at `path`, made and migrated when needed, for one thread and one with block.

    Raises StoreError for whatever SQLite reports within the block. A corrupt file is renamed to PATH.corrupt-TIME, which
    is logged, and a fresh one takes its place: at once if that shows at opening, else for the next who opens it.
    """
    try:
        db = _open(path, migrations, log)
        try:
            yield db
        except sqlite3.DatabaseError as error:
            if one_line(error) in CORRUPT:
                db.close()
                _set_aside(path, migrations, log)
            raise
        finally:
            db.close()
    except (sqlite3.Error, OSError) as error:
        raise StoreError("cannot use %s: %s" % (path, _reason(error))) from error


def _open(path: str, migrations: Migrations, log: Log) -> sqlite3.Connection:
    _make_folder(os.path.dirname(path))
    try:
        with _turn(path):
            return _connect(path, migrations)
    except sqlite3.DatabaseError as error:
        if one_line(error) not in CORRUPT:
            raise
    _set_aside(path, migrations, log)
    with _turn(path):
        return _connect(path, migrations)


@contextmanager
def _turn(path: str) -> Iterator[None]:
    """One at a time opens the stores of a folder: making a file, and turning it to WAL, waits for nobody in SQLite."""
    folder = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _set_aside(path: str, migrations: Migrations, log: Log) -> None:
    """Rename a store that is corrupt, with its WAL. One process at a time, which looks again first: another may have
    done it already, and the fresh store must not be taken for the corrupt one."""
    with _turn(path):
        try:
            with closing(_connect(path, migrations)) as db:
                if db.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok":
                    return
        except sqlite3.DatabaseError as error:
            if one_line(error) not in CORRUPT:
                raise
        aside = "%s.corrupt-%s-%d" % (path, time.strftime("%Y%m%dT%H%M%S"), os.getpid())
        for ending in ("-wal", "-shm", ""):
            if os.path.exists(path + ending):
                os.rename(path + ending, aside + ending)
        log.error("%s is corrupt: kept as %s, a new one is begun", path, aside)


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
            raise StoreError("cannot use %s: it was written by a newer penny (version %d, known are %d)"
                             % (path, version, len(migrations)))
        for step in migrations[version:]:
            for statement in step:
                db.execute(statement)
        db.execute("PRAGMA user_version = %d" % len(migrations))
        db.execute("COMMIT")
    except BaseException:
        _roll_back(db)
        raise


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """All of the block, or nothing of it."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield db
        db.execute("COMMIT")
    except BaseException:
        _roll_back(db)
        raise


def _roll_back(db: sqlite3.Connection) -> None:
    if db.in_transaction:  # on a full disk SQLite has rolled back by itself
        db.execute("ROLLBACK")


def _reason(error: Exception) -> str:
    reason = one_line(error)
    if reason == "database or disk is full":
        return "the disk is full"
    return reason
