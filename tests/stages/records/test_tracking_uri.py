"""The user's MLFLOW_TRACKING_URI is used as it is meant, or refused at once; a database file may have any name."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from stages.records.tracking_uri import (
    browse_command,
    pin_tracking,
    sqlite_path,
    sqlite_uri,
    tracking_uri,
    without_password,
)


@pytest.mark.parametrize("name", ["plain", "a b", "c?d=1", "e#f", "g%20h", "%", "q'u\"o", "té✓", "k:l@m;n&o", "-p"])
def test_a_database_with_any_name_is_the_file_that_opens(tmp_path, name):
    path = tmp_path / name / "x.db"
    path.parent.mkdir()
    with create_engine(sqlite_uri(path)).connect() as connection:
        connection.exec_driver_sql("CREATE TABLE here (x)")
    assert [*sqlite3.connect(path).execute("SELECT name FROM sqlite_master")] == [("here",)]
    assert [entry.name for entry in tmp_path.iterdir()] == [name]
    assert sqlite_path(sqlite_uri(path)) == path


def test_without_the_variable_records_go_to_the_home_folder(monkeypatch):
    for value in (None, "", "  "):
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        if value is not None:
            monkeypatch.setenv("MLFLOW_TRACKING_URI", value)
        pin_tracking()
        assert tracking_uri(Path("/home/x")) == "sqlite:////home/x/mlflow.db"


def test_a_relative_database_holds_for_children_that_run_elsewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mine.db")
    pin_tracking()
    assert sqlite_path(tracking_uri(Path("/home/x"))) == tmp_path / "mine.db"


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("http://127.0.0.1:9", "no server answers"),
        ("sqlite://", "keeps nothing"),
        ("sqlite:///:memory:", "keeps nothing"),
        ("file:///tmp/x", "is a folder"),
        ("./mlruns", "is a folder"),
        ("nonsense://x", "unknown nonsense:"),
        ("mssql+nodriver://u:hidden@127.0.0.1/x", "mssql"),
    ],
)
def test_an_address_that_keeps_no_records_is_refused_by_name(monkeypatch, uri, expected):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(ValueError, match=r"^MLFLOW_TRACKING_URI=.* unset MLFLOW_TRACKING_URI") as refused:
        pin_tracking()
    assert expected in str(refused.value)
    assert "hidden" not in str(refused.value)


def test_passwords_are_not_shown():
    assert without_password("http://me:secret@host:5000/x") == "http://me:***@host:5000/x"
    assert without_password("sqlite:////a:b@c/x.db") == "sqlite:////a:b@c/x.db"


def test_the_command_that_is_printed_survives_a_shell(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    home = Path("/a b/it's #1?/$HOME")
    script = f'set -- {browse_command(home)}; printf %s "$4"'
    read = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout
    assert sqlite_path(read) == home / "mlflow.db"


def test_the_module_imports_no_mlflow():
    script = "import sys, stages.records.tracking_uri; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
