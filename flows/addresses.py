"""Where the services listen and what they keep: the tools' own variables, or a default inside the checkout."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from waymark.errors import ParameterError

GPU = "gpu"  # the pool whose workers train
POOLS = ("default", GPU)
LAST_PORT = 65535
ANYWHERE = ("0.0.0.0", "::", "")  # a server that listens there is reached at home by 127.0.0.1


@dataclass(frozen=True)
class Addresses:
    """Hosts, ports and stores of the Prefect server and the MLflow server."""

    prefect_host: str
    prefect_port: int
    mlflow_host: str
    mlflow_port: int
    mlflow_store: str
    mlflow_artifacts: str

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


def addresses() -> Addresses:
    """Read them from the environment; without any variable all of it lies in the current folder.

    Raises:
        ParameterError: a port is no number.
    """
    here = Path.cwd()
    return Addresses(
        prefect_host=os.environ.get("PREFECT_SERVER_API_HOST", "127.0.0.1"),
        prefect_port=number("PREFECT_SERVER_API_PORT", 4200, most=LAST_PORT),
        mlflow_host=os.environ.get("MLFLOW_HOST", "127.0.0.1"),
        mlflow_port=number("MLFLOW_PORT", 5000, most=LAST_PORT),
        mlflow_store=os.environ.get("MLFLOW_BACKEND_STORE_URI", f"sqlite:///{here / 'mlflow.db'}"),
        mlflow_artifacts=os.environ.get("MLFLOW_DEFAULT_ARTIFACT_ROOT", (here / "mlruns").as_uri()),
    )


def environment(**more: str) -> dict[str, str]:
    """Give the environment of a service: this one, with this Python first and no question asked."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {
        **os.environ,
        "PATH": path,
        "PYTHONUNBUFFERED": "1",
        "PREFECT_CLI_PROMPT": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        **more,
    }


def _home(host: str) -> str:
    return "127.0.0.1" if host in ANYWHERE else host


def number(variable: str, default: int, least: int = 1, most: int | None = None) -> int:
    """Read a whole number from the environment.

    Raises:
        ParameterError: the variable is none, or none that is possible.
    """
    text = os.environ.get(variable, str(default))
    if not text.isdecimal() or int(text) < least or (most is not None and int(text) > most):
        possible = f"at least {least}" if most is None else f"from {least} to {most}"
        raise ParameterError(f"{variable} must be a whole number, {possible}, not {text!r}")
    return int(text)
