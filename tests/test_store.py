from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading

import pytest

from penny.core import store
from penny.core.errors import PennyError
from penny.core.log import Log

ONE = (("CREATE TABLE a (x INTEGER)",),)
TWO = ONE + (("CREATE TABLE b (y INTEGER)", "INSERT INTO b VALUES (7)"),)
LOG = Log("test")


def path(tmp_path):
    return str(tmp_path / "var" / "svc" / "svc.db")


def open_(tmp_path, migrations):
    return store.opened(path(tmp_path), migrations, LOG)


def test_a_new_store_is_migrated_and_stays(tmp_path):
    with open_(tmp_path, ONE) as db, store.transaction(db):
        db.execute("INSERT INTO a VALUES (1)")
    with open_(tmp_path, TWO) as again:
        assert again.execute("SELECT x FROM a").fetchone()[0] == 1
        assert again.execute("SELECT y FROM b").fetchone()[0] == 7
        assert again.execute("PRAGMA journal_mode").fetchone()[0] == "wal"


def test_a_migration_that_fails_changes_nothing(tmp_path):
    with open_(tmp_path, ONE):
        pass
    with pytest.raises(store.StoreError, match="already exists"):
        with open_(tmp_path, ONE + (("CREATE TABLE c (z)", "CREATE TABLE a (x)"),)):
            pass
    with open_(tmp_path, ONE) as db:
        assert [row[0] for row in db.execute("SELECT name FROM sqlite_master")] == ["a"]


def test_a_newer_store_is_refused(tmp_path):
    with open_(tmp_path, TWO):
        pass
    with pytest.raises(store.StoreError, match="newer penny"):
        with open_(tmp_path, ONE):
            pass


def kept(tmp_path):
    return [name for name in os.listdir(os.path.dirname(path(tmp_path))) if ".corrupt-" in name and not name.endswith(("-wal", "-shm"))]


def fill(tmp_path, rows):
    with open_(tmp_path, ONE) as db, store.transaction(db):
        db.executemany("INSERT INTO a VALUES (?)", [("x" * 500,)] * rows)


def test_a_store_with_a_corrupt_head_is_set_aside_at_once_and_said(tmp_path, capsys):
    fill(tmp_path, 1)
    with open(path(tmp_path), "r+b") as file:
        file.write(b"x" * 64)
    with open_(tmp_path, ONE) as fresh:
        assert fresh.execute("SELECT count(*) FROM a").fetchone()[0] == 0
    assert len(kept(tmp_path)) == 1 and "is corrupt: kept as" in capsys.readouterr().err


def test_a_store_that_is_corrupt_further_in_is_set_aside_when_that_shows(tmp_path, capsys):
    fill(tmp_path, 200)
    with open(path(tmp_path), "r+b") as file:
        file.seek(2 * 4096)
        file.write(b"x" * 4096 * 8)
    with pytest.raises(store.StoreError, match="cannot use .*svc.db: database disk image is malformed"):
        with open_(tmp_path, ONE) as db:
            db.execute("SELECT sum(length(x)) FROM a").fetchall()
    fill(tmp_path, 1)
    assert len(kept(tmp_path)) == 1 and "is corrupt: kept as" in capsys.readouterr().err


def test_many_who_find_it_corrupt_keep_the_original_once(tmp_path):
    fill(tmp_path, 1)
    with open(path(tmp_path), "r+b") as file:
        file.write(b"original" * 8)
    code = ("import sys; from penny.core import store; from penny.core.log import Log\n"
            "with store.opened(sys.argv[1], (('CREATE TABLE a (x INTEGER)',),), Log('t')) as db:\n"
            "    with store.transaction(db): db.execute('INSERT INTO a VALUES (1)')\n")
    running = [subprocess.Popen([sys.executable, "-c", code, path(tmp_path)], stderr=subprocess.DEVNULL) for _ in range(6)]
    for process in running:
        process.wait(30)
    names = kept(tmp_path)
    assert len(names) == 1
    with open(os.path.join(os.path.dirname(path(tmp_path)), names[0]), "rb") as file:
        assert file.read(8) == b"original"


def test_all_or_nothing(tmp_path):
    with open_(tmp_path, ONE) as db:
        with pytest.raises(ZeroDivisionError):
            with store.transaction(db):
                db.execute("INSERT INTO a VALUES (1)")
                raise ZeroDivisionError
        assert db.execute("SELECT count(*) FROM a").fetchone()[0] == 0
        with store.transaction(db):
            db.execute("INSERT INTO a VALUES (2)")
        assert db.execute("SELECT count(*) FROM a").fetchone()[0] == 1


def test_a_full_disk_is_one_line_and_no_corruption(tmp_path):
    blobs = (("CREATE TABLE a (x BLOB)",),)
    with open_(tmp_path, blobs) as db, store.transaction(db):
        db.execute("INSERT INTO a VALUES (?)", (b"kept",))
    with pytest.raises(store.StoreError, match="cannot use .*svc.db: the disk is full"):
        with open_(tmp_path, blobs) as db:
            db.execute("PRAGMA max_page_count = %d" % (db.execute("PRAGMA page_count").fetchone()[0] + 4))
            with store.transaction(db):
                db.execute("INSERT INTO a VALUES (?)", (b"x" * 100_000,))
    with open_(tmp_path, blobs) as db:
        assert [row[0] for row in db.execute("SELECT x FROM a")] == [b"kept"]
        assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "var").write_text("a file")
    with pytest.raises(PennyError, match="var"):
        with open_(tmp_path, ONE):
            pass


def test_two_processes_open_a_new_store_at_once(tmp_path):
    """Both migrate: the second finds it done."""
    code = ("import sys; from penny.core import store; from penny.core.log import Log\n"
            "with store.opened(sys.argv[1], (('CREATE TABLE a (x)',),), Log('t')) as db:\n"
            "    with store.transaction(db): db.execute('INSERT INTO a VALUES (1)')\n")
    running = [subprocess.Popen([sys.executable, "-c", code, path(tmp_path)]) for _ in range(6)]
    assert [process.wait(30) for process in running] == [0] * 6
    assert sqlite3.connect(path(tmp_path)).execute("SELECT count(*) FROM a").fetchone()[0] == 6


def test_a_new_store_may_be_opened_by_several_at_once(tmp_path):
    """Making it, and turning it to WAL, is what SQLite lets nobody wait for."""
    problems = []

    def open_one(number, barrier):
        barrier.wait()
        try:
            with store.opened(str(tmp_path / ("%d" % number) / "svc.db"), ONE, LOG) as db:
                db.execute("SELECT * FROM a").fetchall()
        except PennyError as error:
            problems.append(str(error))
    for number in range(40):
        barrier = threading.Barrier(4)
        threads = [threading.Thread(target=open_one, args=(number, barrier)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not problems
