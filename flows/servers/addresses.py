"""Where the services listen, what they keep and who may enter: the tools' own variables, or a default of ours."""

import os
import re
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flows.servers import state
from waymark.errors import ParameterError
from waymark.inference.references import ENVIRONMENT
from waymark.system.addresses import LOOPBACK, sqlite_url, without_credentials

GPU = "gpu"  # the pool whose workers train
POOLS = ("default", GPU)
LAST_PORT = 65535
ANYWHERE = ("0.0.0.0", "::", "")  # a server that listens there is reached at home by 127.0.0.1
BASIC_AUTH = "basic-auth"  # MLflow's own users, in place of the one secret
SERVER_AUTH, CLIENT_AUTH = "PREFECT_SERVER_API_AUTH_STRING", "PREFECT_API_AUTH_STRING"

# What a service is started with is kept, for later commands and for whoever starts it again.
OF_PREFECT = ("PREFECT_SERVER_API_HOST", "PREFECT_SERVER_API_PORT", "PREFECT_API_DATABASE_CONNECTION_URL")
OF_PREFECT += ("PREFECT_HOME", SERVER_AUTH, "PREFECT_SERVER_CORS_ALLOWED_ORIGINS", "PREFECT_UI_API_URL")
OF_MLFLOW = ("MLFLOW_HOST", "MLFLOW_PORT", "MLFLOW_BACKEND_STORE_URI", "MLFLOW_DEFAULT_ARTIFACT_ROOT")
OF_MLFLOW += ("MLFLOW_ARTIFACTS_DESTINATION", "MLFLOW_WORKERS", "MLFLOW_SERVER_ALLOWED_HOSTS")
OF_MLFLOW += ("MLFLOW_SERVER_CORS_ALLOWED_ORIGINS", "WAYMARK_MLFLOW_AUTH", "MLFLOW_AUTH_CONFIG_PATH")
OF_MLFLOW += ("MLFLOW_AUTH_ADMIN_USERNAME", "MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_FLASK_SERVER_SECRET_KEY")
OF_BOTH = ("WAYMARK_ALLOWED_HOSTS",)
LIVE = ("WAYMARK_POOLS", "WAYMARK_GPU_SLOTS", "WAYMARK_NOTIFY", "WAYMARK_SILENT_S", "WAYMARK_PENDING_S")
LIVE += (ENVIRONMENT,)
KEPT = (*OF_PREFECT, *OF_MLFLOW, *OF_BOTH, *LIVE)
OF_SERVERS = {*OF_PREFECT, *OF_MLFLOW} - {"PREFECT_HOME"}  # no worker and no flow run needs to know them


@dataclass(frozen=True)
class Addresses:
    """Hosts, ports, stores and passwords of the Prefect server and the MLflow server."""

    prefect_host: str
    prefect_port: int
    prefect_auth: str  # user:password
    mlflow_host: str
    mlflow_port: int
    mlflow_auth: str  # user:password
    mlflow_store: str
    mlflow_artifacts: str
    mlflow_destination: str
    hosts: frozenset[str]  # names besides those of the loopback by which people reach the servers
    pools: tuple[str, ...]  # those that have a worker here

    @property
    def prefect_url(self) -> str:
        """Where people look at flow runs."""
        return f"http://{_home(self.prefect_host)}:{self.prefect_port}"

    @property
    def api_url(self) -> str:
        """Where workers and flows reach Prefect."""
        return f"{self.prefect_url}/api"

    @property
    def mlflow_url(self) -> str:
        """Where people and flows reach MLflow."""
        return f"http://{_home(self.mlflow_host)}:{self.mlflow_port}"

    @property
    def clients(self) -> dict[str, str]:
        """The variables with which a client finds both, and signs in."""
        user, _, password = self.mlflow_auth.partition(":")
        return {
            "PREFECT_API_URL": self.api_url,
            "PREFECT_API_AUTH_STRING": self.prefect_auth,
            "MLFLOW_TRACKING_URI": self.mlflow_url,
            "MLFLOW_TRACKING_USERNAME": user,
            "MLFLOW_TRACKING_PASSWORD": password,
        }


def settings() -> dict[str, str]:
    """Return the environment's settings of the services, else those of the last `make up`.

    An empty variable stands for the default.
    """
    given = {name: os.environ[name] for name in KEPT if name in os.environ}
    client = os.environ.get(CLIENT_AUTH)
    if client and client != state.read(state.CLIENTS).get(CLIENT_AUTH):  # the operator's own
        given.setdefault(SERVER_AUTH, client)
    return {name: value for name, value in (state.read(state.SETTINGS) | given).items() if value}


