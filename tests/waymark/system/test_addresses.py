"""Addresses of database files whose paths hold whatever a path may hold. Real SQLite."""

import sqlite3

import pytest
from sqlalchemy import create_engine, text

from waymark.system.addresses import same_server, sqlite_path, sqlite_url, without_credentials

ODD = ("plain", "a b", "what?", "a#b", "50%", "%3F", "ü?é", "a@b:c", "a;b&c=d?e=f", "a+b", "'quoted' \"twice\"")


@pytest.mark.parametrize("name", ODD)
def test_a_database_lies_where_it_is_said_to(tmp_path, name):
    path = tmp_path / name / "mlflow.db"
    path.parent.mkdir()
    url = sqlite_url(path)
    assert sqlite_path(url) == path
    with create_engine(url).begin() as connection:
        connection.execute(text("create table here (it text)"))
    with sqlite3.connect(path) as database:
        assert database.execute("select name from sqlite_master").fetchall() == [("here",)]
    assert [found.name for found in tmp_path.rglob("*")] == [name, "mlflow.db"]


def test_an_address_as_before_stays_as_it_was(tmp_path):
    assert sqlite_url(tmp_path / "mlflow.db") == f"sqlite:///{tmp_path}/mlflow.db"
    assert sqlite_url(tmp_path / "a.db", "sqlite+aiosqlite") == f"sqlite+aiosqlite:///{tmp_path}/a.db"


def test_a_server_is_no_file():
    for url in ("http://127.0.0.1:5000", "postgresql://me@host/mlflow", ""):
        assert sqlite_path(url) is None


def test_servers_are_the_same_by_each_name_of_the_loopback():
    assert same_server("http://127.0.0.1:5000", "http://localhost:5000/api")
    assert not same_server("http://127.0.0.1:5000", "http://127.0.0.1:5001")
    assert not same_server("http://127.0.0.1:5000", "http://gpu.lan:5000")


def test_passwords_are_hidden():
    for url in ("postgresql://me:secret@host/x", "https://secret@host/x", "https://me:secret@host"):
        assert "secret" not in without_credentials(f"cannot read '{url}': refused")
    for url in ("https://host/a@b", "/mnt/a@b", "s3://bucket"):
        assert without_credentials(url) == url
