"""What `make up` keeps for later commands, in a folder and files that this user alone may read."""

import json
import os
import secrets
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from waymark.inference.references import SERVICES, sign_in
from waymark.system.addresses import same_server

SECRET = "secret"  # user:password of both servers
SETTINGS = "settings.json"  # variables that the servers were started with
CLIENTS = "clients.json"  # variables with which clients find the servers
USER = "waymark"


def folder() -> Path:
    """Return the folder, closed to other users."""
    SERVICES.mkdir(mode=0o700, exist_ok=True)
    SERVICES.chmod(0o700)
    return SERVICES


def read(name: str) -> dict[str, str]:
    """Read the variables in a file; none where there is no such file."""
    try:
        return {key: str(value) for key, value in json.loads((SERVICES / name).read_text()).items()}
    except (FileNotFoundError, ValueError, AttributeError):
        return {}


def write(name: str, variables: Mapping[str, str]) -> None:
    """Write variables to a file, as a whole."""
    _private(json.dumps(dict(sorted(variables.items())), indent=2)).rename(SERVICES / name)


def secret() -> str:
    """Return the user and password that both servers ask for, made at first start."""
    path = SERVICES / SECRET
    if not path.exists():
        part = _private(f"{USER}:{secrets.token_urlsafe(32)}\n")
        with suppress(FileExistsError):  # made by another command meanwhile
            path.hardlink_to(part)
        part.unlink()
    return path.read_text().strip()


def _private(text: str) -> Path:
    number, name = tempfile.mkstemp(dir=folder(), prefix=".")  # mode 0600 from the start
    with os.fdopen(number, "w") as file:
        file.write(text)
    return Path(name)


def find_servers() -> None:
    """Sign in to the servers of this checkout where the environment names them without a user and password."""
    known, url = read(CLIENTS), os.environ.get("PREFECT_API_URL", "")
    if url and "PREFECT_API_AUTH_STRING" in known and same_server(url, known["PREFECT_API_URL"]):
        os.environ.setdefault("PREFECT_API_AUTH_STRING", known["PREFECT_API_AUTH_STRING"])
    elif not url and "PREFECT_SERVER_API_AUTH_STRING" in os.environ:  # for a temporary server, which asks for it, too
        os.environ.setdefault("PREFECT_API_AUTH_STRING", os.environ["PREFECT_SERVER_API_AUTH_STRING"])
    sign_in()