def addresses(given: Mapping[str, str]) -> Addresses:
    """Read them from settings; without any all of it lies in the current folder and listens on this machine alone.

    Raises:
        ParameterError: a port is no number, or the passwords of Prefect's server and client differ.
    """
    here = Path.cwd()
    named = {name.strip().lower() for name in given.get("WAYMARK_ALLOWED_HOSTS", "").split(",")} - {""}
    prefect_host, mlflow_host = given.get("PREFECT_SERVER_API_HOST", LOOPBACK[0]), given.get("MLFLOW_HOST", LOOPBACK[0])
    if not {prefect_host, mlflow_host}.isdisjoint(ANYWHERE):
        named.add(socket.gethostname().lower())
    pools = tuple(name.strip() for name in given.get("WAYMARK_POOLS", ",".join(POOLS)).split(","))
    if not set(pools) <= set(POOLS):
        raise ParameterError(f"WAYMARK_POOLS must name {', '.join(POOLS)} or one of them, not {','.join(pools)!r}")
    if re.fullmatch("[a-z0-9-]*", environment_of := given.get(ENVIRONMENT, "")) is None:
        raise ParameterError(f"{ENVIRONMENT} must be of small letters, digits and dashes, not {environment_of!r}")
    return Addresses(
        prefect_host=prefect_host,
        prefect_port=number("PREFECT_SERVER_API_PORT", 4200, most=LAST_PORT, among=given),
        prefect_auth=_prefect_auth(given),
        mlflow_host=mlflow_host,
        mlflow_port=number("MLFLOW_PORT", 5000, most=LAST_PORT, among=given),
        mlflow_auth=_mlflow_auth(given),
        mlflow_store=given.get("MLFLOW_BACKEND_STORE_URI", sqlite_url(here / "mlflow.db")),
        mlflow_artifacts=given.get("MLFLOW_DEFAULT_ARTIFACT_ROOT", "mlflow-artifacts:/"),
        mlflow_destination=given.get("MLFLOW_ARTIFACTS_DESTINATION", (here / "mlruns").as_uri()),
        hosts=frozenset(named),
        pools=pools,
    )


def _prefect_auth(given: Mapping[str, str]) -> str:
    server, client = given.get(SERVER_AUTH), os.environ.get(CLIENT_AUTH)
    if client and client not in (server, state.read(state.CLIENTS).get(CLIENT_AUTH)):
        raise ParameterError(f"{SERVER_AUTH} and {CLIENT_AUTH} differ; set one of them, or both to the same")
    return server or state.secret()


def _mlflow_auth(given: Mapping[str, str]) -> str:
    user, _, password = state.secret().partition(":")
    way = given.get("WAYMARK_MLFLOW_AUTH")
    if way not in (None, BASIC_AUTH):
        raise ParameterError(f"WAYMARK_MLFLOW_AUTH must be {BASIC_AUTH} or empty, not {way!r}")
    if way == BASIC_AUTH:
        user = given.get("MLFLOW_AUTH_ADMIN_USERNAME", user)
        password = given.get("MLFLOW_AUTH_ADMIN_PASSWORD", password)
    return f"{user}:{password}"


def shown(name: str, given: Mapping[str, str]) -> str:
    """Write a setting for a message, without a password."""
    if name not in given:
        return f"without {name}"
    secret = name.endswith(("AUTH_STRING", "PASSWORD", "SECRET_KEY", "NOTIFY"))
    return f"with another {name}" if secret else f"with {name}={without_credentials(given[name])}"


def environment(**more: str) -> dict[str, str]:
    """Return the environment of a service: this one, with this Python first and no question asked."""
    return {
        **{name: value for name, value in os.environ.items() if name not in OF_SERVERS},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONUNBUFFERED": "1",
        "PREFECT_CLI_PROMPT": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        **more,
    }


def _home(host: str) -> str:
    home = LOOPBACK[0] if host in ANYWHERE else host
    return f"[{home}]" if ":" in home else home


def number(
    variable: str, default: int, least: int = 1, most: int | None = None, among: Mapping[str, str] = os.environ
) -> int:
    """Read a whole number from the environment.

    Raises:
        ParameterError: the variable is none, or none that is possible.
    """
    text = among.get(variable, str(default))
    if not text.isdecimal() or int(text) < least or (most is not None and int(text) > most):
        possible = f"at least {least}" if most is None else f"from {least} to {most}"
        raise ParameterError(f"{variable} must be a whole number, {possible}, not {text!r}")
    return int(text)
