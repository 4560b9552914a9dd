"""How people name a version in the registry, and where the registry lies; without MLflow itself."""

import os
import re
from pathlib import Path
from typing import NamedTuple

LOCATION = "waymark-location"
LANDMARK = "waymark-landmark"
DEFAULT_ALIAS = "champion"
STORE = Path("mlflow.db")
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


def registry_uri() -> str | None:
    """Give the store: what the user's environment says, else the file at the root of the checkout; None without."""
    given = os.environ.get("MLFLOW_TRACKING_URI")
    return given or (f"sqlite:///{STORE.resolve()}" if STORE.exists() else None)
