"""How people name a version in the registry, and where the registry lies; without MLflow itself."""

import json
import os
import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from waymark.system.addresses import is_web, same_server, sqlite_url

ENVIRONMENT = "WAYMARK_ENVIRONMENT"


def environment_name(name: str) -> str:
    """Name something on servers that several environments share: an experiment, a registered model, a pool, a branch.

    It is the name itself, or where `WAYMARK_ENVIRONMENT` is set, such as to staging, the name with that at its end.
    """
    environment = os.environ.get(ENVIRONMENT, "")
    return f"{name}-{environment}" if environment else name


LOCATION = environment_name("waymark-location")
LANDMARK = environment_name("waymark-landmark")
DEFAULT_ALIAS = "champion"
STORE = Path("mlflow.db")
SERVICES = Path(".services")  # of a checkout: what `make up` keeps there
URI, USERNAME, PASSWORD = "MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"
REFERENCE = re.compile(
    r"(models:/)?((?P<name>[A-Za-z][\w-]*)(@(?P<alias>[\w-]+)|/(?P<version>\d+))"
    r"|(?P<only_version>\d+)|(?P<only_alias>[A-Za-z][\w-]*))"
)


class Reference(NamedTuple):
    """A version of a registered model, by its number or by an alias."""

    model: str
    version: str | None
    alias: str | None


def is_reference(text: str) -> bool:
    """Tell what may name a version from what can only be a path."""
    return REFERENCE.fullmatch(text) is not None


def parse_reference(text: str) -> Reference:
    """Read how people name a version; the model is `waymark-location` where none is named.

    >>> parse_reference("champion")
    Reference(model='waymark-location', version=None, alias='champion')
    >>> parse_reference("models:/mine/3")
    Reference(model='mine', version='3', alias=None)
    >>> parse_reference("waymark-landmark@champion")
    Reference(model='waymark-landmark', version=None, alias='champion')
    """
    found = REFERENCE.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} names no version; write champion, 3, {LOCATION}@champion or {LOCATION}/3")
    part = found.groupdict()
    return Reference(
        part["name"] or LOCATION, part["version"] or part["only_version"], part["alias"] or part["only_alias"]
    )


def registry_uri(checkout: Path = Path(), *, must_exist: bool = True) -> str | None:
    """Give the store: what the user's environment says, else the file at the root of the checkout.

    Args:
        checkout: its root.
        must_exist: whether None is given where there is neither.
    """
    sign_in(checkout)
    store = checkout / STORE
    return os.environ.get(URI) or (sqlite_url(store.resolve()) if store.exists() or not must_exist else None)


def sign_in(checkout: Path = Path()) -> None:
    """Let MLflow's client know user and password, as it takes them from the environment.

    They are those in the address, which is left without them so that no message and no parameter shows them; or where
    the address is that of the server which `make up` started in the checkout, those of that server. What the user
    has set stays.
    """
    uri = os.environ.get(URI, "")
    if not is_web(uri):
        return
    parts = urlsplit(uri)
    if parts.username is not None:
        os.environ.setdefault(USERNAME, unquote(parts.username))
        os.environ.setdefault(PASSWORD, unquote(parts.password or ""))
        os.environ[URI] = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    elif USERNAME not in os.environ and (known := _clients(checkout)) and same_server(uri, known[URI]):
        os.environ.update({name: known[name] for name in (USERNAME, PASSWORD)})


def is_served_from(checkout: Path, uri: str) -> bool:
    """Whether an address is that of the server which `make up` started in the checkout."""
    known = _clients(checkout)
    return is_web(uri) and URI in known and same_server(uri, known[URI])


def _clients(checkout: Path) -> dict[str, str]:
    try:
        return dict(json.loads((checkout / SERVICES / "clients.json").read_text()))
    except (FileNotFoundError, PermissionError, ValueError):
        return {}
