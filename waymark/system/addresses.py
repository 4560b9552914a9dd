"""Addresses of databases and servers, with and without credentials."""

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOOPBACK = ("127.0.0.1", "localhost", "::1")
CREDENTIALS = re.compile(r"(?<=://)[^/\s@'\"]+@")
HIDDEN = "***@"


def sqlite_url(path: Path, driver: str = "sqlite") -> str:
    """Return the address of a database file, for any characters in its path.

    SQLAlchemy treats what follows a `?` as options, so such a path is written as a URI of SQLite.

    >>> sqlite_url(Path("/home/you/waymark/mlflow.db"))
    'sqlite:////home/you/waymark/mlflow.db'
    >>> sqlite_url(Path("/home/you/what?/mlflow.db"))
    'sqlite+pysqlite:///file:///home/you/what%3F/mlflow.db?uri=true'
    """
    from sqlalchemy.engine import URL, make_url  # here, because it is part of the extra "workflow"

    path = path.absolute()
    plain = URL.create(driver, database=str(path))
    text = plain.render_as_string()
    if make_url(text) == plain:
        return text
    driver = "sqlite+pysqlite" if driver == "sqlite" else driver  # otherwise MLflow creates a folder file:/
    return URL.create(driver, database=path.as_uri(), query={"uri": "true"}).render_as_string()


def sqlite_path(url: str) -> Path | None:
    """Return the file of a database address; None if it is not a file.

    >>> sqlite_path("sqlite:///file:///home/you/what%3F/mlflow.db?uri=true")
    PosixPath('/home/you/what?/mlflow.db')
    >>> sqlite_path("http://127.0.0.1:5000") is None
    True
    """
    if not url.startswith("sqlite"):
        return None
    from sqlalchemy.engine import make_url

    database = make_url(url).database or ""
    return Path(unquote(urlsplit(database).path) if database.startswith("file:") else database)


def is_web(url: str) -> bool:
    """Check whether an address is that of a web server."""
    return url.startswith(("http://", "https://"))


def same_server(one: str, other: str) -> bool:
    """Check whether two addresses are the same server, under any name of this machine.

    >>> same_server("http://localhost:5000", "http://127.0.0.1:5000/")
    True
    """
    (a, b), (c, d) = _place(one), _place(other)
    return b == d and (a == c or (a in LOOPBACK and c in LOOPBACK))


def _place(url: str) -> tuple[str | None, int | None]:
    parts = urlsplit(url)
    return parts.hostname, parts.port


def without_credentials(text: str) -> str:
    """Mask user names and passwords of the addresses in a text, for messages.

    >>> without_credentials("git fetch https://me:secret@example.org/waymark: not found")
    'git fetch https://***@example.org/waymark: not found'
    """
    return CREDENTIALS.sub(HIDDEN, text)
