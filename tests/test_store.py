from __future__ import annotations

import os
import sqlite3
import subprocess
import sys

import pytest

from penny.core import store
from penny.core.log import Log

ONE = (("CREATE TABLE a (x INTEGER)",),)
TWO = ONE + (("CREATE TABLE b (y INTEGER)", "INSERT INTO b VALUES (7)"),)
LOG = Log("test")


def path(tmp_path):
    return str(tmp_path / "var" / "svc" / "svc.db")


def test_a_new_store_is_migrated_and_stays(tmp_path):
    with store.transaction(store.open(path(tmp_path), ONE, LOG)) as db:
        db.execute("INSERT INTO a VALUES (1)")
    again = store.open(path(tmp_path), TWO, LOG)
    assert again.execute("SELECT x FROM a").fetchone()[0] == 1
    assert again.execute("SELECT y FROM b").fetchone()[0] == 7
    assert again.execute("PRAGMA journal_mode").fetchone()[0] == "wal"


def test_a_migration_that_fails_changes_nothing(tmp_path):
    store.open(path(tmp_path), ONE, LOG).close()
    bad = ONE + (("CREATE TABLE c (z)", "CREATE TABLE a (x)"),)
    with pytest.raises(store.StoreError, match="already exists"):
        store.open(path(tmp_path), bad, LOG)
    names = [row[0] for row in store.open(path(tmp_path), ONE, LOG).execute("SELECT name FROM sqlite_master")]
    assert names == ["a"]


def test_a_newer_store_is_refused(tmp_path):
    store.open(path(tmp_path), TWO, LOG).close()
    with pytest.raises(store.StoreError, match="newer penny"):
        store.open(path(tmp_path), ONE, LOG)


def test_a_corrupt_store_is_set_aside_and_said(tmp_path, capsys):
    with store.transaction(store.open(path(tmp_path), ONE, LOG)) as db:
        db.execute("INSERT INTO a VALUES (1)")
    db.close()
    with open(path(tmp_path), "r+b") as file:
        file.write(b"x" * 64)
    fresh = store.open(path(tmp_path), ONE, LOG)
    assert fresh.execute("SELECT count(*) FROM a").fetchone()[0] == 0
    kept = [name for name in os.listdir(os.path.dirname(path(tmp_path))) if ".corrupt-" in name]
    assert kept and "is corrupt: kept as" in capsys.readouterr().err


def test_all_or_nothing(tmp_path):
    db = store.open(path(tmp_path), ONE, LOG)
    with pytest.raises(ZeroDivisionError):
        with store.transaction(db):
            db.execute("INSERT INTO a VALUES (1)")
            1 / 0
    assert db.execute("SELECT count(*) FROM a").fetchone()[0] == 0
    with store.transaction(db):
        db.execute("INSERT INTO a VALUES (2)")
    assert db.execute("SELECT count(*) FROM a").fetchone()[0] == 1


def test_a_full_disk_is_one_line_and_no_corruption(tmp_path):
    db = store.open(path(tmp_path), (("CREATE TABLE a (x BLOB)",),), LOG)
    with store.transaction(db):
        db.execute("INSERT INTO a VALUES (?)", (b"kept",))
    pages = db.execute("PRAGMA page_count").fetchone()[0]
    db.execute("PRAGMA max_page_count = %d" % (pages + 4))
    with pytest.raises(store.StoreError, match="cannot write .*svc.db: the disk is full"):
        with store.transaction(db):
            db.execute("INSERT INTO a VALUES (?)", (b"x" * 100_000,))
    assert [row[0] for row in db.execute("SELECT x FROM a")] == [b"kept"]
    assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "var").write_text("a file")
    with pytest.raises(Exception, match="var"):
        store.open(path(tmp_path), ONE, LOG)


def test_two_processes_open_a_new_store_at_once(tmp_path):
    """Both migrate: the second finds it done."""
    code = ("import sys; from penny.core import store; from penny.core.log import Log\n"
            "db = store.open(sys.argv[1], (('CREATE TABLE a (x)',),), Log('t'))\n"
            "with store.transaction(db): db.execute('INSERT INTO a VALUES (1)')\n")
    (tmp_path / "var" / "svc").mkdir(parents=True)
    running = [subprocess.Popen([sys.executable, "-c", code, path(tmp_path)]) for _ in range(6)]
    assert [process.wait(30) for process in running] == [0] * 6
    assert sqlite3.connect(path(tmp_path)).execute("SELECT count(*) FROM a").fetchone()[0] == 6
